// What is read back of a kube-proxy is what the kernel has, in each of its modes.
#include "node-agent/kube_proxy/served.h"

#include <numeric>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "node-agent/kube_proxy/removal.h"
#include "node-agent/kube_proxy/rules.h"
#include "node-agent/netlink/nft_probe.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/neighbours/kube_proxy.h"
#include "node-agent/testing/neighbours/proxies.h"
#include "node-agent/testing/run_tool.h"
#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent::kube_proxy {
namespace {

using kube::Mode;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::RunTool;
using testing::TryTool;

net::IpAddress Ip(const char* text) {
  return net::IpAddress::Parse(text).value();
}
std::string Text(const Served& served) {
  std::set<std::string> lines;
  for (const auto& [frontend, endpoints] : served) {
    std::string text = net::IpPort{frontend.ip, frontend.port}.ToString() + "/" +
                       std::string(ToString(frontend.protocol)) + " →";
    for (const net::IpPort& endpoint : endpoints)
      text += " " + endpoint.ToString();
    lines.insert(text + "\n");
  }
  return std::accumulate(lines.begin(), lines.end(), std::string());
}

Served OfText(const std::string& text) {
  NatRules rules;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    rules.AddLine(line);
  Served served;
  rules.AddTo(served);
  return served;
}

TEST(KubeProxyNatRules, EachClusterIpHasItsEndpoints) {
  const Served served = OfText(
      R"(*nat
:KUBE-SERVICES - [0:0]
-A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m comment --comment "kube-system/kube-dns:dns cluster IP" -m udp --dport 53 -j KUBE-SVC-TCOU7JCQXEZGVUNU
-A KUBE-SERVICES -d 1.2.3.4/32 -p tcp -m tcp --dport 80 -j KUBE-EXT-TCOU7JCQXEZGVUNU
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-SVC-TCOU7JCQXEZGVUNU ! -s 10.244.0.0/16 -d 10.96.0.10/32 -p udp -m udp --dport 53 -j KUBE-MARK-MASQ
-A KUBE-SVC-TCOU7JCQXEZGVUNU -m statistic --mode random --probability 0.5 -j KUBE-SEP-A
-A KUBE-SVC-TCOU7JCQXEZGVUNU -j KUBE-SEP-B
-A KUBE-SEP-A -s 10.244.0.2/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-A -p udp -m udp -j DNAT --to-destination 10.244.0.2:53
-A KUBE-SEP-B -p udp -m udp -j DNAT --to-destination 10.244.0.3:53
-A KUBE-SVC-OLD -j KUBE-SEP-B
)");
  // Chains to which nothing leads serve nobody.
  EXPECT_EQ(Text(served), "10.96.0.10:53/UDP → 10.244.0.2:53 10.244.0.3:53\n");
}

TEST(KubeProxyNatRules, AreOfIpv6Too) {
  EXPECT_EQ(Text(OfText(
                R"(-A KUBE-SERVICES -d fd00:96::a/128 -p tcp -m tcp --dport 80 -j KUBE-SVC-X
-A KUBE-SVC-X -j KUBE-SEP-X
-A KUBE-SEP-X -p tcp -m tcp -j DNAT --to-destination [fd00::2]:8080
)")),
            "[fd00:96::a]:80/TCP → [fd00::2]:8080\n");
}

// What somebody writes into a comment is nothing but a comment.
TEST(KubeProxyNatRules, TextInQuotationMarksIsNone) {
  EXPECT_THAT(
      OfText(
          R"(-A KUBE-SERVICES -m comment --comment "-d 10.96.0.1/32 -p tcp --dport 80 \" -j KUBE-SVC-X"
-A KUBE-SERVICES -d x -p tcp --dport 80 -j KUBE-SVC-X
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp --dport 99999 -j KUBE-SVC-X
-A KUBE-SERVICES -d
)"),
      IsEmpty());
}

TEST(KubeProxyNftChains, SayWhatTheyAreFor) {
  EXPECT_EQ(ServiceOfChain("service-ULMVA6XW-ns1/svc1/tcp/p80"), "ns1/svc1/tcp/p80");
  EXPECT_EQ(ServiceOfChain("local-ULMVA6XW-ns1/svc1/tcp/"), "ns1/svc1/tcp/");
  const EndpointChain v4 = ParseEndpointChain("endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80");
  EXPECT_EQ(v4.service, "ns1/svc1/tcp/p80");
  EXPECT_EQ(v4.endpoint, (net::IpPort{Ip("10.180.0.1"), 80}));
  const EndpointChain v6 = ParseEndpointChain("endpoint-5OJB2KTY-ns1/svc1/tcp/__fd00.10.180..1/80");
  EXPECT_EQ(v6.service, "ns1/svc1/tcp/");
  EXPECT_EQ(v6.endpoint, (net::IpPort{Ip("fd00:10:180::1"), 80}));
}

TEST(KubeProxyNftChains, OtherNamesAreNone) {
  for (const char* name :
       {"", "-", "services", "service-ips", "service-ULMVA6XW", "nat-output", "service-ULMVA6XW-",
        "endpoint-5OJB2KTY-ns1/svc1/tcp/p80", "endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1",
        "endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/0",
        "endpoint-5OJB2KTY-ns1/svc1/tcp/p80__x/80", "endpoint-__/"}) {
    EXPECT_EQ(ParseEndpointChain(name).service, "") << name;
    if (std::string(name).starts_with("endpoint-5")) continue;
    EXPECT_EQ(ServiceOfChain(name), "") << name;
  }
}

class KubeProxyServedTest : public FreshNetnsTest {
 protected:
  void SetUp() override {
    FreshNetnsTest::SetUp();
    // Without any address there is no table of local routes, and every address is a broadcast's to
    // IPVS.
    if (!IsSkipped()) RunTool({"ip", "link", "set", "lo", "up"});
  }
  // What comes next in this process finds nothing of it.
  void TearDown() override { EnterFreshNetns(); }
};

constexpr const char* kWeb = "10.96.0.10:80/TCP → 10.244.0.2:8080 10.244.0.3:8080\n";
const testing::ProxiedService kService{.cluster_ip = "10.96.0.10",
                                       .port = 80,
                                       .endpoints = {"10.244.0.3:8080", "10.244.0.2:8080"},
                                       .node_ip = "192.168.50.1",
                                       .node_port = 30080,
                                       .cluster_cidr = "10.244.0.0/16"};

TEST_F(KubeProxyServedTest, NothingIsServedWhereNothingIs) {
  for (const Mode mode : {Mode::kIptables, Mode::kIpvs, Mode::kNftables})
    EXPECT_THAT(ReadServed(mode, ""), IsEmpty()) << kube::ToString(mode);
}

TEST_F(KubeProxyServedTest, NftablesMode) {
  if (!netlink::KernelHasNftNat(net::Family::kIPv4)) GTEST_SKIP() << "needs nf_tables with NAT";
  testing::ProxiedService service = kService;
  for (const bool endpoint_chains : {true, false}) {
    service.endpoint_chains = endpoint_chains;
    testing::MakeKubeProxyNftables(service);
    EXPECT_EQ(Text(ReadServed(Mode::kNftables, "")), kWeb) << endpoint_chains;
    EXPECT_THAT(ReadServed(Mode::kIptables, ""), IsEmpty());
  }
  // Its start: the table is there, and nothing in it.
  RunTool({"nft", "delete table ip kube-proxy; add table ip kube-proxy"});
  EXPECT_THAT(ReadServed(Mode::kNftables, ""), IsEmpty());
}

// As a kube-proxy 1.36 has written it: some Services have affinity, and one nobody to serve it.
TEST_F(KubeProxyServedTest, NftablesModeOfIpv6) {
  if (!netlink::KernelHasNftNat(net::Family::kIPv6)) GTEST_SKIP() << "needs nf_tables with NAT";
  RunTool({"nft", R"(table ip6 kube-proxy {
  chain endpoint-5OJB2KTY-a/kept/tcp/p__fd00.10.180..1/80 { meta l4proto tcp dnat to [fd00:10:180::1]:80; }
  chain service-ULMVA6XW-a/kept/tcp/p { numgen random mod 1 vmap { 0 : goto endpoint-5OJB2KTY-a/kept/tcp/p__fd00.10.180..1/80 }; }
  chain local-42NFTM6N-a/web/udp/dns {
    meta l4proto udp dnat ip6 addr . port to numgen random mod 2 map { 0 : fd00:10:180::2 . 53, 1 : fd00:10:180::3 . 5353 };
  }
  chain service-GFAYXO2V-a/other/tcp/ {
    ip6 daddr . meta l4proto . th dport vmap { fd00::1 . tcp . 1 : drop };
    meta l4proto tcp dnat ip6 addr . port to numgen random mod 1 map { 0 : fd00:10:180::4 . 8080 };
  }
  chain service-AAAAAAAA-a/flushed/tcp/ {}
  map service-ips {
    type ipv6_addr . inet_proto . inet_service : verdict;
    elements = { fd00::a . tcp . 80 : goto service-ULMVA6XW-a/kept/tcp/p,
                 fd00::b . udp . 53 : goto local-42NFTM6N-a/web/udp/dns,
                 fd00::c . tcp . 8080 : goto service-GFAYXO2V-a/other/tcp/,
                 fd00::d . tcp . 8080 : goto service-AAAAAAAA-a/flushed/tcp/ };
  }
})"});
  EXPECT_EQ(Text(ReadServed(Mode::kNftables, "")),
            "[fd00::a]:80/TCP → [fd00:10:180::1]:80\n"
            "[fd00::b]:53/UDP → [fd00:10:180::2]:53 [fd00:10:180::3]:5353\n"
            "[fd00::c]:8080/TCP → [fd00:10:180::4]:8080\n"
            "[fd00::d]:8080/TCP →\n");
}

TEST_F(KubeProxyServedTest, IptablesModeOfEachVariant) {
  int variants = 0;
  for (const char* variant : {"legacy", "nft"}) {
    try {
      xtables::IptablesTool tool(net::Family::kIPv4, variant);
      testing::KubeProxy("10.96.0.10", 80, "10.244.0.3:8080").Sync(tool);
    } catch (const std::runtime_error&) {  // not this kernel's
      continue;
    }
    ++variants;
    EXPECT_EQ(Text(ReadServed(Mode::kIptables, "")), "10.96.0.10:80/TCP → 10.244.0.3:8080\n")
        << variant;
    EXPECT_THAT(ReadServed(Mode::kNftables, ""), IsEmpty());
    RemoveLeftovers({.modules_root = "",
                     .others = [](const netlink::IpvsServer&) { return false; },
                     .tell = [](const std::string&) {}},
                    {});
  }
  EXPECT_GT(variants, 0);
}

// From iptables to ipvs: kube-proxy leaves the rules of iptables mode, which refuse Services that
// had no endpoints.
TEST_F(KubeProxyServedTest, IpvsModeStaysWhenIptablesModesRulesGo) {
  if (TryTool({"modprobe", "ip_vs_rr"}) != 0) GTEST_SKIP() << "needs IPVS";
  for (const char* module : {"dummy", "ip_set", "ip_set_bitmap_port", "ip_set_hash_ip",
                             "ip_set_hash_ipport", "ip_set_hash_ipportip"})
    RunTool({"modprobe", module});
  xtables::IptablesTool tool(net::Family::kIPv4, "legacy");
  testing::KubeProxy("10.96.0.10", 80, "10.244.0.3:8080").Sync(tool);
  // Not yet rewritten: the chains of its Services are in use.
  std::vector<std::string> told;
  const RemovalOptions options{.modules_root = "",
                               .others = [](const netlink::IpvsServer&) { return false; },
                               .running = Mode::kIpvs,
                               .tell = [&](const std::string& what) { told.push_back(what); }};
  EXPECT_THAT(RemoveLeftovers(options, {}),
              Contains(HasSubstr("chain KUBE-SERVICES in table nat leads to KUBE-SVC-")));
  EXPECT_EQ(Text(ReadServed(Mode::kIptables, "")), "10.96.0.10:80/TCP → 10.244.0.3:8080\n");

  tool.Restore("*nat\n:KUBE-SERVICES - [0:0]\nCOMMIT\n");
  testing::MakeKubeProxyIpvs(kService);
  EXPECT_EQ(Text(ReadServed(Mode::kIpvs, "")), kWeb);
  const std::string sets = RunTool({"ipset", "save"});
  EXPECT_THAT(RemoveLeftovers(options, {}), IsEmpty());
  EXPECT_EQ(Text(ReadServed(Mode::kIpvs, "")), kWeb);
  EXPECT_EQ(RunTool({"ipset", "save"}), sets);
  const std::string nat = tool.Save("nat");
  EXPECT_THAT(nat, Not(HasSubstr("KUBE-SVC-")));
  EXPECT_THAT(nat, Not(HasSubstr("KUBE-NODEPORTS")));
  EXPECT_THAT(nat, HasSubstr("-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst"));
  const std::string filter = tool.Save("filter");
  EXPECT_THAT(filter, Not(AnyOf(HasSubstr("KUBE-SERVICES"), HasSubstr("KUBE-EXTERNAL-SERVICES"))));
  EXPECT_THAT(filter, HasSubstr("-j KUBE-IPVS-FILTER"));

  // An address that is on no interface is served by nobody.
  RunTool({"ip", "address", "del", "10.96.0.10/32", "dev", "kube-ipvs0"});
  EXPECT_THAT(ReadServed(Mode::kIpvs, ""), IsEmpty());
}

TEST_F(KubeProxyServedTest, IptablesModeStaysWhenIpvsModesThingsGo) {
  if (TryTool({"modprobe", "ip_vs_rr"}) != 0) GTEST_SKIP() << "needs IPVS";
  for (const char* module : {"dummy", "ip_set", "ip_set_bitmap_port", "ip_set_hash_ip",
                             "ip_set_hash_ipport", "ip_set_hash_ipportip"})
    RunTool({"modprobe", module});
  testing::MakeKubeProxyIpvs(kService);
  xtables::IptablesTool tool(net::Family::kIPv4, "legacy");
  tool.Restore(
      "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-POSTROUTING - [0:0]\nCOMMIT\n"
      "*filter\n:KUBE-FORWARD - [0:0]\n:KUBE-PROXY-FIREWALL - [0:0]\nCOMMIT\n");
  testing::KubeProxy("10.96.0.10", 80, "10.244.0.3:8080").Sync(tool);
  EXPECT_THAT(RemoveLeftovers({.modules_root = "",
                               .others = [](const netlink::IpvsServer&) { return false; },
                               .running = Mode::kIptables,
                               .tell = [](const std::string&) {}},
                              {}),
              IsEmpty());
  EXPECT_EQ(Text(ReadServed(Mode::kIptables, "")), "10.96.0.10:80/TCP → 10.244.0.3:8080\n");
  EXPECT_THAT(ReadServed(Mode::kIpvs, ""), IsEmpty());
  EXPECT_EQ(RunTool({"ipset", "list", "-n"}), "");
  EXPECT_NE(TryTool({"ip", "link", "show", "kube-ipvs0"}), 0);
  EXPECT_THAT(tool.Save("nat") + tool.Save("filter"),
              Not(AnyOf(HasSubstr("KUBE-NODE-PORT"), HasSubstr("KUBE-LOAD-BALANCER"),
                        HasSubstr("KUBE-IPVS-FILTER"))));
}

}  // namespace
}  // namespace pointsman::agent::kube_proxy
