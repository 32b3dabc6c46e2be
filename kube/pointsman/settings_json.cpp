#include "kube/pointsman/settings_json.h"

#include <algorithm>
#include <charconv>
#include <initializer_list>

#include "kube/pointsman/duration.h"
#include "kube/pointsman/limits.h"
#include "kube/pointsman/neighbour_names.h"

namespace pointsman::kube {
namespace {

using nlohmann::json;

constexpr std::string_view kModeWords = "userspace, iptables, ipvs, nftables";

std::optional<std::string> ParseScheduler(std::string_view text) {
  if (!limits::IsIpvsScheduler(text)) return std::nullopt;
  return std::string(text);
}

json ToJson(const std::vector<net::IpPrefix>& prefixes) {
  json list = json::array();
  for (const net::IpPrefix& prefix : prefixes)
    list.push_back(prefix.ToString());
  return list;
}

void ReadPrefixes(ObjectReader& reader, const char* name, size_t max_items,
                  std::vector<net::IpPrefix>& out) {
  std::vector<net::IpPrefix> prefixes;
  const bool read =
      reader.Strings(name, max_items, [&](const std::string& text, const std::string& path) {
        const auto prefix = net::IpPrefix::Parse(text);
        if (!prefix) {
          reader.ErrorAt(path, ObjectReader::Quote(text) +
                                   " is not a CIDR (expected something like 10.0.0.0/8)");
        } else if (std::find(prefixes.begin(), prefixes.end(), *prefix) != prefixes.end()) {
          reader.ErrorAt(path, ObjectReader::Quote(text) + " is listed twice");
        } else {
          prefixes.push_back(*prefix);
        }
      });
  if (read) out = std::move(prefixes);
}

void ReadSyncPeriods(ObjectReader& reader, Duration& period, Duration& min_period) {
  reader.Time("syncPeriod", limits::kMinSyncPeriod, limits::kMaxSyncPeriod, period);
  reader.Time("minSyncPeriod", Duration::zero(), limits::kMaxSyncPeriod, min_period);
  if (min_period > period) {
    reader.Error("minSyncPeriod", "must not be longer than syncPeriod (" + FormatDuration(period) +
                                      "), is " + FormatDuration(min_period));
  }
}

void ReadIpvs(ObjectReader reader, UnknownFields unknown, IpvsSettings& ipvs) {
  reader.Word<std::string>("scheduler", ParseScheduler, limits::kIpvsSchedulerWords,
                           ipvs.scheduler);
  ReadPrefixes(reader, "excludeCIDRs", limits::kMaxExcludeCidrs, ipvs.exclude_cidrs);
  reader.Bool("strictARP", ipvs.strict_arp);
  ReadSyncPeriods(reader, ipvs.sync_period, ipvs.min_sync_period);
  reader.Time("tcpTimeout", Duration::zero(), limits::kMaxKernelTimeout, ipvs.tcp_timeout);
  reader.Time("tcpFinTimeout", Duration::zero(), limits::kMaxKernelTimeout, ipvs.tcp_fin_timeout);
  reader.Time("udpTimeout", Duration::zero(), limits::kMaxKernelTimeout, ipvs.udp_timeout);
  if (unknown == UnknownFields::kReject) reader.RejectUnknown();
}

// `localhost_node_ports`: null where there is no such field.
void ReadIptables(ObjectReader reader, UnknownFields unknown, bool* localhost_node_ports,
                  IptablesSettings& iptables) {
  reader.Int("masqueradeBit", 0, limits::kMaxMasqueradeBit, iptables.masquerade_bit);
  reader.Bool("masqueradeAll", iptables.masquerade_all);
  if (localhost_node_ports != nullptr) reader.Bool("localhostNodePorts", *localhost_node_ports);
  ReadSyncPeriods(reader, iptables.sync_period, iptables.min_sync_period);
  if (unknown == UnknownFields::kReject) reader.RejectUnknown();
}

// "" or "30000-30500".
bool IsPortRange(std::string_view text) {
  if (text.empty()) return true;
  const auto port = [](std::string_view digits) {
    int value = 0;
    const char* const last = digits.data() + digits.size();
    const auto [end, error] = std::from_chars(digits.data(), last, value);
    return error == std::errc() && end == last && value >= 1 && value <= 65535 ? value : -1;
  };
  const size_t dash = text.find('-');
  if (dash == std::string_view::npos) return false;
  const int first = port(text.substr(0, dash));
  const int last = port(text.substr(dash + 1));
  return first > 0 && last > 0 && first <= last;
}

void ReadUserspace(ObjectReader reader, UnknownFields unknown, UserspaceSettings& userspace) {
  reader.Time("udpIdleTimeout", Duration(1), limits::kMaxUdpIdleTimeout,
              userspace.udp_idle_timeout);
  reader.String("portRange", limits::kMaxPortRange, userspace.port_range);
  if (!IsPortRange(userspace.port_range)) {
    reader.Error("portRange", ObjectReader::Quote(userspace.port_range) +
                                  " is not a range of ports (expected something like 30000-30500)");
  }
  if (unknown == UnknownFields::kReject) reader.RejectUnknown();
}

void ReadConntrack(ObjectReader reader, UnknownFields unknown, ConntrackSettings& conntrack) {
  reader.Int("maxPerCore", 0, limits::kMaxConntrack, conntrack.max_per_core);
  reader.Int("min", 0, limits::kMaxConntrack, conntrack.min);
  const Duration max = limits::kMaxKernelTimeout;
  reader.Time("tcpEstablishedTimeout", Duration::zero(), max, conntrack.tcp_established_timeout);
  reader.Time("tcpCloseWaitTimeout", Duration::zero(), max, conntrack.tcp_close_wait_timeout);
  reader.Bool("tcpBeLiberal", conntrack.tcp_be_liberal);
  reader.Time("udpTimeout", Duration::zero(), max, conntrack.udp_timeout);
  reader.Time("udpStreamTimeout", Duration::zero(), max, conntrack.udp_stream_timeout);
  if (unknown == UnknownFields::kReject) reader.RejectUnknown();
}

// One CIDR, or one of each family separated by a comma.
void ReadClusterCidr(ObjectReader& reader, std::vector<net::IpPrefix>& out) {
  if (!reader.Has("clusterCIDR")) return;
  std::string text;
  reader.String("clusterCIDR", limits::kMaxClusterCidr, text);
  std::vector<net::IpPrefix> prefixes;
  for (size_t at = 0; at < text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    const std::string part = text.substr(at, comma - at);
    const auto prefix = net::IpPrefix::Parse(part);
    if (!prefix) {
      reader.Error("clusterCIDR", ObjectReader::Quote(part) +
                                      " is not a CIDR (expected something like 10.0.0.0/8)");
      return;
    }
    prefixes.push_back(*prefix);
    at = comma + 1;
  }
  if (prefixes.size() > 2 ||
      (prefixes.size() == 2 && prefixes[0].family() == prefixes[1].family())) {
    reader.Error("clusterCIDR",
                 "may have one IPv4 and one IPv6 CIDR, is " + ObjectReader::Quote(text));
    return;
  }
  out = std::move(prefixes);
}

void ReadDetectLocal(ObjectReader& reader, UnknownFields unknown, ProxySettings& settings) {
  reader.Word<DetectLocalMode>("detectLocalMode", ParseDetectLocalMode,
                               "ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix",
                               settings.detect_local_mode);
  ObjectReader detect = reader.Object("detectLocal");
  detect.String("bridgeInterface", limits::kMaxInterfaceName,
                settings.detect_local.bridge_interface);
  detect.String("interfaceNamePrefix", limits::kMaxInterfaceName,
                settings.detect_local.interface_name_prefix);
  if (unknown == UnknownFields::kReject) detect.RejectUnknown();

  if (settings.detect_local_mode == DetectLocalMode::kBridgeInterface &&
      settings.detect_local.bridge_interface.empty()) {
    detect.Error("bridgeInterface", "is needed when detectLocalMode is BridgeInterface");
  }
  if (settings.detect_local_mode == DetectLocalMode::kInterfaceNamePrefix &&
      settings.detect_local.interface_name_prefix.empty()) {
    detect.Error("interfaceNamePrefix", "is needed when detectLocalMode is InterfaceNamePrefix");
  }
  if (settings.detect_local_mode == DetectLocalMode::kClusterCidr &&
      settings.cluster_cidrs.empty()) {
    reader.Error("clusterCIDR", "is needed when detectLocalMode is ClusterCIDR");
  }
}

void ReadNodePortAddresses(ObjectReader& reader, ProxySettings& settings) {
  ProxySettings read = settings;
  read.node_port_addresses.clear();
  read.node_port_primary = false;
  const bool there = reader.Strings(
      "nodePortAddresses", limits::kMaxNodePortAddresses,
      [&](const std::string& text, const std::string& path) {
        if (!AddNodePortAddress(text, net::IpPrefix::Parse(text), read))
          reader.ErrorAt(path, ObjectReader::Quote(text) + std::string(kNoNodePortAddress));
      });
  if (!there) return;
  const size_t count = read.node_port_addresses.size() + (read.node_port_primary ? 1 : 0);
  if (count > limits::kMaxNodePortAddresses) {
    reader.Error("nodePortAddresses", "\"localhost\" and \"all\" are two CIDRs each, which makes " +
                                          std::to_string(count) + " and more than " +
                                          std::to_string(limits::kMaxNodePortAddresses));
    return;
  }
  settings = std::move(read);
}

bool IsModuleName(std::string_view text) {
  return !text.empty() && text.size() <= limits::kMaxModuleName &&
         text.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") ==
             std::string_view::npos;
}

json IptablesJson(const IptablesSettings& iptables) {
  return {{"masqueradeBit", iptables.masquerade_bit},
          {"masqueradeAll", iptables.masquerade_all},
          {"syncPeriod", FormatDuration(iptables.sync_period)},
          {"minSyncPeriod", FormatDuration(iptables.min_sync_period)}};
}

}  // namespace

std::string_view ToString(DetectLocalMode mode) {
  switch (mode) {
    case DetectLocalMode::kNone:
      return "";
    case DetectLocalMode::kClusterCidr:
      return "ClusterCIDR";
    case DetectLocalMode::kNodeCidr:
      return "NodeCIDR";
    case DetectLocalMode::kBridgeInterface:
      return "BridgeInterface";
    case DetectLocalMode::kInterfaceNamePrefix:
      return "InterfaceNamePrefix";
  }
  return "";
}

bool CannotTellPods(const ProxySettings& settings) {
  return settings.cluster_cidrs.empty() &&
         (settings.detect_local_mode == DetectLocalMode::kNone ||
          settings.detect_local_mode == DetectLocalMode::kClusterCidr);
}

std::optional<DetectLocalMode> ParseDetectLocalMode(std::string_view text) {
  for (const DetectLocalMode mode :
       {DetectLocalMode::kNone, DetectLocalMode::kClusterCidr, DetectLocalMode::kNodeCidr,
        DetectLocalMode::kBridgeInterface, DetectLocalMode::kInterfaceNamePrefix}) {
    if (ToString(mode) == text) return mode;
  }
  return std::nullopt;
}

void ReadModes(ObjectReader& reader, const char* name, std::vector<Mode>& out) {
  std::vector<Mode> modes;
  const bool read = reader.Strings(
      name, limits::kMaxFallbackModes, [&](const std::string& text, const std::string& path) {
        const auto mode = ParseMode(text);
        if (!mode) {
          reader.ErrorAt(path,
                         ObjectReader::Quote(text) + " is not one of " + std::string(kModeWords));
        } else if (std::find(modes.begin(), modes.end(), *mode) != modes.end()) {
          reader.ErrorAt(path, ObjectReader::Quote(text) + " is listed twice");
        } else {
          modes.push_back(*mode);
        }
      });
  if (read) out = std::move(modes);
}

void ReadModules(ObjectReader reader, UnknownFields unknown, ModuleSettings& modules) {
  reader.Word<ModulePolicy>(
      "policy",
      [](std::string_view text) -> std::optional<ModulePolicy> {
        if (text == "Load") return ModulePolicy::kLoad;
        if (text == "RequireLoaded") return ModulePolicy::kRequireLoaded;
        return std::nullopt;
      },
      "Load, RequireLoaded", modules.policy);
  std::vector<std::string> extra;
  const bool read = reader.Strings(
      "extra", limits::kMaxExtraModules, [&](const std::string& text, const std::string& path) {
        if (!IsModuleName(text)) {
          reader.ErrorAt(path, ObjectReader::Quote(text) +
                                   " is not a module name (letters, digits, _ and -, at most 63)");
        } else if (std::find(extra.begin(), extra.end(), text) != extra.end()) {
          reader.ErrorAt(path, ObjectReader::Quote(text) + " is listed twice");
        } else {
          extra.push_back(text);
        }
      });
  if (read) modules.extra = std::move(extra);
  if (unknown == UnknownFields::kReject) reader.RejectUnknown();
}

void ReadNeighbours(ObjectReader reader, UnknownFields unknown, NeighbourSettings& neighbours) {
  std::vector<std::string> accept;
  const bool read =
      reader.Strings("accept", limits::kMaxAcceptedNeighbours,
                     [&](const std::string& text, const std::string& path) {
                       if (!IsNeighbourName(text)) {
                         // What a newer one knows is no reason to refuse all that is asked of a
                         // node.
                         if (unknown == UnknownFields::kReject)
                           reader.ErrorAt(path, ObjectReader::Quote(text) + " is not one of " +
                                                    NeighbourNameWords());
                       } else if (std::find(accept.begin(), accept.end(), text) != accept.end()) {
                         reader.ErrorAt(path, ObjectReader::Quote(text) + " is there twice");
                       } else {
                         accept.push_back(text);
                       }
                     });
  if (read) neighbours.accept = std::move(accept);
  if (unknown == UnknownFields::kReject) reader.RejectUnknown();
}

void ReadSettings(ObjectReader& reader, UnknownFields unknown, ProxySettings& settings) {
  reader.Word<Mode>("mode", ParseMode, kModeWords, settings.mode);
  ReadModes(reader, "fallbackModes", settings.fallback_modes);
  ReadIpvs(reader.Object("ipvs"), unknown, settings.ipvs);
  ReadIptables(reader.Object("iptables"), unknown, &settings.localhost_node_ports,
               settings.iptables);
  ReadIptables(reader.Object("nftables"), unknown, nullptr, settings.nftables);
  ReadUserspace(reader.Object("userspace"), unknown, settings.userspace);
  // Marked as known also when absent.
  reader.Raw("clusterCIDR");
  ReadClusterCidr(reader, settings.cluster_cidrs);
  ReadDetectLocal(reader, unknown, settings);
  ReadNodePortAddresses(reader, settings);
  ReadConntrack(reader.Object("conntrack"), unknown, settings.conntrack);
  ReadModules(reader.Object("modules"), unknown, settings.modules);
  ReadNeighbours(reader.Object("neighbours"), unknown, settings.neighbours);
  ObjectReader handover = reader.Object("handover");
  handover.Time("drainTimeout", Duration::zero(), limits::kMaxDrainTimeout, settings.drain_timeout);
  if (unknown == UnknownFields::kReject) handover.RejectUnknown();
}

json ToJson(const std::vector<Mode>& modes) {
  json list = json::array();
  for (const Mode mode : modes)
    list.push_back(ToString(mode));
  return list;
}

json ToJson(const ModuleSettings& modules) {
  return {{"policy", modules.policy == ModulePolicy::kLoad ? "Load" : "RequireLoaded"},
          {"extra", modules.extra}};
}

json ToJson(const NeighbourSettings& neighbours) {
  return {{"accept", neighbours.accept}};
}

bool AddNodePortAddress(std::string_view text, const std::optional<net::IpPrefix>& cidr,
                        ProxySettings& settings) {
  const auto add = [&cidrs = settings.node_port_addresses](const net::IpPrefix& prefix) {
    if (std::find(cidrs.begin(), cidrs.end(), prefix) == cidrs.end()) cidrs.push_back(prefix);
  };
  const auto add_all = [&add](std::initializer_list<const char*> texts) {
    for (const char* one : texts)
      add(net::IpPrefix::Parse(one).value());
  };
  if (cidr)
    add(*cidr);
  else if (text == "primary")
    settings.node_port_primary = true;
  else if (text == "localhost")
    add_all({"127.0.0.0/8", "::1/128"});
  else if (text == "all")
    add_all({"0.0.0.0/0", "::/0"});
  else
    return false;
  return true;
}

json ToJson(const ProxySettings& settings) {
  const IpvsSettings& ipvs = settings.ipvs;
  const ConntrackSettings& conntrack = settings.conntrack;
  std::string cluster_cidr;
  for (const net::IpPrefix& prefix : settings.cluster_cidrs) {
    if (!cluster_cidr.empty()) cluster_cidr += ',';
    cluster_cidr += prefix.ToString();
  }
  json node_port_addresses = ToJson(settings.node_port_addresses);
  if (settings.node_port_primary) {
    node_port_addresses.insert(node_port_addresses.begin(), "primary");
  }
  json conntrack_json = {
      {"tcpEstablishedTimeout", FormatDuration(conntrack.tcp_established_timeout)},
      {"tcpCloseWaitTimeout", FormatDuration(conntrack.tcp_close_wait_timeout)},
      {"tcpBeLiberal", conntrack.tcp_be_liberal},
      {"udpTimeout", FormatDuration(conntrack.udp_timeout)},
      {"udpStreamTimeout", FormatDuration(conntrack.udp_stream_timeout)}};
  if (conntrack.max_per_core) conntrack_json["maxPerCore"] = *conntrack.max_per_core;
  if (conntrack.min) conntrack_json["min"] = *conntrack.min;
  json iptables = IptablesJson(settings.iptables);
  iptables["localhostNodePorts"] = settings.localhost_node_ports;
  return {{"mode", ToString(settings.mode)},
          {"fallbackModes", ToJson(settings.fallback_modes)},
          {"ipvs",
           {{"scheduler", ipvs.scheduler},
            {"excludeCIDRs", ToJson(ipvs.exclude_cidrs)},
            {"strictARP", ipvs.strict_arp},
            {"syncPeriod", FormatDuration(ipvs.sync_period)},
            {"minSyncPeriod", FormatDuration(ipvs.min_sync_period)},
            {"tcpTimeout", FormatDuration(ipvs.tcp_timeout)},
            {"tcpFinTimeout", FormatDuration(ipvs.tcp_fin_timeout)},
            {"udpTimeout", FormatDuration(ipvs.udp_timeout)}}},
          {"iptables", std::move(iptables)},
          {"nftables", IptablesJson(settings.nftables)},
          {"userspace",
           {{"udpIdleTimeout", FormatDuration(settings.userspace.udp_idle_timeout)},
            {"portRange", settings.userspace.port_range}}},
          {"clusterCIDR", cluster_cidr},
          {"detectLocalMode", ToString(settings.detect_local_mode)},
          {"detectLocal",
           {{"bridgeInterface", settings.detect_local.bridge_interface},
            {"interfaceNamePrefix", settings.detect_local.interface_name_prefix}}},
          {"nodePortAddresses", std::move(node_port_addresses)},
          {"conntrack", std::move(conntrack_json)},
          {"modules", ToJson(settings.modules)},
          {"neighbours", ToJson(settings.neighbours)},
          {"handover", {{"drainTimeout", FormatDuration(settings.drain_timeout)}}}};
}

}  // namespace pointsman::kube
