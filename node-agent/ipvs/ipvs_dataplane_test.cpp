// Real IPVS, real packets: runs in a kernel of its own (cmake/KernelTest.cmake).
#include "node-agent/ipvs/ipvs_dataplane.h"

#include <random>
#include <sys/resource.h>

#include "node-agent/ipvs/testing/dataplane_fixture.h"

namespace pointsman::agent {
namespace {

TEST_F(IpvsDataplaneTest, NothingButServicePortsAnswersOnAVip) {
  network_->Serve("", "0.0.0.0", 22222);  // a node's own listener
  maker_.Put(Web({MakeBackend(kPodA, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  for (const char* host : {"pod-c", "client", ""}) {
    EXPECT_EQ(AskTcp(host, kVip, 22222).error, ECONNREFUSED) << host;
    EXPECT_EQ(AskUdp(host, kVip, 22222).error, ECONNREFUSED) << host;
  }
  EXPECT_TRUE(AskTcp("client", kNodeIp, 22222).ok()) << "on its own address it answers";
}

TEST_F(IpvsDataplaneTest, AnExternalIpThatIsTheNodesOwnDoesNotCutTheNodeOff) {
  network_->Serve("", "0.0.0.0", 22222);
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080)});
  web.external_ips = {Ip(kNodeIp)};
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(AskTcp("client", kNodeIp, 80).server, "pod-a");
  EXPECT_TRUE(AskTcp("client", kNodeIp, 22222).ok());
  ExpectVerified();
}

TEST_F(IpvsDataplaneTest, ALocalPolicyDropsWhatTheNodeSendsWhileTheLastLocalBackendDrains) {
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080)});
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  Stream stream(TestNetwork::At(""), kVip, 80);
  ASSERT_EQ(stream.Ask().server, "pod-a");
  web.internal.backends.clear();
  web.internal.when_empty = BackendChoice::WhenEmpty::kDrop;
  Put(web);
  EXPECT_THAT(RunTool({"ipvsadm", "-Sn"}), ::testing::HasSubstr("10.96.0.10")) << "it drains";
  EXPECT_EQ(AskTcp("", kVip, 80).error, ETIMEDOUT);
  EXPECT_EQ(AskTcp("pod-c", kVip, 80).error, ETIMEDOUT);
  EXPECT_EQ(stream.Ask().server, "pod-a");
  ExpectVerified();
  // No endpoint anywhere is refused all the same.
  web.internal.when_empty = BackendChoice::WhenEmpty::kReject;
  Put(web);
  EXPECT_EQ(AskTcp("", kVip, 80).error, ECONNREFUSED);
  EXPECT_EQ(AskTcp("pod-c", kVip, 80).error, ECONNREFUSED);
}

TEST_F(IpvsDataplaneTest, LeavesAForeignVirtualServerInExcludeCidrsAlone) {
  settings_.ipvs.exclude_cidrs = {net::IpPrefix::Parse("10.96.0.0/24").value()};
  Start();
  RunTool({"ipvsadm", "-A", "-t", "10.96.0.10:80", "-s", "wrr"});
  maker_.Put(Web({MakeBackend(kPodA, 8080)}));
  maker_.Put(Dns({MakeBackend(kPodA, 8080)}));
  const SyncResult result = dataplane_->FullSync(maker_.model);
  // The Service's matter, not the node's: whoever may write Services could make every node sick.
  EXPECT_SYNCED(result);
  ASSERT_EQ(result.refusals.Warnings().size(), 1U);
  EXPECT_EQ(result.refusals.Warnings()[0].service, "web");
  EXPECT_THAT(result.refusals.Warnings()[0].message, ::testing::HasSubstr("excludeCIDRs"));
  EXPECT_THAT(RunTool({"ipvsadm", "-Sn"}), ::testing::HasSubstr("-A -t 10.96.0.10:80 -s wrr"));
  EXPECT_EQ(AskUdp("pod-c", kVip, 53).server, "pod-a");
}

