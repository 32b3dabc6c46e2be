// ProxySettings as the spec of ProxyConfiguration and NodeProxy has them: kube-proxy's own field
// names and units.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "kube/pointsman/field_error.h"
#include "kube/pointsman/object_reader.h"
#include "kube/pointsman/proxy_settings.h"

namespace pointsman::kube {

enum class UnknownFields { kIgnore, kReject };

// Reads the settings' members from `reader`; absent ones keep `settings`' values. Checks bounds and
// what spans fields. `unknown` is about the members of the blocks inside (ipvs, iptables, …);
// the caller calls reader.RejectUnknown() itself, after reading its own members.
void ReadSettings(ObjectReader& reader, UnknownFields unknown, ProxySettings& settings);

void ReadModules(ObjectReader reader, UnknownFields unknown, ModuleSettings& modules);
// A name that this program does not know is an error with kReject, and else left out.
void ReadNeighbours(ObjectReader reader, UnknownFields unknown, NeighbourSettings& neighbours);
void ReadModes(ObjectReader& reader, const char* name, std::vector<Mode>& modes);

// Adds one item of nodePortAddresses: a CIDR (`cidr`: `text` read as one), or a word, which may
// stand beside others (kubernetes PR #138427; before that kube-proxy took "primary" alone and no
// other word). Each CIDR is there once. False: it is neither.
bool AddNodePortAddress(std::string_view text, const std::optional<net::IpPrefix>& cidr,
                        ProxySettings& settings);
inline constexpr std::string_view kNoNodePortAddress =
    " is neither a CIDR nor primary, localhost or all";

// All members, also those that have their default.
nlohmann::json ToJson(const ProxySettings& settings);
nlohmann::json ToJson(const ModuleSettings& modules);
nlohmann::json ToJson(const NeighbourSettings& neighbours);
nlohmann::json ToJson(const std::vector<Mode>& modes);

// Whether nothing tells the traffic of the cluster's Pods from other traffic. kube-proxy logs it as
// a warning at its start ("Detect-local-mode set to ClusterCIDR, but no cluster CIDR defined").
bool CannotTellPods(const ProxySettings& settings);
inline constexpr std::string_view kCannotTellPods =
    "not set, so Pods' traffic cannot be told from that of others: traffic to a cluster IP from "
    "outside is not masqueraded, and for a Service with externalTrafficPolicy Local a Pod of this "
    "cluster counts as outside (kubernetes#131765)";

// "ClusterCIDR", …; "" for kNone.
std::string_view ToString(DetectLocalMode mode);
std::optional<DetectLocalMode> ParseDetectLocalMode(std::string_view text);

}  // namespace pointsman::kube
