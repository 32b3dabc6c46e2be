// Backends that go, in a real kernel. The numbers in the names are issues of kubernetes/kubernetes.
#include "node-agent/ipvs/drain.h"

#include "base/unique_fd.h"
#include "kube/testing/eventually.h"
#include "kube/testing/fake_time.h"
#include "node-agent/iptables/iptables_dataplane.h"
#include "node-agent/ipvs/testing/dataplane_fixture.h"
#include "node-agent/testing/test_address.h"

namespace pointsman::agent {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using Clock = std::chrono::steady_clock;

class DrainTest : public IpvsDataplaneTest {
 protected:
  static std::string Servers() { return RunTool({"ipvsadm", "-Sn"}); }
};

TEST_F(DrainTest, K81775K84322K57841K99162AScaleDownKeepsOpenConnections) {
  maker_.Put(Web({MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  Stream first(TestNetwork::At("pod-c"), kVip, 80);
  Stream second(TestNetwork::At("pod-c"), kVip, 80);
  const std::string on_first = first.Ask().server;
  const std::string on_second = second.Ask().server;
  ASSERT_NE(on_first, on_second);

  Put(Web({MakeBackend(on_first == "pod-a" ? kPodA : kPodB, 8080)}));
  for (int i = 0; i < 4; ++i)
    EXPECT_EQ(AskTcp("pod-c", kVip, 80).server, on_first) << "new connections";
  EXPECT_EQ(second.Ask().server, on_second) << "the open one stays where it is";
  ExpectVerified();
  // Down to none: refused, but the open ones live; also over a restart of the agent.
  Put(Web({}));
  EXPECT_EQ(AskTcp("pod-c", kVip, 80).error, ECONNREFUSED);
  Start();
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_TRUE(first.Ask().ok());
  EXPECT_EQ(second.Ask().server, on_second);
  ExpectVerified();
  const DrainStatus left = dataplane_->Drain(maker_.model);
  EXPECT_EQ(left.connections, 2U) << RunTool({"ipvsadm", "-Lnc"});
  EXPECT_EQ(left.end_with_it, 2U);
  // The Service goes: the same.
  Apply(maker_.Remove(Web({}).id));
  EXPECT_TRUE(first.Ask().ok());
  EXPECT_TRUE(second.Ask().ok());
  ExpectVerified();
}

TEST_F(DrainTest, ADestinationWithoutConnectionsGoesAtOnce) {
  maker_.Put(Web({MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  Put(Web({MakeBackend(kPodB, 8080)}));
  EXPECT_THAT(RunTool({"ipvsadm", "-Sn"}), ::testing::Not(::testing::HasSubstr("10.244.0.2")));
  Apply(maker_.Remove(Web({}).id));
  EXPECT_EQ(RunTool({"ipvsadm", "-Sn"}), "");
  EXPECT_THAT(Dump(), ::testing::Not(::testing::HasSubstr("10.96.0.10")));
}

TEST_F(DrainTest, ADrainIsBounded) {
  settings_.drain_timeout = std::chrono::milliseconds(1);
  Start();
  maker_.Put(Web({MakeBackend(kPodA, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  Stream stream(TestNetwork::At("pod-c"), kVip, 80);
  ASSERT_EQ(stream.Ask().server, "pod-a");
  Put(Web({MakeBackend(kPodB, 8080)}));
  // The agent syncs then, however long its sync period is.
  EXPECT_LE(dataplane_->FullSyncDue(), Clock::now() + std::chrono::seconds(1));
  std::this_thread::sleep_until(dataplane_->FullSyncDue());
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_THAT(Servers(), Not(HasSubstr(kPodA)));
  EXPECT_EQ(dataplane_->FullSyncDue(), Clock::time_point::max());
}

TEST_F(DrainTest, K81775ATerminatingPodKeepsItsConnectionsAndADrainsTimeLonger) {
  settings_.drain_timeout = std::chrono::milliseconds(1);  // the pod's grace period is longer
  Start();
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)});
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  Stream first(TestNetwork::At("pod-c"), kVip, 80);
  Stream second(TestNetwork::At("pod-c"), kVip, 80);
  Stream& on_a = first.Ask().server == "pod-a" ? first : second;
  ASSERT_EQ(on_a.Ask().server, "pod-a");
  web.internal.backends = web.external.backends = {MakeBackend(kPodB, 8080)};
  web.draining = {MakeBackend(kPodA, 8080)};
  Put(web);
  for (int i = 0; i < 3; ++i) {
    EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
    EXPECT_EQ(on_a.Ask().server, "pod-a");
    EXPECT_EQ(AskTcp("pod-c", kVip, 80).server, "pod-b");
  }
  ExpectVerified();
  // From the moment that it is gone the drain has its time, which is over at once here.
  web.draining.clear();
  Put(web);
  ASSERT_THAT(Servers(), HasSubstr("-r 10.244.0.2:8080 -m -w 0"));
  EXPECT_LE(dataplane_->FullSyncDue(), Clock::now() + std::chrono::seconds(1));
  std::this_thread::sleep_until(dataplane_->FullSyncDue());
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_THAT(Servers(), Not(HasSubstr(kPodA)));
  ExpectVerified();
}

TEST_F(DrainTest, WithoutADrainsTimeATerminatingPodKeepsItsConnectionsUntilItIsGone) {
  settings_.drain_timeout = std::chrono::seconds(0);
  Start();
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080)});
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  Stream stream(TestNetwork::At("pod-c"), kVip, 80);
  ASSERT_EQ(stream.Ask().server, "pod-a");
  web.internal.backends = web.external.backends = {MakeBackend(kPodB, 8080)};
  web.draining = {MakeBackend(kPodA, 8080)};
  Put(web);
  EXPECT_EQ(stream.Ask().server, "pod-a");
  web.draining.clear();
  Put(web);
  EXPECT_THAT(Servers(), Not(HasSubstr(kPodA)));
}

// A Pod deleted by force, a slice of another controller, a label taken off: the endpoint goes, its
// server does not.
TEST_F(DrainTest, AStreamOutlivesAnEndpointThatTerminatedAndLeft) {
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)});
  web.external_ips = {Ip("203.0.113.7")};
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  const std::vector<std::tuple<const char*, const char*, uint16_t>> ways{
      {"pod-c", kVip, 80},
      {"", kVip, 80},
      {"client", kNodeIp, 30080},
      {"client", "203.0.113.7", 80}};
  std::vector<std::unique_ptr<Stream>> on_a;
  for (const auto& [host, ip, port] : ways) {
    // One of two goes to each backend.
    for (int i = 0; i < 2; ++i) {
      auto stream = std::make_unique<Stream>(TestNetwork::At(host), ip, port);
      if (stream->Ask().server == "pod-a") on_a.push_back(std::move(stream));
    }
  }
  ASSERT_EQ(on_a.size(), ways.size());
  const auto expect_alive = [&](const char* when) {
    for (auto& stream : on_a)
      EXPECT_EQ(stream->Ask().server, "pod-a") << when;
  };
  const auto expect_new_ones_elsewhere = [&](const char* when) {
    for (const auto& [host, ip, port] : ways) {
      for (int i = 0; i < 2; ++i)
        EXPECT_EQ(AskTcp(host, ip, port).server, "pod-b") << when;
    }
  };
  web.internal.backends = web.external.backends = {MakeBackend(kPodB, 8080)};
  web.draining = {MakeBackend(kPodA, 8080)};
  Put(web);
  expect_alive("while it terminates");
  web.draining.clear();
  Put(web);
  expect_alive("gone");
  expect_new_ones_elsewhere("gone");
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  expect_alive("after a full sync");
  Start();
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  expect_alive("after a restart of the agent");
  ExpectVerified();
  // The drain's time counts from here.
  EXPECT_GT(dataplane_->FullSyncDue(), Clock::now() + std::chrono::seconds(25));
  // It comes back and serves again.
  web.internal.backends = web.external.backends = {MakeBackend(kPodA, 8080)};
  Put(web);
  EXPECT_EQ(AskTcp("pod-c", kVip, 80).server, "pod-a");
  expect_alive("back");
  // The Service goes while the pod terminates.
  web.internal.backends = web.external.backends = {MakeBackend(kPodB, 8080)};
  web.draining = {MakeBackend(kPodA, 8080)};
  Put(web);
  Apply(maker_.Remove(web.id));
  expect_alive("without its Service");
  ExpectVerified();
}

TEST_F(DrainTest, AnSctpAssociationOutlivesTheTerminationOfItsEndpoint) {
  if (TryTool({"ipvsadm", "-A", "--sctp-service", "192.0.2.1:1", "-s", "rr"}) != 0)
    GTEST_SKIP() << "this kernel's IPVS has no SCTP";
  RunTool({"ipvsadm", "-D", "--sctp-service", "192.0.2.1:1"});
  for (const auto& [host, ip] : {std::pair{"pod-a", kPodA}, {"pod-b", kPodB}})
    network_->ServeSctp(host, ip, 9090);
  ServicePortEntry sig = MakeEntry("sig", Protocol::kSctp, kVip, 80, {MakeBackend(kPodA, 9090)});
  sig.node_port = 30090;
  sig.external_ips = {Ip("203.0.113.7")};
  maker_.Put(sig);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  std::vector<std::unique_ptr<Stream>> streams;
  for (const auto& [host, ip, port] : {std::tuple{"pod-c", kVip, uint16_t{80}},
                                       {"client", kNodeIp, uint16_t{30090}},
                                       {"client", "203.0.113.7", uint16_t{80}}}) {
    streams.push_back(
        std::make_unique<Stream>(TestNetwork::At(host), ip, port,
                                 testing::Attempt{.transport = testing::Transport::kSctp,
                                                  .timeout = std::chrono::seconds(5)}));
  }
  const auto expect_alive = [&](const char* when) {
    for (size_t i = 0; i < streams.size(); ++i)
      EXPECT_EQ(streams[i]->Ask().server, "pod-a") << when << ", " << i;
  };
  expect_alive("before");
  sig.internal.backends = sig.external.backends = {MakeBackend(kPodB, 9090)};
  sig.draining = {MakeBackend(kPodA, 9090)};
  Put(sig);
  expect_alive("while it terminates");
  sig.draining.clear();
  Put(sig);
  expect_alive("gone");
  Stream next(TestNetwork::At("pod-c"), kVip, 80,
              {.transport = testing::Transport::kSctp, .timeout = std::chrono::seconds(5)});
  EXPECT_EQ(next.Ask().server, "pod-b");
  ExpectVerified();
}

// What a client learns of a server that is really dead comes from the network, as in iptables mode:
// the machine that should have the address says that nobody has it, or who has it now resets.
TEST_F(DrainTest, AConnectionToADeadServerLearnsOfItAsInIptablesMode) {
  constexpr const char* kPodD = "10.244.0.9";
  network_->AddHost("pod-d", kPodD, kPodGateway);
  network_->Serve("pod-d", "0.0.0.0", 8080);
  IptablesDataplane iptables(settings_, tool_);
  const auto die_in = [&](Dataplane& dataplane) {
    maker_.Put(Web({MakeBackend(kPodD, 8080)}));
    EXPECT_SYNCED(dataplane.FullSync(maker_.model));
    Stream to_nobody(TestNetwork::At("pod-c"), kVip, 80);
    Stream to_another(TestNetwork::At("pod-c"), kVip, 80);
    EXPECT_EQ(to_nobody.Ask().server, "pod-d");
    EXPECT_EQ(to_another.Ask().server, "pod-d");
    EXPECT_SYNCED(dataplane.Sync(maker_.model, maker_.Put(Web({MakeBackend(kPodB, 8080)}))));
    RunTool({"ip", "-n", "pod-d", "addr", "flush", "dev", "eth0"});
    RunTool({"ip", "neigh", "flush", "dev", "vpod-d"});
    const auto asked = Clock::now();
    EXPECT_EQ(to_nobody.AskForError(std::chrono::seconds(40)), EHOSTUNREACH);
    const auto took = Clock::now() - asked;
    RunTool({"ip", "-n", "pod-a", "addr", "add", "10.244.0.9/32", "dev", "eth0"});
    RunTool({"ip", "route", "replace", "10.244.0.9/32", "dev", "vpod-a"});
    EXPECT_EQ(to_another.AskForError(std::chrono::seconds(40)), ECONNRESET);
    RunTool({"ip", "-n", "pod-a", "addr", "del", "10.244.0.9/32", "dev", "eth0"});
    RunTool({"ip", "route", "replace", "10.244.0.9/32", "dev", "vpod-d"});
    RunTool({"ip", "-n", "pod-d", "addr", "add", "10.244.0.9/32", "dev", "eth0"});
    RunTool({"ip", "-n", "pod-d", "route", "add", "10.244.0.1/32", "dev", "eth0"});
    RunTool({"ip", "-n", "pod-d", "route", "add", "default", "via", kPodGateway});
    return took;
  };
  const auto in_iptables = die_in(iptables);
  EXPECT_SYNCED(iptables.Remove());
  RunTool({"conntrack", "-F"});
  // Nothing in IPVS itself waits: the time is that of three ARP requests in both.
  EXPECT_LT(die_in(*dataplane_), in_iptables + std::chrono::seconds(6));
}

TEST_F(DrainTest, K92019WeightsThatAnEarlierProcessLeftAreReconciledAtStart) {
  maker_.Put(Web({MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  Stream first(TestNetwork::At("pod-c"), kVip, 80);
  Stream second(TestNetwork::At("pod-c"), kVip, 80);
  ASSERT_TRUE(first.Ask().ok());
  ASSERT_TRUE(second.Ask().ok());
  Put(Web({MakeBackend(kPodB, 8080)}));
  ASSERT_THAT(Servers(), HasSubstr("-r 10.244.0.2:8080 -m -w 0"));
  // While the agent is down the endpoint comes back, and another one goes.
  maker_.Put(Web({MakeBackend(kPodA, 8080)}));
  Start();
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_THAT(Servers(), HasSubstr("-r 10.244.0.2:8080 -m -w 1"));
  EXPECT_THAT(Servers(), HasSubstr("-r 10.244.0.3:8080 -m -w 0"));
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(AskTcp("pod-c", kVip, 80).server, "pod-a");
  EXPECT_TRUE(first.Ask().ok());
  EXPECT_TRUE(second.Ask().ok());
}

TEST_F(DrainTest, AScaleDownUnderLoadLosesNothing) {
  const std::vector<std::pair<const char*, uint16_t>> places{{kVip, 80}, {kNodeIp, 30080}};
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)});
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  std::atomic<bool> stop = false;
  std::atomic<int> made = 0;
  std::atomic<int> failed = 0;
  std::thread load([&] {
    for (size_t i = 0; !stop; ++i) {
      const auto& [ip, port] = places[i % places.size()];
      const Reply answer = AskTcp(i % 2 == 0 ? "pod-c" : "client", ip, port);
      ++made;
      if (!answer.ok()) ++failed;
    }
  });
  for (int round = 0; round < 10; ++round) {
    const int before = made;
    web.internal.backends =
        web.external.backends = {MakeBackend(round % 2 == 0 ? kPodA : kPodB, 8080)};
    Put(web);
    web.internal.backends =
        web.external.backends = {MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)};
    Put(web);
    // Traffic goes on between the changes.
    EXPECT_TRUE(Eventually([&] { return made >= before + 4; }));
  }
  stop = true;
  load.join();
  EXPECT_GE(made, 40);
  EXPECT_EQ(failed, 0);
}

TEST_F(DrainTest, K70747K71114K93297AClientPortThatIsUsedAgainCostsNoSecond) {
  maker_.Put(Web({MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  // The server closes first, so its side is in TIME_WAIT as IPVS sees it; the client binds the same
  // port again.
  const auto connect_from = [&](const char* host, const char* ip, uint16_t port) {
    const UniqueFd fd = testing::SocketIn(TestNetwork::At(host), AF_INET, SOCK_STREAM);
    const int on = 1;
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    const linger hard{1, 0};  // a reset: no TIME_WAIT of the client's own
    setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    sockaddr_in source{};
    source.sin_family = AF_INET;
    source.sin_port = htons(5601);
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&source), sizeof source), 0);
    sockaddr_in target{};
    target.sin_family = AF_INET;
    target.sin_port = htons(port);
    inet_pton(AF_INET, ip, &target.sin_addr);
    const auto began = Clock::now();
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&target), sizeof target), 0)
        << std::generic_category().message(errno);
    const auto took = Clock::now() - began;
    return std::chrono::duration_cast<std::chrono::milliseconds>(took).count();
  };
  for (int i = 0; i < 6; ++i) {
    // A SYN that is dropped comes again after a second.
    EXPECT_LT(connect_from("pod-c", kVip, 80), 900);
    EXPECT_LT(connect_from("client", kNodeIp, 30080), 900);
  }
}

