// A cluster moves between modes by `kubectl apply` with NetworkPolicy in place, enforced by
// Calico's Felix on each node: what is denied stays denied in every second of it, what is allowed
// never fails.
#include <algorithm>
#include <fstream>
#include <sstream>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "e2e/scenarios/scenario_fixture.h"
#include "node-agent/testing/neighbours/catalogue.h"

namespace pointsman::e2e {
namespace {

using agent::testing::NeighbourSite;
using std::chrono_literals::operator""s;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kEngine = "calico-insert";
constexpr const char* kSiteFile = "/run/neighbour.json";
constexpr const char* kClusterIp = "10.96.0.80";
constexpr uint16_t kNodePort = 30080;
constexpr const char* kExternalIp = "203.0.113.7";
constexpr uint16_t kTargetPorts[] = {8000, 8001, 8002};

// The server is on node-1. Of all pods only `allowed-1` there and `allowed-2` on node-2 may connect
// to it, and its node itself.
class PolicyMigrationTest : public ScenarioTest {
 protected:
  void Start(const std::string& kind) {
    uplink_ = kind == "uml" ? "vec0" : "eth0";
    START_OR_RETURN(StartWorld({kind, kind}));
    world_->StartOperator();
    server_ = world_->AddServerPod("node-1", "server", {8000, 8001, 8002}, true);
    for (const char* node : {"node-1", "node-2"}) {
      for (const char* pod : {"allowed", "denied"})
        pods_[fmt::format("{}-{}", pod, node)] = world_->AddClientPod(node, pod);
    }
    CreateServices();
    StartFelix();
    world_->StartAgents();
    world_->Apply(ClusterConfiguration("iptables"));
    world_->AwaitRollout("cluster", 60s);
  }

  // A Service for each kind of address, and a port of the server for each: IPVS mixes up the
  // connections of a client that comes to two of them from one port (docs/ipvs.md).
  void CreateServices() {
    const auto service = [&](const char* name, size_t port) {
      World::ServiceSpec spec;
      spec.name = name;
      spec.target_port = kTargetPorts[port];
      spec.endpoints = {server_};
      spec.endpoint_nodes = {{server_, "node-1"}};
      return spec;
    };
    World::ServiceSpec by_cluster_ip = service("cluster-ip", 0);
    by_cluster_ip.cluster_ip = kClusterIp;
    World::ServiceSpec by_node_port = service("node-port", 1);
    by_node_port.node_port = kNodePort;
    World::ServiceSpec by_external_ip = service("external-ip", 2);
    by_external_ip.external_ip = kExternalIp;
    world_->CreateServices({by_cluster_ip, by_node_port, by_external_ip});
  }

  void StartFelix() {
    for (const Node& node : world_->cluster().nodes()) {
      NeighbourSite site;
      site.node = {node.address(), node.pod_cidr().substr(0, node.pod_cidr().rfind('.')) + ".1"};
      site.uplink = uplink_;
      site.link_prefix = Node::kRoutedLinkPrefix;
      if (node.name() == "node-1") {
        site.policies = {{.pod = server_,
                          .link = Node::kRoutedLinkPrefix + server_.substr(server_.rfind('.') + 1),
                          .ingress_from = std::vector<std::string>{pods_.at("allowed-node-1"),
                                                                   pods_.at("allowed-node-2")}}};
      }
      node.client().Put(kSiteFile, kube::Json(site).dump());
      const std::string log = dir_ / (node.name() + "-felix.log");
      node.client().Start(
          {world_->cluster().Program("pointsman-neighbour"), "run", kEngine, "--site", kSiteFile},
          log);
      world_->Await(
          "Felix has written its rules", [&] { return !Calico(node).empty(); }, 20s);
    }
  }

  // What Felix has in that kernel, without our rules between.
  static std::vector<std::string> Calico(const Node& node) {
    std::vector<std::string> rules;
    for (const char* flavour : {"legacy", "nft"}) {
      std::istringstream lines(
          node.Exec({fmt::format("iptables-{}-save", flavour), "-t", "filter"}).out);
      for (std::string line; std::getline(lines, line);) {
        if (line.find("cali-") != std::string::npos) rules.push_back(line);
      }
    }
    return rules;
  }
  static bool KnowsIpvs(const Node& node) {
    const auto rules = Calico(node);
    return std::any_of(rules.begin(), rules.end(), [](const std::string& rule) {
      return rule.find("cali-forward-check") != std::string::npos;
    });
  }

