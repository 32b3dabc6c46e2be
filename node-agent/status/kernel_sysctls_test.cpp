#include "node-agent/status/kernel_sysctls.h"

#include <gmock/gmock.h>

#include "kube/pointsman/limits.h"
#include "node-agent/sysctl/sysctl.h"
#include "node-agent/testing/fresh_netns.h"

namespace pointsman::agent {
namespace {

using testing::ElementsAre;

class KernelSysctlsTest : public FreshNetnsTest {};

TEST_F(KernelSysctlsTest, SaysWhatTheKernelHasNow) {
  ASSERT_TRUE(WriteSysctl("net.ipv4.ip_forward", "0").ok());
  const std::vector<std::string> names{"net.ipv4.ip_forward", "net.ipv4.no_such",
                                       "net.ipv4.conf.lo.arp_ignore", "net.ipv4.ip_forward"};
  EXPECT_THAT(ReadSysctls(names),
              ElementsAre(kube::SysctlStatus{"net.ipv4.conf.lo.arp_ignore", "0"},
                          kube::SysctlStatus{"net.ipv4.ip_forward", "0"}));
  ASSERT_TRUE(WriteSysctl("net.ipv4.ip_forward", "1").ok());
  EXPECT_EQ(ReadSysctls(names).at(1).value, "1");
}

// The whole status would be refused else.
TEST_F(KernelSysctlsTest, KeepsToWhatTheSchemaAllows) {
  std::vector<std::string> names;
  for (const char* directory : {"net.ipv4.conf.lo", "net.ipv4.conf.all", "net.ipv4.conf.default",
                                "net.ipv6.conf.lo", "net.ipv6.conf.all"}) {
    std::string path = "/proc/sys/" + std::string(directory);
    std::replace(path.begin(), path.end(), '.', '/');
    for (const auto& file : std::filesystem::directory_iterator(path))
      names.push_back(directory + ("." + file.path().filename().string()));
  }
  ASSERT_GT(names.size(), kube::limits::kMaxSysctls);
  EXPECT_EQ(ReadSysctls(names).size(), kube::limits::kMaxSysctls);
}

}  // namespace
}  // namespace pointsman::agent
