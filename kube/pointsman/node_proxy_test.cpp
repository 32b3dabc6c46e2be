#include "kube/pointsman/node_proxy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pointsman::kube {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

NodeProxySpec FullSpec() {
  NodeProxySpec spec;
  spec.configuration = "main";
  spec.revision = 7;
  spec.removed = true;
  spec.settings.mode = Mode::kIpvs;
  spec.settings.fallback_modes = {Mode::kNftables, Mode::kIptables};
  spec.settings.ipvs.scheduler = "lc";
  spec.settings.ipvs.exclude_cidrs = {*net::IpPrefix::Parse("10.0.0.0/8")};
  spec.settings.ipvs.tcp_timeout = std::chrono::minutes(15);
  spec.settings.iptables.masquerade_bit = 15;
  spec.settings.localhost_node_ports = false;
  spec.settings.nftables.masquerade_all = true;
  spec.settings.userspace.port_range = "30000-30500";
  spec.settings.cluster_cidrs = {*net::IpPrefix::Parse("10.244.0.0/16"),
                                 *net::IpPrefix::Parse("fd00::/56")};
  spec.settings.detect_local_mode = DetectLocalMode::kBridgeInterface;
  spec.settings.detect_local.bridge_interface = "cni0";
  spec.settings.node_port_addresses = {*net::IpPrefix::Parse("192.168.0.0/16")};
  spec.settings.conntrack.max_per_core = 0;
  spec.settings.conntrack.udp_timeout = std::chrono::milliseconds(1500);
  spec.settings.modules = {ModulePolicy::kRequireLoaded, {"ip_vs_mh"}};
  spec.settings.neighbours.accept = {"azure-npm"};
  spec.settings.drain_timeout = std::chrono::seconds(0);
  spec.remove_kube_proxy = true;
  spec.provider = Provider::kKubeProxy;
  spec.healthz_bind_address = "0.0.0.0:10256";
  spec.metrics_bind_address = "[::1]:10249";
  spec.candidate = NodeProxyCandidate{8,  Mode::kNftables, {Mode::kIpvs},       "wlc",
                                      {}, {{"vrf"}},       Provider::kKubeProxy};
  return spec;
}

TEST(NodeProxyTest, SpecWritesAndReadsBack) {
  const NodeProxySpec spec = FullSpec();
  EXPECT_EQ(NodeProxyFromJson({{"spec", ToJson(spec)}}).spec, spec);
  EXPECT_EQ(NodeProxyFromJson({{"spec", ToJson(NodeProxySpec{})}}).spec, NodeProxySpec{});
}

TEST(NodeProxyTest, MasqueradeAllIsWhatTheDesiredModesSectionSays) {
  ProxySettings settings;
  settings.iptables.masquerade_all = true;
  for (const Mode mode : {Mode::kIptables, Mode::kIpvs, Mode::kUserspace}) {
    settings.mode = mode;
    EXPECT_TRUE(settings.MasqueradesAll()) << ToString(mode);
  }
  settings.mode = Mode::kNftables;
  EXPECT_FALSE(settings.MasqueradesAll());
  settings.nftables.masquerade_all = true;
  EXPECT_TRUE(settings.MasqueradesAll());
}

TEST(NodeProxyTest, StatusWritesAndReadsBack) {
  NodeProxyStatus status;
  status.observed_generation = 3;
  status.observed_revision = 7;
  status.active_mode = "ipvs";
  status.kernel_release = "6.1.0";
  status.modules = {{"ip_vs", "LoadedNow"}, {"ip_vs_lc", "Missing"}};
  status.sysctls = {{"net.ipv4.vs.conn_reuse_mode", "1"}, {"net.ipv4.vs.conntrack", "1"}};
  status.neighbours = {{"azure-npm",
                        "PolicyEngine",
                        {{"ipvs", "Refused"}, {"iptables", "Fine"}},
                        "found by chain AZURE-NPM"}};
  status.services = 200;
  status.endpoints = 1000;
  status.last_sync = "2026-01-02T03:04:05Z";
  status.draining_mode = "iptables";
  status.draining_connections = 12;
  status.agent_version = "0.1.0";
  status.candidate =
      CandidateStatus{8, "iptables", false, "kernel 6.1.0 has no ip_vs", Provider::kKubeProxy};
  status.kube_proxy = KubeProxyStatus{kKubeProxyReturned, "interface kube-ipvs0 is there again"};
  status.impact = ChangeImpact{.revision = 7,
                               .connections_before = 40,
                               .failed_before = 0,
                               .cut_connections = 3,
                               .sync_after = 5};
  status.preflights = {{"ipvs", false, "ModuleMissing", "kernel 6.1.0 has no ip_vs"},
                       {"iptables", true, "PreflightPassed", ""}};
  SetCondition(status.conditions, {"Ready", ConditionStatus::kTrue, "Synced", "in sync", "", 3},
               "2026-01-02T03:04:05Z");
  EXPECT_EQ(NodeProxyFromJson({{"status", ToJson(status)}}).status, status);
}

