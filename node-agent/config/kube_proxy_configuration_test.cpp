#include "node-agent/config/kube_proxy_configuration.h"

#include <fstream>
#include <system_error>

#include <gmock/gmock.h>
#include <unistd.h>

namespace pointsman::agent {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr const char* kHead =
    "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

net::IpAddress Ip(const std::string& text) {
  return net::IpAddress::Parse(text).value();
}
net::IpPrefix Cidr(const std::string& text) {
  return net::IpPrefix::Parse(text).value();
}

KubeProxyConfiguration Parse(const std::string& body) {
  return ParseKubeProxyConfiguration(kHead + body, "config.conf");
}

std::string Refusal(const std::string& body) {
  try {
    Parse(body);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << body;
  return "";
}

TEST(KubeProxyConfiguration, TheDefaultsOfKubeProxy) {
  // pkg/proxy/apis/config/v1alpha1/defaults.go
  const KubeProxyConfiguration config = Parse("");
  const kube::ProxySettings& settings = config.settings;
  EXPECT_EQ(settings.mode, kube::Mode::kIptables);
  EXPECT_EQ(settings.iptables.masquerade_bit, 14);
  EXPECT_FALSE(settings.iptables.masquerade_all);
  EXPECT_TRUE(settings.localhost_node_ports);
  EXPECT_EQ(settings.iptables.sync_period, seconds(30));
  EXPECT_EQ(settings.iptables.min_sync_period, seconds(1));
  EXPECT_EQ(settings.nftables.sync_period, seconds(30));
  EXPECT_EQ(settings.nftables.min_sync_period, seconds(1));
  EXPECT_EQ(settings.ipvs.sync_period, seconds(30));
  EXPECT_EQ(settings.ipvs.min_sync_period, seconds(0));
  EXPECT_EQ(settings.ipvs.scheduler, "rr");
  EXPECT_EQ(settings.userspace.udp_idle_timeout, milliseconds(250));
  EXPECT_EQ(settings.conntrack.max_per_core, 32768);
  EXPECT_EQ(settings.conntrack.min, 131072);
  EXPECT_EQ(settings.conntrack.tcp_established_timeout, hours(24));
  EXPECT_EQ(settings.conntrack.tcp_close_wait_timeout, hours(1));
  EXPECT_EQ(settings.conntrack.udp_timeout, seconds(0));
  EXPECT_EQ(settings.detect_local_mode, kube::DetectLocalMode::kNone);
  EXPECT_THAT(settings.node_port_addresses, IsEmpty());
  EXPECT_FALSE(settings.node_port_primary);
  EXPECT_EQ(config.healthz_bind_address, "0.0.0.0:10256");
  EXPECT_EQ(config.metrics_bind_address, "127.0.0.1:10249");
  EXPECT_EQ(config.oom_score_adj, -999);
  EXPECT_EQ(config.qps, 5);
  EXPECT_EQ(config.burst, 10);
  EXPECT_EQ(config.config_sync_period, minutes(15));
  EXPECT_FALSE(config.node_ip_override);
  EXPECT_THAT(config.notes, ElementsAre(HasSubstr("config.conf: clusterCIDR: not set")));
}

TEST(KubeProxyConfiguration, WhatKubeadmWrites) {
  // The kube-proxy ConfigMap of a kubeadm cluster (1.31): a dump with zero values.
  const KubeProxyConfiguration config = Parse(R"(bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16,fd00:10:244::/56
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
    text:
      infoBufferSize: "0"
  verbosity: 0
metricsBindAddress: ""
mode: ""
nftables:
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: ""
  rootHnsEndpointName: ""
  sourceVip: ""
)");
  KubeProxyConfiguration want = Parse("");
  EXPECT_EQ(config.kubeconfig, "/var/lib/kube-proxy/kubeconfig.conf");
  want.settings.cluster_cidrs = {Cidr("10.244.0.0/16"), Cidr("fd00:10:244::/56")};
  EXPECT_EQ(config.settings, want.settings);
  EXPECT_EQ(config.healthz_bind_address, want.healthz_bind_address);
  EXPECT_EQ(config.oom_score_adj, want.oom_score_adj);
  EXPECT_EQ(config.qps, 5);
  EXPECT_THAT(config.notes, IsEmpty());
}

TEST(KubeProxyConfiguration, EverythingIsRead) {
  const KubeProxyConfiguration config = Parse(R"(mode: ipvs
hostnameOverride: node-7
bindAddress: 192.168.1.7
healthzBindAddress: 192.168.1.7
metricsBindAddress: "[::]:20249"
bindAddressHardFail: true
showHiddenMetricsForVersion: "1.30"
oomScoreAdj: -500
configSyncPeriod: 5m
portRange: 30000+500
udpIdleTimeout: 1s
clientConnection: {kubeconfig: /k, qps: 50.5, burst: 100, contentType: application/json}
logging: {format: json, verbosity: 4, flushFrequency: 5s}
featureGates: {SomeFeature: true}
iptables: {masqueradeBit: 0, masqueradeAll: true, localhostNodePorts: false, snatNodeInternalIP: false,
           syncPeriod: 1m, minSyncPeriod: 250ms}
nftables: {masqueradeBit: 31, masqueradeAll: true, syncPeriod: 2m, minSyncPeriod: 2s}
ipvs: {scheduler: mh, excludeCIDRs: [10.9.0.0/16, "fd09::/16"], strictARP: true, syncPeriod: 10s, minSyncPeriod: 5s,
       tcpTimeout: 900s, tcpFinTimeout: 30s, udpTimeout: 15s}
conntrack: {maxPerCore: 0, min: 5, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 30m, tcpBeLiberal: true,
            udpTimeout: 30s, udpStreamTimeout: 300s}
detectLocalMode: InterfaceNamePrefix
detectLocal: {interfaceNamePrefix: cali, bridgeInterface: cni0}
nodePortAddresses: [192.168.0.0/16, "2001:db8::/32"]
)");
  const kube::ProxySettings& settings = config.settings;
  EXPECT_EQ(settings.mode, kube::Mode::kIpvs);
  EXPECT_EQ(config.hostname_override, "node-7");
  EXPECT_EQ(config.node_ip_override, Ip("192.168.1.7"));
  EXPECT_EQ(config.healthz_bind_address, "192.168.1.7:10256");
  EXPECT_EQ(config.metrics_bind_address, "[::]:20249");
  EXPECT_TRUE(config.bind_address_hard_fail);
  EXPECT_EQ(config.oom_score_adj, -500);
  EXPECT_EQ(config.config_sync_period, minutes(5));
  EXPECT_EQ(settings.userspace.port_range, "30000-30500");
  EXPECT_EQ(settings.userspace.udp_idle_timeout, seconds(1));
  EXPECT_EQ(config.kubeconfig, "/k");
  EXPECT_EQ(config.qps, 50.5);
  EXPECT_EQ(config.burst, 100);
  EXPECT_EQ(config.log_format, "json");
  EXPECT_EQ(config.log_verbosity, 4);
  EXPECT_EQ(settings.iptables, (kube::IptablesSettings{0, true, minutes(1), milliseconds(250)}));
  EXPECT_FALSE(settings.localhost_node_ports);
  EXPECT_EQ(settings.nftables, (kube::IptablesSettings{31, true, minutes(2), seconds(2)}));
  EXPECT_EQ(settings.ipvs, (kube::IpvsSettings{"mh",
                                               {Cidr("10.9.0.0/16"), Cidr("fd09::/16")},
                                               true,
                                               seconds(10),
                                               seconds(5),
                                               seconds(900),
                                               seconds(30),
                                               seconds(15)}));
  EXPECT_EQ(settings.conntrack, (kube::ConntrackSettings{0, 5, seconds(0), minutes(30), true,
                                                         seconds(30), seconds(300)}));
  EXPECT_EQ(settings.detect_local_mode, kube::DetectLocalMode::kInterfaceNamePrefix);
  EXPECT_EQ(settings.detect_local.interface_name_prefix, "cali");
  EXPECT_EQ(settings.detect_local.bridge_interface, "cni0");
  EXPECT_THAT(settings.node_port_addresses,
              ElementsAre(Cidr("192.168.0.0/16"), Cidr("2001:db8::/32")));
  EXPECT_THAT(config.notes, ElementsAre(HasSubstr("showHiddenMetricsForVersion"),
                                        HasSubstr("featureGates.SomeFeature")));
}

TEST(KubeProxyConfiguration, Ipv6NodesListenOnIpv6) {
  // defaults.go getDefaultAddresses
  const KubeProxyConfiguration config = Parse("bindAddress: \"::\"\n");
  EXPECT_EQ(config.healthz_bind_address, "[::]:10256");
  EXPECT_EQ(config.metrics_bind_address, "[::1]:10249");
  EXPECT_FALSE(config.node_ip_override);
  EXPECT_EQ(Parse("healthzBindAddress: \"fd00::1\"\n").healthz_bind_address, "[fd00::1]:10256");
}

// kube-proxy reads them with ParseIPSloppy and ParseCIDRSloppy (k8s.io/utils/net).
TEST(KubeProxyConfiguration, AddressesAsOldReleasesTookThem) {
  const KubeProxyConfiguration config = Parse(
      "bindAddress: 010.000.0.7\n"
      "healthzBindAddress: 010.0.0.1:20256\n"
      "metricsBindAddress: 127.000.000.001\n"
      "clusterCIDR: 10.244.000.0/016\n"
      "nodePortAddresses: [192.168.001.0/24, \"::ffff:10.0.0.0/104\"]\n"
      "mode: ipvs\n"
      "ipvs: {excludeCIDRs: [010.009.0.0/16]}\n");
  EXPECT_EQ(config.node_ip_override, Ip("10.0.0.7"));
  EXPECT_EQ(config.healthz_bind_address, "10.0.0.1:20256") << "leading zeros are decimal";
  EXPECT_EQ(config.metrics_bind_address, "127.0.0.1:10249");
  EXPECT_THAT(config.settings.cluster_cidrs, ElementsAre(Cidr("10.244.0.0/16")));
  EXPECT_THAT(config.settings.node_port_addresses,
              ElementsAre(Cidr("192.168.1.0/24"), Cidr("10.0.0.0/8")));
  EXPECT_THAT(config.settings.ipvs.exclude_cidrs, ElementsAre(Cidr("10.9.0.0/16")));
  EXPECT_EQ(Parse("healthzBindAddress: \"[::ffff:10.0.0.1]:80\"\n").healthz_bind_address,
            "10.0.0.1:80");
}

TEST(KubeProxyConfiguration, NodePortAddresses) {
  EXPECT_TRUE(Parse("nodePortAddresses: [primary]\n").settings.node_port_primary);
  // cmd/kube-proxy/app/server_linux.go: the nftables backend's own default.
  EXPECT_TRUE(Parse("mode: nftables\n").settings.node_port_primary);
  EXPECT_FALSE(
      Parse("mode: nftables\nnodePortAddresses: [10.0.0.0/8]\n").settings.node_port_primary);
  EXPECT_THAT(Parse("nodePortAddresses: [localhost, 10.0.0.0/8]\n").settings.node_port_addresses,
              ElementsAre(Cidr("127.0.0.0/8"), Cidr("::1/128"), Cidr("10.0.0.0/8")));
  EXPECT_THAT(Parse("nodePortAddresses: [all]\n").settings.node_port_addresses,
              ElementsAre(Cidr("0.0.0.0/0"), Cidr("::/0")));
  const KubeProxyConfiguration bound =
      Parse("bindAddress: 10.0.0.7\nnodePortAddresses: [primary]\n");
  EXPECT_FALSE(bound.settings.node_port_primary);
  EXPECT_THAT(bound.settings.node_port_addresses, ElementsAre(Cidr("10.0.0.7/32")));
}

TEST(KubeProxyConfiguration, NodePortAddressesTogether) {
  const KubeProxyConfiguration together =
      Parse("nodePortAddresses: [primary, localhost, 10.0.0.0/8]\n");
  EXPECT_TRUE(together.settings.node_port_primary);
  EXPECT_THAT(together.settings.node_port_addresses,
              ElementsAre(Cidr("127.0.0.0/8"), Cidr("::1/128"), Cidr("10.0.0.0/8")));
  const KubeProxyConfiguration bound =
      Parse("bindAddress: 10.0.0.7\nnodePortAddresses: [primary, 192.0.2.0/24]\n");
  EXPECT_FALSE(bound.settings.node_port_primary);
  EXPECT_THAT(bound.settings.node_port_addresses,
              ElementsAre(Cidr("192.0.2.0/24"), Cidr("10.0.0.7/32")));
}

TEST(KubeProxyConfiguration, NotesAreBounded) {
  std::string body = "clusterCIDR: 10.0.0.0/8\n";
  for (int i = 0; i < 60; ++i)
    body += std::string(900, 'k') + std::to_string(i) + ": 1\n";
  const std::vector<std::string> notes = Parse(body).notes;
  ASSERT_EQ(notes.size(), 51U);
  for (const std::string& note : notes)
    EXPECT_LE(note.size(), 512U);
  EXPECT_THAT(notes[0], HasSubstr("kkk"));
  EXPECT_THAT(notes.back(), HasSubstr("and 10 more"));
}

TEST(KubeProxyConfiguration, TheIpvsBlockCountsInIpvsModeOnly) {
  // validation.go: validateKubeProxyIPVSConfiguration is called in ipvs mode.
  const KubeProxyConfiguration config =
      Parse("mode: iptables\nipvs: {scheduler: fast}\nclusterCIDR: 10.0.0.0/8\n");
  EXPECT_EQ(config.settings.ipvs.scheduler, "rr");
  EXPECT_THAT(config.notes, ElementsAre(HasSubstr("ipvs.scheduler")));
  EXPECT_THAT(Parse("mode: iptables\nipvs: {schedulr: rr}\nclusterCIDR: 10.0.0.0/8\n").notes,
              ElementsAre(HasSubstr("line 4: ipvs.schedulr: unknown field")));
}

TEST(KubeProxyConfiguration, WhatIsNotUsedIsNotValidated) {
  // conversion.go: the internal configuration has the periods of the mode, and the CIDRs are looked
  // at in mode ClusterCIDR only (validateDetectLocalConfiguration).
  const KubeProxyConfiguration config = Parse(
      "mode: ipvs\niptables: {syncPeriod: 1s, minSyncPeriod: 2s}\n"
      "nftables: {masqueradeBit: 99}\ndetectLocalMode: NodeCIDR\nclusterCIDR: none\n");
  EXPECT_EQ(config.settings.iptables, Parse("").settings.iptables);
  EXPECT_EQ(config.settings.nftables, Parse("").settings.nftables);
  EXPECT_THAT(config.settings.cluster_cidrs, IsEmpty());
  EXPECT_THAT(config.notes,
              ElementsAre(HasSubstr("line 4: iptables.minSyncPeriod: must not be longer"),
                          HasSubstr("line 5: nftables.masqueradeBit: "),
                          HasSubstr("line 7: clusterCIDR: \"none\" is not a CIDR")));
}

TEST(KubeProxyConfiguration, ClusterCidrModeWithoutACidr) {
  const KubeProxyConfiguration config = Parse("detectLocalMode: ClusterCIDR\n");
  EXPECT_EQ(config.settings.detect_local_mode, kube::DetectLocalMode::kNone);
  EXPECT_THAT(config.notes, ElementsAre(HasSubstr("clusterCIDR")));
}

TEST(KubeProxyConfiguration, RefusesWithFieldAndLine) {
  // The first line of the body is line 3.
  const std::vector<std::pair<std::string, std::string>> cases{
      {"mode: kernelspace", "line 3: mode: \"kernelspace\" is not one of"},
      {"mode: IPVS", "mode: "},
      {"mode: 5", "mode: must be a string"},
      {"iptables:\n  masqueradeBit: 32", "line 4: iptables.masqueradeBit: "},
      {"iptables:\n  masqueradeBit: -1", "iptables.masqueradeBit: "},
      {"iptables: {syncPeriod: -1s}", "iptables.syncPeriod: must not be negative"},
      {"iptables: {syncPeriod: 30}", "iptables.syncPeriod: "},
      {"iptables: {syncPeriod: 30x}", "iptables.syncPeriod: "},
      {"iptables: {syncPeriod: 1s, minSyncPeriod: 2s}", "iptables.minSyncPeriod: "},
      {"iptables: {snatNodeInternalIP: true}", "iptables.snatNodeInternalIP: is not supported"},
      {"iptables: 3", "iptables: must be an object"},
      {"mode: nftables\nnftables: {masqueradeBit: 99}", "nftables.masqueradeBit: "},
      {"mode: ipvs\niptables: {masqueradeBit: 99}", "iptables.masqueradeBit: "},
      {"mode: ipvs\nipvs:\n  scheduler: fast", "line 5: ipvs.scheduler: \"fast\" is not one of rr"},
      {"mode: ipvs\nipvs: {tcpTimeout: -1s}", "ipvs.tcpTimeout: "},
      {"mode: ipvs\nipvs: {udpTimeout: 10000h}", "ipvs.udpTimeout: "},
      {"mode: ipvs\nipvs:\n  excludeCIDRs:\n  - 10.0.0.0/8\n  - bad",
       "line 7: ipvs.excludeCIDRs[1]: "},
      {"mode: ipvs\nipvs: {minSyncPeriod: 1m}", "ipvs.minSyncPeriod: "},
      {"conntrack: {maxPerCore: -1}", "conntrack.maxPerCore: "},
      {"conntrack: {min: 3000000000}", "conntrack.min: "},
      {"conntrack: {tcpEstablishedTimeout: -5s}", "conntrack.tcpEstablishedTimeout: "},
      {"conntrack: {tcpBeLiberal: maybe}", "conntrack.tcpBeLiberal: "},
      {"clientConnection: {burst: -1}", "clientConnection.burst: "},
      {"clientConnection: {qps: fast}", "clientConnection.qps: "},
      {"oomScoreAdj: 1001", "oomScoreAdj: "},
      {"configSyncPeriod: -1m", "configSyncPeriod: "},
      {"bindAddress: node", "bindAddress: "},
      {"healthzBindAddress: 0.0.0.0:0", "healthzBindAddress: "},
      {"healthzBindAddress: localhost:10256", "healthzBindAddress: "},
      {"metricsBindAddress: \":10249\"", "metricsBindAddress: "},
      {"metricsBindAddress: \"fd00::1:99999\"", "metricsBindAddress: "},
      {"clusterCIDR: 10.0.0.0", "clusterCIDR: "},
      {"clusterCIDR: 10.0.0.0/8,11.0.0.0/8", "clusterCIDR: may have one IPv4 and one IPv6"},
      {"clusterCIDR: 10.0.0.0/8,fd00::/8,fd01::/16", "clusterCIDR: "},
      {"clusterCIDR: \"10.0.0.0/8,\"", "clusterCIDR: "},
      {"portRange: 2000-300", "portRange: "},
      {"portRange: a-b", "portRange: "},
      {"nodePortAddresses: [10.0.0.0]", "nodePortAddresses[0]: "},
      {"nodePortAddresses: 10.0.0.0/8", "nodePortAddresses: must be a list"},
      {"detectLocalMode: Magic", "detectLocalMode: "},
      {"detectLocalMode: BridgeInterface", "detectLocal.bridgeInterface: is needed"},
      {"detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: sixteencharacter}",
       "detectLocal.interfaceNamePrefix: "},
      {"showHiddenMetricsForVersion: next", "showHiddenMetricsForVersion: "},
      {"featureGates: {X: maybe}", "featureGates.X: "},
      {"featureGates: [X]", "featureGates: "},
      {"logging: {format: xml}", "logging.format: "},
      {"enableProfiling: 1", "enableProfiling: must be true or false"},
      {"logging: {options: {json: {splitStream: 1}}}", "logging.options.json.splitStream: "},
      {"logging: {options: {text: {infoBufferSize: [1]}}}",
       "logging.options.text.infoBufferSize: "},
      {"logging: {vmodule: x}", "logging.vmodule: "},
      {"winkernel: {networkName: 1}", "winkernel.networkName: "},
      {"nodePortAddresses: [primary, 10.0.0.0]", "nodePortAddresses[1]: "},
      {"a: [", "line"},
  };
  for (const auto& [body, want] : cases) {
    const std::string text = Refusal(body + "\n");
    EXPECT_THAT(text, HasSubstr("config.conf: ")) << body;
    EXPECT_THAT(text, HasSubstr(want)) << body;
  }
}

TEST(KubeProxyConfiguration, NamesEveryErrorAtOnce) {
  const std::string text = Refusal("mode: magic\nunknown: 1\nconntrack: {min: -1}\n");
  EXPECT_THAT(text, HasSubstr("mode"));
  EXPECT_THAT(text, Not(HasSubstr("unknown")));
  EXPECT_THAT(text, HasSubstr("conntrack.min"));
}

TEST(KubeProxyConfiguration, OtherKindsAreRefused) {
  EXPECT_THROW(ParseKubeProxyConfiguration("kind: KubeProxyConfiguration\n", "f"),
               std::invalid_argument);
  EXPECT_THROW(
      ParseKubeProxyConfiguration(
          "apiVersion: kubeproxy.config.k8s.io/v1alpha2\nkind: KubeProxyConfiguration\n", "f"),
      std::invalid_argument);
  EXPECT_THROW(ParseKubeProxyConfiguration("just text", "f"), std::invalid_argument);
  EXPECT_THROW(ParseKubeProxyConfiguration("", "f"), std::invalid_argument);
}

TEST(KubeProxyConfiguration, Files) {
  char path[] = "/tmp/pointsman-config-XXXXXX";
  const int fd = mkstemp(path);
  ASSERT_GE(fd, 0);
  close(fd);
  std::ofstream(path) << kHead << "mode: nftables\n";
  EXPECT_EQ(LoadKubeProxyConfiguration(path).settings.mode, kube::Mode::kNftables);
  std::ofstream(path) << kHead << "#" << std::string(2 << 20, ' ');
  EXPECT_THROW(LoadKubeProxyConfiguration(path), std::invalid_argument);
  unlink(path);
  EXPECT_THROW(LoadKubeProxyConfiguration(path), std::system_error);
}

}  // namespace
}  // namespace pointsman::agent
