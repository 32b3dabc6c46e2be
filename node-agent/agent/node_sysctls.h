// The node's conntrack settings, which kube-proxy owns where it runs (KubeProxyConfiguration
// conntrack): sizes and timeouts that every mode needs.
#pragma once

#include <string>
#include <vector>

#include "kube/pointsman/proxy_settings.h"

namespace pointsman::agent {

// Writes what differs; a setting of 0 leaves the kernel's value, and nf_conntrack_max and
// nf_conntrack_buckets are never lowered (as kube-proxy). What cannot be written is logged with its
// name: traffic does not hang on it.
void ApplyNodeSysctls(const kube::ProxySettings& settings);

// Those that ApplyNodeSysctls looks after, as ReadSysctl takes them.
std::vector<std::string> NodeSysctlNames(const kube::ProxySettings& settings);

}  // namespace pointsman::agent
