// A cluster moves between modes by `kubectl apply` with NetworkPolicy in place, enforced by
// Calico's Felix on each node, with connections that it allows and denies, from everywhere all the
// time.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "e2e/scenarios/kernel_modes.h"
#include "e2e/scenarios/scenario_fixture.h"
#include "node-agent/testing/neighbours/catalogue.h"

namespace pointsman::e2e {

// The server is on node-1. Of all pods only `allowed-1` there and `allowed-2` on node-2 may connect
// to it, and its node itself.
class PolicyMigrationFixture : public ScenarioTest {
 protected:
  // What the nodes' CPUs can bear.
  struct Pace {
    int new_per_second = 20;  // of each that tries
    int streams = 5;
    // For those that are allowed and those that are denied: as long as nobody who is allowed needs
    // longer, nobody who was denied has been let through later. A datagram is not sent again,
    // however long it may take.
    const char* timeout = "10s";
    int max_unavailable = 1;
    std::chrono::seconds patience{60};  // with what does not move
  };

  // In mode `mode`. `kind`: of both nodes, see ParseNode.
  void Start(const std::string& kind, const std::string& mode, Pace pace) {
    pace_ = pace;
    uplink_ = kind == "uml" ? "vec0" : "eth0";
    START_OR_RETURN(StartWorld({kind, kind}));
    world_->StartOperator();
    server_ = world_->AddServerPod("node-1", "server",
                                   {kTargetPorts[0], kTargetPorts[1], kTargetPorts[2]}, true);
    for (const char* node : {"node-1", "node-2"}) {
      for (const char* pod : {"allowed", "denied"})
        pods_[fmt::format("{}-{}", pod, node)] = world_->AddClientPod(node, pod);
    }
    CreateServices();
    StartFelix();
    world_->StartAgents();
    Apply(mode);
    AwaitOnly(mode);
  }

  void Apply(const std::string& mode, const std::string& drain_timeout = "3s") {
    std::printf("to %s\n", mode.c_str());
    world_->Apply(ClusterConfiguration(mode, drain_timeout, pace_.max_unavailable));
  }
  // The rollout is complete, and the former mode may drain still.
  void AwaitServed() { world_->AwaitRollout("cluster", 2 * pace_.patience); }
  // The former mode has drained and is gone, Felix knows it, and has its own rules as ever.
  void AwaitOnly(const std::string& mode) {
    AwaitServed();
    const bool ipvs = mode == "ipvs";
    for (const Node& node : world_->cluster().nodes()) {
      world_->AwaitMode(node.name(), mode, 2 * pace_.patience);
      // It sees the interface go after the mode has drained.
      world_->Await(
          fmt::format("Felix on {} knows that the mode is {}", node.name(), mode),
          [&] { return KnowsIpvs(Calico(node)) == ipvs; }, pace_.patience);
      EXPECT_EQ(ModesIn(node), std::set<std::string>{mode}) << node.name();
      const auto calico = Calico(node);
      EXPECT_EQ(calico, calico_.try_emplace({node.name(), ipvs}, calico).first->second)
          << node.name() << " in mode " << mode;
    }
  }

  using Tries = std::vector<std::pair<std::string, World::Load>>;  // with who tries

  // From everywhere that is allowed to every kind of address, TCP and UDP. Returns when all have
  // been answered.
  Tries StartAllowed() {
    Tries tries;
    const Node& first = world_->cluster().node("node-1");
    const Node& second = world_->cluster().node("node-2");
    const auto allow = [&](const char* who, const Node& node, const char* pod,
                           const std::vector<std::string>& to) {
      tries.emplace_back(who, Try(node, pod, to, pace_.streams));
    };
    allow("an allowed pod on the server's node", first, "allowed",
          {ByClusterIp(), ByExternalIp(), ByNodePort(first)});
    allow("an allowed pod on another node", second, "allowed", {ByClusterIp()});
    allow("the server's node", first, "", {ByClusterIp(), ByExternalIp()});
    for (const auto& [who, load] : tries)
      world_->AwaitLoadRunning(load);
    return tries;
  }
  void StartDenied() {
    const Cluster& cluster = world_->cluster();
    const Node& first = cluster.node("node-1");
    const Node& second = cluster.node("node-2");
    const auto deny = [&](const char* who, const Node& node, const char* pod,
                          const std::vector<std::string>& to) {
      denied_.emplace_back(who, Try(node, pod, to, 0));
    };
    deny("a denied pod on the server's node", first, "denied",
         {ByClusterIp(), ByExternalIp(), ByNodePort(first)});
    deny("a denied pod on another node", second, "denied",
         {ByClusterIp(), ByExternalIp(), ByNodePort(second)});
    deny("another node", second, "", {ByClusterIp(), ByExternalIp()});
    cluster.outside().Check({"ip", "route", "replace", kExternalIp, "via", first.address()});
    deny("the outside client", cluster.outside(), "",
         {ByExternalIp(), ByNodePort(first), ByNodePort(second)});
    MoreDeniedTries();
  }
  // Since this call so many have begun, of each: each address three times by each protocol, at
  // least.
  void MoreDeniedTries() {
    constexpr int64_t kMore = 18;
    for (const auto& one : denied_) {
      const int64_t enough = Started(one.second) + kMore;
      world_->AwaitProgress(
          "more connections of " + one.first,
          [&] {
            const int64_t started = Started(one.second);
            return Progress{fmt::format("{} of {}", started, enough), started >= enough};
          },
          pace_.patience);
    }
    least_denied_ += kMore;
  }

