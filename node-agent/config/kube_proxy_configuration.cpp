#include "node-agent/config/kube_proxy_configuration.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include "kube/config/yaml_json.h"
#include "kube/pointsman/duration.h"
#include "kube/pointsman/limits.h"
#include "kube/pointsman/neighbour_names.h"
#include "kube/pointsman/object_reader.h"
#include "kube/pointsman/settings_json.h"
#include "kube/text/text.h"

namespace pointsman::agent {
namespace {

using kube::Duration;
using kube::FieldError;
using kube::ObjectReader;

constexpr size_t kMaxFile = size_t{1} << 20;
constexpr size_t kMaxText = 4096;
constexpr size_t kMaxErrors = 100;
constexpr size_t kMaxNotes = 50;
constexpr size_t kMaxNote = 512;
constexpr size_t kMaxErrorText = 16384;
constexpr int64_t kMaxInt32 = INT32_MAX;
constexpr const char* kOtherMode = "the block is not used in this mode";
// kube-proxy has no upper bounds for its periods; these are the kernel's (limits.h).
constexpr Duration kMaxTime = kube::limits::kMaxKernelTimeout;
// kube-proxy treats a period of 0 as one that is not set.
constexpr Duration kDefaultSyncPeriod = std::chrono::seconds(30);
constexpr Duration kDefaultMinSyncPeriod = std::chrono::seconds(1);

// "10.0.0.1:80", "[::1]:80" -> address and port text; nullopt when it is not of that form.
std::optional<std::pair<std::string, std::string>> SplitHostPort(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos) return std::nullopt;
  std::string host = text.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string::npos) {
    return std::nullopt;
  }
  return std::pair(host, text.substr(colon + 1));
}

std::optional<int> ParsePort(std::string_view text) {
  int port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port < 1 || port > 65535) {
    return std::nullopt;
  }
  return port;
}

class Loader {
 public:
  Loader(const nlohmann::json& value, std::vector<FieldError>& errors,
         std::vector<FieldError>& notes, std::set<std::string>* asked = nullptr)
      : errors_(errors), notes_(notes), asked_(asked), root_(&value, "", errors, asked) {}

  KubeProxyConfiguration Load() {
    // The file has no field for it, and nothing but this agent would serve: who starts it in a
    // mode gets that mode, and is told what it means here.
    settings().neighbours.accept = kube::AllNeighbourNames();
    settings().iptables.min_sync_period = kDefaultMinSyncPeriod;
    settings().nftables.min_sync_period = kDefaultMinSyncPeriod;
    ReadType();
    ReadMode();
    ReadIptables();
    ReadNftables();
    ReadIpvs();
    ReadConntrack();
    ReadUserspace();
    ReadDetectLocal();
    ReadAddresses();
    ReadNodePortAddresses();
    ReadClientConnection();
    ReadLogging();
    ReadRest();
    ReadWindows();
    NoteUnknown(root_);
    return std::move(result_);
  }

 private:
  kube::ProxySettings& settings() { return result_.settings; }

  // The word "" counts as not set, as everywhere in this API.
  static std::string Text(ObjectReader& reader, const char* name) {
    std::string text;
    reader.String(name, kMaxText, text);
    return text;
  }

  void ReadType() {
    const auto expect = [this](const char* name, const std::string& want) {
      const std::string text = Text(root_, name);
      if (text != want) root_.Error(name, "must be " + want + ", is " + ObjectReader::Quote(text));
    };
    expect("apiVersion", "kubeproxy.config.k8s.io/v1alpha1");
    expect("kind", "KubeProxyConfiguration");
  }

  void ReadMode() {
    const std::string text = Text(root_, "mode");
    if (text.empty()) return;  // iptables
    if (const auto mode = kube::ParseMode(text)) {
      settings().mode = *mode;
    } else {
      root_.Error("mode",
                  ObjectReader::Quote(text) + " is not one of iptables, ipvs, nftables, userspace");
    }
  }

