#include "node-agent/dataplane/route_localnet.h"

#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "node-agent/sysctl/sysctl.h"
#include "node-agent/testing/fresh_netns.h"

namespace pointsman::agent {
namespace {

const NodeNetwork kLocalhost{.localhost_node_ports = true};
const NodeNetwork kNoLocalhost{.localhost_node_ports = false};

class RouteLocalnetTest : public FreshNetnsTest {
 protected:
  static std::optional<std::string> Value() { return ReadSysctl(RouteLocalnet::kName); }
  static void Set(const char* value) {
    const SysctlResult set = WriteSysctl(RouteLocalnet::kName, value);
    ASSERT_TRUE(set.ok()) << set.error;
  }
  // As a dataplane's full sync, to which the kernel's rules said `marked`.
  void Sync(RouteLocalnet& localnet, const NodeNetwork& node, bool marked = false) {
    result_ = {};
    localnet.Want(net::Family::kIPv4, node);
    localnet.Learn(marked);
    localnet.PrepareGuard(result_);
    localnet.SwitchOn(result_);
    EXPECT_TRUE(result_.ok());
  }
  SyncResult result_;
};

TEST_F(RouteLocalnetTest, WhatWasOffIsRestored) {
  RouteLocalnet localnet;
  Sync(localnet, kLocalhost);
  EXPECT_EQ(Value(), "1");
  EXPECT_EQ(result_.kernel_writes, 1U);
  EXPECT_TRUE(RouteLocalnet::IsMark(localnet.guard_comment()));
  // Another process finds the mark.
  RouteLocalnet next;
  Sync(next, kLocalhost, RouteLocalnet::IsMark(localnet.guard_comment()));
  EXPECT_EQ(result_.kernel_writes, 0U);
  EXPECT_EQ(next.guard_comment(), localnet.guard_comment());
  Sync(next, kNoLocalhost);
  EXPECT_EQ(Value(), "0");
  EXPECT_EQ(next.guard_comment(), "");
}

TEST_F(RouteLocalnetTest, WhatWasOnStays) {
  Set("1");
  RouteLocalnet localnet;
  Sync(localnet, kLocalhost);
  EXPECT_NE(localnet.guard_comment(), "");
  EXPECT_FALSE(RouteLocalnet::IsMark(localnet.guard_comment()));
  SyncResult removed;
  localnet.Restore(removed);
  EXPECT_EQ(Value(), "1");
}

TEST_F(RouteLocalnetTest, AMarkThatIsDeletedIsRemembered) {
  RouteLocalnet localnet;
  Sync(localnet, kLocalhost);
  Sync(localnet, kLocalhost, /*marked=*/false);
  EXPECT_TRUE(RouteLocalnet::IsMark(localnet.guard_comment()));
  SyncResult removed;
  localnet.Restore(removed);
  EXPECT_EQ(Value(), "0");
}

TEST_F(RouteLocalnetTest, MarksOfEarlierVersionsAreKnown) {
  EXPECT_TRUE(RouteLocalnet::IsMark(
      "-A PM-GUARD ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \"pointsman: guard of "
      "route_localnet, set by pointsman\" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j "
      "DROP"));
  EXPECT_TRUE(
      RouteLocalnet::IsMark("pointsman: guard of route_localnet, which pointsman switched on"));
  EXPECT_FALSE(RouteLocalnet::IsMark("pointsman: guard of route_localnet"));
  EXPECT_FALSE(RouteLocalnet::IsMark(""));
}

TEST_F(RouteLocalnetTest, IPv6HasNothingLikeIt) {
  RouteLocalnet localnet;
  localnet.Want(net::Family::kIPv6, kLocalhost);
  SyncResult result;
  localnet.PrepareGuard(result);
  localnet.SwitchOn(result);
  EXPECT_EQ(Value(), "0");
  EXPECT_EQ(localnet.guard_comment(), "");
}

}  // namespace
}  // namespace pointsman::agent
