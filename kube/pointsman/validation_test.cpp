#include "kube/pointsman/validation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kube/pointsman/proxy_configuration.h"
#include "kube/pointsman/settings_json.h"

namespace pointsman::kube {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string PathsOf(const std::vector<FieldError>& errors) {
  std::string paths;
  for (const FieldError& error : errors)
    paths += (paths.empty() ? "" : ",") + error.path;
  return paths;
}

struct BadSpec {
  const char* spec;  // merged into {"mode": "ipvs"}
  const char* path;
  const char* message;
};

class BadSpecTest : public ::testing::TestWithParam<BadSpec> {};

TEST_P(BadSpecTest, NamesTheField) {
  json spec = {{"mode", "ipvs"}};
  spec.update(json::parse(GetParam().spec));
  const std::vector<FieldError> errors = ValidateProxyConfiguration(spec);
  EXPECT_EQ(PathsOf(errors), GetParam().path) << spec;
  ASSERT_FALSE(errors.empty());
  EXPECT_THAT(errors[0].message, HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Settings, BadSpecTest,
    ::testing::Values(
        BadSpec{R"({"mode": "ebpf"})", "spec.mode", "\"ebpf\" is not one of userspace, iptables"},
        BadSpec{R"({"mode": null})", "spec.mode", "is needed"},
        BadSpec{R"({"mode": 3})", "spec.mode", "must be a string"},
        BadSpec{R"({"fallbackModes": ["iptables", "x"]})", "spec.fallbackModes[1]", "not one of"},
        BadSpec{R"({"fallbackModes": ["iptables", "iptables"]})", "spec.fallbackModes[1]", "twice"},
        BadSpec{R"({"fallbackModes": "iptables"})", "spec.fallbackModes", "must be a list"},
        BadSpec{R"({"ipvs": {"scheduler": "fast"}})", "spec.ipvs.scheduler",
                "\"fast\" is not one of rr, wrr"},
        BadSpec{R"({"ipvs": {"tcpTimeout": "-5s"}})", "spec.ipvs.tcpTimeout",
                "must not be negative"},
        BadSpec{R"({"ipvs": {"tcpTimeout": "soon"}})", "spec.ipvs.tcpTimeout", "not a duration"},
        BadSpec{R"({"ipvs": {"udpTimeout": "577h"}})", "spec.ipvs.udpTimeout", "at most 576h0m0s"},
        BadSpec{R"({"ipvs": {"tcpFinTimeout": 5}})", "spec.ipvs.tcpFinTimeout", "must be a string"},
        BadSpec{R"({"ipvs": {"excludeCIDRs": ["10.0.0.0/33"]}})", "spec.ipvs.excludeCIDRs[0]",
                "not a CIDR"},
        BadSpec{R"({"ipvs": {"excludeCIDRs": ["10.0.0.1/8", "10.0.0.0/8"]}})",
                "spec.ipvs.excludeCIDRs[1]", "twice"},
        BadSpec{R"({"ipvs": {"strictArp": true}})", "spec.ipvs.strictArp", "unknown field"},
        BadSpec{R"({"ipvs": []})", "spec.ipvs", "must be an object"},
        BadSpec{R"({"ipvs": {"syncPeriod": "0s"}})", "spec.ipvs.syncPeriod", "at least 1s"},
        BadSpec{R"({"ipvs": {"syncPeriod": "5s", "minSyncPeriod": "6s"}})",
                "spec.ipvs.minSyncPeriod", "longer than syncPeriod (5s)"},
        BadSpec{R"({"iptables": {"masqueradeBit": 32}})", "spec.iptables.masqueradeBit",
                "from 0 to 31"},
        BadSpec{R"({"iptables": {"masqueradeBit": 18446744073709551615}})",
                "spec.iptables.masqueradeBit", "from 0 to 31"},
        BadSpec{R"({"iptables": {"masqueradeBit": 1.5}})", "spec.iptables.masqueradeBit",
                "must be an integer"},
        BadSpec{R"({"nftables": {"localhostNodePorts": true}})", "spec.nftables.localhostNodePorts",
                "unknown field"},
        BadSpec{R"({"userspace": {"portRange": "30000"}})", "spec.userspace.portRange",
                "not a range"},
        BadSpec{R"({"userspace": {"portRange": "300-200"}})", "spec.userspace.portRange",
                "not a range"},
        BadSpec{R"({"userspace": {"udpIdleTimeout": "0s"}})", "spec.userspace.udpIdleTimeout",
                "at least"},
        BadSpec{R"({"clusterCIDR": "10.244.0.0"})", "spec.clusterCIDR", "not a CIDR"},
        BadSpec{R"({"clusterCIDR": "10.244.0.0/16,10.0.0.0/8"})", "spec.clusterCIDR",
                "one IPv4 and one IPv6"},
        BadSpec{R"({"detectLocalMode": "Magic"})", "spec.detectLocalMode", "not one of"},
        BadSpec{R"({"detectLocalMode": "ClusterCIDR"})", "spec.clusterCIDR", "is needed"},
        BadSpec{R"({"detectLocalMode": "BridgeInterface"})", "spec.detectLocal.bridgeInterface",
                "is needed"},
        BadSpec{R"({"detectLocalMode": "InterfaceNamePrefix"})",
                "spec.detectLocal.interfaceNamePrefix", "is needed"},
        BadSpec{R"({"detectLocal": {"bridgeInterface": "a-name-of-16-byt"}})",
                "spec.detectLocal.bridgeInterface", "at most 15"},
        BadSpec{R"({"nodePortAddresses": ["eth0"]})", "spec.nodePortAddresses[0]", "neither"},
        BadSpec{R"({"nodePortAddresses": ["primary", "PRIMARY"]})", "spec.nodePortAddresses[1]",
                "neither"},
        BadSpec{R"({"conntrack": {"min": -1}})", "spec.conntrack.min", "from 0"},
        BadSpec{R"({"modules": {"policy": "Never"}})", "spec.modules.policy", "not one of"},
        BadSpec{R"({"neighbours": {"accept": ["calico", "Calico"]}})", "spec.neighbours.accept[1]",
                "\"Calico\" is not one of antrea, "},
        BadSpec{R"({"neighbours": {"accept": ["vrf", "vrf"]}})", "spec.neighbours.accept[1]",
                "is there twice"},
        BadSpec{R"({"neighbours": {"acept": []}})", "spec.neighbours.acept", "unknown field"},
        BadSpec{R"({"modules": {"extra": ["../x"]}})", "spec.modules.extra[0]",
                "not a module name"},
        BadSpec{R"({"handover": {"drainTimeout": "25h"}})", "spec.handover.drainTimeout",
                "at most 24h"}));

INSTANTIATE_TEST_SUITE_P(
    Rollout, BadSpecTest,
    ::testing::Values(
        BadSpec{R"({"provider": "Cilium"})", "spec.provider", "not one of"},
        BadSpec{R"({"kubeProxy": {"policy": "Stop"}})", "spec.kubeProxy.policy", "not one of"},
        BadSpec{R"({"kubeProxy": {"name": "x"}})", "spec.kubeProxy.name", "unknown field"},
        BadSpec{R"({"provider": "KubeProxy", "kubeProxy": {"policy": "TakeOver"}})",
                "spec.kubeProxy.policy", "needs provider NodeAgent"},
        BadSpec{R"({"priority": "high"})", "spec.priority", "must be an integer"},
        BadSpec{R"({"modes": "ipvs"})", "spec.modes", "unknown field"},
        BadSpec{R"({"nodeSelector": {"zone": "a"}})", "spec.nodeSelector.zone", "unknown field"},
        BadSpec{R"({"nodeSelector": {"matchLabels": {"a b": "c"}}})",
                "spec.nodeSelector.matchLabels", "not a label key"},
        BadSpec{R"({"nodeSelector": {"matchLabels": {"a": 1}}})", "spec.nodeSelector.matchLabels",
                "not a label value"},
        BadSpec{R"({"nodeSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}})",
                "spec.nodeSelector.matchExpressions[0].values", "needed"},
        BadSpec{R"({"nodeSelector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}})",
                "spec.nodeSelector.matchExpressions[0].operator", "not one of"},
        BadSpec{R"({"nodeSelector": {"matchExpressions": [{"key": "a"}]}})",
                "spec.nodeSelector.matchExpressions[0].operator", "is needed"},
        BadSpec{R"({"rollout": {"maxUnavailable": 0}})", "spec.rollout.maxUnavailable", "from 1"},
        BadSpec{R"({"rollout": {"maxUnavailable": "0%"}})", "spec.rollout.maxUnavailable",
                "percentage"},
        BadSpec{R"({"rollout": {"maxUnavailable": "101%"}})", "spec.rollout.maxUnavailable",
                "percentage"},
        BadSpec{R"({"rollout": {"maxUnavailable": "3"}})", "spec.rollout.maxUnavailable",
                "percentage"},
        BadSpec{R"({"rollout": {"canary": {"nodes": -1}}})", "spec.rollout.canary.nodes", "from 0"},
        BadSpec{R"({"rollout": {"canary": {"soak": "-1s"}}})", "spec.rollout.canary.soak",
                "negative"},
        BadSpec{R"({"rollout": {"progressDeadline": "10s"}})", "spec.rollout.progressDeadline",
                "longer than minReady"},
        BadSpec{R"({"rollout": {"onFailure": "Retry"}})", "spec.rollout.onFailure", "not one of"},
        BadSpec{R"({"rollout": {"gates": {"failedConnections": 5}}})",
                "spec.rollout.gates.failedConnections", "neither a percentage"},
        BadSpec{R"({"rollout": {"gates": {"failedConnections": "101%"}}})",
                "spec.rollout.gates.failedConnections", "from 0% to 100%"},
        BadSpec{R"({"rollout": {"gates": {"failedConnections": "+5%"}}})",
                "spec.rollout.gates.failedConnections", "neither"},
        BadSpec{R"({"rollout": {"gates": {"failedConnections": "%"}}})",
                "spec.rollout.gates.failedConnections", "neither"},
        BadSpec{R"({"rollout": {"gates": {"failedConnections": "05%"}}})",
                "spec.rollout.gates.failedConnections", "neither"},
        BadSpec{R"({"rollout": {"gates": {"syncLatency": "Off"}}})",
                "spec.rollout.gates.syncLatency", "not a duration"},
        BadSpec{R"({"rollout": {"gates": {"syncLatency": "2h"}}})",
                "spec.rollout.gates.syncLatency", "at most 1h"},
        BadSpec{R"({"rollout": {"gates": {"syncLatency": false}}})",
                "spec.rollout.gates.syncLatency", "must be a string"},
        BadSpec{R"({"rollout": {"gates": {"refusedServices": -1}}})",
                "spec.rollout.gates.refusedServices", "from 0"},
        BadSpec{R"({"rollout": {"gates": {"refusedServices": "-1%"}}})",
                "spec.rollout.gates.refusedServices", "neither a number, a percentage"},
        BadSpec{R"({"rollout": {"gates": {"cutConnections": "unlimited"}}})",
                "spec.rollout.gates.cutConnections", "neither a number nor Unlimited"},
        BadSpec{R"({"rollout": {"gates": {"cutConnections": 1.5}}})",
                "spec.rollout.gates.cutConnections", "must be an integer"},
        BadSpec{R"({"rollout": {"gates": {"latency": "1s"}}})", "spec.rollout.gates.latency",
                "unknown field"},
        BadSpec{R"({"rollout": {"gates": 5}})", "spec.rollout.gates", "must be an object"},
        BadSpec{R"({"rollout": {"rollbackTo": 0}})", "spec.rollout.rollbackTo", "from 1"},
        BadSpec{R"({"rollout": {"revisionHistoryLimit": 101}})",
                "spec.rollout.revisionHistoryLimit", "from 0 to 100"}));

