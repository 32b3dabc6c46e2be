// The file that a stock kube-proxy reads (KubeProxyConfiguration v1alpha1), for spec.provider
// KubeProxy: where the cluster has it, what it says, and what becomes of it. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "kube/pointsman/mode.h"
#include "kube/pointsman/proxy_settings.h"

namespace pointsman::op {

// Where the Pods of a DaemonSet have it from.
struct KubeProxyFile {
  std::string config_map;  // its name
  std::string key;         // in that
  // The minor version of Kubernetes 1 that the image's tag names; nullopt: it names none.
  std::optional<int> minor;
  bool operator==(const KubeProxyFile&) const = default;
};

// `pod_spec`: of the DaemonSet's template. Throws std::invalid_argument that says why the file
// cannot be changed through the API, and what to do.
KubeProxyFile FindKubeProxyFile(const nlohmann::json& pod_spec);

// The mode that a file asks for. Throws std::invalid_argument when it is no KubeProxyConfiguration
// v1alpha1, or of a mode that is not ours.
kube::Mode ModeOfKubeProxyFile(std::string_view text);

// Where a kube-proxy with that file answers, as it says it: "" where it does not, or says what no
// address is as long as.
struct KubeProxyAddresses {
  std::string healthz;
  std::string metrics;
};
// Throws nothing: of what is no such file nothing is known.
KubeProxyAddresses AddressesOfKubeProxyFile(std::string_view text);

// The fields of kube-proxy's that `settings` ask for: the mode, what differs from kube-proxy's
// defaults, and what differs from the settings `before`, if there were any (a field that goes back
// to its default).
nlohmann::json AskedFields(const kube::ProxySettings& settings, const kube::ProxySettings* before);

// The file says what is asked already.
bool SaysAsked(std::string_view text, const nlohmann::json& asked);

// `text` with the asked fields and every other byte as it is. Throws std::invalid_argument with the
// place and a remedy when it cannot be changed so (kube/config/yaml_edit.h).
std::string WithAsked(std::string_view text, const nlohmann::json& asked);

// Throws std::invalid_argument with the field and a remedy when a kube-proxy of that version, with
// that file, would not do what is asked.
void CheckKubeProxyCan(const kube::ProxySettings& settings, const nlohmann::json& asked,
                       std::string_view text, std::optional<int> minor);

}  // namespace pointsman::op
