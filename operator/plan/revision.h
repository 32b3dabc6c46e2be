// A revision: the rendered settings of a ProxyConfiguration at one time, kept as a
// ControllerRevision (apps/v1) in the operator's namespace so that a rollback has something to go
// back to.
#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

#include "kube/pointsman/provider.h"
#include "kube/pointsman/proxy_configuration.h"
#include "kube/pointsman/proxy_settings.h"

namespace pointsman::op {

inline constexpr const char* kConfigurationLabel = "pointsman.io/configuration";

struct Revision {
  std::string name;  // of the ControllerRevision
  std::string
      configuration;      // of the ProxyConfiguration, and its uid: a configuration that is made
  std::string owner_uid;  // anew under an old name has none of the old one's revisions
  // Unique in the cluster, greater than all before it. One above kMaxRevision (somebody else wrote
  // it) is of no use: agents cannot be asked for it.
  int64_t number = 0;
  kube::ProxySettings settings;
  kube::Provider provider = kube::Provider::kNodeAgent;
  // With provider KubeProxy: the whole text of kube-proxy's file, and what was asked for in it.
  std::string file;
  nlohmann::json asked;
  // It was made for no specification: it is what kube-proxy's file said before Pointsman's first
  // change, and what is gone back to from that. Of the settings only the mode is known.
  bool found = false;
  bool operator==(const Revision&) const = default;
};

// The same settings of the same configuration always give the same name: creating it twice is
// refused by the API server, whatever a cache said.
Revision MakeRevision(const kube::ProxyConfiguration& configuration,
                      const kube::ProxySettings& settings, int64_t number);

// The same with provider KubeProxy.
Revision MakeFileRevision(const kube::ProxyConfiguration& configuration,
                          const kube::ProxySettings& settings, const std::string& file,
                          const nlohmann::json& asked, int64_t number);
Revision MakeFoundRevision(const kube::ProxyConfiguration& configuration, kube::Mode mode,
                           const std::string& file, int64_t number);

// The settings that the specification asks for, as a revision has them: kube-proxy falls back to no
// other mode.
kube::ProxySettings SettingsOf(const kube::ProxyConfiguration& configuration);

nlohmann::json ToJson(const Revision& revision, const std::string& ns);
// Throws std::invalid_argument that names the field.
Revision RevisionFromJson(const nlohmann::json& object);

}  // namespace pointsman::op