// A set that an earlier agent made is smaller.
TEST_F(IpvsDataplaneTest, AServiceThatFindsASetFullIsRefusedAndTheNodeIsWell) {
  RunTool({"ipset", "create", "PM-IPVS-MAPPED-4", "hash:ip,port", "maxelem", "4"});
  maker_.Put(Web({MakeBackend(kPodA, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ServicePortEntry greedy =
      MakeEntry("greedy", Protocol::kTcp, "10.96.0.66", 80, {MakeBackend(kPodB, 8080)});
  for (uint32_t i = 1; i <= 64; ++i)
    greedy.external_ips.push_back(net::IpAddress::V4(0xc6336400U + i));
  for (const bool full : {false, true}) {
    const ModelDelta delta = maker_.Put(greedy);
    const SyncResult result =
        full ? dataplane_->FullSync(maker_.model) : dataplane_->Sync(maker_.model, delta);
    EXPECT_SYNCED(result);
    ASSERT_EQ(result.refusals.Warnings().size(), 1U) << full;
    EXPECT_EQ(result.refusals.Warnings()[0].service, "greedy");
    EXPECT_THAT(result.refusals.Warnings()[0].message, ::testing::HasSubstr("PM-IPVS-MAPPED-4"));
  }
  EXPECT_EQ(AskTcp("pod-c", kVip, 80).server, "pod-a");
  EXPECT_EQ(AskTcp("pod-c", "10.96.0.66", 80).server, "pod-b");
}

TEST_F(IpvsDataplaneTest, AGreedyServiceTakesNoRoomFromOthers) {
  room_.servers = 40;
  Start();
  const auto expect_greedy_refused = [&](const SyncResult& result) {
    EXPECT_SYNCED(result);
    const auto warnings = result.refusals.Warnings();
    ASSERT_EQ(warnings.size(), 1U);
    EXPECT_EQ(warnings[0].ns + "/" + warnings[0].service, "tenant/greedy");
    EXPECT_THAT(warnings[0].message, ::testing::HasSubstr("virtual servers"));
    EXPECT_NE(AskTcp("pod-c", "10.96.0.66", 80).server, "pod-b");
    EXPECT_EQ(AskTcp("pod-c", kVip, 80).server, "pod-a");
    ExpectVerified();
  };
  ServicePortEntry greedy =
      MakeEntry("greedy", Protocol::kTcp, "10.96.0.66", 80, {MakeBackend(kPodB, 8080)});
  greedy.id.ns = "tenant";
  const auto with_addresses = [&](uint32_t count) {
    greedy.external_ips.clear();
    for (uint32_t i = 1; i <= count; ++i)
      greedy.external_ips.push_back(net::IpAddress::V4(0xc6336400U + i));
    return greedy;
  };
  maker_.Put(with_addresses(60));
  maker_.Put(Web({MakeBackend(kPodA, 8080)}));
  expect_greedy_refused(dataplane_->FullSync(maker_.model));
  // A change of another one is served meanwhile.
  Put(Dns({MakeBackend(kPodA, 8080)}));
  EXPECT_EQ(AskUdp("pod-c", kVip, 53).server, "pod-a");
  // It asks for less, and is served at once; for too much again.
  Put(with_addresses(20));
  EXPECT_EQ(AskTcp("pod-c", "10.96.0.66", 80).server, "pod-b");
  EXPECT_EQ(AskTcp("client", "198.51.100.20", 80).server, "pod-b");
  expect_greedy_refused(dataplane_->Sync(maker_.model, maker_.Put(with_addresses(60))));
  Apply(maker_.Remove(greedy.id));
  ExpectVerified();
}

TEST_F(IpvsDataplaneTest, TakesNewConnectionsFromRulesOfOthersAndLeavesThemTheirOld) {
  // What kube-proxy leaves behind, or still writes: an open connection that conntrack carries, and
  // rules at the top.
  RunTool({"iptables-legacy", "-t", "nat", "-N", "KUBE-SERVICES"});
  RunTool({"iptables-legacy", "-t", "nat", "-A", "KUBE-SERVICES", "-p", "tcp", "-d", kVip,
           "--dport", "80", "-j", "DNAT", "--to-destination", "10.244.0.2:8080"});
  for (const char* chain : {"PREROUTING", "OUTPUT"})
    RunTool({"iptables-legacy", "-t", "nat", "-I", chain, "-j", "KUBE-SERVICES"});
  Stream old(TestNetwork::At("pod-c"), kVip, 80);
  ASSERT_EQ(old.Ask().server, "pod-a");
  maker_.Put(Web({MakeBackend(kPodB, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(old.Ask().server, "pod-a");
  EXPECT_EQ(AskTcp("pod-c", kVip, 80).server, "pod-b") << "IPVS has the new ones";
  EXPECT_EQ(AskTcp("", kVip, 80).server, "pod-b") << "also the node's own";
  // kube-proxy puts itself to the top again when it makes its jumps anew.
  for (const char* chain : {"PREROUTING", "OUTPUT"}) {
    RunTool({"iptables-legacy", "-t", "nat", "-D", chain, "-j", "KUBE-SERVICES"});
    RunTool({"iptables-legacy", "-t", "nat", "-I", chain, "-j", "KUBE-SERVICES"});
  }
  EXPECT_FALSE(dataplane_->Verify(maker_.model).ok());
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ExpectVerified();
  EXPECT_EQ(AskTcp("pod-c", kVip, 80).server, "pod-b");
  EXPECT_EQ(old.Ask().server, "pod-a");

  // And back: when IPVS drains, the rules have the new connections.
  Stream newer(TestNetwork::At("pod-c"), kVip, 80);
  ASSERT_EQ(newer.Ask().server, "pod-b");
  EXPECT_EQ(dataplane_->Drain(maker_.model).connections, 1U) << RunTool({"ipvsadm", "-Lnc"});
  EXPECT_EQ(AskTcp("pod-c", kVip, 80).server, "pod-a");
  EXPECT_EQ(AskTcp("", kVip, 80).server, "pod-a");
  EXPECT_EQ(newer.Ask().server, "pod-b");
  EXPECT_EQ(old.Ask().server, "pod-a");
  for (const char* chain : {"PREROUTING", "OUTPUT"})
    RunTool({"iptables-legacy", "-t", "nat", "-D", chain, "-j", "KUBE-SERVICES"});
  RunTool({"iptables-legacy", "-t", "nat", "-F", "KUBE-SERVICES"});
  RunTool({"iptables-legacy", "-t", "nat", "-X", "KUBE-SERVICES"});
}

TEST_F(IpvsDataplaneTest, TakesOverWhatKubeProxysIpvsModeHasAndNeedsNothingOfIt) {
  const std::string vip_port = std::string(kVip) + ":80";
  RunTool({"sysctl", "-qw", "net.ipv4.vs.conntrack=1"});
  RunTool({"ip", "link", "add", "kube-ipvs0", "type", "dummy"});
  RunTool({"ip", "address", "add", std::string(kVip) + "/32", "dev", "kube-ipvs0"});
  RunTool({"ipvsadm", "-A", "-t", vip_port, "-s", "rr"});
  RunTool({"ipvsadm", "-a", "-t", vip_port, "-r", "10.244.0.2:8080", "-m"});
  RunTool({"ipvsadm", "-a", "-t", vip_port, "-r", "10.244.0.3:8080", "-m"});
  Stream old(TestNetwork::At("pod-c"), kVip, 80);
  const std::string backend = old.Ask().server;
  ASSERT_THAT(backend, ::testing::AnyOf("pod-a", "pod-b"));
  maker_.Put(Web({MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ExpectVerified();
  EXPECT_EQ(old.Ask().server, backend);
  // Both stand side by side; then kube-proxy and its interface go, and no sync follows.
  EXPECT_FALSE(AskTcp("pod-c", kVip, 80).server.empty());
  RunTool({"ip", "link", "delete", "kube-ipvs0"});
  EXPECT_FALSE(AskTcp("pod-c", kVip, 80).server.empty());
  EXPECT_FALSE(AskTcp("", kVip, 80).server.empty()) << "the node's own";
  EXPECT_EQ(old.Ask().server, backend);
  ExpectVerified();
}

TEST_F(IpvsDataplaneTest, StrictArpAndTimeoutsAreSetAndStrictArpIsUndone) {
  RunTool({"ip", "addr", "add", "192.168.51.1/24", "dev", "vclient"});
  settings_.ipvs.strict_arp = true;
  settings_.ipvs.tcp_timeout = std::chrono::seconds(901);
  settings_.ipvs.udp_timeout = std::chrono::seconds(302);
  Start();
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  auto read = [](const char* name) { return ReadSysctl(name).value_or("none"); };
  EXPECT_EQ(read("net.ipv4.conf.vclient.arp_ignore"), "1");
  EXPECT_EQ(read("net.ipv4.conf.vclient.arp_announce"), "2");
  EXPECT_EQ(read("net.ipv4.conf.vpod-a.arp_ignore"), "0") << "not what pods hang on";
  EXPECT_EQ(read("net.ipv4.conf.all.arp_ignore"), "0");
  // An interface that gets a network later.
  RunTool({"ip", "addr", "add", "192.168.52.1/24", "dev", "vpod-b"});
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(read("net.ipv4.conf.vpod-b.arp_ignore"), "1");
  EXPECT_EQ(read("net.ipv4.conf.vpod-b.arp_announce"), "2");
  EXPECT_EQ(read("net.ipv4.vs.conntrack"), "1");
  EXPECT_EQ(read("net.ipv4.vs.conn_reuse_mode"), "1");
  EXPECT_THAT(RunTool({"ipvsadm", "-L", "--timeout"}), ::testing::HasSubstr("901 120 302"));
  // kubernetes#120076: what connection tracking remembers longer stays with its backend.
  EXPECT_EQ(read("net.netfilter.nf_conntrack_udp_timeout"), "302");
  EXPECT_EQ(read("net.netfilter.nf_conntrack_udp_timeout_stream"), "302");
  EXPECT_EQ(read("net.ipv4.vs.expire_nodest_conn"), "1");
  EXPECT_EQ(read("net.ipv4.vs.expire_quiescent_template"), "1");
  EXPECT_THAT(
      dataplane_->Sysctls(),
      ::testing::IsSupersetOf(
          {"net.ipv4.vs.conntrack", "net.ipv4.vs.conn_reuse_mode", "net.ipv4.vs.expire_nodest_conn",
           "net.ipv4.vs.expire_quiescent_template", "net.netfilter.nf_conntrack_udp_timeout",
           "net.ipv4.conf.vclient.arp_ignore", "net.ipv4.conf.vpod-b.arp_announce"}));
  EXPECT_SYNCED(dataplane_->Remove());
  EXPECT_EQ(read("net.ipv4.conf.vclient.arp_ignore"), "0");
  EXPECT_EQ(read("net.ipv4.conf.vclient.arp_announce"), "0");
  EXPECT_EQ(read("net.ipv4.conf.vpod-b.arp_ignore"), "0");
  RunTool({"ip", "addr", "del", "192.168.52.1/24", "dev", "vpod-b"});
  RunTool({"ip", "addr", "del", "192.168.51.1/24", "dev", "vclient"});
}

TEST_F(IpvsDataplaneTest, StrictArpOfAnEarlierProcessIsUndoneByOneThatKnowsNoSettings) {
  RunTool({"ip", "addr", "add", "192.168.51.1/24", "dev", "vclient"});
  const auto arp_ignore = [] {
    return ReadSysctl("net.ipv4.conf.vclient.arp_ignore").value_or("none");
  };
  const auto run_strict = [&] {
    settings_.ipvs.strict_arp = true;
    Start();
    EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
    EXPECT_EQ(arp_ignore(), "1");
    settings_.ipvs.strict_arp = false;
    Start();
  };
  run_strict();
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(arp_ignore(), "0") << "switched off";
  run_strict();
  EXPECT_SYNCED(dataplane_->Remove());
  EXPECT_EQ(arp_ignore(), "0") << "removed, as by --cleanup";
  // What others set so is theirs.
  EXPECT_TRUE(WriteSysctl("net.ipv4.conf.vclient.arp_ignore", "1").ok());
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_SYNCED(dataplane_->Remove());
  EXPECT_EQ(arp_ignore(), "1");
  EXPECT_TRUE(WriteSysctl("net.ipv4.conf.vclient.arp_ignore", "0").ok());
  RunTool({"ip", "addr", "del", "192.168.51.1/24", "dev", "vclient"});
}

// kubernetes#84906: minutes on a new node until it reaches the API server by its Service.
TEST_F(IpvsDataplaneTest, K84906TheKubernetesServiceIsWrittenFirst) {
  for (int i = 1; i <= 20; ++i) {
    maker_.Put(MakeEntry("s" + std::to_string(i), Protocol::kTcp, "10.96.1." + std::to_string(i),
                         80, {MakeBackend(kPodA, 8080)}));
  }
  const ServicePortEntry api =
      MakeEntry("kubernetes", Protocol::kTcp, "10.111.255.1", 443, {MakeBackend(kNodeIp, 6443)});
  maker_.Put(api);
  // The kernel refuses each virtual server, and so tells in which order they come.
  settings_.ipvs.scheduler = "absent";
  Start();
  const SyncResult result = dataplane_->FullSync(maker_.model);
  ASSERT_GE(result.problems.size(), 21U) << Text(result);
  EXPECT_EQ(result.problems[0].object, api.id.ToString()) << Text(result);
}

TEST_F(IpvsDataplaneTest, K84906NoVirtualServerComesBeforeTheRulesThatMasquerade) {
  maker_.Put(Web({MakeBackend(kPodA, 8080)}));
  settings_.detect_local_mode = kube::DetectLocalMode::kInterfaceNamePrefix;
  settings_.detect_local.interface_name_prefix = "no name";  // no rule can be made of it
  Start();
  const SyncResult result = dataplane_->FullSync(maker_.model);
  ASSERT_EQ(result.problems.size(), 1U) << Text(result);
  EXPECT_THAT(result.problems[0].message, ::testing::HasSubstr("interfaceNamePrefix"));
  EXPECT_EQ(RunTool({"ipvsadm", "-Sn"}), "");
  EXPECT_EQ(TryTool({"ip", "link", "show", IpvsDataplane::kDevice}), 1) << "nothing is bound";
}

// kubernetes#93445, #133773: a process for each element of a set, and minutes of CPU for it.
TEST_F(IpvsDataplaneTest, K88212K73382K95881K93445K133773AChangeStartsNoProcess) {
  // What children that have ended have cost; each costs some.
  const auto children = [] {
    rusage usage{};
    EXPECT_EQ(::getrusage(RUSAGE_CHILDREN, &usage), 0);
    return usage.ru_minflt;
  };
  maker_.Put(Web({MakeBackend(kPodA, 8080)}));
  const auto before = children();
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  const auto after = children();
  EXPECT_GT(after, before) << "it would be seen";
  for (uint8_t i = 1; i <= 30; ++i) {
    ServicePortEntry web = Web({MakeBackend(i % 2 == 0 ? kPodA : kPodB, 8080)});
    if (i % 3 == 0) MakeLocal(web, web.external.backends, web.external.backends);
    web.load_balancer_ips = {net::IpAddress::V4(0xcb007100U + i)};  // 203.0.113.0 and on
    web.external_ips = {net::IpAddress::V4(0xcb007180U + i)};
    web.source_ranges = {net::IpPrefix(net::IpAddress::V4(0x0a000000U + i), 32)};
    web.node_port = static_cast<uint16_t>(30000 + i);
    Put(web);
  }
  EXPECT_EQ(children(), after);
  ExpectVerified();
  // Nothing to do, nothing written.
  EXPECT_EQ(dataplane_->FullSync(maker_.model).kernel_writes, 0U);
}

TEST_F(IpvsDataplaneTest, IncrementalEqualsFull) {
  RunTool({"ip", "route", "add", "192.168.50.0/28", "dev", "vclient"});
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  const auto seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  auto pick = [&](int below) { return static_cast<int>(random() % static_cast<unsigned>(below)); };
  for (int step = 0; step < 150; ++step) {
    // Each Service has addresses of its own, as the model sees to it, and few, so that those of
    // several have the same internal one: they differ in the upper 6 bits alone.
    const auto external = [&](int owner) {
      return Ip(std::to_string(163 + 4 * owner) + ".0.113." + std::to_string(pick(3) + 1));
    };
    ModelDelta delta;
    const int changes = 1 + pick(3);
    for (int i = 0; i < changes; ++i) {
      const int n = pick(6);
      std::vector<Backend> backends;
      for (int b = 0; b < 5; ++b) {
        if (pick(3) == 0) continue;
        backends.push_back(MakeBackend("10.244.9." + std::to_string(b + 1), 80, b % 2 == 0));
      }
      if (pick(5) == 0) backends.clear();
      ServicePortEntry entry = MakeEntry(
          "s" + std::to_string(n), pick(3) == 0 ? Protocol::kUdp : Protocol::kTcp,
          "10.96.1." + std::to_string(n + 1), static_cast<uint16_t>(80 + n), std::move(backends));
      if (pick(2) == 0) entry.node_port = static_cast<uint16_t>(31000 + n);
      entry.created = kube::TimePoint(std::chrono::seconds(pick(3)));
      if (pick(3) == 0) entry.external_ips = {external(n)};
      if (pick(3) == 0) entry.load_balancer_ips = {external(n + 6)};
      if (pick(4) == 0) entry.load_balancer_ips = {Ip("192.168.50." + std::to_string(n + 7))};
      if (n == 0 && pick(6) == 0) entry.load_balancer_ips.push_back(Ip(kNodeIp));
      std::sort(entry.load_balancer_ips.begin(), entry.load_balancer_ips.end());
      if (pick(3) == 0) entry.port = 80;
      if (pick(4) == 0) entry.source_ranges = {net::IpPrefix::Parse("10.0.0.0/8").value()};
      if (pick(4) == 0) entry.affinity_timeout = std::chrono::seconds(pick(2) + 100);
      if (pick(3) == 0) {
        entry.external_local = true;
        entry.external_from_node = entry.external;
        if (pick(2) == 0) entry.health_check_node_port = static_cast<uint16_t>(32000 + n);
        entry.external.when_empty = BackendChoice::WhenEmpty::kDrop;
        std::erase_if(entry.external.backends, [](const Backend& b) { return !b.local; });
      }
      const ModelDelta one = pick(4) == 0 ? maker_.Remove(entry.id) : maker_.Put(entry);
      // One delta has each Service port once.
      for (const EntryChange& change : one.changes) {
        const auto& id = (change.after ? change.after : change.before)->id;
        const auto same = std::find_if(
            delta.changes.begin(), delta.changes.end(),
            [&](const EntryChange& c) { return (c.after ? c.after : c.before)->id == id; });
        if (same == delta.changes.end()) {
          delta.changes.push_back(change);
          continue;
        }
        same->after = change.after;
        if (!same->before && !same->after) delta.changes.erase(same);  // came and went
      }
    }
    const SyncResult result = dataplane_->Sync(maker_.model, delta);
    ASSERT_TRUE(result.ok()) << "step " << step << "\n" << Text(result);
    const VerifyResult verified = dataplane_->Verify(maker_.model);
    ASSERT_TRUE(verified.ok()) << "step " << step << "\n" << Text(verified);
    if (step % 5 != 4) continue;
    const std::string incremental = Dump();
    IpvsDataplane another(settings_, ensure_scheduler_, tool_);
    const SyncResult full = another.FullSync(maker_.model);
    ASSERT_TRUE(full.ok()) << Text(full);
    ASSERT_EQ(full.kernel_writes, 0U) << "step " << step;
    ASSERT_EQ(Dump(), incremental) << "step " << step;
  }
  const ServiceModel empty{{}, maker_.model.node, 0, 0};
  EXPECT_SYNCED(dataplane_->FullSync(empty));
  EXPECT_EQ(RunTool({"ipvsadm", "-Sn"}), "");
  EXPECT_THAT(Dump(), ::testing::Not(::testing::HasSubstr("add PM-IPVS")));
  RunTool({"ip", "route", "del", "192.168.50.0/28", "dev", "vclient"});
}

}  // namespace
}  // namespace pointsman::agent
