#include "node-agent/sysctl/sysctl.h"

#include <gmock/gmock.h>

#include "node-agent/testing/fresh_netns.h"

namespace pointsman::agent {
namespace {

class SysctlTest : public FreshNetnsTest {};

TEST_F(SysctlTest, WritesOnlyWhenDifferent) {
  SysctlResult result = WriteSysctl("net.ipv4.conf.lo.route_localnet", "1");
  EXPECT_TRUE(result.ok()) << result.error;
  EXPECT_TRUE(result.changed);
  EXPECT_EQ(result.old_value, "0");
  EXPECT_EQ(ReadSysctl("net.ipv4.conf.lo.route_localnet"), "1");
  result = WriteSysctl("net.ipv4.conf.lo.route_localnet", "1");
  EXPECT_TRUE(result.ok());
  EXPECT_FALSE(result.changed);
  EXPECT_EQ(result.old_value, "1");
}

TEST_F(SysctlTest, ErrorsNameParameterAndCause) {
  SysctlResult result = WriteSysctl("net.ipv4.no_such", "1");
  EXPECT_EQ(result.error, "sysctl net.ipv4.no_such: write 1: No such file or directory");
  EXPECT_FALSE(result.changed);
  result = WriteSysctl("net.ipv4.ip_forward", "zebra");
  EXPECT_EQ(result.error, "sysctl net.ipv4.ip_forward: write zebra: Invalid argument");
  std::string error;
  EXPECT_EQ(ReadSysctl("net.ipv4.no_such", &error), std::nullopt);
  EXPECT_THAT(error, ::testing::HasSubstr("net.ipv4.no_such"));
}

TEST_F(SysctlTest, NamesCannotLeaveProcSys) {
  for (const char* name : {"", ".net", "net..ipv4", "/etc", "net.//.//.etc"}) {
    EXPECT_FALSE(WriteSysctl(name, "1").ok()) << name;
  }
}

}  // namespace
}  // namespace pointsman::agent