TEST(ValidationTest, GatesAreBoundsOrUnlimited) {
  std::vector<FieldError> errors;
  const RolloutGates given{.failed_connections = 0,
                           .sync_latency = std::chrono::milliseconds(1500),
                           .refused_services = IntOrPercent{3, false},
                           .cut_connections = 0};
  const json spec = json::parse(R"({"mode": "ipvs", "rollout": {"gates": {
      "failedConnections": "0%", "syncLatency": "1.5s", "refusedServices": 3,
      "cutConnections": 0}}})");
  EXPECT_EQ(ProxyConfigurationSpecFromJson(spec, errors).rollout.gates, given);
  const RolloutGates none{std::nullopt, std::nullopt, std::nullopt, std::nullopt};
  EXPECT_EQ(ProxyConfigurationSpecFromJson(
                {{"mode", "ipvs"}, {"rollout", {{"gates", ToJson(none)}}}}, errors)
                .rollout.gates,
            none);
  EXPECT_EQ(ToJson(none)["syncLatency"], "Unlimited");
  EXPECT_THAT(errors, IsEmpty());
}

TEST(ValidationTest, CollectsEveryError) {
  const auto errors = ValidateProxyConfiguration(
      json::parse(R"({"mode": "x", "ipvs": {"scheduler": "y"}, "zzz": 1})"));
  EXPECT_EQ(PathsOf(errors), "spec.mode,spec.ipvs.scheduler,spec.zzz");
}

