// pointsman-demo: shows the main job to a person: a cluster of three kernels moves from iptables to
// ipvs by `kubectl apply` while traffic flows, and nothing is lost.

#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <numeric>
#include <sys/signalfd.h>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "e2e/scenarios/stall_watch.h"
#include "e2e/scenarios/workload.h"
#include "e2e/scenarios/world.h"

namespace pointsman::e2e {
namespace {

using kube::Json;
using std::chrono_literals::operator""s;

constexpr int kServices = 20;
constexpr uint16_t kFirstPort = 8000;           // of the pods; each Service has its own
constexpr std::chrono::seconds kPatience{120};  // with a rollout in which nothing moves
constexpr char kManifests[] = "manifests/base";
constexpr char kNamespace[] = "pointsman-system";

// The servers, and Services that select them, each with a port of its own: docs/ipvs.md says why
// they should not share backends.
std::string Workload() {
  std::vector<uint16_t> ports(kServices);
  std::iota(ports.begin(), ports.end(), kFirstPort);
  std::string yaml = WorkloadYaml(ports);
  for (int i = 0; i < kServices; ++i) {
    yaml += fmt::format(R"(---
apiVersion: v1
kind: Service
metadata: {{name: web-{}}}
spec:
  type: {}
  clusterIP: 10.96.1.{}
  selector: {{app: web}}
  ports:
    - {{name: tcp, protocol: TCP, port: 80, targetPort: {}{}}}
    - {{name: udp, protocol: UDP, port: 80, targetPort: {}{}}}
)",
                        i, i == 0 ? "NodePort" : "ClusterIP", 10 + i, kFirstPort + i,
                        i == 0 ? ", nodePort: 30080" : "", kFirstPort + i,
                        i == 0 ? ", nodePort: 30080" : "");
  }
  return yaml;
}

class Interrupted : public std::runtime_error {
 public:
  Interrupted() : std::runtime_error("interrupted") {}
};

// Ctrl-C and SIGTERM, looked for between steps and while waiting, so that everything the demo made
// is taken down in order.
class Signals {
 public:
  Signals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGINT);
    sigaddset(&set_, SIGTERM);
    sigaddset(&set_, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    fd_.Reset(signalfd(-1, &set_, SFD_CLOEXEC));
    if (!fd_) throw std::system_error(errno, std::generic_category(), "signalfd");
  }

  // True: one came within the time (negative: however long it takes).
  bool Wait(std::chrono::milliseconds time) const {
    pollfd one{fd_.get(), POLLIN, 0};
    return poll(&one, 1, static_cast<int>(time.count())) > 0;
  }
  void Check() const {
    if (Wait(std::chrono::milliseconds(0))) throw Interrupted();
  }

 private:
  sigset_t set_{};
  UniqueFd fd_;
};

class Demo {
 public:
  Demo(WorldOptions options, const Signals& signals)
      : source_dir_(options.source_dir), world_(std::move(options)), signals_(signals) {}

  // Returns whether nothing was lost.
  bool Run();
  void Keep();

 private:
  void Title(const std::string& text) {
    signals_.Check();
    std::printf("\n\033[1m==> %s\033[0m\n", text.c_str());
    std::fflush(stdout);
  }
  void Show(const std::vector<std::string>& kubectl) {
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
  // The first lines of a command's output on a node.
  void ShowOnNode(const std::string& node, const std::vector<std::string>& argv, size_t lines) {
    std::printf("\033[2m%s$", node.c_str());
    for (const std::string& word : argv)
      std::printf(" %s", word.c_str());
    std::printf("\033[0m\n");
    std::istringstream text(world_.cluster().node(node).Check(argv));
    std::string line;
    for (size_t i = 0; i < lines && std::getline(text, line); ++i) {
      std::printf("  %s\n", line.c_str());
    }
    size_t rest = 0;
    while (std::getline(text, line))
      ++rest;
    if (rest > 0) std::printf("  … and %zu more lines\n", rest);
  }
  void Apply(const std::string& mode);
  void Watch(const std::string& what, const std::function<Progress()>& look,
             const std::function<std::string()>& evidence);
  void WatchWorkload(const std::string& ns, const std::string& workload);
  void WatchRollout();
  std::string TrafficLine();

  const std::filesystem::path source_dir_;
  World world_;
  const Signals& signals_;
  std::vector<World::Load> loads_;
};

void Demo::Apply(const std::string& mode) {
  const std::string yaml = R"(apiVersion: pointsman.io/v1alpha1
kind: ProxyConfiguration
metadata:
  name: cluster
spec:
  mode: )" + mode + R"(
  clusterCIDR: 10.244.0.0/16
  rollout:
    canary: {nodes: 0}
    minReady: 3s
  handover:
    drainTimeout: 10s
)";
  std::printf("\033[2m$ kubectl apply -f - <<END\033[0m\n%s\033[2mEND\033[0m\n", yaml.c_str());
  std::printf("%s", world_.MustKubectl({"apply", "-f", "-"}, yaml).c_str());
  std::fflush(stdout);
}

