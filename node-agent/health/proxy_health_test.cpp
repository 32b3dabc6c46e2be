#include "node-agent/health/proxy_health.h"

#include <gtest/gtest.h>

namespace pointsman::agent {
namespace {

using std::chrono_literals::operator""min;
using std::chrono_literals::operator""s;

TEST(ProxyHealth, IsHealthyWhileNothingWaitsTooLong) {
  ProxyHealth health(1min);
  EXPECT_EQ(health.Healthz().status, 200) << "nothing asked, nothing late";
  health.ChangeQueued(ProxyHealth::Clock::now() - 30s);
  EXPECT_EQ(health.Healthz().status, 200);
  health.ChangeQueued(ProxyHealth::Clock::now() - 61s);
  EXPECT_EQ(health.Healthz().status, 503);
  EXPECT_EQ(health.Livez().status, 503);
  health.ChangeQueued(ProxyHealth::Clock::now());
  EXPECT_EQ(health.Healthz().status, 503) << "a newer change does not hide the older";
  health.SyncBegins();
  EXPECT_EQ(health.Healthz().status, 503);
  health.Synced();
  EXPECT_EQ(health.Healthz().status, 200);
}

TEST(ProxyHealth, WhatIsQueuedDuringASyncIsNotDoneByIt) {
  ProxyHealth health(1min);
  health.SyncBegins();
  health.ChangeQueued(ProxyHealth::Clock::now() - 61s);
  health.Synced();
  EXPECT_EQ(health.Livez().status, 503);
  health.SyncBegins();  // fails; another one is asked for
  health.ChangeQueued(ProxyHealth::Clock::now());
  health.SyncBegins();
  EXPECT_EQ(health.Livez().status, 503);
  health.Synced();
  EXPECT_EQ(health.Livez().status, 200);
}

TEST(ProxyHealth, ALeavingNodeIsLiveButNotEligible) {
  ProxyHealth health(1min);
  health.SetNodeEligible(false);
  const auto answer = health.Healthz();
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(nlohmann::json::parse(answer.body).at("nodeEligible"), false);
  EXPECT_EQ(health.Livez().status, 200);
  EXPECT_FALSE(nlohmann::json::parse(health.Livez().body).contains("nodeEligible"));
}

}  // namespace
}  // namespace pointsman::agent
