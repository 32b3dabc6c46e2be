// Agents that answer as real ones do but have no kernel.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include <spdlog/spdlog.h>

#include "kube/cache/informer.h"
#include "kube/client/client.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/queue/work_queue.h"
#include "kube/time/rfc3339.h"

namespace pointsman::op {

// Answers every NodeProxy, each a little later than it was asked, and keeps the most that were
// changing at one time. Only ipvs_nodes can run another mode than iptables.
class FakeAgents {
 public:
  // With provider KubeProxy: the mode that a kube-proxy runs on that node now; "": none.
  using RunningMode = std::function<std::string(const std::string& node)>;

  FakeAgents(kube::Client& client, std::set<std::string> ipvs_nodes, RunningMode kube_proxy = {})
      : client_(client),
        ipvs_nodes_(std::move(ipvs_nodes)),
        kube_proxy_(std::move(kube_proxy)),
        informer_(kube::MakeJsonInformer(client, kube::resources::kNodeProxies)) {
    informer_->AddHandler([this](const auto&, const auto& after) {
      if (after)
        queue_.AddAfter((*after)["metadata"]["name"].template get<std::string>(),
                        std::chrono::milliseconds(30));
      CountChanging();
    });
    informer_->Start();
    worker_ = std::thread([this] { Work(); });
  }
  ~FakeAgents() {
    queue_.ShutDown();
    worker_.join();
  }

  int most_changing() const { return most_changing_; }

 private:
  void CountChanging() {
    int changing = 0;
    for (const auto& object : informer_->All()) {
      const kube::NodeProxy proxy = kube::NodeProxyFromJson(*object);
      if (proxy.spec.revision > 0 && proxy.status.observed_revision != proxy.spec.revision) {
        ++changing;
      }
    }
    most_changing_ = std::max(most_changing_.load(), changing);
  }

  void Work() {
    while (const auto name = queue_.Get()) {
      try {
        Answer(*name);
        queue_.Forget(*name);
      } catch (const std::exception& error) {
        spdlog::info("fake agent of {}: {}", *name, error.what());
        queue_.AddRateLimited(*name);
      }
      queue_.Done(*name);
    }
  }

  void Answer(const std::string& name) {
    const auto object = informer_->Get(name);
    if (!object) return;
    const kube::NodeProxy proxy = kube::NodeProxyFromJson(*object);
    kube::NodeProxyStatus status = proxy.status;
    const auto runs = [&](kube::Mode mode) {
      return mode == kube::Mode::kIptables || ipvs_nodes_.contains(name);
    };
    status.observed_generation = proxy.generation;
    const auto set = [&](const char* type, bool value, const char* reason, const char* message) {
      kube::SetCondition(
          status.conditions,
          {type, value ? kube::ConditionStatus::kTrue : kube::ConditionStatus::kFalse, reason,
           message, "", proxy.generation},
          kube::NowRfc3339());
    };
    constexpr const char* kMissing = "this kernel has no ip_vs";
    status.candidate.reset();
    if (const auto& asked = proxy.spec.candidate) {
      const bool passed = runs(asked->mode);
      status.candidate = kube::CandidateStatus{
          asked->revision, passed ? std::string(kube::ToString(asked->mode)) : "iptables", passed,
          passed ? "" : kMissing, asked->provider};
    }
    status.kube_proxy.reset();
    if (proxy.spec.remove_kube_proxy)
      status.kube_proxy = kube::KubeProxyStatus{kube::kKubeProxyRemoved, ""};
    if (proxy.spec.removed) {
      status.active_mode.clear();
      set("Ready", false, "Removed", "removed");
    } else if (proxy.spec.provider == kube::Provider::kKubeProxy) {
      AnswerOfKubeProxy(proxy, status);
    } else if (proxy.spec.revision > 0) {
      const bool passed = runs(proxy.spec.settings.mode);
      status.active_mode =
          passed ? std::string(kube::ToString(proxy.spec.settings.mode)) : "iptables";
      status.observed_revision = proxy.spec.revision;
      set("PreflightPassed", passed, passed ? "PreflightPassed" : "ModuleMissing",
          passed ? "" : kMissing);
      set("Ready", true, "Serving", "");
      set("Degraded", !passed, passed ? "DesiredModeActive" : "Fallback", "");
    }
    if (status == proxy.status) return;
    kube::Json patch = ToJson(status);
    for (const char* member : {"candidate", "kubeProxy"}) {
      if (!patch.contains(member)) patch[member] = nullptr;
    }
    client_.Patch(kube::resources::kNodeProxies, "", name, kube::PatchType::kMerge,
                  {{"status", patch}}, "status");
  }

  // It looks again as long as kube-proxy does not run what is asked.
  void AnswerOfKubeProxy(const kube::NodeProxy& proxy, kube::NodeProxyStatus& status) {
    const std::string mode = kube_proxy_(proxy.name);
    const bool there = mode == kube::ToString(proxy.spec.settings.mode);
    status.prepared_revision = proxy.spec.revision;
    if (there) {
      status.observed_revision = proxy.spec.revision;
      status.active_mode = mode;
    } else {
      queue_.AddAfter(proxy.name, std::chrono::milliseconds(200));
    }
    for (const auto& [type, value] : {std::pair("Ready", there), std::pair("Degraded", !there)}) {
      kube::SetCondition(
          status.conditions,
          {type, value ? kube::ConditionStatus::kTrue : kube::ConditionStatus::kFalse,
           there ? "Serving" : "NotInMode", there ? "" : "kube-proxy runs " + mode, "",
           proxy.generation},
          kube::NowRfc3339());
    }
  }

  kube::Client& client_;
  const std::set<std::string> ipvs_nodes_;
  const RunningMode kube_proxy_;
  std::atomic<int> most_changing_{0};
  kube::WorkQueue queue_;
  std::unique_ptr<kube::JsonInformer> informer_;
  std::thread worker_;
};

}  // namespace pointsman::op
