#include "node-agent/config/kube_proxy_flags.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <sstream>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include "kube/config/yaml_json.h"

namespace pointsman::agent {
namespace {

using Kind = KubeProxyFlag::Kind;
using nlohmann::json;

constexpr std::string_view kLogsToStderr = "the log goes to standard error";

const KubeProxyFlag& Find(std::string_view name) {
  const auto& flags = KubeProxyFlags();
  const auto flag = std::find_if(flags.begin(), flags.end(),
                                 [name](const KubeProxyFlag& each) { return each.name == name; });
  if (flag == flags.end()) throw std::logic_error("no flag " + std::string(name));
  return *flag;
}

// The words of Go's strconv.ParseBool.
std::optional<bool> ParseGoBool(std::string_view text) {
  for (const std::string_view word : {"1", "t", "T", "true", "TRUE", "True"}) {
    if (text == word) return true;
  }
  for (const std::string_view word : {"0", "f", "F", "false", "FALSE", "False"}) {
    if (text == word) return false;
  }
  return std::nullopt;
}

// Whether it asks for anything: "--init-only=false" and "--write-config-to=" do not.
bool IsAskedFor(const KubeProxyFlag& flag, const std::string& text) {
  return flag.stands_alone ? ParseGoBool(text) != false : !text.empty();
}

json Value(const KubeProxyFlag& flag, const std::string& text) {
  switch (flag.kind) {
    case Kind::kNumber: {
      if (const auto integer = kube::ParseGoInteger(text)) return *integer;
      double number = 0;
      const char* const end = text.data() + text.size();
      const auto [at, error] = std::from_chars(text.data(), end, number);
      // Left as text it is refused by the field's own check, which names the field.
      if (error != std::errc() || at != end) return text;
      return number;
    }
    case Kind::kBool: {
      const auto flag_value = ParseGoBool(text);
      return flag_value ? json(*flag_value) : json(text);
    }
    case Kind::kList: {
      json list = json::array();
      std::istringstream parts(text);
      for (std::string part; std::getline(parts, part, ',');)
        list.push_back(part);
      return list;
    }
    case Kind::kText:
    case Kind::kIgnored:
    case Kind::kRefused:
      break;
  }
  return text;
}

json::json_pointer Pointer(std::string_view field) {
  std::string path = "/" + std::string(field);
  std::replace(path.begin(), path.end(), '.', '/');
  return json::json_pointer(path);
}

std::string Note(const KubeProxyFlag& flag) {
  return std::string(flag.name) + " changes nothing: " + std::string(flag.fields.front());
}

}  // namespace

const std::vector<KubeProxyFlag>& KubeProxyFlags() {
  static const std::vector<KubeProxyFlag> flags = {
      {"--bind-address", Kind::kText, {"bindAddress"}},
      {"--bind-address-hard-fail", Kind::kBool, {"bindAddressHardFail"}},
      {"--cluster-cidr", Kind::kText, {"clusterCIDR"}},
      {"--config-sync-period", Kind::kText, {"configSyncPeriod"}},
      {"--conntrack-max-per-core", Kind::kNumber, {"conntrack.maxPerCore"}},
      {"--conntrack-min", Kind::kNumber, {"conntrack.min"}},
      {"--conntrack-tcp-be-liberal", Kind::kBool, {"conntrack.tcpBeLiberal"}},
      {"--conntrack-tcp-timeout-close-wait", Kind::kText, {"conntrack.tcpCloseWaitTimeout"}},
      {"--conntrack-tcp-timeout-established", Kind::kText, {"conntrack.tcpEstablishedTimeout"}},
      {"--conntrack-udp-timeout", Kind::kText, {"conntrack.udpTimeout"}},
      {"--conntrack-udp-timeout-stream", Kind::kText, {"conntrack.udpStreamTimeout"}},
      {"--detect-local-mode", Kind::kText, {"detectLocalMode"}},
      {"--iptables-localhost-nodeports", Kind::kBool, {"iptables.localhostNodePorts"}},
      {"--iptables-masquerade-bit",
       Kind::kNumber,
       {"iptables.masqueradeBit", "nftables.masqueradeBit"}},
      {"--iptables-min-sync-period",
       Kind::kText,
       {"iptables.minSyncPeriod", "nftables.minSyncPeriod"}},
      {"--iptables-sync-period", Kind::kText, {"iptables.syncPeriod", "nftables.syncPeriod"}},
      {"--ipvs-exclude-cidrs", Kind::kList, {"ipvs.excludeCIDRs"}},
      {"--ipvs-min-sync-period", Kind::kText, {"ipvs.minSyncPeriod"}},
      {"--ipvs-scheduler", Kind::kText, {"ipvs.scheduler"}},
      {"--ipvs-strict-arp", Kind::kBool, {"ipvs.strictARP"}},
      {"--ipvs-sync-period", Kind::kText, {"ipvs.syncPeriod"}},
      {"--ipvs-tcp-timeout", Kind::kText, {"ipvs.tcpTimeout"}},
      {"--ipvs-tcpfin-timeout", Kind::kText, {"ipvs.tcpFinTimeout"}},
      {"--ipvs-udp-timeout", Kind::kText, {"ipvs.udpTimeout"}},
      {"--kube-api-burst", Kind::kNumber, {"clientConnection.burst"}},
      {"--kube-api-content-type", Kind::kText, {"clientConnection.contentType"}},
      {"--kube-api-qps", Kind::kNumber, {"clientConnection.qps"}},
      {"--masquerade-all", Kind::kBool, {"iptables.masqueradeAll", "nftables.masqueradeAll"}},
      {"--nodeport-addresses", Kind::kList, {"nodePortAddresses"}},
      {"--oom-score-adj", Kind::kNumber, {"oomScoreAdj"}},
      {"--pod-bridge-interface", Kind::kText, {"detectLocal.bridgeInterface"}},
      {"--pod-interface-name-prefix", Kind::kText, {"detectLocal.interfaceNamePrefix"}},
      {"--profiling", Kind::kBool, {"enableProfiling"}},
      {"--proxy-mode", Kind::kText, {"mode"}},
      {"--proxy-port-range", Kind::kText, {"portRange"}},
      {"--show-hidden-metrics-for-version", Kind::kText, {"showHiddenMetricsForVersion"}},
      {"--udp-timeout", Kind::kText, {"udpIdleTimeout"}},

      {"--boot-id-file",
       Kind::kIgnored,
       {"of the library cAdvisor, which kube-proxy does not use"}},
      {"--machine-id-file",
       Kind::kIgnored,
       {"of the library cAdvisor, which kube-proxy does not use"}},
      {"--feature-gates", Kind::kIgnored, {"kube-proxy's features are not switched here"}},
      {"--cleanup-ipvs", Kind::kIgnored, {"--cleanup removes what is there of every mode"}, true},
      {"--add-dir-header", Kind::kIgnored, {kLogsToStderr}, true},
      {"--alsologtostderr", Kind::kIgnored, {kLogsToStderr}, true},
      {"--log-backtrace-at", Kind::kIgnored, {kLogsToStderr}},
      {"--log-dir", Kind::kIgnored, {kLogsToStderr}},
      {"--log-file", Kind::kIgnored, {kLogsToStderr}},
      {"--log-file-max-size", Kind::kIgnored, {kLogsToStderr}},
      {"--log-flush-frequency", Kind::kIgnored, {"nothing of the log is held back"}},
      {"--log-json-info-buffer-size", Kind::kIgnored, {"nothing of the log is held back"}},
      {"--log-json-split-stream", Kind::kIgnored, {kLogsToStderr}, true},
      {"--log-text-info-buffer-size", Kind::kIgnored, {"nothing of the log is held back"}},
      {"--log-text-split-stream", Kind::kIgnored, {kLogsToStderr}, true},
      {"--logtostderr", Kind::kIgnored, {kLogsToStderr}, true},
      {"--one-output", Kind::kIgnored, {kLogsToStderr}, true},
      {"--skip-headers", Kind::kIgnored, {kLogsToStderr}, true},
      {"--skip-log-headers", Kind::kIgnored, {kLogsToStderr}, true},
      {"--stderrthreshold", Kind::kIgnored, {kLogsToStderr}},
      {"--vmodule", Kind::kIgnored, {"it names source files of kube-proxy"}},

      {"--init-only",
       Kind::kRefused,
       {"is not supported: the agent needs its capabilities for as long as it runs"},
       true},
      {"--write-config-to",
       Kind::kRefused,
       {"is not supported: write a KubeProxyConfiguration file by hand and give it by --config"}},
  };
  return flags;
}

KubeProxyConfiguration ConfigurationFromFlags(const KubeProxyFlagValues& values) {
  json object = {{"apiVersion", "kubeproxy.config.k8s.io/v1alpha1"},
                 {"kind", "KubeProxyConfiguration"}};
  std::map<std::string, std::string> flag_of;  // field -> flag
  std::vector<std::string> notes;
  for (const auto& [name, text] : values) {
    const KubeProxyFlag& flag = Find(name);
    if (flag.kind == Kind::kRefused) {
      if (!IsAskedFor(flag, text)) continue;
      throw std::invalid_argument(name + " " + std::string(flag.fields.front()));
    }
    if (flag.kind == Kind::kIgnored) {
      notes.push_back(Note(flag));
      continue;
    }
    for (const std::string_view field : flag.fields) {
      object[Pointer(field)] = Value(flag, text);
      flag_of[std::string(field)] = name;
    }
  }
  KubeProxyConfiguration configuration =
      KubeProxyConfigurationFromJson(object, [&](const std::string& path) {
        const std::string field = path.substr(0, path.find('['));
        const auto flag = flag_of.find(field);
        return flag == flag_of.end() ? path : flag->second + ": " + path;
      });
  configuration.notes.insert(configuration.notes.end(), notes.begin(), notes.end());
  return configuration;
}

std::vector<std::string> NotesOnIgnoredFlags(const KubeProxyFlagValues& values) {
  std::vector<std::string> notes;
  for (const auto& [name, text] : values) {
    const KubeProxyFlag& flag = Find(name);
    if (flag.kind == Kind::kRefused) {
      if (!IsAskedFor(flag, text)) continue;
      throw std::invalid_argument(name + " " + std::string(flag.fields.front()));
    }
    if (flag.kind == Kind::kIgnored) {
      notes.push_back(Note(flag));
    } else {
      notes.push_back(name + " is ignored, since --config is given (as in kube-proxy): set " +
                      std::string(flag.fields.front()) + " in the file");
    }
  }
  return notes;
}

}  // namespace pointsman::agent
