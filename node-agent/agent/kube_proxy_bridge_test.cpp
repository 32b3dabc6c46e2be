// When rules of ours are to serve in the place of a kube-proxy's that restarts, and when it may.
#include "node-agent/agent/kube_proxy_bridge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pointsman::agent {
namespace {

using kube::Mode;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::HasSubstr;

class KubeProxyBridgeTest : public testing::Test {
 protected:
  KubeProxyBridge Make() {
    return KubeProxyBridge({.why_not =
                                [this](const kube::ProxySettings& settings) {
                                  EXPECT_EQ(settings.mode, Mode::kNftables);
                                  EXPECT_TRUE(settings.fallback_modes.empty());
                                  if (why_not_throws_) throw std::runtime_error(why_not_);
                                  return why_not_;
                                },
                            .open = [this](bool /*first*/) { return open_; }});
  }
  static kube::NodeProxySpec Asked(int64_t revision, Mode mode) {
    kube::NodeProxySpec spec;
    spec.provider = kube::Provider::kKubeProxy;
    spec.revision = revision;
    spec.settings.mode = mode;
    spec.settings.fallback_modes = {Mode::kIptables};
    spec.settings.drain_timeout = minutes(5);
    return spec;
  }
  // A pass of the sync thread's. `problem`: of rules that are to be there.
  void Pass(const kube::NodeProxySpec& spec, std::optional<Mode> runs, bool verified = false,
            const std::string& problem = "") {
    bridge_.Look(spec, runs, verified, now_);
    if (bridge_.wanted()) bridge_.Wrote(problem, spec.settings.drain_timeout, now_);
  }