TEST(NodeProxyTest, ReadsMetadata) {
  const NodeProxy node_proxy = NodeProxyFromJson(json::parse(R"({"metadata": {
    "name": "n1", "uid": "u", "resourceVersion": "12", "generation": 3,
    "deletionTimestamp": "2026-01-02T03:04:05Z",
    "annotations": {"pointsman.io/updated-at": "2026-01-02T03:04:06Z", "other": "x"},
    "ownerReferences": [{"kind": "Other", "uid": "o"}, {"kind": "Node", "uid": "nu"}]}})"));
  EXPECT_EQ(node_proxy.name, "n1");
  EXPECT_EQ(node_proxy.generation, 3);
  EXPECT_TRUE(node_proxy.deleting);
  EXPECT_EQ(node_proxy.updated_at, "2026-01-02T03:04:06Z");
  EXPECT_EQ(node_proxy.node_uid, "nu");
}

// A node writes its status itself: what is out of bounds reads as absent. The specification is the
// operator's, who mends it when it can read it.
TEST(NodeProxyTest, NumbersAndTimesOfAStatusAreBounded) {
  for (const char* number : {"9223372036854775807", "18446744073709551615", "9007199254740993",
                             "-1", "1e300", "\"7\"", "{}"}) {
    const std::string text = std::string(R"({"status": {"observedRevision": )") + number +
                             R"(, "services": )" + number + R"(, "endpoints": )" + number +
                             R"(, "drainingConnections": )" + number +
                             R"(, "observedGeneration": )" + (number[0] == '9' ? "7" : number) +
                             R"(, "impact": {"revision": 7, "cutConnections": )" + number +
                             R"(, "syncMillisecondsAfter": )" + number + "}" +
                             R"(, "candidate": {"revision": )" + number + "}}}";
    const NodeProxyStatus status = NodeProxyFromJson(json::parse(text)).status;
    EXPECT_EQ(status.observed_revision, 0) << number;
    EXPECT_EQ(status.services, 0) << number;
    EXPECT_EQ(status.endpoints, 0) << number;
    EXPECT_EQ(status.draining_connections, 0) << number;
    EXPECT_EQ(status.candidate->revision, 0) << number;
    EXPECT_EQ(status.impact, ChangeImpact{.revision = 7}) << number;
  }
  const std::string time(65, '1');
  EXPECT_EQ(NodeProxyFromJson({{"status", {{"lastSync", time}}}}).status.last_sync, "");
  EXPECT_EQ(NodeProxyFromJson({{"spec", {{"revision", INT64_MAX}}}}).spec.revision, INT64_MAX);
}

// A newer operator may know more neighbours: an agent that does not know one accepts it not.
TEST(NodeProxyTest, ANeighbourThatIsNotKnownIsNotAccepted) {
  const NodeProxy node_proxy = NodeProxyFromJson(
      json::parse(R"({"spec": {"neighbours": {"accept": ["of-tomorrow", "calico"]}}})"));
  EXPECT_THAT(node_proxy.spec.settings.neighbours.accept, ::testing::ElementsAre("calico"));
}

TEST(NodeProxyTest, NamesTheFieldThatIsWrong) {
  try {
    NodeProxyFromJson(json::parse(R"({"spec": {"mode": "ipvs", "ipvs": {"scheduler": "x"}}})"));
    FAIL();
  } catch (const std::invalid_argument& error) {
    EXPECT_THAT(error.what(), HasSubstr("spec.ipvs.scheduler: \"x\""));
  }
  // Unknown fields and an odd status are no reason to refuse.
  EXPECT_NO_THROW(NodeProxyFromJson(
      json::parse(R"({"spec": {"new": 1, "ipvs": {"newer": 2}}, "status": {"services": "x"}})")));
}

}  // namespace
}  // namespace pointsman::kube
