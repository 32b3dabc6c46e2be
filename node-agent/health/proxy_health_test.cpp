#include "node-agent/health/proxy_health.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace pointsman::agent {
namespace {

using std::chrono_literals::operator""h;
using std::chrono_literals::operator""min;
using std::chrono_literals::operator""s;

class ProxyHealthTest : public testing::Test {
 protected:
  ProxyHealth::Clock::time_point now_{1000s};
  ProxyHealth health_{1min, [this] { return now_; }};

  // All caches are there and the first sync went through.
  void Start() {
    health_.SyncBegins();
    health_.CachesComplete();
    health_.Synced();
  }
};

TEST_F(ProxyHealthTest, IsHealthyWhileNothingWaitsTooLong) {
  Start();
  EXPECT_EQ(health_.Healthz().status, 200) << "nothing asked, nothing late";
  health_.ChangeQueued();
  now_ += 59s;
  health_.ChangeQueued();
  EXPECT_EQ(health_.Healthz().status, 200);
  now_ += 2s;
  EXPECT_EQ(health_.Healthz().status, 503) << "a newer change does not hide the older";
  EXPECT_EQ(health_.Livez().status, 503);
  health_.SyncBegins();
  EXPECT_EQ(health_.Healthz().status, 503);
  health_.Synced();
  EXPECT_EQ(health_.Healthz().status, 200);
  EXPECT_EQ(health_.Livez().status, 200);
}

TEST_F(ProxyHealthTest, WhatIsQueuedDuringASyncIsNotDoneByIt) {
  Start();
  health_.SyncBegins();
  health_.ChangeQueued();
  health_.Synced();
  now_ += 61s;
  EXPECT_EQ(health_.Healthz().status, 503);
  health_.SyncBegins();
  health_.SyncFailed();
  health_.ChangeQueued();
  health_.SyncBegins();
  EXPECT_EQ(health_.Healthz().status, 503);
  health_.Synced();
  EXPECT_EQ(health_.Healthz().status, 200);
}

// An API server that gives some lists and not the others, for an hour: what is in the kernel
// serves, and no restart brings the lists sooner.
TEST_F(ProxyHealthTest, WaitingForTheApiServerIsNoFault) {
  for (int i = 0; i < 60; ++i) {
    health_.ChangeQueued();
    now_ += 1min;
    EXPECT_EQ(health_.Alive().status, 200);
    EXPECT_EQ(health_.Livez().status, 200);
    EXPECT_EQ(health_.Healthz().status, 200) << "as kube-proxy's while it starts";
    health_.SyncBegins();  // takes what came; nothing can be written of it
    health_.Synced();
  }
  Start();
  now_ += 1h;
  EXPECT_EQ(health_.Healthz().status, 200) << "away later on: nothing waits";
  EXPECT_EQ(health_.Alive().status, 200);
}

TEST_F(ProxyHealthTest, AKernelThatRefusesIsNoReasonForARestart) {
  health_.SyncBegins();
  health_.CachesComplete();
  for (int i = 0; i < 20; ++i) {
    health_.SyncFailed();
    now_ += 5s;
    health_.SyncBegins();
  }
  health_.SyncFailed();
  EXPECT_EQ(health_.Healthz().status, 503) << "the first sync never went through";
  EXPECT_EQ(health_.Alive().status, 200);
  health_.SyncBegins();
  health_.Synced();
  EXPECT_EQ(health_.Healthz().status, 200);
  // A resync without a change too.
  health_.SyncBegins();
  health_.SyncFailed();
  now_ += 61s;
  EXPECT_EQ(health_.Healthz().status, 503);
}

TEST_F(ProxyHealthTest, ASyncThreadThatHangsIsAReasonForARestart) {
  health_.SetTimeout(2s);
  Start();
  health_.SyncBegins();
  now_ += 59s;
  EXPECT_EQ(health_.Alive().status, 200) << "a big cluster's sync may take so long";
  now_ += 2s;
  EXPECT_EQ(health_.Alive().status, 503);
  health_.Synced();
  EXPECT_EQ(health_.Alive().status, 200);
  health_.ChangeQueued();
  now_ += 61s;
  EXPECT_EQ(health_.Alive().status, 503) << "nobody takes it";
}

TEST_F(ProxyHealthTest, ALeavingNodeIsLiveButNotEligible) {
  Start();
  health_.SetNodeEligible(false);
  const auto answer = health_.Healthz();
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(nlohmann::json::parse(answer.body).at("nodeEligible"), false);
  EXPECT_EQ(health_.Livez().status, 200);
  EXPECT_FALSE(nlohmann::json::parse(health_.Livez().body).contains("nodeEligible"));
}

}  // namespace
}  // namespace pointsman::agent