  std::string why_not_;
  bool why_not_throws_ = false;
  uint64_t open_ = 0;
  KubeProxyBridge::TimePoint now_{std::chrono::hours(1)};
  KubeProxyBridge bridge_ = Make();
};

TEST_F(KubeProxyBridgeTest, ServesFromBeforeTheRestartUntilTheModeIsVerified) {
  const kube::NodeProxySpec asked = Asked(2, Mode::kNftables);
  Pass(asked, Mode::kIptables);
  EXPECT_TRUE(bridge_.wanted());
  EXPECT_EQ(bridge_.prepared_revision(), 2);
  Pass(asked, std::nullopt);  // it restarts
  EXPECT_TRUE(bridge_.wanted());
  Pass(asked, Mode::kNftables);  // and has not written everything yet
  EXPECT_TRUE(bridge_.wanted());
  Pass(asked, Mode::kNftables, true);
  EXPECT_FALSE(bridge_.wanted());
  // Whatever becomes of it later is no restart that was asked for.
  Pass(asked, std::nullopt);
  EXPECT_FALSE(bridge_.wanted());
  EXPECT_EQ(bridge_.prepared_revision(), 2);
}

TEST_F(KubeProxyBridgeTest, IsThereOnlyWhereKubeProxyRemovesItsRulesFirst) {
  int64_t revision = 1;
  for (const auto& [runs, desired, wanted] : {std::tuple(Mode::kIptables, Mode::kIpvs, false),
                                              std::tuple(Mode::kIpvs, Mode::kIptables, false),
                                              std::tuple(Mode::kNftables, Mode::kNftables, false),
                                              std::tuple(Mode::kNftables, Mode::kIptables, true),
                                              std::tuple(Mode::kNftables, Mode::kIpvs, true),
                                              std::tuple(Mode::kIpvs, Mode::kNftables, true)}) {
    bridge_ = Make();
    Pass(Asked(++revision, desired), runs);
    EXPECT_EQ(bridge_.wanted(), wanted) << kube::ToString(runs) << kube::ToString(desired);
    EXPECT_EQ(bridge_.prepared_revision(), revision);
  }
}

TEST_F(KubeProxyBridgeTest, WhatWouldBeCutOffEndsFirstButForNoLongerThanAsked) {
  const kube::NodeProxySpec asked = Asked(2, Mode::kNftables);
  open_ = 3;
  Pass(asked, Mode::kIpvs);
  EXPECT_TRUE(bridge_.wanted());
  EXPECT_EQ(bridge_.prepared_revision(), 0);
  EXPECT_THAT(bridge_.waits_for(), HasSubstr("connections through its virtual servers"));
  now_ += minutes(4);
  Pass(asked, Mode::kIpvs);
  EXPECT_EQ(bridge_.prepared_revision(), 0);
  open_ = 0;
  Pass(asked, Mode::kIpvs);
  EXPECT_EQ(bridge_.prepared_revision(), 2);
  EXPECT_EQ(bridge_.waits_for(), "");

  open_ = 3;
  Pass(Asked(3, Mode::kIptables), Mode::kIpvs);  // wanted still: nothing is verified
  EXPECT_NE(bridge_.prepared_revision(), 3);
  now_ += minutes(5);
  Pass(Asked(3, Mode::kIptables), Mode::kIpvs);
  EXPECT_EQ(bridge_.prepared_revision(), 3);
}

TEST_F(KubeProxyBridgeTest, ItsOwnVirtualServersStay) {
  open_ = 3;
  Pass(Asked(2, Mode::kIpvs), Mode::kNftables);
  EXPECT_EQ(bridge_.prepared_revision(), 2);
}

TEST_F(KubeProxyBridgeTest, WhereNothingCanServeItRestartsNevertheless) {
  why_not_ = "kernel 4.19 has no nf_tables";
  for (const bool throws : {false, true}) {
    why_not_throws_ = throws;
    bridge_ = Make();
    Pass(Asked(2, Mode::kNftables), Mode::kIptables);
    EXPECT_FALSE(bridge_.wanted());
    EXPECT_EQ(bridge_.prepared_revision(), 2);
  }
}

TEST_F(KubeProxyBridgeTest, RulesThatCannotBeWrittenAreNotWaitedForForEver) {
  const kube::NodeProxySpec asked = Asked(2, Mode::kNftables);
  Pass(asked, Mode::kIptables, false, "table pointsman: no space left");
  EXPECT_EQ(bridge_.prepared_revision(), 0);
  EXPECT_THAT(bridge_.waits_for(), HasSubstr("no space left"));
  now_ += KubeProxyBridge::kPatience;
  Pass(asked, Mode::kIptables, false, "table pointsman: no space left");
  EXPECT_EQ(bridge_.prepared_revision(), 2);
}

// It has gone back before it came there: the revision of before has to be prepared anew.
TEST_F(KubeProxyBridgeTest, RollbackGoesTheSameWay) {
  Pass(Asked(1, Mode::kIptables), Mode::kIptables, true);
  Pass(Asked(2, Mode::kNftables), Mode::kIptables);
  ASSERT_TRUE(bridge_.wanted());
  Pass(Asked(1, Mode::kIptables), std::nullopt);
  EXPECT_TRUE(bridge_.wanted());
  EXPECT_EQ(bridge_.prepared_revision(), 1);
  Pass(Asked(1, Mode::kIptables), Mode::kIptables, true);
  EXPECT_FALSE(bridge_.wanted());
}

TEST_F(KubeProxyBridgeTest, AnAgentThatIsStartedAnewGoesOn) {
  const kube::NodeProxySpec asked = Asked(2, Mode::kNftables);
  const auto restarted = [&](int64_t prepared, int64_t in_effect) {
    bridge_ = Make();
    kube::NodeProxyStatus said;
    said.prepared_revision = prepared;
    said.observed_revision = in_effect;
    bridge_.Continue(said);
  };
  // In the middle of kube-proxy's restart.
  restarted(2, 1);
  Pass(asked, std::nullopt);
  EXPECT_TRUE(bridge_.wanted());
  restarted(2, 1);
  Pass(asked, Mode::kNftables);
  EXPECT_TRUE(bridge_.wanted());
  // Long after it; kube-proxy does not answer just now.
  restarted(2, 2);
  Pass(asked, std::nullopt);
  EXPECT_FALSE(bridge_.wanted());
  // Before it.
  restarted(1, 1);
  Pass(asked, Mode::kIptables);
  EXPECT_TRUE(bridge_.wanted());
  EXPECT_EQ(bridge_.prepared_revision(), 2);
}

TEST_F(KubeProxyBridgeTest, IsForgottenWithKubeProxy) {
  Pass(Asked(2, Mode::kNftables), Mode::kIptables);
  bridge_.Forget();
  EXPECT_FALSE(bridge_.wanted());
}

}  // namespace
}  // namespace pointsman::agent