// IPVS counts those that a policy keeps from an answer as it does established ones, for a minute.
// They would keep a drain from its end, and count as cut.
TEST_F(DrainTest, AConnectionThatNobodyAnsweredIsNoneToWaitFor) {
  maker_.Put(Web({MakeBackend(kPodA, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  Stream open(TestNetwork::At("pod-c"), kVip, 80);
  ASSERT_EQ(open.Ask().server, "pod-a");
  const std::vector<std::string> rule{"OUTPUT", "-d", kPodA, "-p", "tcp", "--syn", "-j", "DROP"};
  const auto with = [&](const char* verb) {
    std::vector<std::string> command{"iptables-legacy", verb};
    command.insert(command.end(), rule.begin(), rule.end());
    return command;
  };
  RunTool(with("-I"));
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(AskTcp("pod-c", kVip, 80).error, ETIMEDOUT);
  RunTool(with("-D"));
  EXPECT_THAT(RunTool({"ipvsadm", "-Ln"}), ContainsRegex("10.244.0.2:8080 +Masq +1 +4 +0"));
  const DrainStatus left = dataplane_->Drain(maker_.model);
  EXPECT_EQ(left.connections, 1U) << RunTool({"ipvsadm", "-Lnc"});
  EXPECT_EQ(left.end_with_it, 1U);
  EXPECT_TRUE(open.Ask().ok());
}

// IPVS does not say when a flow was last used; that two looks see as many packets does.
TEST_F(DrainTest, AFlowOfDatagramsDrainsUntilItWasIdleFor30Seconds) {
  Put(Dns({MakeBackend(kPodA, 8080)}));
  netlink::Ipvs ipvs;
  netlink::Ipset ipset;
  netlink::Socket route(NETLINK_ROUTE);
  ipvs::KernelReader reader(ipvs, ipset, route);
  kube::FakeTime time;
  ipvs::DrainCounter counter(reader, time);
  EXPECT_EQ(counter.Count().connections, 0U);
  constexpr uint16_t kClientPort = 5353;
  // One more; the kernel adds up its counts every two seconds.
  const auto ask = [&](uint64_t packets) {
    ASSERT_TRUE(AskUdp("pod-c", kVip, 53, kClientPort).ok());
    EXPECT_TRUE(Eventually([&] {
      const auto servers = ipvs.Servers();
      return std::any_of(servers.begin(), servers.end(), [&](const netlink::IpvsServer& server) {
        const auto destinations = reader.Destinations(server);
        return server.protocol == IPPROTO_UDP && !destinations.empty() &&
               destinations[0].in_packets == packets;
      });
    }));
  };
  ask(1);
  EXPECT_EQ(counter.Count().connections, 1U);
  time.Advance(std::chrono::seconds(29));
  EXPECT_EQ(counter.Count().connections, 1U);
  time.Advance(std::chrono::seconds(1));
  EXPECT_EQ(counter.Count().connections, 0U);
  ask(2);
  const DrainStatus again = counter.Count();
  EXPECT_EQ(again.connections, 1U) << "used again";
  EXPECT_EQ(again.end_with_it, 0U) << "a datagram has no connection that could end";
}

TEST_F(DrainTest, NodePortsGoFromIptablesModeToIpvsModeAndBack) {
  maker_.Put(Web({MakeBackend(kPodA, 8080)}));
  IptablesDataplane iptables(settings_, tool_);
  EXPECT_SYNCED(iptables.FullSync(maker_.model));
  auto old = std::make_unique<Stream>(TestNetwork::At("client"), kNodeIp, 30080);
  ASSERT_EQ(old->Ask().server, "pod-a");

  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(iptables.Drain(maker_.model).connections, 1U);
  // From here on IPVS has the new ones; they look the same to connection tracking, and are not what
  // iptables mode waits for.
  Stream newer(TestNetwork::At("client"), kNodeIp, 30080);
  ASSERT_EQ(newer.Ask().server, "pod-a");
  EXPECT_THAT(RunTool({"ipvsadm", "-Lnc"}), HasSubstr("169.254.112.1:30080"));
  EXPECT_EQ(iptables.Drain(maker_.model).connections, 1U);
  EXPECT_EQ(old->Ask().server, "pod-a");
  old.reset();
  const auto deadline = Clock::now() + std::chrono::seconds(10);
  uint64_t left = 1;
  while (left != 0 && Clock::now() < deadline)
    left = iptables.Drain(maker_.model).connections;
  EXPECT_EQ(left, 0U);
  EXPECT_SYNCED(iptables.Remove());
  EXPECT_EQ(newer.Ask().server, "pod-a");
  EXPECT_EQ(AskTcp("client", kNodeIp, 30080).server, "pod-a");

  // And back.
  EXPECT_SYNCED(iptables.FullSync(maker_.model));
  dataplane_->Drain(maker_.model);
  EXPECT_EQ(AskTcp("client", kNodeIp, 30080).server, "pod-a");
  EXPECT_EQ(newer.Ask().server, "pod-a");
  EXPECT_SYNCED(dataplane_->Remove());
  EXPECT_EQ(newer.Ask().server, "pod-a");
  EXPECT_EQ(AskTcp("client", kNodeIp, 30080).server, "pod-a");
  EXPECT_SYNCED(iptables.Remove());
}

// The second: a node without a default route, whose network plugin has one to the Services.
TEST_F(DrainTest, TheNodesOwnConnectionsOfTheNextModeOutliveTheVips) {
  for (const char* destination : {"default", "10.96.0.0/16"}) {
    SCOPED_TRACE(destination);
    RunTool({"ip", "route", "add", destination, "via", kClientIp});
    maker_.Put(Web({MakeBackend(kPodA, 8080)}));
    EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
    EXPECT_EQ(AskTcp("", kVip, 80).server, "pod-a");
    IptablesDataplane iptables(settings_, tool_);
    EXPECT_SYNCED(iptables.FullSync(maker_.model));
    dataplane_->Drain(maker_.model);
    Stream own(TestNetwork::At(""), kVip, 80);
    EXPECT_EQ(own.Ask().server, "pod-a");
    EXPECT_SYNCED(dataplane_->Remove());
    EXPECT_EQ(own.Ask().server, "pod-a");
    EXPECT_SYNCED(iptables.Remove());
    RunTool({"ip", "route", "del", destination});
    Start();
  }
}

TEST_F(DrainTest, AFailedPartOfAWriteIsDoneByTheNextFullSync) {
  maker_.Put(Web({MakeBackend(kPodA, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  // Somebody takes a set away under our feet: what is to go there is refused.
  ServicePortEntry dns = Dns({MakeBackend(kPodA, 8080)});
  RunTool({"iptables-legacy", "-t", "nat", "-F", "POINTSMAN-IPVS-NODEPORTS"});
  RunTool({"ipset", "destroy", "PM-IPVS-NP-EXTERNAL-4"});
  const SyncResult refused = dataplane_->Sync(maker_.model, maker_.Put(dns));
  EXPECT_FALSE(refused.ok());
  EXPECT_THAT(Text(refused), HasSubstr("PM-IPVS-NP-EXTERNAL-4"));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ExpectVerified();
  EXPECT_EQ(AskUdp("client", kNodeIp, 30053).server, "pod-a");
  EXPECT_EQ(AskTcp("client", kNodeIp, 30080).server, "pod-a");
}

TEST_F(DrainTest, K71809K89358K103000AffinityHoldsAndLeavesAnEndpointThatIsGone) {
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)});
  web.affinity_timeout = std::chrono::seconds(100);
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  const std::string chosen = AskTcp("pod-c", kVip, 80).server;
  for (int i = 0; i < 4; ++i)
    EXPECT_EQ(AskTcp("pod-c", kVip, 80).server, chosen);
  Stream open(TestNetwork::At("pod-c"), kVip, 80);
  ASSERT_EQ(open.Ask().server, chosen);
  web.internal.backends =
      web.external.backends = {MakeBackend(chosen == "pod-a" ? kPodB : kPodA, 8080)};
  Put(web);
  const Reply next = AskTcp("pod-c", kVip, 80);
  EXPECT_TRUE(next.ok());
  EXPECT_NE(next.server, chosen);
  EXPECT_EQ(open.Ask().server, chosen);
}

// That affinity ends with its time is not for us to say while connections are there (docs/ipvs.md,
// Affinity).
TEST_F(DrainTest, TheTimeOfAffinityIsChangedAndAffinitySwitchedOffWhileFlowsAreThere) {
  ServicePortEntry dns = Dns({MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)});
  dns.affinity_timeout = std::chrono::seconds(100);
  maker_.Put(dns);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  const std::string chosen = AskUdp("pod-c", kVip, 53).server;
  EXPECT_EQ(AskUdp("pod-c", kVip, 53).server, chosen);
  // The time is changed while connections are there.
  dns.affinity_timeout = std::chrono::seconds(200);
  Put(dns);
  EXPECT_THAT(Servers(), HasSubstr("-p 200"));
  EXPECT_EQ(AskUdp("pod-c", kVip, 53).server, chosen);
  // Affinity is switched off: the next ones go round.
  dns.affinity_timeout = std::chrono::seconds(0);
  Put(dns);
  EXPECT_THAT(Servers(), Not(HasSubstr("-p ")));
  std::set<std::string> hosts;
  for (int i = 0; i < 4; ++i)
    hosts.insert(AskUdp("pod-c", kVip, 53).server);
  EXPECT_THAT(hosts, ::testing::ElementsAre("pod-a", "pod-b"));
}

}  // namespace
}  // namespace pointsman::agent