  // None of theirs failed.
  void EndAllowed(const Tries& tries) {
    const std::vector<LoadReport> reports = world_->StopLoads(LoadsOf(tries));
    for (size_t i = 0; i < reports.size(); ++i)
      ExpectClean(reports[i], tries[i].first);
  }
  // None of theirs got through.
  void EndDenied() {
    const std::vector<LoadReport> reports = world_->StopLoads(LoadsOf(denied_));
    for (size_t i = 0; i < reports.size(); ++i) {
      const std::string& who = denied_[i].first;
      EXPECT_EQ(reports[i].Succeeded(), 0) << who << " got through: " << reports[i].json.dump(1);
      EXPECT_EQ(reports[i].Failed(), reports[i].Attempts()) << who;
      EXPECT_GE(reports[i].Failed(), least_denied_) << who;
      std::printf("%s: %s\n", who.c_str(), reports[i].Summary().c_str());
    }
    denied_.clear();
  }

 private:
  static constexpr const char* kEngine = "calico-insert";
  static constexpr const char* kSiteFile = "/run/neighbour.json";
  static constexpr const char* kClusterIp = "10.96.0.80";
  static constexpr uint16_t kNodePort = 30080;
  static constexpr const char* kExternalIp = "203.0.113.7";
  static constexpr uint16_t kTargetPorts[] = {8000, 8001, 8002};

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
  static std::string ByClusterIp() { return fmt::format("{}:80", kClusterIp); }
  static std::string ByExternalIp() { return fmt::format("{}:80", kExternalIp); }
  static std::string ByNodePort(const Node& node) {
    return fmt::format("{}:{}", node.address(), kNodePort);
  }

  void StartFelix() {
    for (const Node& node : world_->cluster().nodes()) {
      agent::testing::NeighbourSite site;
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
          "Felix on " + node.name() + " has written its rules",
          [&] { return node.client().Get(log).find("ready") != std::string::npos; }, pace_.patience,
          [&] { return node.client().Get(log); });
      calico_[{node.name(), false}] = Calico(node);
      EXPECT_FALSE(calico_.at({node.name(), false}).empty()) << node.name();
    }
  }
  // What Felix has in that kernel, without our rules between.
  static std::vector<std::string> Calico(const Node& node) {
    std::vector<std::string> rules;
    std::istringstream lines(node.Check({"sh", "-c", "iptables-legacy-save && iptables-nft-save"}));
    for (std::string line; std::getline(lines, line);) {
      if (line.find("cali-") != std::string::npos) rules.push_back(line);
    }
    return rules;
  }
  static bool KnowsIpvs(const std::vector<std::string>& calico) {
    return std::any_of(calico.begin(), calico.end(), [](const std::string& rule) {
      return rule.find("cali-forward-check") != std::string::npos;
    });
  }

  World::Load Try(const Node& node, const std::string& pod, const std::vector<std::string>& to,
                  int streams) {
    return world_->StartLoad(node, pod, to, pace_.new_per_second, "both", streams, pace_.timeout);
  }
  static int64_t Started(const World::Load& load) {
    const kube::Json progress = World::LoadProgress(load);
    return progress.is_object() ? progress.at("started").get<int64_t>() : 0;
  }
  static std::vector<World::Load> LoadsOf(const Tries& tries) {
    std::vector<World::Load> loads;
    for (const auto& [who, load] : tries)
      loads.push_back(load);
    return loads;
  }

  Pace pace_;
  std::string uplink_;
  std::string server_;
  std::map<std::string, std::string> pods_;
  // By node, and whether it knows of ipvs mode. The one without was there before us.
  std::map<std::pair<std::string, bool>, std::vector<std::string>> calico_;
  Tries denied_;
  int64_t least_denied_ = 0;  // connections of each
};

}  // namespace pointsman::e2e
