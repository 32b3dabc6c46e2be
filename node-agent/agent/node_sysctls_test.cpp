// In a kernel of its own: the table's size is the first network namespace's alone.
#include "node-agent/agent/node_sysctls.h"

#include <gtest/gtest.h>

#include "kube/process/child_process.h"
#include "node-agent/sysctl/sysctl.h"

namespace pointsman::agent {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

int64_t Read(const std::string& name) {
  std::string error;
  const auto text = ReadSysctl("net.netfilter.nf_conntrack_" + name, &error);
  EXPECT_TRUE(text) << error;
  return text ? std::stoll(*text) : -1;
}

class NodeSysctlsTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(kube::RunChild({"/sbin/modprobe", "nf_conntrack"}, {}, nullptr).status, 0);
    settings_.conntrack = {};
    settings_.conntrack.max_per_core = 0;
    settings_.conntrack.tcp_established_timeout = settings_.conntrack.tcp_close_wait_timeout =
        seconds(0);
  }
  kube::ProxySettings settings_;
};

TEST_F(NodeSysctlsTest, RaisesTheTableWithItsBucketsAndNeverLowersThem) {
  const int64_t max = Read("max");
  const int64_t buckets = Read("buckets");
  ApplyNodeSysctls(settings_);
  EXPECT_EQ(Read("max"), max) << "maxPerCore 0";

  settings_.conntrack.max_per_core = 1;
  const int64_t asked = 4 * std::max(max, buckets);
  settings_.conntrack.min = asked;
  ApplyNodeSysctls(settings_);
  EXPECT_EQ(Read("max"), asked);
  // The kernel rounds up to whole pages.
  EXPECT_GE(Read("buckets"), std::max(max, buckets));
  EXPECT_LT(Read("buckets"), 2 * std::max(max, buckets));

  const int64_t raised = Read("buckets");
  settings_.conntrack.min = max;
  ApplyNodeSysctls(settings_);
  EXPECT_EQ(Read("max"), asked);
  EXPECT_EQ(Read("buckets"), raised);
}

TEST_F(NodeSysctlsTest, SetsTheTimeoutsThatAreGiven) {
  const int64_t established = Read("tcp_timeout_established");
  ApplyNodeSysctls(settings_);
  EXPECT_EQ(Read("tcp_timeout_established"), established) << "0 leaves the kernel's";

  settings_.conntrack.tcp_established_timeout = minutes(90);
  settings_.conntrack.tcp_close_wait_timeout = minutes(7);
  settings_.conntrack.udp_timeout = seconds(17);
  settings_.conntrack.udp_stream_timeout = seconds(77);
  settings_.conntrack.tcp_be_liberal = true;
  ApplyNodeSysctls(settings_);
  EXPECT_EQ(Read("tcp_timeout_established"), 5400);
  EXPECT_EQ(Read("tcp_timeout_close_wait"), 420);
  EXPECT_EQ(Read("udp_timeout"), 17);
  EXPECT_EQ(Read("udp_timeout_stream"), 77);
  EXPECT_EQ(Read("tcp_be_liberal"), 1);
}

TEST_F(NodeSysctlsTest, AnSctpHandshakeOutlivesARepeatedChunkAndALongerTimeStays) {
  ASSERT_EQ(kube::RunChild({"/sbin/modprobe", "sctp"}, {}, nullptr).status, 0);
  const auto rto = ReadSysctl("net.sctp.rto_initial");
  ASSERT_TRUE(rto);
  ApplyNodeSysctls(settings_);
  for (const char* name : {"sctp_timeout_cookie_wait", "sctp_timeout_cookie_echoed"}) {
    SCOPED_TRACE(name);
    // Two in a row are lost: the client waits twice as long before it repeats the chunk again.
    EXPECT_GT(Read(name) * 1000, 2 * std::stoll(*rto));
    ASSERT_TRUE(WriteSysctl(std::string("net.netfilter.nf_conntrack_") + name, "40").ok());
  }
  ApplyNodeSysctls(settings_);
  EXPECT_EQ(Read("sctp_timeout_cookie_wait"), 40);
  EXPECT_EQ(Read("sctp_timeout_cookie_echoed"), 40);
}

}  // namespace
}  // namespace pointsman::agent
