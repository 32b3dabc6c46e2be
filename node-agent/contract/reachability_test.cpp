// Which addresses of a Service answer whom, and by which address the backends see the client.
#include <map>
#include <set>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "node-agent/contract/traffic.h"
#include "node-agent/sysctl/sysctl.h"
#include "node-agent/xtables/base_rules.h"
#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent::testing {
namespace {

using ::testing::AnyOf;

class Reachability : public DataplaneTraffic {};

TEST_P(Reachability, ClusterIpReachesEveryBackend) {
  AddBoth(Entry("web", 10, {0, 1, 2}));
  FullSync();
  for (const Transport transport : kTransports) {
    std::map<std::string, int> seen;
    for (int i = 0; i < 60; ++i) {
      const Reply reply = FromPod(Vip(10), 80, Over(transport));
      ASSERT_NO_FATAL_FAILURE(ExpectServed(reply));
      ++seen[reply.server];
      // A pod's address is kept, unless it reached itself.
      EXPECT_EQ(reply.peer, reply.server == "pod0" ? Gateway(0) : Seen(reply.server, PodIp(0)));
    }
    // 60 draws of 3: fewer than 5 of one has a probability of about 10^-6.
    EXPECT_EQ(seen.size(), 3U);
    for (const auto& [server, count] : seen)
      EXPECT_GE(count, 5) << server;
    ExpectServed(FromNode(Vip(10), 80, Over(transport)));
  }
}

TEST_P(Reachability, EveryKindOfAddressIsServedFromEverywhere) {
  ServicePortEntry entry = Entry("web", 10, {0, 1});
  entry.node_port = 30080;
  entry.external_ips = {Ip(PublicIp(1))};
  entry.load_balancer_ips = {Ip(PublicIp(2))};
  AddBoth(entry);
  FullSync();
  for (const Transport transport : kTransports) {
    for (const auto& [ip, port] : {std::pair<std::string, uint16_t>{Vip(10), 80},
                                   {PublicIp(1), 80},
                                   {PublicIp(2), 80},
                                   {NodeIp(), 30080}}) {
      SCOPED_TRACE(ip);
      ExpectServed(FromPod(ip, port, Over(transport), 2));
      ExpectServed(FromNode(ip, port, Over(transport)));
      // Off the cluster: masqueraded, else the answer might take another way.
      const Reply outside = FromOutside(ip, port, Over(transport));
      ExpectServed(outside);
      EXPECT_EQ(outside.peer, Masqueraded(outside.server));
    }
    // Only its own ports.
    EXPECT_FALSE(FromPod(Vip(10), 81, Briefly(transport)).ok());
  }
}

TEST_P(Reachability, AnEndpointReachesItself) {
  AddBoth(Entry("self", 11, {0}));
  FullSync();
  for (const Transport transport : kTransports) {
    const Reply reply = FromPod(Vip(11), 80, Over(transport));
    ExpectServed(reply);
    EXPECT_EQ(reply.peer, Gateway(0));
    EXPECT_EQ(FromPod(Vip(11), 80, Over(transport), 1).peer, Seen("pod0", PodIp(1)));
  }
  // Its successor, learnt by a change.
  Put(Entry("self", 11, {2}));
  EXPECT_EQ(FromPod(Vip(11), 80, {}, 2).peer, Gateway(2));
  ExpectVerified();
}

// A slice of a user's own names no node, and the pod may be on this one.
TEST_P(Reachability, AnEndpointOfASliceWithoutNodeNameReachesItself) {
  const auto at_nowhere = [&](int pod) {
    ServicePortEntry entry = Entry("leader", 15, {pod});
    entry.node_port = 30150;
    for (BackendChoice* choice : {&entry.internal, &entry.external}) {
      choice->backends[0].local = false;
      choice->backends[0].unplaced = true;
    }
    return entry;
  };
  AddBoth(at_nowhere(0));
  FullSync();
  for (const Transport transport : kTransports) {
    for (const auto& [ip, port] :
         {std::pair<std::string, uint16_t>{Vip(15), 80}, {NodeIp(), 30150}}) {
      const Reply reply = FromPod(ip, port, Over(transport));
      ExpectServed(reply);
      EXPECT_EQ(reply.peer, Gateway(0));
    }
    // Others keep their address.
    EXPECT_EQ(FromPod(Vip(15), 80, Over(transport), 1).peer, Seen("pod0", PodIp(1)));
  }
  // The next leader, learnt by a change; and the slice is given a node's name.
  Put(at_nowhere(2));
  EXPECT_EQ(FromPod(Vip(15), 80, {}, 2).peer, Gateway(2));
  Put(Entry("leader", 15, {2}));
  EXPECT_EQ(FromPod(Vip(15), 80, {}, 2).peer, Gateway(2));
  ExpectVerified();
}

TEST_P(Reachability, SourcesAreMasqueradedAsTheModelAndTheSettingsSay) {
  maker_.Put(Entry("web", 12, {1}));
  FullSync();
  EXPECT_EQ(FromOutside(Vip(12), 80).peer, Gateway(1));
  EXPECT_EQ(FromPod(Vip(12), 80).peer, Seen("pod1", PodIp(0)));

  const kube::ProxySettings before = settings_;
  const auto restart = [&](const std::function<void()>& change) {
    settings_ = before;
    change();
    Restart();
    FullSync();
  };
  ServicePortEntry all = Entry("web", 12, {1});
  all.internal_masquerade = Masquerade::kAlways;
  Put(all);
  EXPECT_EQ(FromPod(Vip(12), 80).peer, Gateway(1));
  ExpectVerified();
  restart([&] { settings_.nftables.masquerade_bit = 3; });
  EXPECT_EQ(FromPod(Vip(12), 80).peer, Gateway(1));
  Put(Entry("web", 12, {1}));
  EXPECT_EQ(FromPod(Vip(12), 80).peer, Seen("pod1", PodIp(0)));

  restart([&] { settings_.cluster_cidrs.clear(); });  // nothing says what is in the cluster
  EXPECT_EQ(FromOutside(Vip(12), 80).peer, Seen("pod1", OutsideIp()));
  EXPECT_EQ(FromPod(Vip(12), 80).peer, Seen("pod1", PodIp(0)));

  restart([&] {
    settings_.detect_local_mode = kube::DetectLocalMode::kInterfaceNamePrefix;
    settings_.detect_local.interface_name_prefix = "pod";
  });
  EXPECT_EQ(FromOutside(Vip(12), 80).peer, Gateway(1));
  EXPECT_EQ(FromPod(Vip(12), 80).peer, Seen("pod1", PodIp(0)));

  restart([&] {
    settings_.detect_local_mode = kube::DetectLocalMode::kBridgeInterface;
    settings_.detect_local.bridge_interface = "pod2";
  });
  EXPECT_EQ(FromPod(Vip(12), 80).peer, Gateway(1));
  EXPECT_EQ(FromPod(Vip(12), 80, {}, 2).peer, Seen("pod1", PodIp(2)));
}

TEST_P(Reachability, NodePortsAnswerOnEveryAddress) {
  ServicePortEntry entry = Entry("web", 13, {1});
  entry.node_port = 30080;
  AddBoth(entry);
  FullSync();
  for (const Transport transport : kTransports) {
    const Reply reply = FromOutside(NodeIp(), 30080, Over(transport));
    ExpectServed(reply);
    EXPECT_EQ(reply.peer, Gateway(1));
    ExpectServed(FromOutside(Gateway(0), 30080, Over(transport)));
    ExpectServed(FromPod(NodeIp(), 30080, Over(transport)));
    ExpectServed(FromNode(NodeIp(), 30080, Over(transport)));
    const Reply local = FromNode(Loopback(), 30080, Over(transport));
    if (v4() && room().loopback_node_ports) {
      EXPECT_EQ(local.server, "pod1");
    } else {
      // There is no way back to ::1: refused at once, instead of a time-out (kubernetes#67730).
      ExpectRefused(local);
    }
    ExpectRefused(FromOutside(NodeIp(), 30081, Over(transport)));
  }
  // An address that the node gets later.
  const std::string later = v4() ? "192.168.77.7" : "fd00:77::7";
  IpTool(fmt::format("addr add {} dev outside{}", Only(later), v4() ? "" : " nodad"));
  ExpectServed(FromOutside(later, 30080));
  // It is the node's port and not that of whatever is behind it.
  EXPECT_FALSE(FromOutside(PodIp(2), 30080, Briefly()).ok());
}

TEST_P(Reachability, NodePortAddressesAreRespected) {
  maker_.model.node.every_address = false;
  maker_.model.node.localhost_node_ports = false;
  ServicePortEntry entry = Entry("web", 13, {1});
  entry.node_port = 30080;
  AddBoth(entry);
  FullSync();
  for (const Transport transport : kTransports) {
    ExpectServed(FromOutside(NodeIp(), 30080, Over(transport)));
    ExpectRefused(FromOutside(Gateway(0), 30080, Over(transport)));
    ExpectRefused(FromNode(Loopback(), 30080, Over(transport)));
  }
  const auto change_node = [&] {
    ModelDelta delta;
    delta.node_changed = true;
    Sync(delta);
  };
  const bool loopback = v4() && room().loopback_node_ports;
  maker_.model.node.localhost_node_ports = true;
  change_node();
  EXPECT_EQ(FromNode(Loopback(), 30080).ok(), loopback);
  EXPECT_EQ(FromOutside(Gateway(0), 30080).error, ECONNREFUSED);
  // nodePortAddresses: [127.0.0.0/8], as the documentation of Services has it.
  maker_.model.node.node_port_addresses.clear();
  change_node();
  EXPECT_EQ(FromNode(Loopback(), 30080).ok(), loopback);
  EXPECT_EQ(FromOutside(NodeIp(), 30080).error, ECONNREFUSED);
  EXPECT_EQ(FromNode(NodeIp(), 30080).error, ECONNREFUSED);
  ExpectVerified();
}

TEST_P(Reachability, LoopbackStaysClosedToTheOutside) {
  if (!v4()) GTEST_SKIP() << "IPv6 has nothing like route_localnet";
  const auto route_localnet = [] { return ReadSysctl("net.ipv4.conf.all.route_localnet"); };
  // The client is told that this address is to be found at the node.
  network_->outside().Run([] {
    WriteSysctl("net.ipv4.conf.all.route_localnet", "1");
    IpTool("route add 127.0.0.5/32 via 192.168.77.1 table local src 192.168.77.2");
  });
  const auto ask = [&] { return FromOutside("127.0.0.5", 8080, Briefly()); };
  // Without us the kernel keeps it out.
  ASSERT_FALSE(ask().ok());
  // The hole that the guard closes is there.
  WriteSysctl("net.ipv4.conf.all.route_localnet", "1");
  ASSERT_TRUE(ask().ok());
  WriteSysctl("net.ipv4.conf.all.route_localnet", "0");

  maker_.model.node.localhost_node_ports = true;
  FullSync();
  EXPECT_EQ(route_localnet(), room().needs_route_localnet ? "1" : "0");
  ExpectDropped(ask());
  if (!room().needs_route_localnet) return;
  EXPECT_THAT(dataplane_->Sysctls(),
              ::testing::IsSupersetOf({"net.ipv4.ip_forward", "net.ipv4.conf.all.route_localnet"}));
  EXPECT_SYNCED(dataplane_->Remove());
  EXPECT_EQ(route_localnet(), "0");

  // Not ours: it stays.
  WriteSysctl("net.ipv4.conf.all.route_localnet", "1");
  FullSync();
  ExpectDropped(ask());
  // Also by another process.
  Restart();
  EXPECT_SYNCED(dataplane_->Remove());
  EXPECT_EQ(route_localnet(), "1");
}

TEST_P(Reachability, WithoutEndpointsItIsRefusedAtOnce) {
  ServicePortEntry entry = Entry("empty", 14, {});
  entry.node_port = 30090;
  entry.external_ips = {Ip(PublicIp(1))};
  entry.load_balancer_ips = {Ip(PublicIp(2))};
  AddBoth(entry);
  FullSync();
  for (const Transport transport : kTransports) {
    for (const auto& [ip, port] : {std::pair<std::string, uint16_t>{Vip(14), 80},
                                   {PublicIp(1), 80},
                                   {PublicIp(2), 80},
                                   {NodeIp(), 30090}}) {
      SCOPED_TRACE(ip + (transport == Transport::kUdp ? " udp" : " tcp"));
      ExpectRefused(FromPod(ip, port, Over(transport)), HearsRefusals(ip));
      ExpectRefused(FromNode(ip, port, Over(transport)), HearsRefusals(ip));
      ExpectRefused(FromOutside(ip, port, Over(transport)), HearsRefusals(ip));
    }
    ExpectRefused(FromNode(Loopback(), 30090, Over(transport)));
  }
  // Whatever listens there on the node does not answer for the Service.
  entry.node_port = 8080;
  Put(entry);
  EXPECT_EQ(FromOutside(NodeIp(), 8080).error, ECONNREFUSED);
  // The first endpoint opens it.
  entry.internal = entry.external = Pods({1});
  Put(entry);
  EXPECT_EQ(FromPod(Vip(14), 80).server, "pod1");
  EXPECT_EQ(FromOutside(NodeIp(), 8080).server, "pod1");
  EXPECT_EQ(FromOutside(PublicIp(1), 80).server, "pod1");
  EXPECT_EQ(FromOutside(PublicIp(2), 80).server, "pod1");
  EXPECT_EQ(FromOutside(PublicIp(2), 80).peer, Gateway(1));
  // The last one's end closes it.
  entry.internal = entry.external = {};
  Put(entry);
  ExpectRefused(FromPod(Vip(14), 80));
  ExpectRefused(FromOutside(NodeIp(), 8080));
  ExpectVerified();
}

TEST_P(Reachability, LocalPolicyKeepsTheClientsAddress) {
  ServicePortEntry entry = Entry("local", 16, {1, 2});
  entry.node_port = 30100;
  entry.external_ips = {Ip(PublicIp(6))};
  entry.load_balancer_ips = {Ip(PublicIp(7))};
  entry.external_local = true;
  entry.external_from_node = entry.internal;
  entry.external = Pods({1});
  entry.external.when_empty = BackendChoice::WhenEmpty::kDrop;
  AddBoth(entry);
  FullSync();
  const std::vector<std::pair<std::string, uint16_t>> ways{
      {NodeIp(), 30100}, {PublicIp(6), 80}, {PublicIp(7), 80}};
  const auto reaches_both = [&](const std::function<Reply()>& ask) {
    std::set<std::string> seen;
    for (int i = 0; i < 40 && seen.size() < 2; ++i) {
      const Reply reply = ask();
      ExpectServed(reply);
      seen.insert(reply.server);
    }
    return seen.size() == 2;
  };
  for (const Transport transport : kTransports) {
    for (const auto& [ip, port] : ways) {
      SCOPED_TRACE(ip);
      for (int i = 0; i < 6; ++i) {
        const Reply reply = FromOutside(ip, port, Over(transport));
        EXPECT_EQ(reply.server, "pod1");
        EXPECT_EQ(reply.peer, Seen("pod1", OutsideIp()));
      }
      EXPECT_TRUE(reaches_both([&, to = ip, at = port] {
        Reply reply = FromPod(to, at, Over(transport));
        // A pod's address is kept too.
        EXPECT_EQ(reply.peer, Seen(reply.server, PodIp(0)));
        return reply;
      }));
      EXPECT_TRUE(
          reaches_both([&, to = ip, at = port] { return FromNode(to, at, Over(transport)); }));
    }
    if (v4() && room().loopback_node_ports) {
      EXPECT_TRUE(reaches_both([&] { return FromNode(Loopback(), 30100, Over(transport)); }));
    }
  }
  // No local endpoint: outside is dropped, the node and its pods are served.
  entry.external.backends.clear();
  Put(entry);
  for (const auto& [ip, port] : ways) {
    SCOPED_TRACE(ip);
    ExpectDropped(FromOutside(ip, port, Briefly()));
    ExpectServed(FromNode(ip, port));
    ExpectServed(FromPod(ip, port));
  }
  // None anywhere: refused.
  entry.internal = entry.external = entry.external_from_node = {};
  Put(entry);
  for (const auto& [ip, port] : ways) {
    SCOPED_TRACE(ip);
    ExpectRefused(FromOutside(ip, port), HearsRefusals(ip));
    ExpectRefused(FromNode(ip, port), HearsRefusals(ip));
  }
  ExpectVerified();
}

TEST_P(Reachability, InternalLocalPolicyDropsWithoutALocalEndpoint) {
  ServicePortEntry entry = Entry("local", 16, {});
  entry.internal.when_empty = BackendChoice::WhenEmpty::kDrop;
  AddBoth(entry);
  FullSync();
  for (const Transport transport : kTransports) {
    ExpectDropped(FromPod(Vip(16), 80, Briefly(transport)));
    ExpectDropped(FromNode(Vip(16), 80, Briefly(transport)));
  }
}

TEST_P(Reachability, SourceRangesAreEnforced) {
  ServicePortEntry entry = Entry("lb", 17, {1});
  entry.node_port = 30170;
  entry.load_balancer_ips = {Ip(PublicIp(7))};
  entry.source_ranges = {net::IpPrefix::Parse(v4() ? "10.244.0.0/24" : "fd00:244:0::/48").value()};
  AddBoth(entry);
  FullSync();
  for (const Transport transport : kTransports) {
    ExpectServed(FromPod(PublicIp(7), 80, Over(transport)));
    ExpectDropped(FromPod(PublicIp(7), 80, Briefly(transport), 2));
    ExpectDropped(FromOutside(PublicIp(7), 80, Briefly(transport)));
    ExpectDropped(FromNode(PublicIp(7), 80, Briefly(transport)));
    // They are for the load balancer's addresses only.
    ExpectServed(FromOutside(NodeIp(), 30170, Over(transport)));
    ExpectServed(FromOutside(Vip(17), 80, Over(transport)));
  }
  entry.source_ranges.push_back(net::IpPrefix::Parse(Only(OutsideIp())).value());
  Put(entry);
  ExpectServed(FromOutside(PublicIp(7), 80));
  ExpectServed(FromPod(PublicIp(7), 80));
  ExpectDropped(FromPod(PublicIp(7), 80, Briefly(), 2));
  // Under a Local policy the short cut of the node's pods is behind the ranges too.
  entry.external_local = true;
  entry.external_from_node = entry.internal;
  Put(entry);
  EXPECT_EQ(FromOutside(PublicIp(7), 80).peer, Seen("pod1", OutsideIp()));
  ExpectServed(FromPod(PublicIp(7), 80));
  ExpectDropped(FromPod(PublicIp(7), 80, Briefly(), 2));
  // Ranges of the other family only: no client may come.
  entry.source_ranges.clear();
  entry.source_ranges_deny_all = true;
  Put(entry);
  ExpectDropped(FromPod(PublicIp(7), 80, Briefly()));
  ExpectDropped(FromOutside(PublicIp(7), 80, Briefly()));
  entry.source_ranges = {net::IpPrefix::Parse(v4() ? "0.0.0.0/0" : "::/0").value()};
  for (const bool ranges : {true, false}) {
    entry.source_ranges_deny_all = false;
    if (!ranges) entry.source_ranges.clear();
    Put(entry);
    ExpectServed(FromOutside(PublicIp(7), 80));
    ExpectServed(FromPod(PublicIp(7), 80, {}, 2));
  }
  ExpectVerified();
}

TEST_P(Reachability, TheNodeMayComeByItsLoadBalancersAddress) {
  // As MetalLB and cloud controllers do it, the address is bound on the node.
  IpTool(fmt::format("addr add {} dev lo{}", Only(PublicIp(8)), v4() ? "" : " nodad"));
  ServicePortEntry entry = Entry("lb", 17, {1});
  entry.load_balancer_ips = {Ip(PublicIp(8))};
  entry.source_ranges = {net::IpPrefix::Parse(Only(NodeIp())).value()};
  maker_.Put(entry);
  FullSync();
  ExpectDropped(FromNode(PublicIp(8), 80, Briefly()));
  entry.node_in_source_ranges = true;
  Put(entry);
  ExpectServed(FromNode(PublicIp(8), 80));
  ExpectDropped(FromPod(PublicIp(8), 80, Briefly()));
}

// As CRI-O before 1.27 and CNI's portmap make them: they expect the proxy to have the chain that
// marks, and to masquerade what is marked.
TEST_P(Reachability, AHostPortOfAnotherProgramIsMasqueradedByTheChainMadeForIt) {
  maker_.Put(Entry("web", 10, {0}));
  FullSync();
  EXPECT_SYNCED(mode().EnsureBase(settings_));
  xtables::IptablesTool tool(GetParam().family);
  const std::string rule = "-A KUBE-HP-TEST -p tcp -m tcp --dport 31999 -j";
  tool.Restore(
      fmt::format("*nat\n:KUBE-HP-TEST - [0:0]\n-A PREROUTING -j KUBE-HP-TEST\n"
                  "{0} KUBE-MARK-MASQ\n{0} DNAT --to-destination {1}:8080\nCOMMIT\n",
                  rule, v4() ? PodIp(1) : fmt::format("[{}]", PodIp(1))));
  const Reply reply = FromOutside(NodeIp(), 31999);
  ExpectServed(reply);
  EXPECT_EQ(reply.server, "pod1");
  EXPECT_EQ(reply.peer, Gateway(1));
  // Its rules stay whole when what is shared goes.
  EXPECT_SYNCED(dataplane_->Remove());
  EXPECT_SYNCED(xtables::BaseRules(tool, settings_.iptables.masquerade_bit).Remove());
  EXPECT_EQ(FromOutside(NodeIp(), 31999).server, "pod1");
}

INSTANTIATE_TEST_SUITE_P(Modes, Reachability, ::testing::ValuesIn(InBothFamilies(AllVariants())),
                         NameOf);

}  // namespace
}  // namespace pointsman::agent::testing
