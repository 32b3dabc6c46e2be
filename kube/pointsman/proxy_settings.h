// The settings that a ProxyConfiguration, a NodeProxy and a KubeProxyConfiguration file have in
// common, with kube-proxy's names, units and defaults (KubeProxyConfiguration v1alpha1).
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kube/net/ip_address.h"
#include "kube/pointsman/mode.h"

namespace pointsman::kube {

using Duration = std::chrono::nanoseconds;  // metav1.Duration; never negative after validation

struct IpvsSettings {
  std::string scheduler = "rr";
  std::vector<net::IpPrefix> exclude_cidrs;
  bool strict_arp = false;
  Duration sync_period = std::chrono::seconds(30);
  Duration min_sync_period{0};
  // 0: leave the kernel's value.
  Duration tcp_timeout{0};
  Duration tcp_fin_timeout{0};
  Duration udp_timeout{0};
  bool operator==(const IpvsSettings&) const = default;
};

struct IptablesSettings {   // also nftables
  int masquerade_bit = 14;  // 0..31
  bool masquerade_all = false;
  Duration sync_period = std::chrono::seconds(30);
  Duration min_sync_period{0};
  bool operator==(const IptablesSettings&) const = default;
};

struct UserspaceSettings {
  Duration udp_idle_timeout = std::chrono::milliseconds(250);
  std::string port_range;  // "" or "30000-30500"
  bool operator==(const UserspaceSettings&) const = default;
};

struct ConntrackSettings {
  std::optional<int> max_per_core = 32768;  // 0: leave the kernel's value
  std::optional<int> min = 131072;
  Duration tcp_established_timeout = std::chrono::hours(24);  // 0: leave
  Duration tcp_close_wait_timeout = std::chrono::hours(1);
  bool tcp_be_liberal = false;
  Duration udp_timeout{0};
  Duration udp_stream_timeout{0};
  bool operator==(const ConntrackSettings&) const = default;
};

enum class DetectLocalMode : uint8_t {
  kNone,  // not set: ClusterCIDR if clusterCIDR is set, else nothing is masqueraded as off-cluster
  kClusterCidr,
  kNodeCidr,
  kBridgeInterface,
  kInterfaceNamePrefix
};

struct DetectLocal {
  std::string bridge_interface;
  std::string interface_name_prefix;
  bool operator==(const DetectLocal&) const = default;
};

enum class ModulePolicy : uint8_t { kLoad, kRequireLoaded };

struct ModuleSettings {
  ModulePolicy policy = ModulePolicy::kLoad;
  std::vector<std::string> extra;  // module names: [a-zA-Z0-9_-]+
  bool operator==(const ModuleSettings&) const = default;
};

// Who else is at work on a node (kube/pointsman/neighbour_names.h).
struct NeighbourSettings {
  // A mode that is refused beside one of these runs nevertheless.
  std::vector<std::string> accept;
  bool operator==(const NeighbourSettings&) const = default;
};

struct ProxySettings {
  Mode mode = Mode::kIptables;
  std::vector<Mode> fallback_modes{Mode::kIptables};
  IpvsSettings ipvs;
  IptablesSettings iptables;
  IptablesSettings nftables;
  UserspaceSettings userspace;
  std::vector<net::IpPrefix> cluster_cidrs;  // clusterCIDR: one a family, comma-separated
  DetectLocalMode detect_local_mode = DetectLocalMode::kNone;
  DetectLocal detect_local;
  // CIDRs, and the word "primary" (then `node_port_primary`). Empty and not primary: all addresses.
  std::vector<net::IpPrefix> node_port_addresses;
  bool node_port_primary = false;
  bool localhost_node_ports = true;  // iptables.localhostNodePorts; for every mode
  ConntrackSettings conntrack;
  ModuleSettings modules;
  NeighbourSettings neighbours;
  Duration drain_timeout = std::chrono::minutes(5);  // handover.drainTimeout
  bool operator==(const ProxySettings&) const = default;

  // Is all that is sent to cluster IPs masqueraded? As the desired mode's section says, so that the
  // modes on both sides of a handover, and a fallback mode, do the same.
  bool MasqueradesAll() const {
    return mode == Mode::kNftables ? nftables.masquerade_all : iptables.masquerade_all;
  }
};

}  // namespace pointsman::kube
