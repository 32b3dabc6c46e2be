// The main job: a running cluster moves from iptables to ipvs and back by `kubectl apply`, under
// load, and no connection is lost.
#include <numeric>
#include <random>
#include <thread>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "e2e/scenarios/kernel_modes.h"
#include "e2e/scenarios/scenario_fixture.h"

namespace pointsman::e2e {
namespace {

using std::chrono_literals::operator""s;

constexpr int kServices = 200;
constexpr int kEndpointsEach = 5;
// Each Service has backends of its own, as in a real cluster: the port tells them apart. IPVS
// cannot tell two connections apart that have the same client port and the same backend but another
// Service's address (docs/ipvs.md).
constexpr uint16_t kFirstTargetPort = 8000;

class MigrationTest : public ScenarioTest {
 protected:
  // Boots, starts everything in iptables mode with Services in place.
  void Start(const std::vector<std::string>& nodes, int services = kServices) {
    START_OR_RETURN(StartWorld(nodes));
    world_->StartOperator();
    world_->StartAgents();
    std::vector<std::string> addresses;
    std::vector<uint16_t> ports(static_cast<size_t>(services) + 1);
    std::iota(ports.begin(), ports.end(), kFirstTargetPort);
    for (const Node& node : world_->cluster().nodes()) {
      for (int i = 0; i < 2; ++i) {
        const std::string ip =
            world_->AddServerPod(node.name(), fmt::format("{}-server-{}", node.name(), i), ports);
        addresses.push_back(ip);
        endpoint_nodes_[ip] = node.name();
      }
    }
    for (int i = 0; i < services; ++i) {
      World::ServiceSpec service;
      service.name = fmt::format("web-{}", i);
      service.cluster_ip = fmt::format("10.96.{}.{}", 1 + i / 200, 1 + i % 200);
      service.port = 80;
      service.target_port = static_cast<uint16_t>(kFirstTargetPort + i);
      // Each kind of address leads to pods' ports of its own: IPVS mixes up the connections of a
      // client that comes to two of them from one port (docs/ipvs.md).
      if (i < 5) service.node_port = static_cast<uint16_t>(30080 + i);
      if (i >= 5 && i < 10) service.external_ip = fmt::format("203.0.113.{}", i);
      for (int j = 0; j < kEndpointsEach; ++j) {
        service.endpoints.push_back(addresses[static_cast<size_t>(i + j) % addresses.size()]);
      }
      service.endpoint_nodes = endpoint_nodes_;
      services_.push_back(service);
      targets_.push_back(fmt::format("{}:{}", service.cluster_ip, service.port));
    }
    sticky_.name = "sticky";
    sticky_.cluster_ip = "10.96.250.1";
    sticky_.node_port = 30099;
    sticky_.target_port = ports.back();
    sticky_.client_ip_affinity = true;
    sticky_.endpoints = addresses;
    sticky_.endpoint_nodes = endpoint_nodes_;
    world_->CreateServices({sticky_});
    world_->CreateServices(services_);
    world_->Apply(ClusterConfiguration("iptables"));
    world_->AwaitRollout("cluster", 60s);
  }

  void StartLoad(const std::string& who, const Node& node, const std::string& pod,
                 const std::vector<std::string>& targets, int rate, int streams,
                 const std::string& timeout = "3s") {
    loads_.emplace_back(who, world_->StartLoad(node, pod, targets, rate, "both", streams, timeout));
  }
  static std::vector<std::string> NodePorts(const Node& node) {
    std::vector<std::string> targets;
    targets.reserve(5);
    for (int i = 0; i < 5; ++i)
      targets.push_back(fmt::format("{}:{}", node.address(), 30080 + i));
    return targets;
  }
  // Of Services without node port. The outside client's way there is `node`.
  std::vector<std::string> ExternalIps(const Node& node) {
    world_->cluster().outside().Check(
        {"ip", "route", "replace", "203.0.113.0/24", "via", node.address()});
    std::vector<std::string> targets;
    for (const World::ServiceSpec& service : services_) {
      if (!service.external_ip.empty())
        targets.push_back(fmt::format("{}:{}", service.external_ip, service.port));
    }
    return targets;
  }
  // From a pod on node-1, from node-2, and from outside to node-2's node ports and through it to
  // external IPs: together more than 100 new connections a second and more than 20 streams.
  void StartLoads() {
    const Node& second = world_->cluster().node("node-2");
    world_->AddClientPod("node-1", "client");
    StartLoad("pod on node-1 to ClusterIPs", world_->cluster().node("node-1"), "client", targets_,
              60, 20);
    StartLoad("node-2 to ClusterIPs", second, "", targets_, 30, 10);
    StartLoad("outside client to node ports", world_->cluster().outside(), "", NodePorts(second),
              20, 10);
    StartLoad("outside client to external IPs", world_->cluster().outside(), "",
              ExternalIps(second), 10, 5);
    for (const auto& [who, load] : loads_)
      world_->AwaitLoadRunning(load);
  }
  void ExpectLoadsClean() {
    for (const auto& [who, load] : loads_)
      ExpectClean(world_->StopLoad(load), who);
  }

