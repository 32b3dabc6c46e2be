// ProxySettings as the spec of ProxyConfiguration and NodeProxy has them: kube-proxy's own field
// names and units.
#pragma once

#include <string>
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
void ReadModes(ObjectReader& reader, const char* name, std::vector<Mode>& modes);

// All members, also those that have their default.
nlohmann::json ToJson(const ProxySettings& settings);
nlohmann::json ToJson(const ModuleSettings& modules);
nlohmann::json ToJson(const std::vector<Mode>& modes);

// "ClusterCIDR", …; "" for kNone.
std::string_view ToString(DetectLocalMode mode);
std::optional<DetectLocalMode> ParseDetectLocalMode(std::string_view text);

}  // namespace pointsman::kube
