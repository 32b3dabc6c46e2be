#include "node-agent/agent/kube_proxy_return.h"

#include <memory>

#include <gmock/gmock.h>

namespace pointsman::agent {
namespace {

using kube::Mode;
using std::chrono_literals::operator""s;
using ::testing::HasSubstr;

class KubeProxyReturnTest : public ::testing::Test {
 protected:
  KubeProxyReturnTest() {
    for (int i = 1; i <= 3; ++i) {
      auto entry = std::make_shared<ServicePortEntry>();
      entry->id = {.ns = "default", .name = "web" + std::to_string(i), .port_name = "http"};
      entry->cluster_ip = Address(i);
      entry->port = 80;
      entry->internal.backends = {{.ip = Address(100), .port = 8080}};
      model_.entries[entry->id] = entry;
    }
  }
  static net::IpAddress Address(int number) {
    return net::IpAddress::V4(0x0a600000 + static_cast<uint32_t>(number));
  }
  void Serve(Mode mode, int number) {
    served_[mode][{Address(number), 80, kube::Protocol::kTcp}] = {{Address(100), 8080}};
  }
  std::string After(std::chrono::seconds time) {
    now_ += time;
    return return_.WhyWait(model_, false, 300s, now_);
  }

  ServiceModel model_;
  std::vector<std::string> traces_{"chains of iptables-nft, IPv4"};
  std::map<Mode, kube_proxy::Served> served_;
  KubeProxyReturn::TimePoint now_{1000s};
  KubeProxyReturn return_{{.traces = [this] { return traces_; },
                           .served = [this](Mode mode) { return served_[mode]; }}};
};

TEST_F(KubeProxyReturnTest, WhereNoneComesBackNothingIsWaitedFor) {
  traces_.clear();
  EXPECT_EQ(After(0s), "");
}

TEST_F(KubeProxyReturnTest, AllOfItIsWaitedForHoweverLongItsFirstSyncTakes) {
  EXPECT_THAT(After(0s), HasSubstr("has 0 of 3 ports"));
  EXPECT_THAT(After(200s), HasSubstr("has 0 of 3 ports"));
  Serve(Mode::kIpvs, 1);
  EXPECT_THAT(After(9s), HasSubstr("has 1 of 3 ports"));
  Serve(Mode::kIpvs, 2);
  EXPECT_THAT(After(9s), HasSubstr("has 2 of 3 ports"));
  Serve(Mode::kIptables, 3);  // another mode's are no part of it
  EXPECT_THAT(After(9s), HasSubstr("has 2 of 3 ports"));
  Serve(Mode::kIpvs, 3);
  EXPECT_EQ(After(0s), "");
}

TEST_F(KubeProxyReturnTest, WhatItLeavesOutIsNotWaitedForForEver) {
  Serve(Mode::kNftables, 1);
  EXPECT_NE(After(0s), "");
  EXPECT_NE(After(KubeProxyReturn::kStands - 1s), "");
  EXPECT_EQ(After(1s), "");
}

TEST_F(KubeProxyReturnTest, OneThatWritesNothingIsWaitedForSoLongAtMost) {
  EXPECT_NE(After(0s), "");
  EXPECT_NE(After(299s), "");
  EXPECT_EQ(After(1s), "");
  // Another time it begins anew.
  return_.Forget();
  EXPECT_NE(After(0s), "");
}

}  // namespace
}  // namespace pointsman::agent