  void ReadPeriods(ObjectReader& reader, Duration default_min, Duration& period, Duration& min) {
    period = min = Duration::zero();
    reader.Time("syncPeriod", Duration::zero(), kMaxTime, period);
    reader.Time("minSyncPeriod", Duration::zero(), kMaxTime, min);
    if (period == Duration::zero()) period = kDefaultSyncPeriod;
    if (min == Duration::zero()) min = default_min;
    if (min > period) {
      reader.Error("minSyncPeriod", "must not be longer than syncPeriod (" +
                                        kube::FormatDuration(period) + "), is " +
                                        kube::FormatDuration(min));
    }
  }

  // What this configuration does not use is not validated by kube-proxy (its internal configuration
  // has one pair of periods, that of the mode), and a left-over block does no harm. True: use it.
  bool Settle(bool used, const std::vector<FieldError>& errors, const char* why_not_used) {
    if (used) {
      errors_.insert(errors_.end(), errors.begin(), errors.end());
    } else {
      for (const FieldError& error : errors)
        Note(error.path, error.message + "; " + why_not_used);
    }
    return used || errors.empty();
  }

  void ReadIptables() {
    ObjectReader reader = root_.Object("iptables");
    kube::IptablesSettings& iptables = settings().iptables;
    reader.Int("masqueradeBit", 0, kube::limits::kMaxMasqueradeBit, iptables.masquerade_bit);
    reader.Bool("masqueradeAll", iptables.masquerade_all);
    reader.Bool("localhostNodePorts", settings().localhost_node_ports);
    RefuseTrue(reader, "snatNodeInternalIP", "is not supported");
    for (const char* name : {"syncPeriod", "minSyncPeriod"})
      reader.Raw(name);
    NoteUnknown(reader);
    const kube::Mode mode = settings().mode;
    const nlohmann::json* const raw = root_.Raw("iptables");
    std::vector<FieldError> errors;
    ObjectReader periods(raw != nullptr && raw->is_object() ? raw : nullptr, "iptables", errors);
    Duration period{0};
    Duration min{0};
    ReadPeriods(periods, kDefaultMinSyncPeriod, period, min);
    if (Settle(mode == kube::Mode::kIptables || mode == kube::Mode::kUserspace, errors,
               kOtherMode)) {
      iptables.sync_period = period;
      iptables.min_sync_period = min;
    }
  }

  void ReadNftables() {
    std::vector<FieldError> errors;
    ObjectReader reader(root_.Raw("nftables"), "nftables", errors, asked_);
    kube::IptablesSettings nftables;
    reader.Int("masqueradeBit", 0, kube::limits::kMaxMasqueradeBit, nftables.masquerade_bit);
    reader.Bool("masqueradeAll", nftables.masquerade_all);
    ReadPeriods(reader, kDefaultMinSyncPeriod, nftables.sync_period, nftables.min_sync_period);
    NoteUnknown(reader);
    if (Settle(settings().mode == kube::Mode::kNftables, errors, kOtherMode)) {
      settings().nftables = nftables;
    }
  }

  void ReadIpvs() {
    std::vector<FieldError> errors;
    ObjectReader reader(root_.Raw("ipvs"), "ipvs", errors, asked_);
    kube::IpvsSettings ipvs;
    const std::string scheduler = Text(reader, "scheduler");
    if (kube::limits::IsIpvsScheduler(scheduler)) {
      ipvs.scheduler = scheduler;
    } else if (!scheduler.empty()) {
      reader.Error("scheduler", ObjectReader::Quote(scheduler) + " is not one of " +
                                    std::string(kube::limits::kIpvsSchedulerWords));
    }
    reader.Strings("excludeCIDRs", kube::limits::kMaxExcludeCidrs,
                   [&](const std::string& text, const std::string& path) {
                     if (const auto cidr = net::IpPrefix::ParseSloppy(text)) {
                       ipvs.exclude_cidrs.push_back(*cidr);
                     } else {
                       reader.ErrorAt(path, ObjectReader::Quote(text) + " is not a CIDR");
                     }
                   });
    reader.Bool("strictARP", ipvs.strict_arp);
    ReadPeriods(reader, Duration::zero(), ipvs.sync_period, ipvs.min_sync_period);
    reader.Time("tcpTimeout", Duration::zero(), kMaxTime, ipvs.tcp_timeout);
    reader.Time("tcpFinTimeout", Duration::zero(), kMaxTime, ipvs.tcp_fin_timeout);
    reader.Time("udpTimeout", Duration::zero(), kMaxTime, ipvs.udp_timeout);
    NoteUnknown(reader);
    if (Settle(settings().mode == kube::Mode::kIpvs, errors, kOtherMode)) {
      settings().ipvs = std::move(ipvs);
    }
  }

