// kubectl pointsman history: the revisions of a ProxyConfiguration, and which one to go back to.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "kube/pointsman/node_proxy.h"
#include "kube/pointsman/proxy_configuration.h"
#include "kubectl-pointsman/api.h"

namespace pointsman::plugin {

// A setting that differs: "ipvs.scheduler", "rr", "lc".
struct SettingChange {
  std::string path;
  std::string before;  // "" with `after`: it is new
  std::string after;
};
// Of two JSON objects, member by member, lists as a whole. `path`: in front of each path.
std::vector<SettingChange> Changes(const nlohmann::json& before, const nlohmann::json& after,
                                   const std::string& path = "");

struct HistoryEntry {
  StoredRevision stored;
  size_t nodes = 0;                    // that are asked to run it
  std::vector<std::string> marks;      // "specified", "last good", …
  std::vector<SettingChange> changes;  // from the one before
};

std::vector<HistoryEntry> MakeHistory(const kube::ProxyConfiguration& configuration,
                                      const std::vector<StoredRevision>& revisions,
                                      const std::vector<kube::NodeProxy>& proxies);
std::string HistoryText(const std::vector<HistoryEntry>& history);
nlohmann::json HistoryJson(const std::vector<HistoryEntry>& history);

// Where `rollback` without a number goes: to the last revision that was good everywhere if the
// nodes are on their way to another, else to the one before. Throws Failure (kNotFound) when there
// is none.
int64_t RevisionBefore(const kube::ProxyConfiguration& configuration,
                       const std::vector<StoredRevision>& revisions);

}  // namespace pointsman::plugin
