// Which objects of a kernel are kube-proxy's, by their names. Sources, in kubernetes 1.20 to 1.36:
// pkg/proxy/iptables/proxier.go, pkg/proxy/ipvs/proxier.go and ipset.go,
// pkg/proxy/nftables/proxier.go, pkg/proxy/userspace/proxier.go (until 1.25).
//
// The kubelet's are not among them: KUBE-KUBELET-CANARY, KUBE-IPTABLES-HINT, KUBE-FIREWALL in table
// filter (pkg/kubelet/kubelet_network_linux.go); nor what others jump to and either may have made:
// KUBE-MARK-MASQ, KUBE-MARK-DROP. kube-proxy --cleanup leaves these too.
#pragma once

#include <string_view>

#include "kube/pointsman/mode.h"

namespace pointsman::agent::kube_proxy {

// A chain of iptables' table `table`: "nat", "filter", "mangle".
bool IsChain(std::string_view table, std::string_view chain);
// One of these that a kube-proxy in that mode has; all others are of its other modes.
bool IsChainOf(kube::Mode mode, std::string_view table, std::string_view chain);
// One that it makes at once, and again when it is gone, in modes iptables and ipvs; and that
// neither a kubelet nor Pointsman makes.
bool IsTrace(std::string_view table, std::string_view chain);
// What kubelets before 1.27 made and used too: with them it stays (KEP-3178).
inline constexpr std::string_view kPostrouting = "KUBE-POSTROUTING";
inline constexpr std::string_view kMarkDrop = "KUBE-MARK-DROP";  // made by such a kubelet

bool IsIpset(std::string_view name);
// The ipset with all node ports of that protocol (IPPROTO_…) in IPv4; "": there is none.
std::string_view NodePortSet(int protocol);

inline constexpr const char* kLink = "kube-ipvs0";
inline constexpr const char* kNftTable = "kube-proxy";

}  // namespace pointsman::agent::kube_proxy