  struct Try {
    std::string who;
    World::Load load;
  };
  // From everywhere to every kind of address, TCP and UDP, all the time.
  void StartTries() {
    const Cluster& cluster = world_->cluster();
    const Node& first = cluster.node("node-1");
    const Node& second = cluster.node("node-2");
    const std::string cluster_ip = fmt::format("{}:80", kClusterIp);
    const std::string external_ip = fmt::format("{}:80", kExternalIp);
    const auto node_port = [](const Node& node) {
      return fmt::format("{}:{}", node.address(), kNodePort);
    };
    const auto allow = [&](const char* who, const Node& node, const char* pod,
                           const std::vector<std::string>& to) {
      // Long enough for a busy machine. A datagram is not sent again, however long it may take.
      allowed_.push_back({who, world_->StartLoad(node, pod, to, 20, "both", 5, "10s")});
    };
    allow("an allowed pod on the server's node", first, "allowed",
          {cluster_ip, external_ip, node_port(first)});
    allow("an allowed pod on another node", second, "allowed", {cluster_ip});
    allow("the server's node", first, "", {cluster_ip, external_ip});
    const auto deny = [&](const char* who, const Node& node, const char* pod,
                          const std::vector<std::string>& to) {
      denied_.push_back({who, world_->StartLoad(node, pod, to, 20, "both", 0, "300ms")});
    };
    deny("a denied pod on the server's node", first, "denied",
         {cluster_ip, external_ip, node_port(first)});
    deny("a denied pod on another node", second, "denied",
         {cluster_ip, external_ip, node_port(second)});
    deny("another node", second, "", {cluster_ip, external_ip});
    cluster.outside().Check({"ip", "route", "replace", kExternalIp, "via", first.address()});
    deny("the outside client", cluster.outside(), "",
         {external_ip, node_port(first), node_port(second)});
    for (const Try& one : allowed_)
      world_->AwaitLoadRunning(one.load);
    MoreDeniedTries();
  }
  // So many more have come to an end since this call, of each.
  void MoreDeniedTries() {
    constexpr int64_t kMore = 20;
    for (const Try& one : denied_) {
      const int64_t before = Failed(one.load);
      world_->Await(
          "more connections of " + one.who, [&] { return Failed(one.load) >= before + kMore; },
          30s);
    }
  }
  static int64_t Failed(const World::Load& load) {
    std::ifstream file(load.log_path);
    int64_t failed = 0;
    for (std::string line; std::getline(file, line);) {
      // The last line may be half written.
      const kube::Json progress = kube::Json::parse(line, nullptr, false);
      if (progress.is_object()) failed = progress.value("failed", failed);
    }
    return failed;
  }
  void ExpectPolicyHeld() {
    for (const Try& one : allowed_)
      ExpectClean(world_->StopLoad(one.load), one.who);
    for (const Try& one : denied_) {
      const LoadReport report = world_->StopLoad(one.load);
      EXPECT_EQ(report.Succeeded(), 0) << one.who << " got through: " << report.json.dump(1);
      EXPECT_GT(report.Failed(), 100) << one.who;
      std::printf("%s: %s\n", one.who.c_str(), report.Summary().c_str());
    }
  }

  // There and back, with a look at what Felix has.
  void MoveTo(const std::string& mode) {
    std::printf("to %s\n", mode.c_str());
    world_->Apply(ClusterConfiguration(mode));
    world_->AwaitRollout("cluster", 120s);
    for (const Node& node : world_->cluster().nodes()) {
      world_->AwaitMode(node.name(), mode, 120s);
      // It sees the interface go after the mode has drained.
      world_->Await(
          fmt::format("Felix on {} knows that the mode is {}", node.name(), mode),
          [&] { return KnowsIpvs(node) == (mode == "ipvs"); }, 30s);
      if (mode != "ipvs") {
        EXPECT_EQ(Calico(node), calico_.at(node.name())) << "after the move to " << mode;
      }
    }
    MoreDeniedTries();
  }
  void MoveThere(const std::vector<std::string>& modes) {
    for (const Node& node : world_->cluster().nodes())
      calico_[node.name()] = Calico(node);
    StartTries();
    for (const std::string& mode : modes)
      MoveTo(mode);
    ExpectPolicyHeld();
  }

  std::string uplink_;
  std::string server_;
  std::map<std::string, std::string> pods_;
  std::map<std::string, std::vector<std::string>> calico_;  // by node, in iptables mode
  std::vector<Try> allowed_;
  std::vector<Try> denied_;
};

TEST_F(PolicyMigrationTest, IptablesToIpvsAndBack) {
  START_OR_RETURN(Start("uml"));
  MoveThere({"ipvs", "iptables", "ipvs", "iptables"});
}

TEST_F(PolicyMigrationTest, IptablesToNftablesAndBack) {
  START_OR_RETURN(Start("netns"));
  MoveThere({"nftables", "iptables"});
}

// userspace mode's connections are the node's own, which Felix lets through: no node begins it.
TEST_F(PolicyMigrationTest, AModeBesideWhichNoPolicyWouldHoldIsNotBegun) {
  START_OR_RETURN(Start("netns"));
  StartTries();
  world_->Apply(ClusterConfiguration("userspace"));
  for (const Node& node : world_->cluster().nodes()) {
    world_->Await(
        node.name() + " says that userspace mode is refused here",
        [&] {
          const std::string text = world_->MustKubectl({"get", "npx", node.name(), "-o", "yaml"});
          return text.find("NeighbourRefused") != std::string::npos;
        },
        60s, [&] { return world_->RolloutEvidence(); });
    const std::string text = world_->MustKubectl({"get", "npx", node.name(), "-o", "json"});
    EXPECT_THAT(text, HasSubstr("NetworkPolicy lets through")) << "the table's reason";
    EXPECT_THAT(text, HasSubstr("\"activeMode\": \"iptables\""));
  }
  MoreDeniedTries();
  ExpectPolicyHeld();
}

}  // namespace
}  // namespace pointsman::e2e
