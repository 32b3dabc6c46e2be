// docs/standalone.md tells of every field of KubeProxyConfiguration what becomes of it. This holds
// the table, the loader and kube-proxy's own type (k8s.io/kube-proxy config/v1alpha1 types.go
// of 1.20 to 1.36, with component-base's ClientConnectionConfiguration and LoggingConfiguration)
// together.
#include <fstream>
#include <map>
#include <set>

#include <gmock/gmock.h>

#include "node-agent/config/doc_table.h"
#include "node-agent/config/kube_proxy_configuration.h"

namespace pointsman::agent {
namespace {

using testing::ContainerEq;
using testing::HasSubstr;

constexpr const char* kHead =
    "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

// Field -> a value that is not its default, as a file has it. The keys are kube-proxy's fields.
const std::map<std::string, std::string>& Samples() {
  static const std::map<std::string, std::string> samples{
      {"apiVersion", ""},
      {"kind", ""},
      {"bindAddress", "bindAddress: 192.0.2.7"},
      {"bindAddressHardFail", "bindAddressHardFail: true"},
      {"clientConnection.acceptContentTypes", "clientConnection: {acceptContentTypes: a/b}"},
      {"clientConnection.burst", "clientConnection: {burst: 7}"},
      {"clientConnection.contentType",
       "clientConnection: {contentType: application/vnd.kubernetes.protobuf}"},
      {"clientConnection.kubeconfig", "clientConnection: {kubeconfig: /k}"},
      {"clientConnection.qps", "clientConnection: {qps: 7}"},
      {"clusterCIDR", "clusterCIDR: 10.244.0.0/16"},
      {"configSyncPeriod", "configSyncPeriod: 7m"},
      {"conntrack.maxPerCore", "conntrack: {maxPerCore: 7}"},
      {"conntrack.min", "conntrack: {min: 7}"},
      {"conntrack.tcpBeLiberal", "conntrack: {tcpBeLiberal: true}"},
      {"conntrack.tcpCloseWaitTimeout", "conntrack: {tcpCloseWaitTimeout: 7m}"},
      {"conntrack.tcpEstablishedTimeout", "conntrack: {tcpEstablishedTimeout: 7m}"},
      {"conntrack.udpStreamTimeout", "conntrack: {udpStreamTimeout: 7m}"},
      {"conntrack.udpTimeout", "conntrack: {udpTimeout: 7m}"},
      {"detectLocal.bridgeInterface", "detectLocal: {bridgeInterface: cni0}"},
      {"detectLocal.interfaceNamePrefix", "detectLocal: {interfaceNamePrefix: cali}"},
      {"detectLocalMode", "detectLocalMode: NodeCIDR"},
      {"enableProfiling", "enableProfiling: true"},
      {"featureGates", "featureGates: {NFTablesProxyMode: true}"},
      {"healthzBindAddress", "healthzBindAddress: 127.0.0.1:7"},
      {"hostnameOverride", "hostnameOverride: node-7"},
      {"iptables.localhostNodePorts", "iptables: {localhostNodePorts: false}"},
      {"iptables.masqueradeAll", "iptables: {masqueradeAll: true}"},
      {"iptables.masqueradeBit", "iptables: {masqueradeBit: 7}"},
      {"iptables.minSyncPeriod", "iptables: {minSyncPeriod: 7s}"},
      {"iptables.snatNodeInternalIP", "iptables: {snatNodeInternalIP: true}"},
      {"iptables.syncPeriod", "iptables: {syncPeriod: 7m}"},
      {"ipvs.excludeCIDRs", "ipvs: {excludeCIDRs: [10.9.0.0/16]}"},
      {"ipvs.minSyncPeriod", "ipvs: {minSyncPeriod: 7s}"},
      {"ipvs.scheduler", "ipvs: {scheduler: sh}"},
      {"ipvs.strictARP", "ipvs: {strictARP: true}"},
      {"ipvs.syncPeriod", "ipvs: {syncPeriod: 7m}"},
      {"ipvs.tcpFinTimeout", "ipvs: {tcpFinTimeout: 7m}"},
      {"ipvs.tcpTimeout", "ipvs: {tcpTimeout: 7m}"},
      {"ipvs.udpTimeout", "ipvs: {udpTimeout: 7m}"},
      {"logging.flushFrequency", "logging: {flushFrequency: 7s}"},
      {"logging.format", "logging: {format: json}"},
      {"logging.options.json.infoBufferSize", "logging: {options: {json: {infoBufferSize: 7Ki}}}"},
      {"logging.options.json.splitStream", "logging: {options: {json: {splitStream: true}}}"},
      {"logging.options.text.infoBufferSize", "logging: {options: {text: {infoBufferSize: 7Ki}}}"},
      {"logging.options.text.splitStream", "logging: {options: {text: {splitStream: true}}}"},
      {"logging.verbosity", "logging: {verbosity: 4}"},
      {"logging.vmodule", "logging: {vmodule: [{filePattern: proxier, verbosity: 4}]}"},
      {"metricsBindAddress", "metricsBindAddress: 0.0.0.0:7"},
      {"mode", "mode: ipvs"},
      {"nftables.masqueradeAll", "nftables: {masqueradeAll: true}"},
      {"nftables.masqueradeBit", "nftables: {masqueradeBit: 7}"},
      {"nftables.minSyncPeriod", "nftables: {minSyncPeriod: 7s}"},
      {"nftables.syncPeriod", "nftables: {syncPeriod: 7m}"},
      {"nodePortAddresses", "nodePortAddresses: [10.0.0.0/8]"},
      {"oomScoreAdj", "oomScoreAdj: -7"},
      {"portRange", "portRange: 30000-30007"},
      {"showHiddenMetricsForVersion", "showHiddenMetricsForVersion: '1.35'"},
      {"udpIdleTimeout", "udpIdleTimeout: 7s"},
      {"windowsRunAsService", "windowsRunAsService: true"},
      {"winkernel.enableDSR", "winkernel: {enableDSR: true}"},
      {"winkernel.forwardHealthCheckVip", "winkernel: {forwardHealthCheckVip: true}"},
      {"winkernel.networkName", "winkernel: {networkName: x}"},
      {"winkernel.rootHnsEndpointName", "winkernel: {rootHnsEndpointName: x}"},
      {"winkernel.sourceVip", "winkernel: {sourceVip: 192.0.2.7}"},
  };
  return samples;
}

// Without the notes, which change nothing.
KubeProxyConfiguration Parse(const std::string& text) {
  KubeProxyConfiguration configuration = ParseKubeProxyConfiguration(text, "config.conf");
  configuration.notes.clear();
  return configuration;
}

std::string Refusal(const std::string& text) {
  try {
    Parse(text);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

std::vector<DocRow> Table() {
  return ReadDocTable(POINTSMAN_SOURCE_DIR "/docs/standalone.md", "| field | here | how |");
}

TEST(KubeProxyFields, TheTableTheLoaderAndKubeProxyHaveTheSameFields) {
  std::set<std::string> kube_proxy;
  for (const auto& [field, sample] : Samples())
    kube_proxy.insert(field);
  const std::vector<std::string> loader = KubeProxyConfigurationFields();
  EXPECT_THAT(std::set<std::string>(loader.begin(), loader.end()), ContainerEq(kube_proxy));
  std::set<std::string> table;
  for (const DocRow& row : Table()) {
    EXPECT_TRUE(table.insert(row.at(0)).second) << row.at(0) << " is there twice";
  }
  EXPECT_THAT(table, ContainerEq(kube_proxy));
}

TEST(KubeProxyFields, EachIsWhatTheTableSays) {
  const KubeProxyConfiguration defaults = Parse(kHead);
  for (const DocRow& row : Table()) {
    const std::string& field = row.at(0);
    const std::string& here = row.at(1);
    const auto sample = Samples().find(field);
    ASSERT_NE(sample, Samples().end()) << field;
    const std::string text = kHead + sample->second + "\n";
    if (here == "applied") {
      EXPECT_NE(Parse(text), defaults) << field;
    } else if (here == "no effect") {
      EXPECT_EQ(Parse(text), defaults) << field;
      if (field != "logging.flushFrequency") {  // a time that nobody waits for
        const auto notes = ParseKubeProxyConfiguration(text, "config.conf").notes;
        EXPECT_THAT(notes, testing::Contains(HasSubstr(field))) << field;
      }
    } else if (here == "refused") {
      EXPECT_THAT(Refusal(text), HasSubstr(field + ":")) << field;
    } else {
      EXPECT_EQ(here, "checked") << field;
      EXPECT_THAT(Refusal(field + ": other\n"), HasSubstr(field + ":"));
    }
    if (here != "applied") {
      EXPECT_FALSE(row.at(2).empty()) << field << ": why?";
    }
  }
}

}  // namespace
}  // namespace pointsman::agent