  void ReadConntrack() {
    ObjectReader reader = root_.Object("conntrack");
    kube::ConntrackSettings& conntrack = settings().conntrack;
    reader.Int("maxPerCore", 0, kMaxInt32, conntrack.max_per_core);
    reader.Int("min", 0, kMaxInt32, conntrack.min);
    // These two are pointers: an explicit 0 leaves the kernel's value.
    reader.Time("tcpEstablishedTimeout", Duration::zero(), kMaxTime,
                conntrack.tcp_established_timeout);
    reader.Time("tcpCloseWaitTimeout", Duration::zero(), kMaxTime,
                conntrack.tcp_close_wait_timeout);
    reader.Bool("tcpBeLiberal", conntrack.tcp_be_liberal);
    reader.Time("udpTimeout", Duration::zero(), kMaxTime, conntrack.udp_timeout);
    reader.Time("udpStreamTimeout", Duration::zero(), kMaxTime, conntrack.udp_stream_timeout);
    NoteUnknown(reader);
  }

  void ReadUserspace() {
    kube::UserspaceSettings& userspace = settings().userspace;
    Duration timeout{0};  // a field until 1.28
    root_.Time("udpIdleTimeout", Duration::zero(), kube::limits::kMaxUdpIdleTimeout, timeout);
    if (timeout != Duration::zero()) userspace.udp_idle_timeout = timeout;
    const std::string range = Text(root_, "portRange");
    if (range.empty()) return;
    if (const auto parsed = ParsePortRange(range)) {
      userspace.port_range = *parsed;
    } else {
      root_.Error("portRange", ObjectReader::Quote(range) +
                                   " is not a range of ports (expected something like 300-2000)");
    }
  }

  // "300-2000", "300+100" or "300" (k8s.io/apimachinery/pkg/util/net ParsePortRange) as "300-2000";
  // 0-0 is no range.
  static std::optional<std::string> ParsePortRange(const std::string& text) {
    if (text == "0" || text == "0-0") return "";
    const size_t mark = text.find_first_of("-+");
    const auto first = ParsePort(std::string_view(text).substr(0, mark));
    if (!first) return std::nullopt;
    int last = *first;
    if (mark != std::string::npos) {
      const auto second = ParsePort(std::string_view(text).substr(mark + 1));
      if (!second) return std::nullopt;
      last = text[mark] == '-' ? *second : std::min(65535, *first + *second);
    }
    if (last < *first) return std::nullopt;
    return std::to_string(*first) + "-" + std::to_string(last);
  }

  void ReadDetectLocal() {
    const std::string mode = Text(root_, "detectLocalMode");
    const auto parsed = kube::ParseDetectLocalMode(mode);
    if (parsed) {
      settings().detect_local_mode = *parsed;
    } else {
      root_.Error("detectLocalMode",
                  ObjectReader::Quote(mode) +
                      " is not one of ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix");
    }
    ObjectReader reader = root_.Object("detectLocal");
    kube::DetectLocal& local = settings().detect_local;
    local.bridge_interface = Text(reader, "bridgeInterface");
    local.interface_name_prefix = Text(reader, "interfaceNamePrefix");
    NoteUnknown(reader);
    const auto check = [&](const char* name, const std::string& text) {
      if (text.empty()) {
        reader.Error(name, "is needed when detectLocalMode is " + mode);
      } else if (text.size() > kube::limits::kMaxInterfaceName ||
                 text.find_first_of("/ \t\n:") != std::string::npos) {
        reader.Error(name, ObjectReader::Quote(text) +
                               " is not an interface name (at most 15 "
                               "characters, no slash, colon or blank)");
      }
    };
    if (parsed == kube::DetectLocalMode::kBridgeInterface) {
      check("bridgeInterface", local.bridge_interface);
    }
    if (parsed == kube::DetectLocalMode::kInterfaceNamePrefix) {
      check("interfaceNamePrefix", local.interface_name_prefix);
    }
    ReadClusterCidr(!parsed || parsed == kube::DetectLocalMode::kNone ||
                    parsed == kube::DetectLocalMode::kClusterCidr);
    if (parsed && kube::CannotTellPods(settings())) {
      // kube-proxy says so in its log and goes on without.
      settings().detect_local_mode = kube::DetectLocalMode::kNone;
      Note("clusterCIDR", std::string(kube::kCannotTellPods));
    }
  }

