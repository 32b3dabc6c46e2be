// The stand-in for kube-proxy, in this kernel.
#include "node-agent/testing/neighbours/kube_proxy.h"

#include <stdexcept>

#include <gmock/gmock.h>

#include "node-agent/netlink/nft_probe.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/neighbours/kube_proxy_process.h"
#include "node-agent/testing/run_tool.h"
#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::vector<ProxiedService> Services() {
  return ParseProxiedServices(R"([
    {"name": "default/web", "portName": "tcp", "protocol": "tcp", "clusterIP": "10.96.1.1",
     "port": 80, "nodePort": 30080, "endpoints": ["10.244.1.2:8080", "10.244.1.3:8080"]},
    {"name": "default/web", "portName": "udp", "protocol": "udp", "clusterIP": "10.96.1.1",
     "port": 80, "endpoints": ["10.244.1.2:8080"]}])",
                              "192.168.50.11", "10.244.0.0/16");
}

TEST(KubeProxyFileTest, HasTheModeAndWhereItAnswers) {
  const std::string head =
      "kind: KubeProxyConfiguration\napiVersion: kubeproxy.config.k8s.io/v1alpha1\n";
  const KubeProxyFile usual = ParseKubeProxyFile(head + "ofAVersionToCome: {a: [1]}\n");
  EXPECT_EQ(usual.mode, "iptables");
  EXPECT_EQ(usual.healthz_bind_address, "0.0.0.0:10256");
  EXPECT_EQ(usual.metrics_bind_address, "127.0.0.1:10249");
  const KubeProxyFile other =
      ParseKubeProxyFile(head +
                         "mode: \"ipvs\" # since spring\nhealthzBindAddress: 127.0.0.1:1\n"
                         "metricsBindAddress: 10.0.0.1\nclusterCIDR: 10.0.0.0/8\n");
  EXPECT_EQ(other.mode, "ipvs");
  EXPECT_EQ(other.healthz_bind_address, "127.0.0.1:1");
  EXPECT_EQ(other.metrics_bind_address, "10.0.0.1:10249");
  EXPECT_EQ(other.cluster_cidr, "10.0.0.0/8");
  EXPECT_THROW(ParseKubeProxyFile(head + "mode: nft"), std::invalid_argument);
  EXPECT_THROW(ParseKubeProxyFile("mode: ipvs"), std::invalid_argument);
  EXPECT_THROW(ParseProxiedServices(
                   R"([{"name": "a/b", "protocol": "tcp", "clusterIP": "10.0.0.1", "port": 1,
                        "endpoints": []}])",
                   "", ""),
               std::invalid_argument);
}

using KubeProxyStandInTest = FreshNetnsTest;

TEST_F(KubeProxyStandInTest, ModeIptablesIsWrittenAgainAndRemoved) {
  xtables::IptablesTool tool(net::Family::kIPv4);
  const Neighbour rules = KubeProxyIptables(Services());
  EXPECT_TRUE(rules.Sync(tool));
  const auto nat = [&] { return tool.Save("nat"); };
  for (const char* text :
       {"--dport 80 -j KUBE-SVC-", "-j DNAT --to-destination 10.244.1.3:8080", "--probability 0.5",
        "-p udp -m udp --dport 80 -j KUBE-SVC-", "--dport 30080 -j KUBE-EXT-"})
    EXPECT_THAT(nat(), HasSubstr(text));
  EXPECT_FALSE(rules.Sync(tool)) << "it writes to a builtin chain once";
  RemoveKubeProxyIptablesAndIpvs();
  EXPECT_THAT(nat(), Not(HasSubstr("KUBE-S")));
  EXPECT_THAT(nat(), HasSubstr(":KUBE-MARK-MASQ")) << "the kubelet's, too";
  EXPECT_THAT(tool.Save("filter"), Not(HasSubstr("KUBE-FORWARD")));
  EXPECT_THAT(tool.Save("filter"), HasSubstr("KUBE-FIREWALL")) << "the kubelet's";
  RemoveKubeProxyIptablesAndIpvs();  // nothing is there
}

TEST_F(KubeProxyStandInTest, ModeNftablesIsWrittenAgainAndRemoved) {
  if (!netlink::KernelHasNftNat(net::Family::kIPv4)) GTEST_SKIP() << "needs NAT of nf_tables";
  RemoveKubeProxyNftables();  // nothing is there
  MakeKubeProxyNftables(Services());
  const std::string once = RunTool({"nft", "list table ip kube-proxy"});
  EXPECT_THAT(once, HasSubstr("10.96.1.1 . udp . 80 : goto service-"));
  EXPECT_THAT(once, HasSubstr(" 10.244.1.3 . 8080"));
  MakeKubeProxyNftables(Services());
  EXPECT_EQ(RunTool({"nft", "list table ip kube-proxy"}), once);
  RemoveKubeProxyNftables();
  EXPECT_EQ(RunTool({"nft", "list tables"}), "");
}

}  // namespace
}  // namespace pointsman::agent::testing
