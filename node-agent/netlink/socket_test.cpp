#include "node-agent/netlink/socket.h"

#include <cerrno>
#include <functional>
#include <linux/fib_rules.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <string>
#include <sys/socket.h>
#include <system_error>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node-agent/netlink/counters.h"
#include "node-agent/netlink/local_route.h"
#include "node-agent/netlink/testing/addresses.h"
#include "node-agent/testing/fresh_netns.h"

namespace pointsman::agent::netlink {
namespace {

using testing::AddAddress;
using testing::kLoopback;
using testing::NthAddress;

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

// With the kernel's tables of a network namespace that nothing else changes.
class NetlinkKernel : public FreshNetnsTest {
 protected:
  static constexpr size_t kMany = 3000;  // more than go in one send, or come in one part of a dump

  // Addresses 0 to `count` - 1.
  static void AddAddresses(Socket& socket, size_t count) {
    Batch batch;
    for (size_t i = 0; i < count; ++i)
      AddAddress(batch, NthAddress(i));
    ASSERT_THAT(socket.Execute(batch), ::testing::IsEmpty());
  }
  static int DumpAddresses(Socket& socket, size_t& seen, size_t& restarts,
                           const std::function<void()>& at_first) {
    Message request(RTM_GETADDR, 0, sizeof(ifaddrmsg));
    request.header<ifaddrmsg>()->ifa_family = AF_INET;
    seen = 0;
    restarts = 0;
    return socket.Dump(
        request,
        [&] {
          seen = 0;
          ++restarts;
        },
        [&](const nlmsghdr*) {
          if (seen++ == 0) at_first();
        });
  }
  static void LimitReceiveBuffer(const Socket& socket) {
    const int size = 1;  // the kernel makes it its minimum
    ASSERT_EQ(setsockopt(socket.fd(), SOL_SOCKET, SO_RCVBUF, &size, sizeof size), 0);
  }
};

TEST_F(NetlinkKernel, ABatchLargerThanASendIsDoneAndEachRefusalHasItsIndex) {
  Socket socket(NETLINK_ROUTE);
  Batch add;
  for (size_t i = 0; i < kMany; ++i)
    EXPECT_EQ(AddLocalRoute(add, NthAddress(i), kLoopback), i);
  EXPECT_THAT(socket.Execute(add), ::testing::IsEmpty());
  EXPECT_EQ(LocalRoutes(socket, net::Family::kIPv4, kLoopback).size(), kMany);

  // Every third one is not there any more when the rest goes.
  Batch some;
  for (size_t i = 0; i < kMany; i += 3)
    DeleteLocalRoute(some, NthAddress(i), kLoopback);
  EXPECT_THAT(socket.Execute(some), ::testing::IsEmpty());
  Batch all;
  for (size_t i = 0; i < kMany; ++i)
    DeleteLocalRoute(all, NthAddress(i), kLoopback);
  const std::vector<Failure> refused = socket.Execute(all);
  ASSERT_EQ(refused.size(), kMany / 3);
  for (size_t i = 0; i < refused.size(); ++i) {
    EXPECT_EQ(refused[i].index, 3 * i);
    EXPECT_EQ(refused[i].error, ESRCH);
  }
  EXPECT_THAT(LocalRoutes(socket, net::Family::kIPv4, kLoopback), ::testing::IsEmpty());
}

TEST_F(NetlinkKernel, AsManyRefusalsAsRequestsAreAllHeard) {
  Socket socket(NETLINK_ROUTE);
  AddAddresses(socket, kMany);
  Batch again;
  for (size_t i = 0; i < kMany; ++i)
    AddAddress(again, NthAddress(i));
  const std::vector<Failure> refused = socket.Execute(again);
  ASSERT_EQ(refused.size(), kMany);
  for (size_t i = 0; i < kMany; ++i) {
    EXPECT_EQ(refused[i].index, i);
    EXPECT_EQ(refused[i].error, EEXIST);
  }
}

// More refusals than the receive buffer holds: the kernel drops what does not fit (ENOBUFS), also
// the answer that is waited for.
TEST_F(NetlinkKernel, LostAnswersAreAnErrorAndWhatIsLeftOfThemIsNotTakenForLaterOnes) {
  Socket socket(NETLINK_ROUTE);
  AddAddresses(socket, 500);
  LimitReceiveBuffer(socket);
  Batch again;
  for (size_t i = 0; i < 500; ++i)
    AddAddress(again, NthAddress(i));
  try {
    socket.Execute(again);
    FAIL() << "nothing was lost";
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), std::errc::no_buffer_space);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("answers were lost"));
  }
  Batch next;
  AddAddress(next, NthAddress(500));
  AddAddress(next, NthAddress(0));
  const std::vector<Failure> refused = socket.Execute(next);
  ASSERT_EQ(refused.size(), 1U);
  EXPECT_EQ(refused[0].index, 1U);
  EXPECT_EQ(refused[0].error, EEXIST);
}

