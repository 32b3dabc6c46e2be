#include "e2e/conformance/taken_port.h"

#include <gtest/gtest.h>

namespace pointsman::e2e {
namespace {

// A pod of node-2 (192.168.50.12) to a cluster IP: node-2 masqueraded it to its port 41000, from
// which it had had a connection of its own to a node port of node-1.
constexpr char kMasqueraded[] =
    "tcp      6 51 SYN_RECV src=10.244.2.12 dst=10.96.0.7 sport=50122 dport=80 src=10.244.1.10 "
    "dst=192.168.50.12 "
    "sport=8080 dport=41000 mark=0 use=1\n"
    "udp      17 20 src=10.244.2.12 dst=10.96.0.10 sport=50122 dport=53 src=10.244.1.10 "
    "dst=10.244.2.12 sport=53 "
    "dport=50122 mark=0 use=1\n";
constexpr char kIpvs[] =
    "IPVS connection entries\n"
    "pro expire state       source             virtual            destination\n"
    "TCP 01:12  TIME_WAIT   192.168.50.12:41000 192.168.50.11:30080 10.244.1.10:8080\n"
    "TCP 00:51  SYN_RECV    10.244.2.12:50122  10.96.0.7:80       10.244.1.10:8080\n";

TEST(TakenPortTest, ByTheNodesOwnConnectionFromThatPortToThatBackend) {
  const auto tracked = ParseConntrack(kMasqueraded);
  ASSERT_EQ(tracked.size(), 1U);
  EXPECT_EQ(tracked[0].seen_client, "192.168.50.12:41000");
  EXPECT_TRUE(IsPortTaken(tracked, ParseIpvsConnections(kIpvs), "10.96.0.7:80", 50122));
}

TEST(TakenPortTest, ByTheClientsOwnConnectionThroughAnotherVirtualServer) {
  EXPECT_TRUE(IsPortTaken(
      ParseConntrack("tcp 6 51 SYN_RECV src=fd00::12 dst=fd00::11 sport=40000 dport=30080 "
                     "src=fd01::10 dst=fd00::11 sport=8080 dport=2000 mark=0 use=1\n"),
      ParseIpvsConnections(
          "TCP 01:00 TIME_WAIT [fd00::12]:40000 [fd00::11]:30081 [fd01::10]:8080\n"),
      "[fd00::11]:30080", 40000));
}

TEST(TakenPortTest, NotByAnythingElse) {
  const auto tracked = ParseConntrack(kMasqueraded);
  const auto ipvs = ParseIpvsConnections(kIpvs);
  EXPECT_FALSE(IsPortTaken(tracked, ipvs, "10.96.0.7:80", 50123)) << "another connection";
  EXPECT_FALSE(IsPortTaken(tracked, ipvs, "10.96.0.8:80", 50122)) << "to another address";
  EXPECT_FALSE(IsPortTaken(tracked, {ipvs[1]}, "10.96.0.7:80", 50122)) << "by itself";
  EXPECT_FALSE(IsPortTaken(tracked,
                           {{"192.168.50.12:41001", "192.168.50.11:30080", "10.244.1.10:8080"}},
                           "10.96.0.7:80", 50122))
      << "another port";
  EXPECT_FALSE(IsPortTaken(tracked,
                           {{"192.168.50.12:41000", "192.168.50.11:30080", "10.244.1.10:8081"}},
                           "10.96.0.7:80", 50122))
      << "another backend";
  EXPECT_FALSE(IsPortTaken({}, ipvs, "10.96.0.7:80", 50122)) << "a connection that never came out";
}

}  // namespace
}  // namespace pointsman::e2e
