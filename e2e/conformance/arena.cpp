#include "e2e/conformance/arena.h"

#include <fstream>
#include <future>
#include <regex>
#include <sstream>
#include <thread>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <signal.h>

#include "e2e/conformance/taken_port.h"

namespace pointsman::e2e {
namespace {

namespace resources = kube::resources;
using Clock = std::chrono::steady_clock;
using std::chrono_literals::operator""s;

constexpr char kFence[] = "fence";
constexpr char kFenceNamespace[] = "conformance-fence";
constexpr int kFirstFencePort = 10'000;
constexpr int kFencePorts = 20'000;

// iptables, nftables and userspace run on the machine's own kernel, which has all they need and is
// fast; ip_vs is only in the User-Mode Linux kernels.
std::string KindFor(kube::Mode mode) {
  return mode == kube::Mode::kIpvs ? "uml" : "netns";
}

}  // namespace

std::string HostPort(const std::string& address, int port) {
  return address.find(':') == std::string::npos ? fmt::format("{}:{}", address, port)
                                                : fmt::format("[{}]:{}", address, port);
}

Arena::Arena(Options options) : options_(std::move(options)) {
  if (options_.node_kind.empty()) options_.node_kind = KindFor(options_.mode);
}

Arena::~Arena() = default;

void Arena::Start() {
  WorldOptions world;
  world.dir = options_.dir;
  world.source_dir = options_.source_dir;
  world.dual_stack = true;
  for (const std::string& name : StandingNodes()) {
    NodeOptions node = ParseNode(options_.node_kind);
    node.name = name;
    world.nodes.push_back(node);
  }
  world_ = std::make_unique<World>(world);
  world_->Start();
  char zone = 'a';
  for (const std::string& name : StandingNodes()) {
    api().Patch(resources::kNodes, "", name, kube::PatchType::kMerge,
                {{"metadata",
                  {{"labels", {{"topology.kubernetes.io/zone", std::string("zone-") + zone++}}}}}});
  }
  has_sctp_ = options_.node_kind.starts_with("uml");
  for (const Node& node : world_->cluster().nodes()) {
    if (has_sctp_) node.Check({"modprobe", "sctp"});
  }
  AddPods();
  api().Create(resources::kNamespaces, "", {{"metadata", {{"name", kFenceNamespace}}}});
  api().Create(
      resources::kServices, kFenceNamespace,
      {{"metadata", {{"name", kFence}}},
       {"spec",
        {{"ipFamilyPolicy", "RequireDualStack"},
         {"ports",
          {{{"name", "tcp"}, {"port", kFirstFencePort}, {"targetPort", kPodPorts[0]}}}}}}});
  for (const auto family : {net::Family::kIPv4, net::Family::kIPv6}) {
    const std::string name(FamilyName(family));
    api().Create(resources::kEndpointSlices, kFenceNamespace,
                 {{"metadata",
                   {{"name", family == net::Family::kIPv4 ? "fence-v4" : "fence-v6"},
                    {"labels", {{"kubernetes.io/service-name", kFence}}}}},
                  {"addressType", name},
                  {"endpoints", Json::array()},
                  {"ports", {{{"name", "tcp"}, {"protocol", "TCP"}, {"port", kPodPorts[0]}}}}});
  }
}

void Arena::AddPods() {
  int next = 10;
  std::vector<std::string> pods = StandingPods();
  pods.insert(pods.end(), RoutedPods().begin(), RoutedPods().end());
  for (const std::string& pod : pods) {
    const Node& node = world_->cluster().node(NodeOfPod(pod));
    const std::string cidr = node.pod_cidr();
    pod_ips_[pod] = cidr.substr(0, cidr.rfind('.') + 1) + std::to_string(next++);
    if (pod.starts_with("routed")) {
      links_[pod] = node.AddRoutedPodNetwork(pod, pod_ips_[pod]);
    } else {
      node.AddPodNetwork(pod, pod_ips_[pod]);
    }
    StartServer(pod, {&node, pod}, {kPodPorts[0], kPodPorts[1]}, true);
  }
  for (const Node& node : world_->cluster().nodes())
    StartServer(node.name(), {&node, ""}, {kNodePorts[0]}, false);
  for (const std::string& pod : pods)
    AwaitServers(pod);
}

void Arena::AwaitServers(const std::string& pod) {
  // Its HTTP port is the last that it listens on but for UDP.
  const Place place = At(pod);
  world_->Await(
      "the servers of " + pod + " listen",
      [&] {
        return place.node
            ->Exec({world_->cluster().Program("pointsman-traffic"), "connect", "--udp",
                    HostPort(pod_ips_[pod], kPodPorts[1]), "--timeout", "1s"},
                   {.netns = pod})
            .ok();
      },
      20s, [&] { return ServerLog(pod); });
}

void Arena::StartServer(const std::string& name, const Place& place, const std::vector<int>& ports,
                        bool http) {
  const std::string list = fmt::format("{}", fmt::join(ports, ","));
  std::vector<std::string> argv{world_->cluster().Program("pointsman-traffic"),
                                "serve",
                                "--name",
                                name,
                                "--bind",
                                "::",
                                "--tcp",
                                list,
                                "--udp",
                                list};
  if (has_sctp_) argv.insert(argv.end(), {"--sctp", list});
  if (http) argv.insert(argv.end(), {"--http", std::to_string(kPodHttpPort)});
  place.node->client().Start(argv, options_.dir / (name + "-server.log"), {.netns = place.netns});
}

std::string Arena::ServerLog(const std::string& name) const {
  std::ifstream file(options_.dir / (name + "-server.log"));
  return {std::istreambuf_iterator<char>(file), {}};
}

Json Arena::Configuration(const std::string& node) const {
  const Json periods = {{"syncPeriod", "30s"}, {"minSyncPeriod", "1ms"}};
  Json configuration = {
      {"apiVersion", "kubeproxy.config.k8s.io/v1alpha1"},
      {"kind", "KubeProxyConfiguration"},
      {"mode", kube::ToString(options_.mode)},
      {"hostnameOverride", node},
      {"clientConnection", {{"kubeconfig", options_.dir / "agent.kubeconfig"}}},
      {"clusterCIDR", "10.244.0.0/16,fd00:10:244::/48"},
      {"metricsBindAddress", "0.0.0.0:10249"},
      {"iptables", periods},
      {"nftables", periods},
  };
  if (options_.mode == kube::Mode::kIpvs) configuration["ipvs"] = periods;
  // kube-proxy's file means "primary" by this mode when it says nothing; the cases mean all.
  if (options_.mode == kube::Mode::kNftables)
    configuration["nodePortAddresses"] = {"0.0.0.0/0", "::/0"};
  configuration.merge_patch(standing_changes_);
  configuration.merge_patch(changes_);
  return configuration;
}

void Arena::StartAgent(const std::string& name) {
  const Node& node = world_->cluster().node(name);
  const std::string file = "/run/kube-proxy.yaml";
  node.client().Put(file, Configuration(name).dump(1));
  agents_[name] =
      node.client().Start({world_->cluster().Program("pointsman-node-agent"), "--config", file},
                          options_.dir / (name + "-agent.log"));
}

void Arena::StopAgents() {
  for (const auto& [name, agent] : agents_)
    world_->cluster().node(name).client().Signal(agent, SIGTERM);
  for (const auto& running : agents_) {
    const Node& node = world_->cluster().node(running.first);
    world_->Await(
        "the agent of " + node.name() + " ends",
        [&] { return !node.client().Status(running.second).running; }, 15s);
  }
  agents_.clear();
}

void Arena::EndAgents() {
  StopAgents();
  changes_ = Json();
  std::vector<std::future<std::string>> running;
  for (const Node& node : world_->cluster().nodes()) {
    running.push_back(std::async(std::launch::async, [&] {
      return node.Check({world_->cluster().Program("pointsman-node-agent"), "--cleanup"});
    }));
  }
  for (auto& one : running)
    one.get();
}

int Arena::FullSyncs(const Node& node) const {
  static const std::regex count(
      "^kubeproxy_sync_full_proxy_rules_duration_seconds_count(\\{[^}]*\\})? ([0-9]+)",
      std::regex::ECMAScript | std::regex::multiline);
  const std::string metrics =
      node.Check({"curl", "-s", "-m", "2", "http://127.0.0.1:10249/metrics"});
  int all = 0;
  for (auto it = std::sregex_iterator(metrics.begin(), metrics.end(), count);
       it != std::sregex_iterator(); ++it)
    all += std::stoi((*it)[2]);
  return all;
}

void Arena::AwaitFullSyncs(int times) {
  std::map<std::string, int> until;
  for (const Node& node : world_->cluster().nodes())
    until[node.name()] = FullSyncs(node) + times;
  for (const Node& node : world_->cluster().nodes()) {
    world_->Await(
        fmt::format("the agent of {} looks at all of its kernel {} times", node.name(), times),
        [&] { return FullSyncs(node) >= until[node.name()]; }, 60s,
        [&] { return AgentLog(node.name(), 3000); });
  }
}

void Arena::UseConfiguration(const Json& changes) {
  if (changes == changes_) return;
  changes_ = changes;
  StopAgents();
  for (const std::string& name : StandingNodes())
    StartAgent(name);
  const std::string mode(kube::ToString(options_.mode));
  for (const std::string& name : StandingNodes()) {
    const Node& node = world_->cluster().node(name);
    world_->Await(
        fmt::format("the agent of {} serves in mode {}", name, mode),
        [&] {
          if (!node.client().Status(agents_[name]).running)
            throw std::runtime_error("the agent of " + name + " ended:\n" + AgentLog(name, 3000));
          return node.Exec({"curl", "-s", "-m", "2", "http://127.0.0.1:10249/proxyMode"}).out ==
                 mode;
        },
        30s, [&] { return AgentLog(name, 3000); });
  }
  AwaitTakenUp();
}

// Another port of the Service and another endpoint: who is answered there by that one has seen both
// changes, and with them, as a watch is in order, all earlier ones of both kinds.
void Arena::AwaitTakenUp() {
  const std::string& backend = StandingPods().at(static_cast<size_t>(fence_ % 2) * 2);
  const int port = kFirstFencePort + ++fence_ % kFencePorts;
  const Json service = api().Patch(
      resources::kServices, kFenceNamespace, kFence, kube::PatchType::kMerge,
      {{"spec", {{"ports", {{{"name", "tcp"}, {"port", port}, {"targetPort", kPodPorts[0]}}}}}}});
  for (const auto family : {net::Family::kIPv4, net::Family::kIPv6}) {
    api().Patch(resources::kEndpointSlices, kFenceNamespace,
                family == net::Family::kIPv4 ? "fence-v4" : "fence-v6", kube::PatchType::kMerge,
                {{"endpoints",
                  {{{"addresses", {Address(backend, family)}},
                    {"nodeName", NodeOfPod(backend)},
                    {"conditions", {{"ready", true}}}}}}});
  }
  for (const Node& node : world_->cluster().nodes()) {
    for (const Json& ip : service.at("spec").at("clusterIPs")) {
      const std::string address = HostPort(ip, port);
      const auto deadline = Clock::now() + 15s;
      while (!AnswersFence(node, address, backend)) {
        if (Clock::now() > deadline)
          throw std::runtime_error(fmt::format(
              "{} has not taken up the last changes in 15 s (it does not answer on {} by {}); its "
              "agent:\n{}",
              node.name(), address, backend, AgentLog(node.name(), 3000)));
        // A refusal comes at once, and asking without a pause takes the CPU from who is awaited.
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
    }
  }
}

bool Arena::AnswersFence(const Node& node, const std::string& address,
                         const std::string& backend) const {
  const ExecResult result = node.Exec(
      {world_->cluster().Program("pointsman-traffic"), "connect", address, "--timeout", "500ms"});
  return result.ok() && Json::parse(result.out).at("backend") == backend;
}

Place Arena::At(const std::string& name) const {
  if (name == "outside") return {&world_->cluster().outside(), ""};
  const std::string node = NodeOfPod(name);
  if (!node.empty()) return {&world_->cluster().node(node), name};
  return {&world_->cluster().node(name), ""};
}

std::string Arena::Address(const std::string& name, net::Family family) const {
  const bool v4 = family == net::Family::kIPv4;
  const Place place = At(name);
  if (place.netns.empty()) return v4 ? place.node->address() : place.node->address6();
  const std::string& ip = pod_ips_.at(name);
  return v4 ? ip : place.node->PodAddress6(ip);
}

std::vector<std::string> Arena::NodeAddresses(const std::string& name, net::Family family) const {
  const Node& node = world_->cluster().node(name);
  const std::string gateway = node.pod_cidr().substr(0, node.pod_cidr().rfind('.') + 1) + "1";
  if (family == net::Family::kIPv4) return {node.address(), gateway};
  return {node.address6(), node.PodAddress6(gateway)};
}

bool Arena::IsPortTaken(const std::string& target, int local_port) const {
  if (options_.mode != kube::Mode::kIpvs) return false;
  std::vector<TrackedConnection> tracked;
  std::vector<IpvsConnection> ipvs;
  for (const Node& node : world_->cluster().nodes()) {
    for (const char* family : {"ipv4", "ipv6"}) {
      const auto more = ParseConntrack(node.Check({"conntrack", "-L", "-p", "tcp", "-f", family}));
      tracked.insert(tracked.end(), more.begin(), more.end());
    }
    const auto more = ParseIpvsConnections(node.Check({"ipvsadm", "-Lcn"}));
    ipvs.insert(ipvs.end(), more.begin(), more.end());
  }
  return e2e::IsPortTaken(tracked, ipvs, target, local_port);
}

std::string Arena::Rules(const std::string& name, const std::vector<std::string>& words) const {
  const Node& node = world_->cluster().node(name);
  std::vector<std::vector<std::string>> commands;
  if (options_.mode == kube::Mode::kNftables) commands.push_back({"nft", "list", "ruleset"});
  if (options_.mode == kube::Mode::kIpvs) {
    commands.push_back({"ipvsadm", "-Ln"});
    commands.push_back({"ipset", "save"});
  }
  for (const char* variant : {"legacy", "nft"}) {
    for (const char* family : {"iptables", "ip6tables"})
      commands.push_back({fmt::format("{}-{}-save", family, variant)});
  }
  commands.push_back({"conntrack", "-L"});
  std::string text;
  for (const auto& command : commands) {
    ExecResult result;
    try {
      result = node.Exec(command);
    } catch (const std::exception& error) {
      // The failure that these rules are to explain counts, not this one.
      text += fmt::format("{} on {}: {}\n", fmt::join(command, " "), name, error.what());
      continue;
    }
    std::string part;
    std::istringstream lines(result.out);
    for (std::string line; std::getline(lines, line);) {
      const bool wanted = words.empty() || std::any_of(words.begin(), words.end(), [&](auto& word) {
                            return line.find(word) != std::string::npos;
                          });
      // ipvs lists a virtual server's destinations in the lines below it.
      if (wanted || (line.starts_with("  ->") && !part.empty())) part += "  " + line + "\n";
    }
    if (!part.empty()) text += fmt::format("{} on {}:\n{}", fmt::join(command, " "), name, part);
  }
  return text;
}

std::string Arena::AgentLog(const std::string& node, size_t bytes) const {
  std::ifstream file(options_.dir / (node + "-agent.log"));
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  return text.size() <= bytes ? text : "…" + text.substr(text.size() - bytes);
}

}  // namespace pointsman::e2e