TEST(ValidationTest, AcceptsTheDesignsExample) {
  const json spec = json::parse(R"({
    "mode": "ipvs", "fallbackModes": ["iptables"], "provider": "NodeAgent", "nodeSelector": {},
    "priority": 0, "kubeProxy": {"policy": "TakeOver"},
    "ipvs": {"scheduler": "rr", "excludeCIDRs": ["10.1.0.0/16"], "strictARP": true,
             "tcpTimeout": "15m", "udpTimeout": "5m0s"},
    "userspace": {"udpIdleTimeout": "250ms", "portRange": "30000-30500"},
    "clusterCIDR": "10.244.0.0/16,fd00::/56", "detectLocalMode": "ClusterCIDR",
    "nodePortAddresses": ["primary"], "modules": {"policy": "RequireLoaded", "extra": ["ip_vs_mh"]},
    "rollout": {"maxUnavailable": "25%", "canary": {"nodes": 1, "soak": "60s"},
                "onFailure": "Rollback", "rollbackTo": null}})");
  EXPECT_THAT(ValidateProxyConfiguration(spec), IsEmpty())
      << Summarize(ValidateProxyConfiguration(spec));
  std::vector<FieldError> errors;
  const ProxyConfigurationSpec parsed = ProxyConfigurationSpecFromJson(spec, errors);
  EXPECT_EQ(parsed.settings.ipvs.tcp_timeout, std::chrono::minutes(15));
  EXPECT_EQ(parsed.settings.cluster_cidrs.size(), 2U);
  EXPECT_TRUE(parsed.settings.node_port_primary);
  EXPECT_EQ(parsed.rollout.max_unavailable, (IntOrPercent{25, true}));
  EXPECT_EQ(parsed.kube_proxy, KubeProxyPolicy::kTakeOver);
  // What is written reads back the same.
  errors.clear();
  EXPECT_EQ(ProxyConfigurationSpecFromJson(ToJson(parsed), errors), parsed);
  EXPECT_THAT(errors, IsEmpty()) << Summarize(errors);
}

