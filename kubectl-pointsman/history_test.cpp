#include "kubectl-pointsman/history.h"

#include <gmock/gmock.h>

#include "kubectl-pointsman/exit_code.h"
#include "kubectl-pointsman/testing_objects.h"

namespace pointsman::plugin {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

StoredRevision Stored(int64_t number, kube::Mode mode, const std::string& scheduler = "rr") {
  StoredRevision stored;
  stored.revision.number = number;
  stored.revision.owner_uid = "u1";
  stored.revision.settings.mode = mode;
  stored.revision.settings.ipvs.scheduler = scheduler;
  stored.created = "2026-01-01T00:00:00Z";
  return stored;
}

TEST(HistoryTest, SaysWhatARevisionChangedAndWhoRunsIt) {
  const std::vector<HistoryEntry> history = MakeHistory(
      Configuration(), {Stored(1, kube::Mode::kIptables), Stored(2, kube::Mode::kIpvs, "lc")},
      {Proxy("node-1", "ipvs", 2), Proxy("node-2", "iptables", 1), Proxy("node-3", "iptables", 1)});
  ASSERT_EQ(history.size(), 2U);
  EXPECT_EQ(history[0].nodes, 2U);
  EXPECT_THAT(history[0].marks, ElementsAre("last good"));
  EXPECT_THAT(history[0].changes, IsEmpty());
  EXPECT_THAT(history[1].marks, ElementsAre("specified"));
  const std::string text = HistoryText(history);
  EXPECT_THAT(text, HasSubstr("ipvs.scheduler: rr -> lc; mode: iptables -> ipvs"));
}

TEST(HistoryTest, GoesBackToTheLastThatWasGoodEverywhere) {
  const std::vector<StoredRevision> revisions = {Stored(1, kube::Mode::kIptables),
                                                 Stored(2, kube::Mode::kNftables),
                                                 Stored(3, kube::Mode::kIpvs)};
  const auto status = [](int64_t current, int64_t update) {
    return Configuration(R"({"status": {"currentRevision": )" + std::to_string(current) +
                         R"(, "updateRevision": )" + std::to_string(update) + "}}");
  };
  EXPECT_EQ(RevisionBefore(status(1, 3), revisions), 1) << "under way";
  EXPECT_EQ(RevisionBefore(status(3, 3), revisions), 2) << "complete: the one before";
  EXPECT_EQ(RevisionBefore(status(9, 3), revisions), 2) << "the last good one is not kept";
  try {
    RevisionBefore(status(1, 1), revisions);
    FAIL() << "nothing is before it";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.code(), ExitCode::kNotFound);
    EXPECT_THAT(failure.what(), HasSubstr("--to"));
  }
}

TEST(ChangesTest, AreThoseOfTheLeaves) {
  const auto changes =
      Changes(nlohmann::json::parse(R"({"a": {"b": 1, "c": [1]}, "d": "x"})"),
              nlohmann::json::parse(R"({"a": {"b": 2, "c": [1]}, "e": true})"), "spec");
  ASSERT_EQ(changes.size(), 3U);
  EXPECT_EQ(changes[0].path, "spec.a.b");
  EXPECT_EQ(changes[0].before, "1");
  EXPECT_EQ(changes[1].path, "spec.d");
  EXPECT_EQ(changes[1].after, "");
  EXPECT_EQ(changes[2].after, "true");
}

}  // namespace
}  // namespace pointsman::plugin
