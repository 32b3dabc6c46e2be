// The node's conntrack settings: the sizes and timeouts that kube-proxy owns where it runs
// (KubeProxyConfiguration conntrack), and how long an SCTP handshake may take, which it leaves to
// the kernel.
#pragma once

#include <string>
#include <vector>

#include "kube/pointsman/proxy_settings.h"

namespace pointsman::agent {

// Writes what differs; a setting of 0 leaves the kernel's value, and nf_conntrack_max,
// nf_conntrack_buckets (as kube-proxy) and SCTP's timeouts are never lowered. What cannot be
// written is logged with its name: traffic does not hang on it.
void ApplyNodeSysctls(const kube::ProxySettings& settings);

// Those that ApplyNodeSysctls looks after, as ReadSysctl takes them.
std::vector<std::string> NodeSysctlNames(const kube::ProxySettings& settings);

}  // namespace pointsman::agent