ProxySettings SettingsOf(const json& spec) {
  std::vector<FieldError> errors;
  ProxySettings settings = ProxyConfigurationSpecFromJson(spec, errors).settings;
  EXPECT_THAT(errors, IsEmpty()) << Summarize(errors);
  return settings;
}

// What is written for the nodes is a set: nothing twice in it.
TEST(ProxyConfigurationTest, NodePortAddressesAreWordsAndCidrsTogether) {
  const auto texts = [](const ProxySettings& settings) {
    return ToJson(settings)["nodePortAddresses"].get<std::vector<std::string>>();
  };
  const auto of = [](const std::vector<std::string>& addresses) {
    return SettingsOf({{"mode", "iptables"}, {"nodePortAddresses", addresses}});
  };
  EXPECT_THAT(texts(of({"192.0.2.0/24", "primary"})), ElementsAre("primary", "192.0.2.0/24"));
  EXPECT_THAT(texts(of({"localhost", "127.0.0.0/8", "primary", "all"})),
              ElementsAre("primary", "127.0.0.0/8", "::1/128", "0.0.0.0/0", "::/0"));
  EXPECT_THAT(texts(of({"10.0.0.1/8", "10.0.0.0/8"})), ElementsAre("10.0.0.0/8"));
  EXPECT_EQ(of(texts(of({"primary", "localhost", "10.0.0.0/8"}))),
            of({"primary", "localhost", "10.0.0.0/8"}));

  std::vector<std::string> most = {"localhost"};
  for (int i = 0; i < 62; ++i)
    most.push_back("10." + std::to_string(i) + ".0.0/16");
  EXPECT_EQ(texts(of(most)).size(), 64U);
  most.emplace_back("primary");
  const std::vector<FieldError> errors = ValidateProxyConfiguration({{"nodePortAddresses", most}});
  EXPECT_THAT(Summarize(errors), HasSubstr("spec.nodePortAddresses: \"localhost\" and \"all\""));
}