TEST_F(NetlinkKernel, ADumpThatMetAChangeIsRepeatedAndThenWhole) {
  Socket socket(NETLINK_ROUTE);
  Socket other(NETLINK_ROUTE);
  AddAddresses(socket, kMany);
  size_t seen = 0;
  size_t restarts = 0;
  EXPECT_EQ(DumpAddresses(socket, seen, restarts,
                          [&] {
                            if (restarts > 0) return;
                            Batch batch;
                            AddAddress(batch, NthAddress(kMany));
                            EXPECT_THAT(other.Execute(batch), ::testing::IsEmpty());
                          }),
            0);
  EXPECT_EQ(restarts, 1U);
  EXPECT_EQ(seen, kMany + 1);
}

TEST_F(NetlinkKernel, ATableThatChangesUnderEveryDumpIsTakenAsItWasSeenLast) {
  Socket socket(NETLINK_ROUTE);
  Socket other(NETLINK_ROUTE);
  AddAddresses(socket, kMany);
  size_t seen = 0;
  size_t restarts = 0;
  EXPECT_EQ(DumpAddresses(socket, seen, restarts,
                          [&] {
                            Batch batch;
                            AddAddress(batch, NthAddress(kMany + restarts));
                            EXPECT_THAT(other.Execute(batch), ::testing::IsEmpty());
                          }),
            0);
  EXPECT_EQ(restarts, 9U);
  EXPECT_GE(seen, kMany);
}

TEST_F(NetlinkKernel, ADumpThatTheKernelRefusesOrBreaksOffGivesItsError) {
  Socket socket(NETLINK_ROUTE);
  if (!socket.EnableStrictCheck()) GTEST_SKIP() << "a kernel before Linux 4.20";
  const auto dump = [&](uint8_t prefix_length, uint32_t interface_index) {
    Message request(RTM_GETADDR, 0, sizeof(ifaddrmsg));
    request.header<ifaddrmsg>()->ifa_family = AF_INET;
    request.header<ifaddrmsg>()->ifa_prefixlen = prefix_length;
    request.header<ifaddrmsg>()->ifa_index = interface_index;
    return socket.Dump(
        request, [] {}, [](const nlmsghdr*) {});
  };
  EXPECT_EQ(dump(8, 0), EINVAL);    // not begun
  EXPECT_EQ(dump(0, 999), ENODEV);  // said at its end
  EXPECT_EQ(dump(0, 0), 0);
}

TEST_F(NetlinkKernel, AfterADumpThatWasNotReadToItsEndTheSocketTakesNoOther) {
  Socket socket(NETLINK_ROUTE);
  AddAddresses(socket, kMany);
  Message request(RTM_GETADDR, 0, sizeof(ifaddrmsg));
  request.header<ifaddrmsg>()->ifa_family = AF_INET;
  EXPECT_EQ(socket.DumpUntil(
                request, [] {}, [](const nlmsghdr*) { return false; }),
            0);
  EXPECT_EQ(socket.Dump(
                request, [] {}, [](const nlmsghdr*) {}),
            EBUSY);
}

void Append(std::string& messages, const Message& request) {
  messages.append(reinterpret_cast<const char*>(request.raw()), request.raw()->nlmsg_len);
  messages.resize(MNL_ALIGN(messages.size()));
}

// A request for a link of a kind that no kernel has.
void AppendUnknownLink(std::string& messages, uint32_t sequence) {
  Message request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(ifinfomsg));
  request.raw()->nlmsg_seq = sequence;
  request.PutString(IFLA_IFNAME, "pm-test");
  nlattr* info = request.BeginNested(IFLA_LINKINFO);
  request.PutString(IFLA_INFO_KIND, "pm-unknown");
  request.EndNested(info);
  Append(messages, request);
}