  // Which backend a Service with sessionAffinity has for some clients, who ask nobody else of it.
  std::map<std::string, std::string> BoundClients() {
    const Node& node = world_->cluster().node("node-1");
    const std::string vip = fmt::format("{}:{}", sticky_.cluster_ip, sticky_.port);
    const std::string node_port = fmt::format("{}:{}", node.address(), sticky_.node_port);
    std::map<std::string, std::string> bound;
    const auto ask = [&](const std::string& who, const Node& from, const std::string& pod,
                         const std::string& target) {
      for (const char* protocol : {"tcp", "udp"}) {
        std::vector<std::string> argv{world_->cluster().Program("pointsman-traffic"), "connect",
                                      target, "--timeout", "5s"};
        if (protocol == std::string("udp")) argv.emplace_back("--udp");
        const ExecResult result = from.Exec(argv, {.netns = pod});
        bound[fmt::format("{} {}", who, protocol)] =
            result.ok() ? kube::Json::parse(result.out).at("backend").get<std::string>()
                        : "nobody: " + result.out + result.error;
      }
    };
    ask("pod", node, "client", vip);
    ask("node", node, "", vip);
    ask("outside", world_->cluster().outside(), "", node_port);
    return bound;
  }

  // The status says these, and nothing that the kernel does not.
  void ExpectSysctls(const std::string& node, const std::vector<std::string>& expected) {
    const std::string said = world_->MustKubectl(
        {"get", "npx", node, "-o",
         R"(jsonpath={range .status.kernel.sysctls[*]}{.name}={.value}{"\n"}{end})"});
    std::istringstream lines(said);
    for (std::string line; std::getline(lines, line);) {
      const size_t equals = line.find('=');
      ASSERT_NE(equals, std::string::npos) << said;
      EXPECT_EQ(world_->cluster().node(node).Check({"sysctl", "-n", line.substr(0, equals)}),
                line.substr(equals + 1) + "\n")
          << node << ": " << line;
    }
    for (const std::string& each : expected)
      EXPECT_NE(("\n" + said).find("\n" + each + "\n"), std::string::npos)
          << node << ": " << each << " is not in:\n"
          << said;
  }

  // A Service that asks for a scheduler which does not exist, where there are schedulers at all.
  void ExpectServicesAcceptedIsSaid() {
    const auto accepted = [&](const char* node, const char* field) {
      return world_->MustKubectl(
          {"get", "npx", node, "-o",
           fmt::format("jsonpath={{.status.conditions[?(@.type==\"ServicesAccepted\")].{}}}",
                       field)});
    };
    const std::string& service = services_.front().name;
    EXPECT_EQ(accepted("node-1", "status"), "True");
    world_->MustKubectl(
        {"annotate", "service", service, "pointsman.io/ipvs-scheduler=fastest", "--overwrite"});
    world_->Await(
        "node-1 says that a Service is not served as specified",
        [&] { return accepted("node-1", "status") == "False"; }, 15s);
    const std::string message = accepted("node-1", "message");
    EXPECT_NE(message.find("default/" + service + ": "), std::string::npos) << message;
    EXPECT_NE(message.find("fastest"), std::string::npos) << message;
    EXPECT_EQ(accepted("node-2", "status"), "True") << "iptables mode has no schedulers";
    EXPECT_NE(world_->MustKubectl({"describe", "service", service}).find("NotServedAsSpecified"),
              std::string::npos);
    world_->MustKubectl({"annotate", "service", service, "pointsman.io/ipvs-scheduler-"});
    world_->Await(
        "node-1 says that all Services are served as specified",
        [&] { return accepted("node-1", "status") == "True"; }, 15s);
  }