  void ReadClusterCidr(bool used) {
    const std::string text = Text(root_, "clusterCIDR");
    std::vector<FieldError> errors;
    std::vector<net::IpPrefix> cidrs;
    std::istringstream parts(text);
    for (std::string part; std::getline(parts, part, ',');) {
      const auto cidr = net::IpPrefix::ParseSloppy(part);
      if (!cidr) {
        errors.push_back(
            {"clusterCIDR",
             ObjectReader::Quote(part) + " is not a CIDR (expected something like 10.100.0.0/16)"});
        break;
      }
      cidrs.push_back(*cidr);
    }
    if (errors.empty() && (text.ends_with(',') || cidrs.size() > 2 ||
                           (cidrs.size() == 2 && cidrs[0].family() == cidrs[1].family()))) {
      errors.push_back(
          {"clusterCIDR", "may have one IPv4 and one IPv6 CIDR, is " + ObjectReader::Quote(text)});
    }
    if (Settle(used, errors, "it is not used with this detectLocalMode")) {
      settings().cluster_cidrs = std::move(cidrs);
    }
  }

  void ReadAddresses() {
    bool v6 = false;
    const std::string bind = Text(root_, "bindAddress");
    if (!bind.empty()) {
      if (const auto address = net::IpAddress::ParseSloppy(bind)) {
        v6 = !address->is_v4();
        if (!address->IsUnspecified()) result_.node_ip_override = *address;
      } else {
        root_.Error("bindAddress", ObjectReader::Quote(bind) + " is not an IP address");
      }
    }
    result_.healthz_bind_address =
        BindAddress("healthzBindAddress", v6 ? "[::]" : "0.0.0.0", 10256);
    result_.metrics_bind_address =
        BindAddress("metricsBindAddress", v6 ? "[::1]" : "127.0.0.1", 10249);
    root_.Bool("bindAddressHardFail", result_.bind_address_hard_fail);
  }

  std::string BindAddress(const char* name, const std::string& default_host, int default_port) {
    std::string text = Text(root_, name);
    if (text.empty()) return default_host + ":" + std::to_string(default_port);
    // Written anew where it is an address: to the C library 010.0.0.1 would be 8.0.0.1.
    const auto with_port = [](const net::IpAddress& address, const std::string& port) {
      const std::string host = address.ToString();
      return (address.is_v4() ? host : "[" + host + "]") + ":" + port;
    };
    if (const auto address = net::IpAddress::ParseSloppy(text)) {
      return with_port(*address, std::to_string(default_port));
    }
    const auto parts = SplitHostPort(text);
    if (!parts) {
      root_.Error(name, ObjectReader::Quote(text) + " is not address:port");
      return text;
    }
    const auto address = net::IpAddress::ParseSloppy(parts->first);
    if (!address) {
      root_.Error(name, ObjectReader::Quote(parts->first) + " is not an IP address");
    } else if (!ParsePort(parts->second)) {
      root_.Error(name, ObjectReader::Quote(parts->second) + " is not a port");
    } else {
      return with_port(*address, parts->second);
    }
    return text;
  }

