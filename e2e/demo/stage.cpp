#include "e2e/demo/stage.h"

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <sstream>

#include <fmt/format.h>

namespace pointsman::e2e {
namespace {

using kube::Json;
using std::chrono_literals::operator""s;

constexpr std::chrono::seconds kPatience{120};  // with what does not move
constexpr char kManifests[] = "manifests/base";

}  // namespace

std::string ConfigurationYaml(const std::string& mode, const std::string& more) {
  return fmt::format(R"(apiVersion: pointsman.io/v1alpha1
kind: ProxyConfiguration
metadata:
  name: cluster
spec:
  mode: {}
  clusterCIDR: 10.244.0.0/16
{})",
                     mode, more);
}

void Stage::Title(const std::string& text) {
  signals_.Check();
  std::printf("\n\033[1m==> %s\033[0m\n", text.c_str());
  std::fflush(stdout);
}

void Stage::Show(const std::vector<std::string>& kubectl) {
  std::printf("\033[2m$ kubectl");
  for (const std::string& word : kubectl)
    std::printf(" %s", word.c_str());
  std::printf("\033[0m\n");
  std::fflush(stdout);
  std::vector<std::string> arguments = kubectl;
  for (std::string& argument : arguments) {
    // Shown as a person in the repository writes it.
    if (argument.starts_with(kManifests)) argument = (source_dir_ / argument).string();
  }
  std::printf("%s", world_.MustKubectl(arguments, "", 100s).c_str());
  std::fflush(stdout);
}

void Stage::ShowOnNode(const std::string& node, const std::vector<std::string>& argv, size_t lines,
                       const std::string& sign) {
  std::printf("\033[2m%s$", node.c_str());
  for (const std::string& word : argv)
    std::printf(" %s", word.c_str());
  std::printf("\033[0m\n");
  std::istringstream text(world_.cluster().node(node).Check(argv));
  size_t shown = 0;
  size_t rest = 0;
  for (std::string line; std::getline(text, line);) {
    if (line.find(sign) == std::string::npos) continue;
    if (++shown > lines)
      ++rest;
    else
      std::printf("  %s\n", line.c_str());
  }
  if (rest > 0) std::printf("  … and %zu more lines\n", rest);
}

void Stage::Start() {
  world_.Start();
  Show({"get", "nodes", "-o", "wide"});
  for (const Node& node : world_.cluster().nodes())
    std::printf("  %s: kernel %s", node.name().c_str(), node.Check({"uname", "-r"}).c_str());
}

void Stage::Install() {
  // Nobody serves the API server's Service address on these clusters yet.
  Show({"apply", "-f", std::string(kManifests) + "/namespace.yaml"});
  Show({"-n", kNamespace, "create", "configmap", "pointsman-apiserver",
        fmt::format("--from-literal=host={}", Cluster::kControlPlaneAddress),
        fmt::format("--from-literal=port={}", Cluster::kApiPort)});
  Show({"apply", "-k", kManifests});
  signals_.Check();
  for (const char* what : {"deployment/pointsman-operator", "daemonset/pointsman-node-agent"})
    WatchWorkload(kNamespace, what);
  Show({"-n", kNamespace, "get", "pods", "-o", "wide"});
}

void Stage::Apply(const std::string& yaml) {
  std::printf("\033[2m$ kubectl apply -f - <<END\033[0m\n%s\033[2mEND\033[0m\n", yaml.c_str());
  std::printf("%s", world_.MustKubectl({"apply", "-f", "-"}, yaml).c_str());
  std::fflush(stdout);
}

// The newest line of each load's progress.
std::string Stage::TrafficLine() {
  int64_t succeeded = 0, failed = 0, streams = 0, broken = 0;
  for (const Traffic& traffic : traffic_) {
    const Json progress = World::LoadProgress(traffic.load);
    if (!progress.is_object()) continue;
    succeeded += progress.value("succeeded", int64_t{0});
    failed += progress.value("failed", int64_t{0});
    streams += progress.value("streams", int64_t{0});
    broken += progress.value("brokenStreams", int64_t{0});
  }
  return fmt::format("{} new connections made, {} failed; {} streams open, {} broken", succeeded,
                     failed, streams, broken);
}

void Stage::Watch(const std::string& what, const std::function<Progress()>& look,
                  const std::function<std::string()>& evidence) {
  const auto started = StallWatch::Clock::now();
  StallWatch watch(kPatience, started);
  std::printf("  waiting until %s\n", what.c_str());
  while (true) {
    const Progress progress = look();
    const auto now = StallWatch::Clock::now();
    if (watch.Moved(progress.state, now)) {
      std::printf("  %5.1f s  %s\n", std::chrono::duration<double>(now - started).count(),
                  progress.state.c_str());
      std::fflush(stdout);
    }
    if (progress.done) return;
    if (watch.Stalled(now)) {
      throw std::runtime_error(fmt::format(
          "nothing has moved for {} s while waiting until {}. What there is to look at:\n{}",
          kPatience.count(), what, evidence()));
    }
    if (signals_.Wait(std::chrono::milliseconds(200))) throw Interrupted();
  }
}

void Stage::WatchWorkload(const std::string& ns, const std::string& workload) {
  Watch(
      fmt::format("{} is ready", workload), [&] { return world_.WorkloadProgress(ns, workload); },
      [&] {
        return world_.MustKubectl({"-n", ns, "describe", "pods"});
      });
}

void Stage::WatchRollout() {
  Watch(
      "the rollout is complete and nothing drains",
      [&] {
        Progress progress = world_.RolloutProgress("cluster");
        progress.done = progress.done && progress.state.find("drains") == std::string::npos;
        return progress;
      },
      [&] { return world_.RolloutEvidence(); });
  if (!traffic_.empty()) std::printf("  traffic: %s\n", TrafficLine().c_str());
}

void Stage::StartTraffic(const std::string& who, const Node& node, const std::string& netns,
                         const std::vector<std::string>& targets, int new_per_second,
                         const std::string& protocol, int streams, const std::string& timeout) {
  traffic_.push_back(
      {who, world_.StartLoad(node, netns, targets, new_per_second, protocol, streams, timeout)});
}

void Stage::AwaitTraffic() {
  for (const Traffic& traffic : traffic_)
    world_.AwaitLoadRunning(traffic.load);
  std::printf("  traffic: %s\n", TrafficLine().c_str());
}

bool Stage::EndTraffic() {
  bool clean = true;
  for (const Traffic& traffic : traffic_) {
    const LoadReport report = world_.StopLoad(traffic.load);
    std::printf("  %-30s %s\n", traffic.who.c_str(), report.Summary().c_str());
    if (report.Failed() != 0 || report.BrokenStreams() != 0) {
      clean = false;
      std::printf("%s\n", report.json.at("firstFailures").dump(1).c_str());
    }
  }
  traffic_.clear();
  std::printf(clean ? "\n\033[1mNo connection failed and no stream broke.\033[0m\n"
                    : "\n\033[31;1mConnections were lost.\033[0m\n");
  return clean;
}

}  // namespace pointsman::e2e