TEST_F(NetlinkKernel, WhatIsTakenWholeIsAnsweredWithTheKernelsOwnWords) {
  Socket socket(NETLINK_ROUTE);
  const auto answers_to = [&](const std::string& messages, size_t requests) {
    std::vector<std::string> answers;
    socket.ExecuteWhole(messages, requests, [&](const nlmsghdr* answer, int error) {
      answers.push_back(std::to_string(answer->nlmsg_seq) + ":" + std::to_string(error) + ":" +
                        std::string(ExtendedAck(answer)));
    });
    return answers;
  };
  const std::string refused = ":" + std::to_string(-EOPNOTSUPP) + ":";
  std::string one;
  AppendUnknownLink(one, 7);
  EXPECT_THAT(answers_to(one, 1), ::testing::ElementsAre("7" + refused));
  socket.EnableExtendedAcks();
  EXPECT_THAT(answers_to(one, 1), ::testing::ElementsAre("7" + refused + "Unknown device type"));
  // More than a socket's send buffer takes at first.
  std::string many;
  const std::string unknown(100, 'x');  // an attribute that the kernel does not know
  for (uint32_t i = 0; i < 3000; ++i) {
    Message request(RTM_NEWADDR, 0, sizeof(ifaddrmsg));
    request.raw()->nlmsg_seq = i;
    request.header<ifaddrmsg>()->ifa_family = AF_INET;
    request.PutAddress(IFA_LOCAL, NthAddress(i));
    request.PutString(99, unknown);
    Append(many, request);
  }
  ASSERT_GT(many.size(), size_t{208} << 10);
  EXPECT_EQ(answers_to(many, 3000).size(), 3000U);
}

TEST_F(NetlinkKernel, WhatIsSentRefusedRepeatedAndLostIsCounted) {
  const auto counted = [] {
    constexpr auto kRoute = static_cast<size_t>(Subsystem::kRoute);
    const Counters& all = ProcessCounters();
    std::vector<uint64_t> values{all.requests[kRoute], all.repeated_dumps[kRoute],
                                 all.torn_dumps[kRoute], all.overruns[kRoute],
                                 all.timeouts[kRoute]};
    for (const auto& refused : all.refused[kRoute])
      values.push_back(refused);
    return values;
  };
  std::vector<uint64_t> before = counted();
  const auto counted_since = [&] {
    std::vector<uint64_t> now = counted();
    std::vector<uint64_t> since;
    for (size_t i = 0; i < now.size(); ++i)
      since.push_back(now[i] - before[i]);
    before = std::move(now);
    return since;
  };
  using ::testing::ElementsAre;
  //                                       sent, repeated, torn, lost, late, then by ErrorClass:
  // not found, exists, busy, denied, no space, invalid, unsupported, other
  Socket socket(NETLINK_ROUTE);
  Socket other(NETLINK_ROUTE);
  AddAddresses(socket, kMany);
  EXPECT_THAT(counted_since(), ElementsAre(kMany, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
  Batch batch;
  AddAddress(batch, NthAddress(0));
  AddAddress(batch, NthAddress(1));
  DeleteLocalRoute(batch, NthAddress(kMany), kLoopback);
  EXPECT_EQ(socket.Execute(batch).size(), 3U);
  EXPECT_THAT(counted_since(), ElementsAre(3, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0));
  size_t seen = 0;
  size_t restarts = 0;
  EXPECT_EQ(DumpAddresses(socket, seen, restarts,
                          [&] {
                            Batch change;
                            AddAddress(change, NthAddress(kMany + restarts));
                            EXPECT_THAT(other.Execute(change), ::testing::IsEmpty());
                          }),
            0);
  EXPECT_THAT(counted_since(), ElementsAre(20, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
  std::string unknown;
  AppendUnknownLink(unknown, 1);
  socket.ExecuteWhole(unknown, 1, [](const nlmsghdr*, int) {});
  EXPECT_THAT(counted_since(), ElementsAre(1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0));
  LimitReceiveBuffer(socket);
  Batch again;
  for (size_t i = 0; i < 500; ++i)
    AddAddress(again, NthAddress(i));
  EXPECT_THROW(socket.Execute(again), std::system_error);
  const std::vector<uint64_t> lost = counted_since();
  EXPECT_EQ(lost[0], 500U);
  EXPECT_EQ(lost[3], 1U);
  Socket hasty(NETLINK_ROUTE, std::chrono::milliseconds(1));
  Message unanswered(RTM_GETADDR, 0, sizeof(ifaddrmsg));
  unanswered.raw()->nlmsg_flags = 0;
  EXPECT_THROW(hasty.Dump(
                   unanswered, [] {}, [](const nlmsghdr*) {}),
               std::system_error);
  EXPECT_THAT(counted_since(), ElementsAre(1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0));
}

}  // namespace
}  // namespace pointsman::agent::netlink