// The newest line of each load's progress.
std::string Demo::TrafficLine() {
  int64_t succeeded = 0, failed = 0, streams = 0, broken = 0;
  for (const World::Load& load : loads_) {
    std::ifstream log(load.log_path);
    std::string line, last;
    while (std::getline(log, line)) {
      if (!line.empty() && line.front() == '{' && line.back() == '}') last = line;
    }
    if (last.empty()) continue;
    const Json progress = Json::parse(last);
    succeeded += progress.value("succeeded", int64_t{0});
    failed += progress.value("failed", int64_t{0});
    streams += progress.value("streams", int64_t{0});
    broken += progress.value("brokenStreams", int64_t{0});
  }
  return fmt::format("{} new connections made, {} failed; {} streams open, {} broken", succeeded,
                     failed, streams, broken);
}

// One line whenever it has moved, for as long as it moves.
void Demo::Watch(const std::string& what, const std::function<Progress()>& look,
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

void Demo::WatchWorkload(const std::string& ns, const std::string& workload) {
  Watch(
      fmt::format("{} is ready", workload), [&] { return world_.WorkloadProgress(ns, workload); },
      [&] {
        return world_.MustKubectl({"-n", ns, "describe", "pods"});
      });
}

void Demo::WatchRollout() {
  Watch(
      "the rollout is complete and nothing drains",
      [&] {
        Progress progress = world_.RolloutProgress("cluster");
        progress.done = progress.done && progress.state.find("drains") == std::string::npos;
        return progress;
      },
      [&] { return world_.RolloutEvidence(); });
  if (!loads_.empty()) std::printf("  traffic: %s\n", TrafficLine().c_str());
}

bool Demo::Run() {
  std::printf(
      "This takes about two minutes on two idle cores:\n"
      "  1. three nodes boot, each a Linux kernel of its own, and a Kubernetes API server\n"
      "  2. Pointsman is installed with kubectl; %d Services get mode iptables\n"
      "  3. traffic begins, and one `kubectl apply` moves all nodes to ipvs under it\n"
      "  4. the traffic says how many of its connections failed: none should\n",
      kServices);
  Title("Booting three nodes (each a Linux kernel of its own) and a Kubernetes API server");
  world_.Start();
  Show({"get", "nodes", "-o", "wide"});
  for (const Node& node : world_.cluster().nodes()) {
    std::printf("  %s: kernel %s", node.name().c_str(), node.Check({"uname", "-r"}).c_str());
  }

  Title("Installing: the operator, and an agent on each node, run as Pods");
  // This cluster has no kube-proxy, so that nobody serves the API server's Service address yet.
  Show({"apply", "-f", std::string(kManifests) + "/namespace.yaml"});
  Show({"-n", kNamespace, "create", "configmap", "pointsman-apiserver",
        fmt::format("--from-literal=host={}", Cluster::kControlPlaneAddress),
        fmt::format("--from-literal=port={}", Cluster::kApiPort)});
  Show({"apply", "-k", kManifests});
  signals_.Check();
  for (const char* what : {"deployment/pointsman-operator", "daemonset/pointsman-node-agent"})
    WatchWorkload(kNamespace, what);
  Show({"-n", kNamespace, "get", "pods", "-o", "wide"});

  Title(
      fmt::format("Making a Deployment of 6 servers, and {} Services that select them", kServices));
  world_.Apply(Workload());
  WatchWorkload("default", "deployment/web");
  Show({"get", "pods", "-l", "app=web", "-o", "wide"});
  Show({"get", "services", "web-0", "web-1"});
  Show({"wait", "--for=condition=Ready", "--timeout=90s", "pod/client"});

  Title("Services begin to work: mode iptables");
  Apply("iptables");
  WatchRollout();
  std::vector<std::string> targets, node_ports;
  for (int i = 0; i < kServices; ++i)
    targets.push_back(fmt::format("10.96.1.{}:80", 10 + i));
  node_ports.push_back(world_.cluster().node("node-2").address() + ":30080");

  Title("Starting traffic: from a pod and from a node to Services, from outside to a node port");
  loads_.push_back(
      world_.StartLoad(world_.cluster().node("node-1"), "default_client", targets, 60, "both", 10));
  loads_.push_back(world_.StartLoad(world_.cluster().node("node-3"), "", targets, 30, "both", 5));
  loads_.push_back(world_.StartLoad(world_.cluster().outside(), "", node_ports, 20, "both", 5));
  for (const World::Load& load : loads_)
    world_.AwaitLoadRunning(load);
  std::printf("  traffic: %s\n", TrafficLine().c_str());
  ShowOnNode("node-1", {"iptables-legacy", "-w", "-t", "nat", "-nL", "POINTSMAN-IPT-SERVICES"}, 14);

  Title("The move: one `kubectl apply`");
  Apply("ipvs");
  WatchRollout();

  Title("After it");
  Show({"get", "pxc,npx"});
  std::printf("\n");
  Show(
      {"get", "pxc", "cluster", "-o",
       R"(jsonpath={range .status.conditions[*]}{.type}={.status}  {.reason}: {.message}{"\n"}{end})"});
  std::printf("\n");
  ShowOnNode("node-1", {"ipvsadm", "-Ln"}, 12);

  Title("The traffic's own account");
  bool clean = true;
  const char* const who[] = {"pod on node-1 to Services", "node-3 to Services",
                             "outside client to a node port"};
  for (size_t i = 0; i < loads_.size(); ++i) {
    const LoadReport report = world_.StopLoad(loads_[i]);
    std::printf("  %-30s %s\n", who[i], report.Summary().c_str());
    if (report.Failed() != 0 || report.BrokenStreams() != 0) {
      clean = false;
      std::printf("%s\n", report.json.at("firstFailures").dump(1).c_str());
    }
  }
  loads_.clear();
  std::printf(clean ? "\n\033[1mNo connection failed and no stream broke.\033[0m\n"
                    : "\n\033[31;1mConnections were lost.\033[0m\n");
  return clean;
}

void Demo::Keep() {
  std::printf(
      "\nThe cluster stays until Ctrl-C. In another terminal:\n\n"
      "  export KUBECONFIG=%s\n"
      "  kubectl get pxc,npx\n\n",
      world_.cluster().Kubeconfig().c_str());
  std::fflush(stdout);
  signals_.Wait(std::chrono::milliseconds(-1));
}

int Main(int argc, char** argv) {
  CLI::App app("Moves a small cluster of real kernels from iptables to ipvs under traffic.");
  bool keep = false;
  WorldOptions options;
  app.add_flag("--keep", keep, "leave the cluster running until Ctrl-C");
  app.add_option("--dir", options.dir, "where logs and state go")->required();
  app.add_option("--source-dir", options.source_dir, "where crds/ and manifests/ are")->required();
  CLI11_PARSE(app, argc, argv);
  for (int i = 0; i < 3; ++i)
    options.nodes.push_back(ParseNode("uml"));
  options.kubelets = true;
  if (const std::string missing = MissingForACluster(options.nodes); !missing.empty()) {
    std::fprintf(stderr, "error: %s\n", missing.c_str());
    return 1;
  }
  try {
    const AttachedCluster running(options.dir);
    std::fprintf(stderr, "error: a demo is running in %s already (process %d)\n",
                 options.dir.c_str(), running.owner());
    return 1;
  } catch (const std::runtime_error&) {
    // What an earlier one left, its API server's state above all, is not where this one begins.
    std::filesystem::remove_all(options.dir);
  }
  const Signals signals;
  try {
    Demo demo(std::move(options), signals);
    const bool clean = demo.Run();
    if (keep) demo.Keep();
    return clean ? 0 : 1;
  } catch (const Interrupted&) {
    std::printf("\ninterrupted: the cluster is taken down\n");
    return 130;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "\n\033[31merror:\033[0m %s\n", error.what());
    return 1;
  }
}

}  // namespace
}  // namespace pointsman::e2e

int main(int argc, char** argv) {
  return pointsman::e2e::Main(argc, argv);
}