TEST(ProxyConfigurationTest, DefaultsWriteAndReadBack) {
  std::vector<FieldError> errors;
  const ProxyConfigurationSpec spec;
  EXPECT_EQ(ProxyConfigurationSpecFromJson(ToJson(spec), errors), spec);
  EXPECT_THAT(errors, IsEmpty()) << Summarize(errors);
}

TEST(ProxyConfigurationTest, ReadsABrokenObjectWithoutThrowing) {
  const ProxyConfiguration configuration = ProxyConfigurationFromJson(json::parse(R"({
    "metadata": {"name": "p", "generation": 4, "creationTimestamp": "2026-01-02T03:04:05Z",
                 "deletionTimestamp": "2026-01-02T03:05:05Z", "finalizers": ["a", "b"]},
    "spec": ["not an object"],
    "status": {"phase": "Complete", "nodes": {"desired": 3}, "modes": {"ipvs": 2},
               "conditions": [{"type": "Available", "status": "True", "reason": "R"}]}})"));
  EXPECT_FALSE(configuration.errors.empty());
  EXPECT_EQ(configuration.generation, 4);
  EXPECT_TRUE(configuration.deleting);
  EXPECT_EQ(configuration.finalizers.size(), 2U);
  EXPECT_EQ(FormatTime(configuration.created), "2026-01-02T03:04:05Z");
  EXPECT_EQ(configuration.status.nodes.desired, 3);
  EXPECT_TRUE(IsTrue(configuration.status.conditions, "Available"));
  EXPECT_FALSE(ProxyConfigurationFromJson(json::object()).errors.empty());
}

TEST(ProxyConfigurationTest, RefusesANameThatIsNoLabelValue) {
  const ProxyConfiguration configuration = ProxyConfigurationFromJson(
      {{"metadata", {{"name", std::string(64, 'a')}}}, {"spec", {{"mode", "ipvs"}}}});
  EXPECT_EQ(PathsOf(configuration.errors), "metadata.name");
}

TEST(ProxyConfigurationTest, StatusWritesAndReadsBack) {
  ProxyConfigurationStatus status;
  status.observed_generation = 3;
  status.phase = "RollingOut";
  status.current_revision = 1;
  status.update_revision = 2;
  status.nodes = {5, 4, 3, 2, 1};
  status.modes = {{"ipvs", 2}};
  SetCondition(status.conditions,
               {"Available", ConditionStatus::kFalse, "Reason", "message", "", 3},
               "2026-01-02T03:04:05Z");
  EXPECT_EQ(ProxyConfigurationFromJson({{"status", ToJson(status)}}).status, status);
}

TEST(IntOrPercentTest, RoundsDownButAtLeastOne) {
  EXPECT_EQ((IntOrPercent{25, true}.Of(10)), 2);
  EXPECT_EQ((IntOrPercent{25, true}.Of(3)), 1);
  EXPECT_EQ((IntOrPercent{100, true}.Of(7)), 7);
  EXPECT_EQ((IntOrPercent{3, false}.Of(1)), 3);
}

TEST(LabelSelectorTest, MatchesAsApimachineryDoes) {
  using Operator = LabelSelector::Operator;
  const std::map<std::string, std::string> labels = {{"zone", "a"}, {"gpu", ""}};
  const auto matches = [&](Operator op, const char* key, std::vector<std::string> values) {
    return LabelSelector{{}, {{key, op, std::move(values)}}}.Matches(labels);
  };
  EXPECT_TRUE(LabelSelector{}.Matches(labels));
  EXPECT_TRUE((LabelSelector{{{"zone", "a"}}, {}}.Matches(labels)));
  EXPECT_FALSE((LabelSelector{{{"zone", "b"}}, {}}.Matches(labels)));
  EXPECT_FALSE((LabelSelector{{{"zone", "a"}, {"x", ""}}, {}}.Matches(labels)));
  EXPECT_TRUE(matches(Operator::kIn, "zone", {"b", "a"}));
  EXPECT_FALSE(matches(Operator::kIn, "absent", {"a"}));
  EXPECT_FALSE(matches(Operator::kNotIn, "zone", {"a"}));
  EXPECT_TRUE(matches(Operator::kNotIn, "absent", {"a"}));
  EXPECT_TRUE(matches(Operator::kExists, "gpu", {}));
  EXPECT_FALSE(matches(Operator::kDoesNotExist, "gpu", {}));
  EXPECT_TRUE(matches(Operator::kDoesNotExist, "absent", {}));
}

}  // namespace
}  // namespace pointsman::kube