  std::map<std::string, std::string> endpoint_nodes_;
  std::vector<World::ServiceSpec> services_;
  World::ServiceSpec sticky_;  // no load's target
  std::vector<std::string> targets_;
  std::vector<std::pair<std::string, World::Load>> loads_;
};

TEST_F(MigrationTest, IptablesToIpvsAndBackUnderLoadLosesNothing) {
  START_OR_RETURN(Start({"uml", "uml", "uml"}));
  const Node& first = world_->cluster().node("node-1");
  StartLoads();

  // The rules are in the legacy tables: the test kernels' nf_tables has no NAT.
  const auto has_rules = [](const Node& each) {
    return each.Check({"iptables-legacy-save", "-t", "nat"}).find("POINTSMAN-IPT-") !=
           std::string::npos;
  };
  for (const Node& each : world_->cluster().nodes())
    EXPECT_TRUE(has_rules(each));
  const auto bound = BoundClients();
  world_->Apply(ClusterConfiguration("ipvs"));
  world_->AwaitRollout("cluster", 90s);
  for (const Node& each : world_->cluster().nodes()) {
    world_->AwaitMode(each.name(), "ipvs", 30s);
    EXPECT_FALSE(has_rules(each)) << each.name();
    EXPECT_NE(each.Check({"ipvsadm", "-Ln"}).find("10.96.1.1:80"), std::string::npos);
  }
  EXPECT_EQ(BoundClients(), bound) << "sessionAffinity, iptables -> ipvs";
  // The streams so far live in connection tracking. These are opened in ipvs, which has to keep
  // them on the way back for as long as drainTimeout says.
  const World::Load late = world_->StartLoad(first, "client", targets_, 20, "both", 10);
  world_->AwaitLoadRunning(late);
  // All nodes at once: what is left of the time is waited for, since IPVS remembers UDP flows.
  world_->Apply(ClusterConfiguration("iptables", "20s", 3));
  world_->AwaitRollout("cluster", 90s);
  EXPECT_NE(first.Check({"ipvsadm", "-Ln"}).find("10.96."), std::string::npos)
      << "ipvs still carries the streams that were opened in it";
  EXPECT_EQ(BoundClients(), bound) << "sessionAffinity, ipvs -> iptables";
  ExpectClean(world_->StopLoad(late), "pod on node-1, begun in ipvs");
  for (const Node& each : world_->cluster().nodes()) {
    world_->AwaitMode(each.name(), "iptables", 90s);
    EXPECT_TRUE(has_rules(each)) << each.name();
    EXPECT_EQ(each.Check({"ipvsadm", "-Ln"}).find("10.96."), std::string::npos);
  }
  ExpectLoadsClean();
}

// Each way from each of the three to each other. userspace mode's connections are in a process
// beside the agent: a killed agent must not take them with it, nor a handover.
TEST_F(MigrationTest, ThroughTheModesOfAKernelWithoutIpvsUnderLoadLosesNothing) {
  START_OR_RETURN(Start({"netns", "netns"}));
  StartLoads();
  const auto bound = BoundClients();
  for (const char* mode :
       {"nftables", "userspace", "iptables", "userspace", "nftables", "iptables"}) {
    const World::Load late =
        world_->StartLoad(world_->cluster().node("node-1"), "client", targets_, 20, "both", 10);
    world_->AwaitLoadRunning(late);
    const std::string before = world_->NodeProxy("node-1").at("status").at("activeMode");
    if (before == "userspace") {
      world_->KillAgent("node-1", SIGKILL);
      world_->StartAgent("node-1");
    }
    // The others' live in connection tracking.
    world_->Apply(ClusterConfiguration(mode, before == "userspace" ? "40s" : "3s"));
    world_->AwaitRollout("cluster", 90s);
    EXPECT_EQ(BoundClients(), bound) << "sessionAffinity, " << before << " -> " << mode;
    ExpectClean(world_->StopLoad(late), "pod on node-1, begun in " + before);
  }
  for (const Node& each : world_->cluster().nodes()) {
    world_->AwaitMode(each.name(), "iptables", 90s);
    EXPECT_EQ(each.Check({"iptables-save", "-t", "nat"}).find("POINTSMAN-USP-"), std::string::npos);
  }
  ExpectLoadsClean();
}

// ipvs and iptables mode, each to and from userspace mode.
TEST_F(MigrationTest, UserspaceToAndFromIpvsAndIptablesUnderLoadLosesNothing) {
  START_OR_RETURN(Start({"uml", "uml"}));
  StartLoads();
  const auto bound = BoundClients();
  std::string drain_timeout = "3s";  // iptables mode's own streams are conntrack's, and never end
  for (const char* mode : {"userspace", "ipvs", "userspace", "iptables"}) {
    // Opened in the mode that is left now, which has to keep them.
    const World::Load late =
        world_->StartLoad(world_->cluster().node("node-1"), "client", targets_, 10, "both", 10);
    world_->AwaitLoadRunning(late);
    world_->Apply(ClusterConfiguration(mode, std::exchange(drain_timeout, "40s")));
    world_->AwaitRollout("cluster", 90s);
    EXPECT_EQ(BoundClients(), bound) << "sessionAffinity, to " << mode;
    ExpectClean(world_->StopLoad(late), std::string("pod on node-1, begun before ") + mode);
  }
  for (const Node& each : world_->cluster().nodes())
    world_->AwaitMode(each.name(), "iptables", 60s);
  ExpectLoadsClean();
}

// A host port of a pod that nobody would get an answer from, in the form of CNI portmap with
// nftables (containernetworking/plugins 3d27709, portmap_nftables.go): what is addressed to the
// node. In ipvs mode a cluster IP is, and all Services have port 80.
void PublishPort80(const Node& node) {
  for (const char* hook : {"prerouting", "output"}) {
    for (const std::string& command :
         {std::string("add table ip cni_hostport"),
          fmt::format("add chain ip cni_hostport {0} {{ type nat hook {0} priority -100; }}", hook),
          fmt::format(
              "add rule ip cni_hostport {} meta l4proto {{ tcp, udp }} th dport 80 fib daddr "
              "type local dnat to 10.244.99.99",
              hook)})
      node.Check({"nft", command});
  }
}

// The modes between which only a kernel with both ip_vs and all of nf_tables can move. node-2 has
// no ip_vs: it falls back meanwhile.
TEST_F(MigrationTest, IpvsToNftablesAndBackOnAStockKernelLosesNothing) {
  // Fewer Services and connections than above, as an emulated CPU can bear.
  START_OR_RETURN(Start({"vm", "netns"}, 50));
  const Node& node = world_->cluster().node("node-1");
  world_->AddClientPod("node-1", "client");
  StartLoad("pod on node-1 to ClusterIPs", node, "client", targets_, 15, 10, "10s");
  StartLoad("node-1 to ClusterIPs", node, "", targets_, 10, 5, "10s");
  StartLoad("outside client to node ports", world_->cluster().outside(), "", NodePorts(node), 10, 5,
            "10s");
  StartLoad("outside client to external IPs", world_->cluster().outside(), "", ExternalIps(node), 5,
            5, "10s");
  for (const auto& [who, load] : loads_)
    world_->AwaitLoadRunning(load);
  EXPECT_EQ(ModesIn(node), std::set<std::string>{"iptables"});
  const auto bound = BoundClients();
  std::string before = "iptables";
  for (const std::string mode : {"ipvs", "nftables", "ipvs", "iptables"}) {
    const std::string move = fmt::format("{} -> {}", before, mode);
    std::printf("%s\n", move.c_str());
    // Opened in the mode that goes. ipvs has to carry its own until they end; those of the others
    // live in connection tracking, also when the drain's time is over.
    const bool carries = before == "ipvs";
    const World::Load late = world_->StartLoad(node, "client", targets_, 5, "both", 5, "10s");
    world_->AwaitLoadRunning(late);
    world_->Apply(ClusterConfiguration(mode, carries ? "60s" : "3s"));
    world_->AwaitRollout("cluster", 90s);
    EXPECT_EQ(BoundClients(), bound) << "sessionAffinity, " << move;
    if (carries) {
      EXPECT_EQ(ModesIn(node), (std::set<std::string>{before, mode})) << move;
    }
    ExpectClean(world_->StopLoad(late), "pod on node-1, begun in " + before);
    world_->AwaitMode("node-1", mode, 90s);
    EXPECT_EQ(ModesIn(node), std::set<std::string>{mode}) << move;
    if (mode == "ipvs") {
      PublishPort80(node);
      const World::Load published =
          world_->StartLoad(node, "client", targets_, 5, "both", 5, "10s");
      world_->AwaitLoadRunning(published);
      ExpectClean(world_->StopLoad(published), "pod on node-1, while others publish port 80");
      node.Check({"nft", "delete", "table", "ip", "cni_hostport"});
    }
    before = mode;
  }
  ExpectLoadsClean();
}

TEST_F(MigrationTest, ANodeWithoutIpvsRunsIptablesAndSaysWhy) {
  START_OR_RETURN(Start({"uml", "uml!ip_vs*", "netns"}));
  world_->AddClientPod("node-2", "client");
  const World::Load load =
      world_->StartLoad(world_->cluster().node("node-2"), "client", targets_, 30, "both", 5);
  world_->AwaitLoadRunning(load);
  world_->Apply(ClusterConfiguration("ipvs"));
  world_->AwaitRollout("cluster", 90s);
  world_->AwaitMode("node-1", "ipvs", 30s);
  // conn_reuse_mode 1 is for Linux 5.9 and newer.
  ExpectSysctls("node-1", {"net.ipv4.vs.conn_reuse_mode=1", "net.ipv4.vs.conntrack=1",
                           "net.ipv4.vs.expire_nodest_conn=1",
                           "net.ipv4.vs.expire_quiescent_template=1", "net.ipv4.ip_forward=1"});
  ExpectSysctls("node-2", {"net.ipv4.ip_forward=1", "net.ipv4.conf.all.route_localnet=1"});
  for (const char* name : {"node-2", "node-3"}) {
    world_->AwaitMode(name, "iptables", 30s);
    const std::string text = world_->MustKubectl({"describe", "npx", name});
    EXPECT_NE(text.find("ip_vs"), std::string::npos) << text;
    EXPECT_NE(text.find("Fallback"), std::string::npos) << text;
  }
  const std::string text = world_->MustKubectl({"describe", "pxc", "cluster"});
  EXPECT_NE(text.find("node-2"), std::string::npos) << text;
  EXPECT_NE(text.find("node-3"), std::string::npos) << text;
  EXPECT_NE(text.find("ip_vs"), std::string::npos) << text;
  ExpectServicesAcceptedIsSaid();
  ExpectClean(world_->StopLoad(load), "pod on node-2, which has no ip_vs");
}

// kill -9 at any point: the agents again and again at moments drawn by lot from the first second of
// their lives (when they read lists, adopt, program, drain), operator and control plane once in
// each rollout.
TEST_F(MigrationTest, KillingAnythingAtAnyPointLosesNothingAndConverges) {
  START_OR_RETURN(Start({"uml", "uml"}));
  world_->AddClientPod("node-1", "client");
  const World::Load load =
      world_->StartLoad(world_->cluster().node("node-1"), "client", targets_, 50, "both", 10);
  const World::Load node =
      world_->StartLoad(world_->cluster().node("node-2"), "", targets_, 20, "both", 5);
  for (const auto& each : {load, node})
    world_->AwaitLoadRunning(each);

  const uint32_t seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  const auto kill_agents = [&](int times) {
    for (int i = 0; i < times; ++i) {
      for (const Node& each : world_->cluster().nodes()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(random() % 1000));
        world_->KillAgent(each.name(), SIGKILL);
        world_->StartAgent(each.name());
      }
    }
  };
  for (const char* mode : {"ipvs", "iptables"}) {
    world_->Apply(ClusterConfiguration(mode));
    kill_agents(2);
    world_->KillOperator();
    kill_agents(1);
    world_->StartOperator();
    kill_agents(1);
    world_->cluster().KillControlPlane();
    kill_agents(1);
    world_->cluster().StartControlPlane();
    kill_agents(1);
    world_->AwaitRollout("cluster", 120s);
    for (const Node& each : world_->cluster().nodes())
      world_->AwaitMode(each.name(), mode, 60s);
  }
  ExpectClean(world_->StopLoad(load), "pod on node-1");
  ExpectClean(world_->StopLoad(node), "node-2");
}

}  // namespace
}  // namespace pointsman::e2e