  void ReadNodePortAddresses() {
    size_t items = 0;
    root_.Strings(
        "nodePortAddresses", kube::limits::kMaxNodePortAddresses,
        [&](const std::string& text, const std::string& path) {
          ++items;
          if (!kube::AddNodePortAddress(text, net::IpPrefix::ParseSloppy(text), settings()))
            root_.ErrorAt(path, ObjectReader::Quote(text) + std::string(kube::kNoNodePortAddress));
        });
    bool& primary = settings().node_port_primary;
    if (items == 0 && settings().mode == kube::Mode::kNftables) primary = true;
    if (primary && result_.node_ip_override) {
      const net::IpAddress& ip = *result_.node_ip_override;
      settings().node_port_addresses.emplace_back(ip, static_cast<uint8_t>(ip.size() * 8));
      primary = false;
    }
  }

  void ReadClientConnection() {
    ObjectReader reader = root_.Object("clientConnection");
    result_.kubeconfig = Text(reader, "kubeconfig");
    for (const char* name : {"acceptContentTypes", "contentType"}) {
      const std::string type = Text(reader, name);
      if (!type.empty() && type != "application/json") {
        Note(reader.PathOf(name), "JSON is always used with the API server");
      }
    }
    if (const nlohmann::json* qps = reader.Raw("qps")) {
      if (!qps->is_number() || !std::isfinite(qps->get<double>())) {
        reader.Error("qps",
                     std::string("must be a number, is ") +
                         (qps->is_number() ? "not finite" : std::string("a ") + qps->type_name()));
      } else if (qps->get<double>() != 0) {
        result_.qps = qps->get<double>();
      }
    }
    int burst = 0;
    reader.Int("burst", 0, kMaxInt32, burst);
    if (burst != 0) result_.burst = burst;
    NoteUnknown(reader);
  }

  void ReadLogging() {
    ObjectReader reader = root_.Object("logging");
    const std::string format = Text(reader, "format");
    if (format == "json") result_.log_format = format;
    if (!format.empty() && format != "text" && format != "json") {
      reader.Error("format", ObjectReader::Quote(format) + " is not one of text, json");
    }
    reader.Int("verbosity", 0, kMaxInt32, result_.log_verbosity);
    // Nothing is held back, so there is nothing to flush.
    if (const nlohmann::json* flush = reader.Raw("flushFrequency")) {
      const bool text = flush->is_string();
      if (!flush->is_number_integer() &&
          !(text && kube::ParseDuration(flush->get_ref<const std::string&>()))) {
        reader.Error("flushFrequency", "is not a duration");
      }
    }
    if (const nlohmann::json* vmodule = reader.Raw("vmodule")) {
      if (!vmodule->is_array()) {
        reader.Error("vmodule", std::string("must be a list, is a ") + vmodule->type_name());
      } else if (!vmodule->empty()) {
        Note(reader.PathOf("vmodule"), "changes nothing: it names source files of kube-proxy");
      }
    }
    ReadLoggingOptions(reader.Object("options"));
    NoteUnknown(reader);
  }

  void ReadLoggingOptions(ObjectReader options) {
    for (const char* format : {"text", "json"}) {
      ObjectReader reader = options.Object(format);
      NoteTrue(reader, "splitStream", "changes nothing: the log goes to standard error");
      if (const nlohmann::json* size = reader.Raw("infoBufferSize")) {
        if (!size->is_string() && !size->is_number()) {
          reader.Error("infoBufferSize",
                       std::string("must be a quantity, is a ") + size->type_name());
        } else if (*size != "0" && *size != 0) {
          Note(reader.PathOf("infoBufferSize"), "changes nothing: nothing of the log is held back");
        }
      }
      NoteUnknown(reader);
    }
    NoteUnknown(options);
  }

