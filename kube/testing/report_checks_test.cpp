#include "kube/testing/report_checks.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "kube/objects/endpoint_slice.h"
#include "kube/objects/node.h"
#include "kube/objects/service.h"
#include "kube/pointsman/limits.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/pointsman/proxy_configuration.h"
#include "kube/pointsman/status_bounds.h"
#include "kube/pointsman/validation.h"
#include "kube/testing/corpus.h"
#include "kube/testing/mutator.h"
#include "kube/testing/status_schema.h"

namespace pointsman::testing {
namespace {

// The checks look at something: what is in the corpus is read whole.
TEST(ReportChecksTest, TheCorpusDecodes) {
  EXPECT_TRUE(kube::DecodeService(CorpusFile("service", "every-field")).problems.empty());
  EXPECT_TRUE(
      kube::DecodeEndpointSlice(CorpusFile("endpoint_slice", "every-field")).problems.empty());
  EXPECT_TRUE(kube::DecodeNode(CorpusFile("node", "every-field")).problems.empty());
  const auto proxy =
      kube::NodeProxyFromJson(nlohmann::json::parse(CorpusFile("node_proxy", "every-field")));
  EXPECT_EQ(proxy.status.conditions.size(), 2U);
  EXPECT_EQ(proxy.status.sysctls.size(), 2U);
  const auto configuration = kube::ProxyConfigurationFromJson(
      nlohmann::json::parse(CorpusFile("proxy_configuration", "every-field")));
  EXPECT_EQ(kube::Summarize(configuration.errors), "");
  EXPECT_EQ(configuration.status.modes.size(), 2U);
}

std::string Wild(size_t size) {
  std::string text;
  while (text.size() < size)
    text += "a\xff\x1b[2J\u3000é\xe3\x80";
  return text;
}

std::vector<kube::Condition> WildConditions() {
  std::vector<kube::Condition> conditions;
  conditions.reserve(100);
  for (int i = 0; i < 100; ++i) {
    conditions.push_back({i % 3 == 0 ? "Twice" : Wild(1000) + std::to_string(i),
                          kube::ConditionStatus::kTrue, i % 2 == 0 ? "" : Wild(10'000),
                          Wild(300'000), i % 2 == 0 ? "" : "9999-99-99T00:00:00Z", INT64_MIN});
  }
  conditions.push_back({"", kube::ConditionStatus::kTrue, "R", "m", "", 0});
  return conditions;
}

// The worst that could ever be in them.
TEST(StatusSchemaTest, TheWorstStatusOfANodeIsWithinTheSchema) {
  kube::NodeProxyStatus status;
  for (const int64_t number : {INT64_MIN, INT64_MAX}) {
    status.observed_generation = status.observed_revision = number;
    status.services = status.endpoints = status.draining_connections = number;
    status.active_mode = status.draining_mode = Wild(100'000);
    status.kernel_release = status.agent_version = status.last_sync = Wild(100'000);
    for (int i = 0; i < 1000; ++i) {
      status.modules.push_back({i % 2 == 0 ? "twice" : Wild(200) + std::to_string(i), Wild(500)});
      status.sysctls.push_back({i % 2 == 0 ? "twice" : Wild(200) + std::to_string(i), Wild(5000)});
    }
    for (int i = 0; i < 200; ++i) {
      status.neighbours.push_back({i % 2 == 0 ? "twice" : Wild(200) + std::to_string(i),
                                   Wild(200),
                                   {{"ipvs", "Refused"}, {"iptables", Wild(9)}, {"ebpf", "Fine"}},
                                   Wild(300'000)});
    }
    for (int i = 0; i < 20; ++i)
      status.preflights.push_back({i % 2 == 0 ? "twice" : Wild(200), true, Wild(500), Wild(5000)});
    status.candidate = kube::CandidateStatus{number, Wild(1000), true, Wild(300'000)};
    status.impact.emplace().revision = number;
    for (const auto& [name, member] : kube::kImpactFigures)
      (*status.impact).*member = number;
    status.conditions = WildConditions();
    EXPECT_EQ(StatusSchema::OfNodeProxy().Refusal(ToJson(status)), "");
    EXPECT_EQ(StatusSchema::OfNodeProxy().Refusal(ToJson(kube::WithoutMessages(status, "out"))),
              "");
  }
  EXPECT_LE(ToJson(status).dump().size(), 1'000'000U);
}

TEST(StatusSchemaTest, TheWorstStatusOfAConfigurationIsWithinTheSchema) {
  kube::ProxyConfigurationStatus status;
  for (const int64_t number : {INT64_MIN, INT64_MAX}) {
    status.observed_generation = status.current_revision = status.update_revision = number;
    status.nodes = {number, number, number, number, number};
    status.phase = Wild(1000);
    for (int i = 0; i < 100; ++i)
      status.modes["mode-" + std::to_string(i)] = number;
    status.modes["ipvs"] = number;
    for (int i = 0; i < 100; ++i)
      status.tripped_gates.push_back({Wild(1000), Wild(1000), number, Wild(5000), Wild(1000)});
    status.conditions = WildConditions();
    EXPECT_EQ(StatusSchema::OfProxyConfiguration().Refusal(ToJson(status)), "");
  }
}

// A condition's own bound is what keeps a status of sixteen of them within etcd's reach.
TEST(StatusSchemaTest, TheSchemaSeesWhatBreaksIt) {
  kube::NodeProxyStatus status;
  kube::SetCondition(status.conditions, {"A", kube::ConditionStatus::kTrue, "R", "m", "", 1},
                     "2026-01-02T03:04:05Z");
  nlohmann::json good = ToJson(status);
  EXPECT_EQ(StatusSchema::OfNodeProxy().Refusal(good), "");
  for (const auto& [pointer, value] :
       std::map<std::string, nlohmann::json>{{"/conditions/0/message", std::string(32'769, 'a')},
                                             {"/conditions/0/reason", ""},
                                             {"/conditions/0/reason", "not a reason"},
                                             {"/conditions/0/lastTransitionTime", "t1"},
                                             {"/conditions/1", good["conditions"][0]},
                                             {"/activeMode", std::string(33, 'a')},
                                             {"/services", "many"},
                                             {"/kernel/release", "\xff"}}) {
    nlohmann::json bad = good;
    bad[nlohmann::json::json_pointer(pointer)] = value;
    EXPECT_NE(StatusSchema::OfNodeProxy().Refusal(bad), "") << pointer;
  }
}

TEST(StatusSchemaTest, OthersConditionsLeaveRoomForOurs) {
  constexpr std::array<std::string_view, 2> kOwn{"Ready", "Degraded"};
  std::vector<kube::Condition> conditions;
  conditions.reserve(16);
  for (int i = 0; i < 16; ++i)
    conditions.push_back(
        {"Other" + std::to_string(i), kube::ConditionStatus::kTrue, "R", "m", "", 1});
  conditions[15].type = "Ready";
  kube::KeepRoomFor(kOwn, conditions);
  EXPECT_EQ(conditions.size(), 15U);
  EXPECT_EQ(conditions.back().type, "Ready");
  EXPECT_EQ(conditions.at(13).type, "Other13");
}

TEST(MutatorTest, IsTheSameForTheSameSeed) {
  const std::string text = CorpusFile("service", "every-field");
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const std::string mutated = Mutator(seed).Any(text);
    EXPECT_EQ(mutated, Mutator(seed).Any(text));
    seen.insert(mutated);
  }
  EXPECT_GT(seen.size(), 45U);
}

}  // namespace
}  // namespace pointsman::testing
