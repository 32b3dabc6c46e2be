// Links, addresses and local routes in a kernel.
#include <cerrno>
#include <optional>
#include <string>
#include <sys/socket.h>
#include <system_error>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include "node-agent/netlink/address.h"
#include "node-agent/netlink/link.h"
#include "node-agent/netlink/local_route.h"
#include "node-agent/netlink/testing/addresses.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/run_tool.h"

namespace pointsman::agent::netlink {
namespace {

using testing::AddAddress;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::kLoopback;
using testing::NthAddress;

net::IpAddress Ip(const char* text) {
  return net::IpAddress::Parse(text).value();
}

class RouteTest : public FreshNetnsTest {
 protected:
  void SetUp() override {
    FreshNetnsTest::SetUp();
    if (IsSkipped()) return;
    agent::testing::TryTool({"modprobe", "ipv6"});  // a module in some kernels, built into others
    route_.emplace(NETLINK_ROUTE);
  }
  Socket& route() { return *route_; }
  // What each request was answered, 0 for done.
  std::vector<int> Do(Batch& batch) {
    std::vector<int> answers(batch.size());
    for (const Failure& failure : route().Execute(batch))
      answers.at(failure.index) = failure.error;
    return answers;
  }

 private:
  std::optional<Socket> route_;
};

TEST_F(RouteTest, LinksGoUpAndAreFoundByTheirName) {
  const std::optional<Link> loopback = FindLink(route(), "lo");
  ASSERT_TRUE(loopback);
  EXPECT_EQ(loopback->index, kLoopback);
  EXPECT_TRUE(loopback->loopback);
  EXPECT_FALSE(loopback->up);
  SetLinkUp(route(), "lo");
  EXPECT_TRUE(FindLink(route(), "lo")->up);
}

TEST_F(RouteTest, DummyLinksAreMadeFoundAndDeleted) {
  EXPECT_EQ(FindLink(route(), "pm-test"), std::nullopt);
  try {
    CreateDummy(route(), "pm-test", 1400);
  } catch (const std::system_error& error) {
    if (error.code() != std::errc::operation_not_supported) throw;
    GTEST_SKIP() << "this kernel has no dummy links";
  }
  const std::optional<Link> made = FindLink(route(), "pm-test");
  ASSERT_TRUE(made);
  EXPECT_EQ(made->kind, "dummy");
  EXPECT_EQ(made->mtu, 1400U);
  EXPECT_TRUE(made->up);
  EXPECT_FALSE(made->loopback);
  std::vector<std::string> names;
  for (const Link& link : Links(route()))
    names.push_back(link.name);
  EXPECT_THAT(names, ::testing::IsSupersetOf({"lo", "pm-test"}));
  try {
    CreateDummy(route(), "pm-test", 0);
    FAIL() << "made twice";
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), std::errc::file_exists);
    EXPECT_THAT(error.what(), HasSubstr("pm-test"));
  }
  EXPECT_TRUE(DeleteLink(route(), "pm-test"));
  EXPECT_FALSE(DeleteLink(route(), "pm-test"));
  EXPECT_THROW(SetLinkUp(route(), "pm-test"), std::system_error);
}

TEST_F(RouteTest, AddressesAreReadWithTheirInterface) {
  Batch batch;
  AddAddress(batch, NthAddress(7));
  AddAddress(batch, Ip("fd00::7"));
  ASSERT_THAT(Do(batch), ElementsAre(0, 0));
  std::vector<std::string> read;
  for (const InterfaceAddress& address : InterfaceAddresses(route())) {
    EXPECT_EQ(address.interface_index, kLoopback);
    EXPECT_EQ(address.interface_name, "lo");
    read.push_back(address.address.ToString() + "/" + std::to_string(address.prefix_length));
  }
  EXPECT_THAT(read, ElementsAre("10.1.0.7/32", "fd00::7/128"));

  Batch all;
  for (const InterfaceAddress& address : InterfaceAddresses(route()))
    DeleteAddress(all, address);
  EXPECT_THAT(Do(all), ElementsAre(0, 0));
  EXPECT_THAT(InterfaceAddresses(route()), IsEmpty());
  EXPECT_THAT(Do(all), Each(EADDRNOTAVAIL));
}

TEST_F(RouteTest, ChangesOfAddressesAreSeenAlsoWhenTheirNoticesAreLost) {
  AddressMonitor monitor;
  const auto readable = [&] {
    pollfd wait{monitor.fd(), POLLIN, 0};
    return ::poll(&wait, 1, 0) > 0;
  };
  EXPECT_FALSE(readable());
  EXPECT_FALSE(monitor.Drain());
  Batch one;
  AddAddress(one, NthAddress(0));
  ASSERT_THAT(Do(one), ElementsAre(0));
  EXPECT_TRUE(readable());
  EXPECT_TRUE(monitor.Drain());
  EXPECT_FALSE(readable());
  EXPECT_FALSE(monitor.Drain());

  // What is dropped of a burst is a change too.
  const int size = 1;
  ASSERT_EQ(setsockopt(monitor.fd(), SOL_SOCKET, SO_RCVBUF, &size, sizeof size), 0);
  Batch many;
  for (size_t i = 1; i < 500; ++i)
    AddAddress(many, NthAddress(i));
  ASSERT_THAT(route().Execute(many), IsEmpty());
  EXPECT_TRUE(monitor.Drain());
  EXPECT_FALSE(monitor.Drain());
}

TEST_F(RouteTest, LocalRoutesAreOursAndOfTheirKind) {
  SetLinkUp(route(), "lo");  // the kernel makes local routes of its own
  const net::IpPrefix range = net::IpPrefix::Parse("10.2.0.0/16").value();
  Batch batch;
  AddLocalRoute(batch, NthAddress(1), kLoopback);
  AddLocalRoute(batch, NthAddress(1), kLoopback);
  AddLocalRoute(batch, Ip("fd00::1"), kLoopback);
  AddLocalRoute(batch, range, kLoopback);
  AddLocalRoute(batch, NthAddress(2), 999);
  AddAddress(batch, NthAddress(3));
  SetLocalRouteSource(batch, NthAddress(1), kLoopback, NthAddress(3));
  DeleteLocalRoute(batch, NthAddress(4), kLoopback);
  EXPECT_THAT(Do(batch), ElementsAre(0, EEXIST, 0, 0, ENODEV, 0, 0, ESRCH));
  EXPECT_THAT(LocalRoutes(route(), net::Family::kIPv4, kLoopback), ElementsAre(NthAddress(1)));
  EXPECT_THAT(LocalRoutes(route(), net::Family::kIPv6, kLoopback), ElementsAre(Ip("fd00::1")));
  EXPECT_THAT(LocalPrefixes(route(), net::Family::kIPv4, kLoopback), ElementsAre(range));
  EXPECT_THAT(LocalPrefixes(route(), net::Family::kIPv6, kLoopback), IsEmpty());

  Batch away;
  DeleteLocalRoute(away, NthAddress(1), kLoopback);
  DeleteLocalRoute(away, Ip("fd00::1"), kLoopback);
  DeleteLocalRoute(away, range, kLoopback);
  EXPECT_THAT(Do(away), ElementsAre(0, 0, 0));
  for (const net::Family family : {net::Family::kIPv4, net::Family::kIPv6}) {
    EXPECT_THAT(LocalRoutes(route(), family, kLoopback), IsEmpty());
    EXPECT_THAT(LocalPrefixes(route(), family, kLoopback), IsEmpty());
  }
}

}  // namespace
}  // namespace pointsman::agent::netlink