  void ReadRest() {
    result_.hostname_override = Text(root_, "hostnameOverride");
    NoteTrue(root_, "enableProfiling",
             "changes nothing: there is no Go profiler here; perf works on the agent");
    const std::string hidden = Text(root_, "showHiddenMetricsForVersion");
    if (!hidden.empty()) {
      const auto is_digits = [](std::string_view text) {
        return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
      };
      const size_t dot = hidden.find('.');
      if (dot == std::string::npos || !is_digits(std::string_view(hidden).substr(0, dot)) ||
          !is_digits(std::string_view(hidden).substr(dot + 1))) {
        root_.Error("showHiddenMetricsForVersion",
                    ObjectReader::Quote(hidden) + " is not a version (expected like 1.16)");
      } else {
        Note("showHiddenMetricsForVersion", "no metric is hidden here");
      }
    }
    if (root_.Has("oomScoreAdj")) {
      int score = 0;
      root_.Int("oomScoreAdj", -1000, 1000, score);
      result_.oom_score_adj = score;
    } else {
      root_.Raw("oomScoreAdj");
    }
    Duration period{0};
    root_.Time("configSyncPeriod", Duration::zero(), kMaxTime, period);
    if (period != Duration::zero()) result_.config_sync_period = period;
    if (const nlohmann::json* gates = root_.Raw("featureGates")) {
      if (!gates->is_object()) {
        root_.Error("featureGates", std::string("must be an object, is a ") + gates->type_name());
        return;
      }
      ObjectReader reader = root_.Object("featureGates");
      for (const auto& [name, value] : gates->items()) {
        bool on = false;
        reader.Bool(name.c_str(), on);
        Note(reader.PathOf(name.c_str()), "kube-proxy's features are not switched here");
      }
    }
  }

  // kube-proxy for Linux reads these and looks at none. A dump of the defaults has zero values.
  void ReadWindows() {
    constexpr const char* kWindows = "changes nothing: it is for Windows only";
    NoteTrue(root_, "windowsRunAsService", kWindows);
    ObjectReader reader = root_.Object("winkernel");
    for (const char* name : {"networkName", "sourceVip", "rootHnsEndpointName"}) {
      if (!Text(reader, name).empty()) Note(reader.PathOf(name), kWindows);
    }
    for (const char* name : {"enableDSR", "forwardHealthCheckVip"})
      NoteTrue(reader, name, kWindows);
    NoteUnknown(reader);
  }

  static void RefuseTrue(ObjectReader& reader, const char* name, const std::string& why) {
    bool flag = false;
    reader.Bool(name, flag);
    if (flag) reader.Error(name, why);
  }

  void NoteTrue(ObjectReader& reader, const char* name, const char* note) {
    bool flag = false;
    reader.Bool(name, flag);
    if (flag) Note(reader.PathOf(name), note);
  }

  void Note(std::string path, std::string note) {
    notes_.push_back({std::move(path), std::move(note)});
  }

  // kube-proxy's decoding of v1alpha1 is strict first, then lenient with a warning (options.go
  // loadConfig, since PR #84143).
  void NoteUnknown(const ObjectReader& reader) {
    for (const std::string& name : reader.UnknownMembers()) {
      const std::string meant = MeantField(name);
      Note(reader.PathOf(text::Shorten(name, 64).c_str()),
           "unknown field, ignored, as kube-proxy ignores it with a warning" +
               (meant.empty() ? "" : "; is " + meant + " meant?"));
    }
  }

  // A field of this name elsewhere, or in another case: Kubernetes' decoder minds the case.
  static std::string MeantField(std::string_view name) {
    static const std::set<std::string> fields = [] {
      const nlohmann::json nothing = nlohmann::json::object();
      std::vector<FieldError> errors;
      std::vector<FieldError> notes;
      std::set<std::string> asked;
      Loader(nothing, errors, notes, &asked).Load();
      return asked;
    }();
    const auto same = [](char a, char b) {
      return std::tolower(static_cast<unsigned char>(a)) ==
             std::tolower(static_cast<unsigned char>(b));
    };
    for (const std::string& field : fields) {
      const std::string_view last = std::string_view(field).substr(field.rfind('.') + 1);
      if (std::equal(last.begin(), last.end(), name.begin(), name.end(), same)) return field;
    }
    return "";
  }

  std::vector<FieldError>& errors_;
  std::vector<FieldError>& notes_;  // what was read and changes nothing
  std::set<std::string>* const asked_;
  ObjectReader root_;
  KubeProxyConfiguration result_;
};

