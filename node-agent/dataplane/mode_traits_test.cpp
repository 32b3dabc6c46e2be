#include "node-agent/dataplane/mode_traits.h"

#include <gtest/gtest.h>

namespace pointsman::agent {
namespace {

using std::chrono_literals::operator""s;

TEST(ModeTraits, EachModeHasItsOwnPeriodsAndUserspaceThoseOfIptables) {
  kube::ProxySettings settings;
  settings.iptables.sync_period = 11s;
  settings.iptables.min_sync_period = 1s;
  settings.ipvs.sync_period = 12s;
  settings.ipvs.min_sync_period = 2s;
  settings.nftables.sync_period = 13s;
  settings.nftables.min_sync_period = 3s;
  const auto expect = [&](kube::Mode mode, kube::Duration period, kube::Duration min) {
    EXPECT_EQ(TraitsOf(mode).mode, mode);
    EXPECT_EQ(TraitsOf(mode).sync_period(settings), period);
    EXPECT_EQ(TraitsOf(mode).min_sync_period(settings), min);
  };
  expect(kube::Mode::kIptables, 11s, 1s);
  expect(kube::Mode::kUserspace, 11s, 1s);
  expect(kube::Mode::kIpvs, 12s, 2s);
  expect(kube::Mode::kNftables, 13s, 3s);
  EXPECT_EQ(AllModes().size(), 4U);
}

TEST(ModeTraits, OnlyNftablesRunsWithoutIptables) {
  for (const ModeTraits& traits : AllModes())
    EXPECT_EQ(traits.uses_iptables, traits.mode != kube::Mode::kNftables);
}

}  // namespace
}  // namespace pointsman::agent
