// Sets in a kernel that has them (User-Mode Linux).
#include "node-agent/netlink/ipset.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <linux/netfilter/ipset/ip_set.h>
#include <netinet/in.h>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node-agent/netlink/testing/addresses.h"
#include "node-agent/testing/run_tool.h"

namespace pointsman::agent::netlink {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::NthAddress;

net::IpAddress Ip(const char* text) {
  return net::IpAddress::Parse(text).value();
}

SetElement AddressPort(const net::IpAddress& ip, uint16_t port = 80) {
  return {.ip = ip, .protocol = IPPROTO_TCP, .port = port};
}

std::vector<SetElement> Elements(Ipset& sets, const std::string& name) {
  std::vector<SetElement> elements;
  EXPECT_EQ(sets.Elements(name, elements), 0) << name;
  std::sort(elements.begin(), elements.end());
  return elements;
}

TEST(IpsetTest, AnElementOfEachTypeIsReadAsItWasWrittenAndAsTheToolShowsIt) {
  struct Case {
    SetType type;
    SetElement element;
    const char* shown;
  };
  const std::vector<Case> cases{
      {SetType::kHashIp, {.ip = Ip("10.1.0.1")}, "10.1.0.1"},
      {SetType::kHashIpPort, AddressPort(Ip("10.1.0.1")), "10.1.0.1,tcp:80"},
      {SetType::kHashIpPort, AddressPort(Ip("fd00::1")), "fd00::1,tcp:80"},
      {SetType::kHashIpPortIp,
       {.ip = Ip("10.1.0.1"), .protocol = IPPROTO_UDP, .port = 53, .ip2 = Ip("10.1.0.2")},
       "10.1.0.1,udp:53,10.1.0.2"},
      {SetType::kHashIpPortNet,
       {.ip = Ip("10.1.0.1"),
        .protocol = IPPROTO_SCTP,
        .port = 7,
        .ip2 = Ip("192.168.0.0"),
        .prefix_length = 16},
       "10.1.0.1,sctp:7,192.168.0.0/16"},
      {SetType::kHashNetPort,
       {.ip = Ip("10.1.0.0"), .protocol = IPPROTO_TCP, .port = 80, .prefix_length = 16},
       "10.1.0.0/16,tcp:80"},
  };
  Ipset sets;
  for (const Case& c : cases) {
    SCOPED_TRACE(c.shown);
    ASSERT_EQ(sets.Create("pm-test", c.type, c.element.ip.family(), 100), 0);
    Batch batch;
    Ipset::Add(batch, "pm-test", c.type, c.element);
    Ipset::Add(batch, "pm-test", c.type, c.element);  // what is there is no error
    EXPECT_THAT(sets.Execute(batch), IsEmpty());
    EXPECT_THAT(Elements(sets, "pm-test"), ElementsAre(c.element));
    EXPECT_EQ(c.element.ToString(c.type), c.shown);
    EXPECT_THAT(agent::testing::RunTool({"ipset", "list", "pm-test"}),
                HasSubstr(std::string("\n") + c.shown + "\n"));
    Batch away;
    Ipset::Delete(away, "pm-test", c.type, c.element);
    Ipset::Delete(away, "pm-test", c.type, c.element);
    EXPECT_THAT(sets.Execute(away), IsEmpty());
    EXPECT_THAT(Elements(sets, "pm-test"), IsEmpty());
    ASSERT_EQ(sets.Destroy("pm-test"), 0);
  }
}

TEST(IpsetTest, SetsAreListedAndWhatIsNotThereOrOtherIsAnError) {
  Ipset sets;
  EXPECT_THAT(sets.List(), IsEmpty());
  ASSERT_EQ(sets.Create("pm-a", SetType::kHashIpPort, net::Family::kIPv6, 100), 0);
  EXPECT_EQ(sets.Create("pm-a", SetType::kHashIpPort, net::Family::kIPv6, 100), 0);
  // Which of them depends on the kernel.
  EXPECT_THAT(sets.Create("pm-a", SetType::kHashIp, net::Family::kIPv4, 100),
              ::testing::AnyOf(EEXIST, int{IPSET_ERR_EXIST_SETNAME2}));
  const std::vector<SetInfo> listed = sets.List();
  ASSERT_EQ(listed.size(), 1U);
  EXPECT_EQ(listed[0].name, "pm-a");
  std::vector<SetElement> none;
  EXPECT_EQ(sets.Elements("pm-b", none), ENOENT);
  EXPECT_THAT(sets.Destroy("pm-b"), ::testing::AnyOf(0, ENOENT));
  EXPECT_EQ(sets.Destroy("pm-a"), 0);
  EXPECT_THAT(sets.List(), IsEmpty());
}

// As much as a large cluster's Services are: more than one send and one part of a dump take. What
// goes to a set that is not there is all that is refused.
TEST(IpsetTest, ThousandsOfElementsGoInAndComeBack) {
  constexpr size_t kMany = 10'000;
  Ipset sets;
  // The kernel counts by parts of its table, so that the most elements are about as many.
  ASSERT_EQ(sets.Create("pm-many", SetType::kHashIpPort, net::Family::kIPv4, 2 * kMany), 0);
  std::vector<SetElement> wanted;
  std::vector<size_t> strays;
  Batch batch;
  for (size_t i = 0; i < kMany; ++i) {
    const SetElement& element =
        wanted.emplace_back(AddressPort(NthAddress(i), static_cast<uint16_t>(i + 1)));
    Ipset::Add(batch, "pm-many", SetType::kHashIpPort, element);
    if (i % 1000 == 999)
      strays.push_back(Ipset::Add(batch, "pm-none", SetType::kHashIpPort, element));
  }
  std::vector<size_t> refused;
  for (const Failure& failure : sets.Execute(batch)) {
    EXPECT_EQ(failure.error, ENOENT);
    refused.push_back(failure.index);
  }
  EXPECT_EQ(refused, strays);
  EXPECT_EQ(Elements(sets, "pm-many"), wanted);
  EXPECT_EQ(sets.Destroy("pm-many"), 0);
}

}  // namespace
}  // namespace pointsman::agent::netlink
