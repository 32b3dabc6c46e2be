#include "node-agent/netlink/socket.h"

#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <system_error>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pointsman::agent::netlink {
namespace {

TEST(NetlinkSocket, AnAnswerThatDoesNotComeIsAnErrorThatNamesTheRequest) {
  Socket socket(NETLINK_ROUTE, std::chrono::milliseconds(200));
  Message request(RTM_GETADDR, 0, sizeof(ifaddrmsg));
  request.raw()->nlmsg_flags = 0;  // without NLM_F_REQUEST the kernel does not answer a dump
  try {
    socket.Dump(
        request, [] {}, [](const nlmsghdr*) {});
    FAIL() << "answered";
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), std::errc::timed_out);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("no answer to the rtnetlink request " +
                                                   std::to_string(RTM_GETADDR) + " within 0.2 s"));
  }
  // Nothing of it is left to be taken for the next one's.
  Message again(RTM_GETADDR, 0, sizeof(ifaddrmsg));
  size_t addresses = 0;
  EXPECT_EQ(socket.Dump(
                again, [&] { addresses = 0; }, [&](const nlmsghdr*) { ++addresses; }),
            0);
  EXPECT_GT(addresses, 0U);
}

TEST(NetlinkSocket, ADumpEndsWhenEnoughWasSeen) {
  // Each network namespace has rules for the tables local, main and default.
  Message request(RTM_GETRULE, 0, sizeof(fib_rule_hdr));
  request.header<fib_rule_hdr>()->family = AF_INET;
  Socket socket(NETLINK_ROUTE);
  size_t rules = 0;
  EXPECT_EQ(socket.Dump(
                request, [] {}, [&](const nlmsghdr*) { ++rules; }),
            0);
  ASSERT_GT(rules, 2U);
  size_t seen = 0;
  EXPECT_EQ(socket.DumpUntil(
                request, [] {}, [&](const nlmsghdr*) { return ++seen < 2; }),
            0);
  EXPECT_EQ(seen, 2U);
}

}  // namespace
}  // namespace pointsman::agent::netlink
