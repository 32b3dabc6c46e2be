#include "node-agent/sysctl/ipv6_forwarding.h"

#include <arpa/inet.h>
#include <array>
#include <fstream>
#include <iterator>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>

#include <gmock/gmock.h>
#include <unistd.h>

#include "base/throw_errno.h"
#include "base/unique_fd.h"
#include "kube/testing/eventually.h"
#include "node-agent/testing/fresh_mounts.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/run_tool.h"
#include "node-agent/testing/test_address.h"
#include "node-agent/testing/test_network.h"

namespace pointsman::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A router's advertisement, to all nodes on `host`'s eth0.
void Advertise(const UniqueFd& router, const std::string& interface_index) {
  std::array<uint8_t, 16> packet{};
  packet[0] = ND_ROUTER_ADVERT;
  packet[4] = 64;    // hop limit
  packet[6] = 0x07;  // lifetime: 1800 s
  packet[7] = 0x08;
  sockaddr_in6 all{};
  all.sin6_family = AF_INET6;
  all.sin6_scope_id = static_cast<uint32_t>(std::stoul(interface_index));
  inet_pton(AF_INET6, "ff02::1", &all.sin6_addr);
  // The first may come before the router's own address has passed duplicate address detection.
  if (sendto(router.get(), packet.data(), packet.size(), 0, reinterpret_cast<const sockaddr*>(&all),
             sizeof all) < 0 &&
      errno != EADDRNOTAVAIL) {
    ThrowErrno("sendto");
  }
}

class Ipv6ForwardingTest : public FreshNetnsTest {
 protected:
  void SetUp() override {
    FreshNetnsTest::SetUp();
    if (IsSkipped()) return;
    if (!ReadSysctl(kIpv6Forwarding)) GTEST_SKIP() << "this kernel has no IPv6";
    // The names of network namespaces are the machine's, and other tests run beside this one.
    testing::EnterFreshMounts({"/run"});
    network_.emplace();
    network_->AddHost("router", "fd00:1::2", "fd00:1::1");
    socket_ =
        testing::SocketIn(testing::TestNetwork::At("router"), AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
    const int hops = 255;  // others are not taken
    setsockopt(socket_.get(), IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof hops);
  }

  static std::vector<std::string> Advertised() {
    std::ifstream file("/proc/net/ipv6_route");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    return InterfacesWithAdvertisedRoutes(text);
  }
  bool RouteComes() {
    return Eventually([&] {
      // Its index in the router's namespace: lo has 1, and there is one more.
      Advertise(socket_, "2");
      return !Advertised().empty();
    });
  }

  std::optional<testing::TestNetwork> network_;
  UniqueFd socket_;
};

TEST_F(Ipv6ForwardingTest, KeepsTheDefaultRouteThatARouterAdvertised) {
  ASSERT_TRUE(RouteComes());
  ASSERT_THAT(Advertised(), ElementsAre("vrouter"));

  std::vector<SysctlResult> results = EnableIpv6Forwarding();

  ASSERT_EQ(results.size(), 2U);
  EXPECT_EQ(results[0].name, "net.ipv6.conf.vrouter.accept_ra");
  EXPECT_TRUE(results[0].changed);
  EXPECT_TRUE(results[1].ok()) << results[1].error;
  EXPECT_EQ(ReadSysctl(kIpv6Forwarding), "1");
  EXPECT_THAT(Advertised(), ElementsAre("vrouter"));
  // Later ones are taken too.
  testing::TryTool({"ip", "-6", "route", "flush", "default"});
  ASSERT_THAT(Advertised(), IsEmpty());
  EXPECT_TRUE(RouteComes());

  results = EnableIpv6Forwarding();
  ASSERT_EQ(results.size(), 1U);
  EXPECT_FALSE(results[0].changed);
}

// What an administrator or a network daemon has turned off stays off, and so does what was not in
// use.
TEST_F(Ipv6ForwardingTest, LeavesOtherInterfacesAlone) {
  WriteSysctl("net.ipv6.conf.vrouter.accept_ra", "0");
  const std::vector<SysctlResult> results = EnableIpv6Forwarding();
  ASSERT_EQ(results.size(), 1U);
  EXPECT_TRUE(results[0].changed);
  EXPECT_EQ(ReadSysctl("net.ipv6.conf.vrouter.accept_ra"), "0");
  EXPECT_EQ(ReadSysctl("net.ipv6.conf.lo.accept_ra"), "1");
}

TEST(Ipv6RouteTextTest, OnlyDefaultRoutesOfAdvertisementsCount) {
  const std::string any(32, '0');
  const std::string local = "fe800000000000000000000000000001";
  const std::string text =
      any + " 00 " + any + " 00 " + local + " 00000400 00000001 00000000 00450003     eth0\n" +
      any + " 00 " + any + " 00 " + local + " 00000400 00000001 00000000 00450003 eth0.100\n" +
      any + " 00 " + any + " 00 " + local + " 00000400 00000001 00000000 00450003     eth0\n" +
      // by hand; a prefix; no route; cut off
      any + " 00 " + any + " 00 " + local + " 00000400 00000001 00000000 00000003     eth1\n" +
      local + " 40 " + any + " 00 " + any + " 00000100 00000001 00000000 00450001     eth2\n" +
      any + " 00 " + any + " 00 " + any + " ffffffff 00000001 00000000 00200200       lo\n" + any +
      " 00 " + any + "\n\n";
  EXPECT_THAT(InterfacesWithAdvertisedRoutes(text), ElementsAre("eth0", "eth0.100"));
  EXPECT_THAT(InterfacesWithAdvertisedRoutes(""), IsEmpty());
}

}  // namespace
}  // namespace pointsman::agent
