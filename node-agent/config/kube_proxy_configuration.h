// A KubeProxyConfiguration file (kubeproxy.config.k8s.io/v1alpha1), for running as a drop-in for
// kube-proxy.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "kube/net/ip_address.h"
#include "kube/pointsman/proxy_settings.h"

namespace pointsman::agent {

struct KubeProxyConfiguration {
  kube::ProxySettings settings;

  // What concerns the process and not the kernel's rules.
  std::string hostname_override;  // "": not set
  // bindAddress, if it is not 0.0.0.0 or ::: the node's primary address. (Nothing is bound to it,
  // neither here nor in kube-proxy.)
  std::optional<net::IpAddress> node_ip_override;
  // "address:port", "[address]:port".
  std::string healthz_bind_address = "0.0.0.0:10256";
  std::string metrics_bind_address = "127.0.0.1:10249";
  bool bind_address_hard_fail = false;      // a port that cannot be bound ends the process
  std::optional<int> oom_score_adj = -999;  // -1000..1000
  std::string kubeconfig;                   // clientConnection.kubeconfig; "": in-cluster
  double qps = 5;                           // to the API server; negative: no limit
  int burst = 10;
  kube::Duration config_sync_period = std::chrono::minutes(15);
  std::string log_format = "text";  // text | json
  int log_verbosity = 0;            // klog's -v

  // Fields that were read and change nothing, each with file, line, path and the reason, for the
  // log: at most 52, of at most 512 bytes.
  std::vector<std::string> notes;

  bool operator==(const KubeProxyConfiguration&) const = default;
};

// Everything that Linux kube-proxy knows (v1.20 to v1.36) is read with its defaults and validated
// as kube-proxy does (pkg/proxy/apis/config/v1alpha1/defaults.go, validation/validation.go); the
// ipvs block only in ipvs mode, as there. What kube-proxy ignores with a warning is ignored and in
// the notes: unknown fields (options.go loadConfig decodes leniently when that is all that is
// wrong), keys that are there twice (the last counts), what follows the first YAML document. So is
// what has no counterpart here and changes no traffic: docs/standalone.md says of each field.
// Refused: other kinds and API versions, values of another type, values outside kube-proxy's own
// bounds, and iptables.snatNodeInternalIP. Beyond kube-proxy: mode userspace, the ipvs schedulers
// mh, fo, ovf and twos; of v1.37 (PR #138427): words and CIDRs together in nodePortAddresses.
//
// In nftables mode nodePortAddresses that are not set mean "primary", as there.
//
// Throws std::invalid_argument with every error, each with field and line:
// "<file>: line 7: ipvs.scheduler: \"fast\" is not one of rr, …"; std::system_error when the file
// cannot be read.
KubeProxyConfiguration LoadKubeProxyConfiguration(const std::filesystem::path& file);

// The file's text. Throws std::invalid_argument when it has more than 1 MiB; std::system_error.
std::string ReadConfigurationFile(const std::filesystem::path& file);

// LoadKubeProxyConfiguration for text; `name` stands for the file in messages.
KubeProxyConfiguration ParseKubeProxyConfiguration(std::string_view text, const std::string& name);

// The same for a value that came from elsewhere than a file; `place` turns a field's path into what
// a message names.
KubeProxyConfiguration KubeProxyConfigurationFromJson(
    const nlohmann::json& value, const std::function<std::string(const std::string&)>& place);

// Every field that is read, "ipvs.scheduler", sorted: what is no object, and featureGates.
// docs/standalone.md has a table of them.
std::vector<std::string> KubeProxyConfigurationFields();

}  // namespace pointsman::agent
