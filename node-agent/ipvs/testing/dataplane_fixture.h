// What the kernel tests of ipvs mode share: a node with pods and a client outside, and a dataplane.
#pragma once

#include <arpa/inet.h>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "node-agent/conntrack/stale_flows.h"
#include "node-agent/ipvs/ipvs_dataplane.h"
#include "node-agent/sysctl/sysctl.h"
#include "node-agent/testing/model_maker.h"
#include "node-agent/testing/results.h"
#include "node-agent/testing/run_tool.h"
#include "node-agent/testing/test_network.h"
#include "node-agent/xtables/base_rules.h"

namespace pointsman::agent {

using kube::Protocol;
using testing::AskTcp;
using testing::AskUdp;
using testing::Ip;
using testing::MakeBackend;
using testing::MakeEntry;
using testing::ModelMaker;
using testing::Reply;
using testing::RunTool;
using testing::Stream;
using testing::TestNetwork;
using testing::Text;
using testing::Transport;
using testing::TryTool;

constexpr const char* kPodGateway = "10.244.0.1";
constexpr const char* kNodeIp = "192.168.50.1";
constexpr const char* kClientIp = "192.168.50.2";
constexpr const char* kVip = "10.96.0.10";
constexpr const char* kPodA = "10.244.0.2";
constexpr const char* kPodB = "10.244.0.3";
constexpr const char* kPodC = "10.244.0.4";

// externalTrafficPolicy: Local.
inline void MakeLocal(ServicePortEntry& entry, std::vector<Backend> local,
                      std::vector<Backend> all) {
  entry.external_local = true;
  entry.external.backends = std::move(local);
  entry.external.when_empty = BackendChoice::WhenEmpty::kDrop;
  entry.external_from_node.backends = all;
  entry.internal.backends = std::move(all);
}

// Who answers `host` at `ip`:`port` in four connections, and which source addresses they saw.
inline std::set<std::string> HostsThatAnswer(const std::string& host, const std::string& ip,
                                             uint16_t port,
                                             std::set<std::string>* sources = nullptr) {
  std::set<std::string> hosts;
  for (int i = 0; i < 4; ++i) {
    const Reply answer = AskTcp(host, ip, port);
    EXPECT_EQ(answer.error, 0) << host << " to " << ip;
    hosts.insert(answer.server);
    if (sources != nullptr) sources->insert(answer.peer);
  }
  return hosts;
}

class IpvsDataplaneTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    for (const char* module :
         {"ip_vs", "ip_vs_rr", "dummy", "ip_set", "ip_set_hash_ip", "ip_set_hash_ipport",
          "ip_set_hash_ipportip", "ip_set_hash_ipportnet", "ip_set_hash_netport",
          "nf_conntrack_netlink", "veth"})
      RunTool({"modprobe", module});
    network_ = std::make_unique<TestNetwork>();
    network_->AddHost("pod-a", kPodA, kPodGateway);
    network_->AddHost("pod-b", kPodB, kPodGateway);
    network_->AddHost("pod-c", kPodC, kPodGateway);
    network_->AddHost("client", kClientIp, kNodeIp);
    for (const auto& [host, ip] : {std::pair{"pod-a", kPodA}, {"pod-b", kPodB}, {"pod-c", kPodC}})
      network_->Serve(host, ip, 8080);
    // What is not bound needs a route for the node's own connections, wherever it leads.
    for (const char* prefix : {"203.0.113.0/24", "198.51.100.0/24"})
      RunTool({"ip", "route", "add", prefix, "via", kClientIp});
  }

  static void TearDownTestSuite() { network_.reset(); }

  void SetUp() override {
    settings_.mode = kube::Mode::kIpvs;
    settings_.drain_timeout = std::chrono::minutes(5);
    maker_.model.node.node_name = "node";
    maker_.model.node.node_port_addresses = {Ip(kNodeIp)};
    base_ = std::make_unique<xtables::BaseRules>(tool_, settings_.iptables.masquerade_bit);
    ASSERT_TRUE(base_->Ensure().ok());
    Start();
  }

  void TearDown() override {
    if (dataplane_ != nullptr) EXPECT_SYNCED(dataplane_->Remove());
    EXPECT_SYNCED(base_->Remove());
    network_->StopServing("");
    TryTool({"ipvsadm", "-C"});
    TryTool({"conntrack", "-F"});
  }

  // A new process takes over.
  void Start() {
    dataplane_ =
        std::make_unique<IpvsDataplane>(settings_, ensure_scheduler_, std::vector{&tool_}, room_);
  }
  IpvsDataplane::EnsureScheduler ensure_scheduler_ = [](const std::string& name) {
    std::string output;
    return TryTool({"modprobe", "ip_vs_" + name}, &output) == 0 ? "" : output;
  };

  ServicePortEntry Web(std::vector<Backend> backends) {
    ServicePortEntry entry = MakeEntry("web", Protocol::kTcp, kVip, 80, std::move(backends));
    entry.node_port = 30080;
    return entry;
  }
  ServicePortEntry Dns(std::vector<Backend> backends) {
    ServicePortEntry entry = MakeEntry("dns", Protocol::kUdp, kVip, 53, std::move(backends));
    entry.node_port = 30053;
    return entry;
  }
  // As the agent does.
  void Apply(const ModelDelta& delta) {
    EXPECT_SYNCED(dataplane_->Sync(maker_.model, delta));
    EXPECT_SYNCED(StaleFlows().Clean(maker_.model, delta).sync);
  }
  void Put(const ServicePortEntry& entry) { Apply(maker_.Put(entry)); }
  void ExpectVerified() {
    const VerifyResult result = dataplane_->Verify(maker_.model);
    EXPECT_TRUE(result.ok()) << Text(result);
    EXPECT_GT(result.objects_checked, 0U);
  }
  std::set<std::string> Hosts(const std::string& host, const std::string& ip, uint16_t port,
                              std::set<std::string>* sources = nullptr) {
    return HostsThatAnswer(host, ip, port, sources);
  }
  static std::string Bound() {
    return RunTool({"ip", "route", "show", "table", "local", "dev", IpvsDataplane::kDevice});
  }
  static std::string NatRules() { return RunTool({"iptables-legacy", "-t", "nat", "-S"}); }
  // What the kernel holds of ipvs mode, as people's tools print it.
  static std::string Dump() {
    return RunTool({"ipvsadm", "-Sn"}) + RunTool({"ipset", "save", "-sorted"}) + Bound();
  }

  kube::ProxySettings settings_;
  ipvs::Room room_;
  xtables::IptablesTool tool_{net::Family::kIPv4};
  static inline std::unique_ptr<TestNetwork> network_;
  std::unique_ptr<xtables::BaseRules> base_;
  ModelMaker maker_;
  std::unique_ptr<IpvsDataplane> dataplane_;
};

}  // namespace pointsman::agent
