#include "e2e/scenarios/world.h"

#include <algorithm>
#include <arpa/inet.h>
#include <fstream>
#include <netinet/in.h>
#include <sstream>
#include <thread>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <signal.h>
#include <unistd.h>

#include "e2e/control-plane/testing/environment_variable.h"

namespace pointsman::e2e {
namespace {

using kube::Json;
namespace resources = kube::resources;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr char kNamespace[] = "pointsman-system";
// With a load that does not get on: much longer than a connection's timeout.
constexpr std::chrono::seconds kLoadPatience{60};
const kube::Resource kDeployments{"apps", "v1", "deployments", "Deployment", true};

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The last lines of a log, for a failure's text.
std::string Tail(const fs::path& path, size_t bytes = 3000) {
  const std::string text = ReadFile(path);
  return text.size() <= bytes ? text : "…" + text.substr(text.size() - bytes);
}

int64_t Number(const Json& object, const char* name) {
  return object.is_object() && object.contains(name) ? object.at(name).get<int64_t>() : 0;
}

Json ServiceObject(const World::ServiceSpec& spec) {
  Json ports = Json::array();
  for (const char* protocol : {"TCP", "UDP"}) {
    Json port = {{"name", protocol == std::string("TCP") ? "tcp" : "udp"},
                 {"protocol", protocol},
                 {"port", spec.port},
                 {"targetPort", spec.target_port}};
    if (spec.node_port != 0) port["nodePort"] = spec.node_port;
    ports.push_back(std::move(port));
  }
  Json object = {
      {"apiVersion", "v1"},
      {"kind", "Service"},
      {"metadata", {{"name", spec.name}, {"namespace", "default"}}},
      {"spec",
       {{"type", spec.node_port != 0 ? "NodePort" : "ClusterIP"}, {"ports", std::move(ports)}}}};
  if (!spec.cluster_ip.empty()) object["spec"]["clusterIP"] = spec.cluster_ip;
  if (!spec.external_ip.empty()) object["spec"]["externalIPs"] = {spec.external_ip};
  if (spec.client_ip_affinity) object["spec"]["sessionAffinity"] = "ClientIP";
  return object;
}

Json SliceObject(const World::ServiceSpec& spec, const kube::Resource& resource) {
  Json endpoints = Json::array();
  for (const std::string& address : spec.endpoints) {
    Json endpoint = {{"addresses", {address}}, {"conditions", {{"ready", true}}}};
    const auto node = spec.endpoint_nodes.find(address);
    if (node != spec.endpoint_nodes.end()) {
      if (resource.version == "v1") {
        endpoint["nodeName"] = node->second;
      } else {
        endpoint["topology"] = {{"kubernetes.io/hostname", node->second}};
      }
    }
    endpoints.push_back(std::move(endpoint));
  }
  return {{"apiVersion", resource.ApiVersion()},
          {"kind", "EndpointSlice"},
          {"metadata",
           {{"name", spec.name + "-1"},
            {"namespace", "default"},
            {"labels",
             {{"kubernetes.io/service-name", spec.name},
              {"endpointslice.kubernetes.io/managed-by", "pointsman-e2e"}}}}},
          {"addressType", "IPv4"},
          {"endpoints", std::move(endpoints)},
          {"ports",
           {{{"name", "tcp"}, {"protocol", "TCP"}, {"port", spec.target_port}},
            {{"name", "udp"}, {"protocol", "UDP"}, {"port", spec.target_port}}}}};
}

}  // namespace

fs::path SourceDirectory() {
  return POINTSMAN_SOURCE_DIR;
}

int64_t LoadReport::Attempts() const {
  const Json& connections = json.at("connections");
  return Number(connections.at("tcp"), "started") + Number(connections.at("udp"), "started");
}
int64_t LoadReport::Failed() const {
  const Json& connections = json.at("connections");
  return Number(connections.at("tcp"), "failed") + Number(connections.at("udp"), "failed");
}
int64_t LoadReport::Succeeded() const {
  const Json& connections = json.at("connections");
  return Number(connections.at("tcp"), "succeeded") + Number(connections.at("udp"), "succeeded");
}
int64_t LoadReport::BrokenStreams() const {
  return Number(json.at("streams"), "broken");
}
int64_t LoadReport::Streams() const {
  return Number(json.at("streams"), "opened");
}
std::string LoadReport::Summary() const {
  return fmt::format("{} new connections, {} failed; {} streams, {} broken", Attempts(), Failed(),
                     Streams(), BrokenStreams());
}

World::World(WorldOptions options) : options_(std::move(options)) {}

World::~World() = default;

void World::Start() {
  fs::create_directories(options_.dir);
  ClusterOptions cluster;
  cluster.dir = options_.dir;
  cluster.nodes = options_.nodes;
  cluster.control_plane_args = options_.control_plane_args;
  cluster.control_plane_args.insert(cluster.control_plane_args.end(),
                                    {"--emulate-version", options_.kubernetes_version});
  if (options_.dual_stack) {
    cluster.control_plane_args.insert(cluster.control_plane_args.end(),
                                      {"--service-cidr", "10.96.0.0/16,fd00:10:96::/112"});
  }
  if (options_.kubelets) {
    cluster.control_plane_args.insert(cluster.control_plane_args.end(),
                                      {"--advertise-address", Cluster::kControlPlaneAddress,
                                       "--advertise-port", std::to_string(Cluster::kApiPort)});
  }
  cluster.real_control_plane = EnvironmentVariable("POINTSMAN_REAL_CONTROL_PLANE");
  cluster_ = std::make_unique<Cluster>(std::move(cluster));
  cluster_->Start();
  cluster_->StartControlPlane();
  const kube::Config admin = kube::LoadKubeconfig(cluster_->Kubeconfig());
  api_ =
      std::make_shared<kube::Client>(std::shared_ptr<kube::Transport>(kube::MakeTransport(admin)));

  if (options_.kubelets) {
    kubelet_ = std::make_unique<Kubelet>(*cluster_, options_.kubelet);
    Await(
        "all nodes are registered",
        [&] {
          return api_->List(resources::kNodes, "").size() ==
                 cluster_->nodes().size() - options_.kubelet.later.size();
        },
        std::chrono::seconds(30));
    if (!options_.kubelet.ready_when_served)
      MustKubectl({"wait", "--for=condition=Ready", "--timeout=30s", "nodes", "--all"});
    return;
  }
  if (options_.pointsman) InstallPointsman();
  RegisterNodes();
}

void World::InstallPointsman() {
  const fs::path source = options_.source_dir;
  MustKubectl({"apply", "-f", source / "manifests/base/namespace.yaml"});
  MustKubectl({"apply", "-f", source / "crds/pointsman.io_proxyconfigurations.yaml", "-f",
               source / "crds/pointsman.io_nodeproxies.yaml"});
  MustKubectl({"wait", "--for=condition=Established", "--timeout=30s", "crd",
               "proxyconfigurations.pointsman.io", "nodeproxies.pointsman.io"});
  MustKubectl({"apply", "-f", source / "manifests/base/service-accounts.yaml", "-f",
               source / "manifests/base/rbac-operator.yaml", "-f",
               source / "manifests/base/rbac-node-agent.yaml"});
  // The programs are who their service accounts are: their RBAC is what is enforced.
  MintAccount("pointsman-operator", options_.dir / "operator.kubeconfig");
  MintAccount("pointsman-node-agent", options_.dir / "agent.kubeconfig");
}

void World::Install(const std::string& manifests) {
  MustKubectl({"apply", "-f", options_.source_dir / "manifests/base/namespace.yaml"});
  MustKubectl({"-n", kNamespace, "create", "configmap", "pointsman-apiserver",
               fmt::format("--from-literal=host={}", Cluster::kControlPlaneAddress),
               fmt::format("--from-literal=port={}", Cluster::kApiPort)});
  MustKubectl({"apply", "-k", options_.source_dir / "manifests" / manifests});
  for (const std::string workload :
       {"deployment/pointsman-operator", "daemonset/pointsman-node-agent"}) {
    AwaitProgress(
        workload + " is rolled out", [&] { return WorkloadProgress(kNamespace, workload); },
        std::chrono::seconds(60),
        [&] {
          return MustKubectl({"-n", kNamespace, "describe", "pods"});
        });
  }
}

void World::RegisterNodes() {
  for (const Node& node : cluster_->nodes()) {
    Json pod_cidrs = Json::array({node.pod_cidr()});
    Json addresses = {{{"type", "InternalIP"}, {"address", node.address()}},
                      {{"type", "Hostname"}, {"address", node.name()}}};
    if (options_.dual_stack && !node.address6().empty()) {
      pod_cidrs.push_back(node.pod_cidr6());
      addresses.push_back({{"type", "InternalIP"}, {"address", node.address6()}});
    }
    Json object = {
        {"apiVersion", "v1"},
        {"kind", "Node"},
        {"metadata",
         {{"name", node.name()},
          {"labels", {{"kubernetes.io/hostname", node.name()}, {"kubernetes.io/os", "linux"}}}}},
        {"spec", {{"podCIDR", node.pod_cidr()}, {"podCIDRs", pod_cidrs}}}};
    api_->Create(resources::kNodes, "", object);
    const Json status = {{"addresses", addresses},
                         {"conditions",
                          {{{"type", "Ready"},
                            {"status", "True"},
                            {"reason", "KubeletReady"},
                            {"message", "the test node answers"},
                            {"lastHeartbeatTime", "2026-01-01T00:00:00Z"},
                            {"lastTransitionTime", "2026-01-01T00:00:00Z"}}}}};
    api_->Patch(resources::kNodes, "", node.name(), kube::PatchType::kMerge, {{"status", status}},
                "status");
  }
}

void World::MintAccount(const std::string& account, const fs::path& file) {
  MintKubeconfig(fmt::format("system:serviceaccount:{}:{}", kNamespace, account),
                 {"system:serviceaccounts", std::string("system:serviceaccounts:") + kNamespace},
                 file);
}

void World::MintKubeconfig(const std::string& user, const std::vector<std::string>& groups,
                           const fs::path& file) {
  SpawnOptions mint;
  mint.argv = {cluster_->Program("pointsman-control-plane"),
               "kubeconfig",
               "--pki-dir",
               options_.dir / "pki",
               "--user",
               user,
               "--server",
               fmt::format("https://{}:{}", Cluster::kControlPlaneAddress, Cluster::kApiPort),
               "--out",
               file};
  for (const std::string& group : groups)
    mint.argv.insert(mint.argv.end(), {"--group", group});
  const RunResult result = Run(mint);
  if (result.exit != 0) throw std::runtime_error("minting " + file.string() + ": " + result.out);
}

Process World::SpawnInCluster(std::vector<std::string> argv, const std::string& log) {
  SpawnOptions spawn;
  spawn.argv = std::move(argv);
  spawn.log = options_.dir / log;
  spawn.pid_ns = cluster_->sandbox().pid_ns();
  spawn.net_ns = cluster_->sandbox().net_ns();
  return Spawn(spawn);
}

void World::StartOperator() {
  operator_ = SpawnInCluster(
      {cluster_->Program("pointsman-operator"), "--kubeconfig",
       options_.dir / "operator.kubeconfig", "--namespace", kNamespace, "--leader-elect",
       fmt::format("--metrics-bind-address={}", OperatorMetrics()),
       fmt::format("--health-probe-bind-address={}:10351", Cluster::kControlPlaneAddress)},
      "operator.log");
}

std::string World::OperatorMetrics() {
  return fmt::format("{}:10350", Cluster::kControlPlaneAddress);
}

void World::KillOperator() {
  operator_.Kill();
}

void World::StartAgent(const std::string& name) {
  const Node& node = cluster_->node(name);
  agents_[name] = node.client().Start(
      {cluster_->Program("pointsman-node-agent"), "--kubeconfig", options_.dir / "agent.kubeconfig",
       "--node-name", name, "--metrics-bind-address", "0.0.0.0:10249"},
      options_.dir / (name + "-agent.log"));
}

void World::StartAgents() {
  for (const Node& node : cluster_->nodes())
    StartAgent(node.name());
}

void World::KillAgent(const std::string& name, int signal) {
  const NodeClient& client = cluster_->node(name).client();
  const pid_t pid = agents_.at(name);
  client.Signal(pid, signal);
  Await(
      "the agent of " + name + " ends", [&] { return !client.Status(pid).running; },
      std::chrono::seconds(15));
}

std::string World::NextPodAddress(const Node& node) {
  int& next = next_pod_.try_emplace(node.name(), 10).first->second;
  // "10.244.1.0/24" → "10.244.1.10"
  const std::string& cidr = node.pod_cidr();
  return cidr.substr(0, cidr.rfind('.') + 1) + std::to_string(next++);
}

std::string World::AddClientPod(const std::string& name, const std::string& pod) {
  const Node& node = cluster_->node(name);
  std::string ip = NextPodAddress(node);
  node.AddPodNetwork(pod, ip);
  return ip;
}

std::string World::AddServerPod(const std::string& name, const std::string& pod,
                                const std::vector<uint16_t>& ports, bool routed) {
  const Node& node = cluster_->node(name);
  std::string ip = NextPodAddress(node);
  if (routed) {
    node.AddRoutedPodNetwork(pod, ip);
  } else {
    node.AddPodNetwork(pod, ip);
  }
  const std::string list = fmt::format("{}", fmt::join(ports, ","));
  node.client().Start({cluster_->Program("pointsman-traffic"), "serve", "--name", pod, "--tcp",
                       list, "--udp", list},
                      options_.dir / (name + "-" + pod + ".log"), {.netns = pod});
  // It listens on its ports in the order of the list.
  Await(
      fmt::format("pod {} answers on port {}", pod, ports.back()),
      [&] {
        return node
            .Exec({cluster_->Program("pointsman-traffic"), "connect",
                   fmt::format("{}:{}", ip, ports.back()), "--timeout", "1s"},
                  {.netns = pod})
            .ok();
      },
      std::chrono::seconds(60));
  return ip;
}

void World::CreateServices(const std::vector<ServiceSpec>& services) {
  const bool v1 = options_.kubernetes_version != "1.20";
  const kube::Resource& slices =
      v1 ? resources::kEndpointSlices : resources::kEndpointSlicesV1Beta1;
  for (const ServiceSpec& service : services) {
    api_->Create(resources::kServices, "default", ServiceObject(service));
    api_->Create(slices, "default", SliceObject(service, slices));
  }
}

void World::SetEndpoints(const ServiceSpec& service) {
  const bool v1 = options_.kubernetes_version != "1.20";
  const kube::Resource& slices =
      v1 ? resources::kEndpointSlices : resources::kEndpointSlicesV1Beta1;
  api_->Patch(slices, "default", service.name + "-1", kube::PatchType::kMerge,
              {{"endpoints", SliceObject(service, slices).at("endpoints")}});
}

World::Load World::StartLoad(const Node& node, const std::string& netns,
                             const std::vector<std::string>& targets, int new_per_second,
                             const std::string& protocol, int streams, const std::string& timeout) {
  const std::string stem = options_.dir / fmt::format("load-{}", ++loads_);
  std::string joined;
  for (const std::string& target : targets)
    joined += (joined.empty() ? "" : ",") + target;
  Load load{node.name(), -1, stem + ".json", stem + ".log"};
  load.pid = node.client().Start(
      {cluster_->Program("pointsman-traffic"), "load", "--targets", joined, "--new-per-second",
       std::to_string(new_per_second), "--protocol", protocol, "--streams", std::to_string(streams),
       "--stream-interval", "100ms", "--timeout", timeout, "--report", load.report_path,
       "--progress"},
      load.log_path, {.netns = netns});
  return load;
}

Json World::LoadProgress(const Load& load) {
  const std::string text = ReadFile(load.log_path);
  // The last line may be half written.
  const size_t end = text.rfind('\n');
  if (end == std::string::npos || end == 0) return nullptr;
  const size_t before = text.rfind('\n', end - 1);
  const size_t begin = before == std::string::npos ? 0 : before + 1;
  return Json::parse(text.substr(begin, end - begin), nullptr, false);
}

std::vector<LoadReport> World::StopLoads(const std::vector<Load>& loads) {
  const auto client_of = [&](const Load& load) -> const NodeClient& {
    return load.node == cluster_->outside().name() ? cluster_->outside().client()
                                                   : cluster_->node(load.node).client();
  };
  for (const Load& load : loads)
    client_of(load).Signal(load.pid, SIGTERM);
  std::vector<LoadReport> reports;
  for (const Load& load : loads) {
    Await(
        "the load ends", [&] { return !client_of(load).Status(load.pid).running; }, kLoadPatience,
        [&] { return Tail(load.log_path); });
    const std::string text = ReadFile(load.report_path);
    if (text.empty()) throw std::runtime_error("the load left no report:\n" + Tail(load.log_path));
    reports.push_back({Json::parse(text)});
  }
  return reports;
}

LoadReport World::StopLoad(const Load& load) {
  return std::move(StopLoads({load}).front());
}

void World::AwaitLoadRunning(const Load& load) {
  AwaitProgress(
      "the load runs",
      [&] {
        const Json last = LoadProgress(load);
        const int64_t streams = Number(last, "streams");
        const int64_t messages = std::min(Number(last, "messages"), streams);
        const bool answered = Number(last, "started") == 0 || Number(last, "succeeded") > 0;
        return Progress{
            fmt::format("new connections {}, {} messages of {} streams",
                        answered ? "are answered" : "are not answered yet", messages, streams),
            last.is_object() && answered && messages == streams};
      },
      kLoadPatience, [&] { return Tail(load.log_path); });
}

std::string World::MustKubectl(std::vector<std::string> args, const std::string& input,
                               std::chrono::milliseconds timeout) {
  std::string command = "kubectl";
  for (const std::string& arg : args)
    command += " " + arg;
  const RunResult result = cluster_->Kubectl(std::move(args), input, timeout);
  if (result.exit != 0) {
    throw std::runtime_error(
        fmt::format("{}: exit status {}\n{}", command, result.exit, result.out));
  }
  return result.out;
}

void World::Apply(const std::string& yaml) {
  MustKubectl({"apply", "-f", "-"}, yaml);
}

void World::Await(const std::string& what, const std::function<bool()>& holds,
                  std::chrono::seconds timeout, const std::function<std::string()>& last) {
  const auto deadline = Clock::now() + timeout;
  while (!holds()) {
    if (Clock::now() >= deadline) {
      throw std::runtime_error(fmt::format("after {} s still not: {}{}", timeout.count(), what,
                                           last ? "\n" + last() : std::string()));
    }
    // What is waited for has no notice to wait on.
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

Json World::NodeProxy(const std::string& node) {
  try {
    return api_->Get(resources::kNodeProxies, "", node);
  } catch (const kube::ApiError& error) {
    if (error.IsNotFound()) return nullptr;
    throw;
  }
}

Json World::ProxyConfiguration(const std::string& name) {
  return api_->Get(resources::kProxyConfigurations, "", name);
}

void World::AwaitProgress(const std::string& what, const std::function<Progress()>& look,
                          std::chrono::seconds patience, const std::function<std::string()>& last) {
  StallWatch watch(patience, Clock::now());
  for (Progress progress = look(); !progress.done; progress = look()) {
    watch.Moved(progress.state, Clock::now());
    if (watch.Stalled(Clock::now())) {
      throw std::runtime_error(fmt::format("nothing has moved for {} s, and still not: {}\n{}{}",
                                           patience.count(), what, watch.state(),
                                           last ? "\n" + last() : std::string()));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

Progress World::RolloutProgress(const std::string& name) {
  const Json object = ProxyConfiguration(name);
  const Json status = object.value("status", Json::object());
  Progress progress{fmt::format("{:<12}", status.value("phase", "Pending"))};
  progress.done =
      status.value("phase", "") == "Complete" &&
      Number(status, "observedGeneration") == Number(object.at("metadata"), "generation");
  for (const Node& node : cluster_->nodes()) {
    const Json proxy = NodeProxy(node.name());
    const Json of = proxy.is_object() ? proxy.value("status", Json::object()) : Json::object();
    std::string state = of.value("activeMode", "");
    if (state.empty()) state = "-";
    if (const std::string draining = of.value("drainingMode", ""); !draining.empty())
      state += fmt::format(" ({} drains {})", draining, Number(of, "drainingConnections"));
    progress.state += fmt::format("  {}: {:<26}", node.name(), state);
  }
  return progress;
}

Progress World::WorkloadProgress(const std::string& ns, const std::string& workload) {
  const size_t slash = workload.find('/');
  const bool daemons = workload.substr(0, slash) == "daemonset";
  const std::string name = workload.substr(slash + 1);
  const Json object = api_->Get(daemons ? resources::kDaemonSets : kDeployments, ns, name);
  const Json status = object.value("status", Json::object());
  const bool seen =
      Number(status, "observedGeneration") == Number(object.at("metadata"), "generation");
  const int64_t wanted = daemons ? Number(status, "desiredNumberScheduled")
                                 : object.at("spec").value("replicas", int64_t{1});
  const int64_t updated = Number(status, daemons ? "updatedNumberScheduled" : "updatedReplicas");
  const int64_t available = Number(status, daemons ? "numberAvailable" : "availableReplicas");
  const int64_t all = daemons ? updated : Number(status, "replicas");
  // What `kubectl rollout status` waits for.
  Progress progress{fmt::format("{} of {} pods available", available, wanted)};
  progress.done = seen && wanted > 0 && updated == wanted && available >= wanted && all == updated;
  std::map<std::string, int> phases;
  for (const Json& pod : api_->List(resources::kPods, ns)) {
    if (pod.at("metadata").at("name").get<std::string>().starts_with(name + "-"))
      ++phases[pod.value("status", Json::object()).value("phase", "Pending")];
  }
  for (const auto& [phase, count] : phases)
    progress.state += fmt::format(", {} {}", count, phase);
  return progress;
}

std::string World::RolloutEvidence() {
  std::string text = MustKubectl({"get", "pxc,npx", "-o", "yaml"});
  if (!options_.kubelets) {
    for (const Node& node : cluster_->nodes())
      text += fmt::format("\n{} agent:\n{}\n", node.name(),
                          Tail(options_.dir / (node.name() + "-agent.log"), 1500));
    text += "\noperator:\n" + Tail(options_.dir / "operator.log", 2000);
  } else {
    // As pods they log on their node.
    for (const Node& node : cluster_->nodes())
      text += fmt::format(
          "\n{}: /var/log/{}_*.log:\n{}\n", node.name(), kNamespace,
          node.Exec({"sh", "-c", fmt::format("tail -c 2000 /var/log/{}_*.log", kNamespace)}).out);
  }
  return text + "\nThe logs of the control plane and of the kernels are in " +
         options_.dir.string();
}

void World::AwaitRollout(const std::string& name, std::chrono::seconds patience) {
  AwaitProgress(
      "ProxyConfiguration " + name + " is rolled out",
      [&]() -> Progress {
        try {
          return RolloutProgress(name);
        } catch (const kube::TransportError& error) {  // scenarios kill the control plane
          return {error.what()};
        }
      },
      patience, [&] { return RolloutEvidence(); });
}

void World::AwaitMode(const std::string& node, const std::string& mode,
                      std::chrono::seconds timeout) {
  Await(
      fmt::format("{} serves in mode {} and drains nothing", node, mode),
      [&] {
        const Json proxy = NodeProxy(node);
        if (!proxy.is_object() || !proxy.contains("status")) return false;
        const Json& status = proxy.at("status");
        return status.value("activeMode", "") == mode && status.value("drainingMode", "").empty();
      },
      timeout,
      [&] { return NodeProxy(node).dump(1) + "\n" + Tail(options_.dir / (node + "-agent.log")); });
}

}  // namespace pointsman::e2e
