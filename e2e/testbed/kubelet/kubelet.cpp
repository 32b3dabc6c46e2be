#include "e2e/testbed/kubelet/kubelet.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include <spdlog/spdlog.h>

#include "e2e/testbed/kubelet/node_worker.h"

namespace pointsman::e2e {
namespace {

constexpr std::chrono::milliseconds kListRetry{200};

}  // namespace

using kube::Json;

Kubelet::Kubelet(Cluster& cluster, const KubeletOptions& options)
    : transport_(kube::MakeTransport(kube::LoadKubeconfig(cluster.Kubeconfig()))),
      client_(transport_) {
  for (std::size_t i = 0; i < cluster.nodes().size(); ++i) {
    const Node& node = cluster.nodes()[i];
    const bool later =
        std::find(options.later.begin(), options.later.end(), node.name()) != options.later.end();
    workers_.push_back(std::make_unique<NodeWorker>(cluster, node, cluster.node_options()[i],
                                                    client_, options.ready_when_served, later));
  }
  watcher_ = std::jthread([this](const std::stop_token& stop) { WatchPods(stop); });
}

Kubelet::~Kubelet() {
  // Their threads use the client.
  watcher_ = std::jthread();
  workers_.clear();
}

void Kubelet::Pause(std::string_view node) {
  for (auto& worker : workers_) {
    if (worker->name() == node) worker->Pause(true);
  }
}

void Kubelet::RenewTokens() {
  for (auto& worker : workers_)
    worker->RenewTokens();
}

void Kubelet::Resume(std::string_view node) {
  for (auto& worker : workers_) {
    if (worker->name() == node) worker->Pause(false);
  }
}

void Kubelet::WatchPods(const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any wait;
  const auto key = [](const Json& pod) {
    return pod.at("metadata").at("namespace").get<std::string>() + "/" +
           pod.at("metadata").at("name").get<std::string>();
  };
  while (!stop.stop_requested()) {
    try {
      std::map<std::string, std::map<std::string, Json>> by_node;
      const std::string version = client_.ListItems(
          kube::resources::kPods, "", {},
          [&](std::string_view item) {
            Json pod = Json::parse(item);
            const std::string node = pod.at("spec").value("nodeName", "");
            const std::string name = key(pod);
            by_node[node][name] = std::move(pod);
          },
          [&] { by_node.clear(); });
      for (auto& worker : workers_)
        worker->OfferAll(std::move(by_node[worker->name()]));
      kube::WatchOptions options;
      options.resource_version = version;
      for (;;) {
        client_.Watch(
            kube::resources::kPods, "", options,
            [&](kube::WatchEventType type, std::string_view text) {
              Json pod = Json::parse(text);
              options.resource_version = pod.at("metadata").at("resourceVersion");
              if (type == kube::WatchEventType::kBookmark) return true;
              const std::string node = pod.at("spec").value("nodeName", "");
              for (auto& worker : workers_) {
                if (worker->name() != node) continue;
                const std::string name = key(pod);
                worker->Offer(name, type == kube::WatchEventType::kDeleted
                                        ? std::nullopt
                                        : std::optional(std::move(pod)));
                break;
              }
              return true;
            },
            stop);
        if (stop.stop_requested()) return;
      }
    } catch (const std::exception& error) {
      // The control plane is killed and restarted in tests: list again when it is back.
      spdlog::debug("kubelets: watching pods: {}", error.what());
    }
    std::unique_lock lock(mutex);
    wait.wait_for(lock, stop, kListRetry, [] { return false; });
  }
}

}  // namespace pointsman::e2e