// For the log: each with its place, bounded in number and length.
std::vector<std::string> NoteTexts(const std::vector<FieldError>& notes,
                                   const std::function<std::string(const std::string&)>& place) {
  std::vector<std::string> texts;
  for (const FieldError& note : notes) {
    if (texts.size() == kMaxNotes) {
      texts.push_back("and " + std::to_string(notes.size() - kMaxNotes) + " more notes like these");
      break;
    }
    texts.push_back(text::Message(place(note.path) + ": " + note.message, kMaxNote));
  }
  return texts;
}

}  // namespace

KubeProxyConfiguration ParseKubeProxyConfiguration(std::string_view text, const std::string& name) {
  kube::YamlDocument document;
  try {
    document = kube::ParseYaml(text);
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(name + ": " + error.what());
  }
  if (!document.value.is_object()) {
    throw std::invalid_argument(name + ": not a KubeProxyConfiguration: no YAML object");
  }
  const auto place = [&document](const std::string& path) {
    const int line = document.LineOf(path);
    return line > 0 ? "line " + std::to_string(line) + ": " + path : path;
  };
  std::vector<FieldError> errors;
  std::vector<FieldError> notes;
  for (const auto& [path, line] : document.duplicates) {
    notes.push_back({path, "is given twice: the value on line " + std::to_string(line) +
                               " counts, as for kube-proxy, which warns"});
  }
  KubeProxyConfiguration configuration = Loader(document.value, errors, notes).Load();
  if (errors.empty()) {
    configuration.notes =
        NoteTexts(notes, [&](const std::string& path) { return name + ": " + place(path); });
    if (document.more) {
      configuration.notes.push_back(
          name + ": what follows the first YAML document is ignored, as by kube-proxy");
    }
    return configuration;
  }
  for (FieldError& error : errors)
    error.path = place(error.path);
  throw std::invalid_argument(
      text::Message(name + ": " + kube::Summarize(errors, kMaxErrors), kMaxErrorText));
}

KubeProxyConfiguration KubeProxyConfigurationFromJson(
    const nlohmann::json& value, const std::function<std::string(const std::string&)>& place) {
  std::vector<FieldError> errors;
  std::vector<FieldError> notes;
  KubeProxyConfiguration configuration = Loader(value, errors, notes).Load();
  if (errors.empty()) {
    configuration.notes = NoteTexts(notes, place);
    return configuration;
  }
  for (FieldError& error : errors)
    error.path = place(error.path);
  throw std::invalid_argument(text::Message(kube::Summarize(errors, kMaxErrors), kMaxErrorText));
}

std::vector<std::string> KubeProxyConfigurationFields() {
  const nlohmann::json nothing = nlohmann::json::object();
  std::vector<FieldError> errors;  // it has no kind, of course
  std::vector<FieldError> notes;
  std::set<std::string> asked;
  Loader(nothing, errors, notes, &asked).Load();
  std::vector<std::string> fields;
  for (const std::string& path : asked) {
    const auto inner = asked.lower_bound(path + ".");
    if (inner == asked.end() || !inner->starts_with(path + ".")) fields.push_back(path);
  }
  return fields;
}

std::string ReadConfigurationFile(const std::filesystem::path& file) {
  errno = 0;
  std::ifstream stream(file, std::ios::binary);
  if (!stream) {
    throw std::system_error(errno != 0 ? errno : EIO, std::generic_category(),
                            "open " + file.string());
  }
  std::string text(kMaxFile + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (stream.bad()) throw std::system_error(EIO, std::generic_category(), "read " + file.string());
  if (stream.gcount() > static_cast<std::streamsize>(kMaxFile)) {
    throw std::invalid_argument(file.string() + ": has more than 1 MiB");
  }
  text.resize(static_cast<size_t>(stream.gcount()));
  return text;
}

KubeProxyConfiguration LoadKubeProxyConfiguration(const std::filesystem::path& file) {
  return ParseKubeProxyConfiguration(ReadConfigurationFile(file), file.string());
}

}  // namespace pointsman::agent
