#include <optional>
#include <stdexcept>
#include <string>

#include <gtest/gtest.h>

#include "kube/testing/corpus.h"
#include "kube/testing/mutator.h"
#include "node-agent/iptables/restore_checks.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/iptables_wish.h"

namespace pointsman::agent {
namespace {

// Each takes about 0.1 s.
constexpr uint64_t kMutations = 30;

class RestoreMutation : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!EnterFreshNetns()) GTEST_SKIP() << "needs root to make a network namespace";
    testing::WishVariant(GetParam());
    try {
      checks_.emplace();
    } catch (const std::runtime_error& error) {
      GTEST_SKIP() << error.what();
    }
  }
  void TearDown() override { testing::WishVariant(""); }

  std::optional<testing::RestoreChecks> checks_;
};

TEST_P(RestoreMutation, AnyServicesAreRulesThatAreTakenAndNothingElse) {
  pointsman::testing::ForMutations(pointsman::testing::Corpus("iptables_restore"), kMutations,
                                   [&](const std::string& input) { checks_->Check(input); });
}

INSTANTIATE_TEST_SUITE_P(Variants, RestoreMutation, ::testing::Values("legacy", "nft"),
                         [](const auto& variant) { return std::string(variant.param); });

}  // namespace
}  // namespace pointsman::agent
