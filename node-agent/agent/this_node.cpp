#include "node-agent/agent/this_node.h"

#include <algorithm>
#include <exception>
#include <unordered_set>
#include <utility>

#include <spdlog/fmt/ranges.h>
#include <spdlog/spdlog.h>

#include "node-agent/model/node_network.h"

namespace pointsman::agent {
namespace {

bool UsesPodCidrs(const kube::ProxySettings& settings) {
  return settings.detect_local_mode == kube::DetectLocalMode::kNodeCidr;
}

std::vector<std::string> TextsOf(const std::vector<net::IpPrefix>& prefixes) {
  std::vector<std::string> texts;
  texts.reserve(prefixes.size());
  for (const net::IpPrefix& prefix : prefixes)
    texts.push_back(prefix.ToString());
  return texts;
}

}  // namespace

// A Node that is made again has no pod CIDRs for a while (kubernetes#111321): what runs goes on
// with those it had, since its pods have not moved.
bool ThisNode::Set(std::shared_ptr<const kube::Node> node, const kube::ProxySettings* settings) {
  node_ = std::move(node);
  model_.SetNode(node_);
  if (!node_ || node_->pod_cidrs.empty() || node_->pod_cidrs == pod_cidrs_) return false;
  pod_cidrs_ = node_->pod_cidrs;
  if (settings == nullptr || !UsesPodCidrs(*settings)) return false;
  spdlog::info("detectLocalMode NodeCIDR: this Node's spec.podCIDRs are now {}",
               fmt::join(TextsOf(pod_cidrs_), ", "));
  return true;
}

void ThisNode::ReadAddresses(const kube::ProxySettings& settings,
                             const std::optional<net::IpAddress>& api_server) {
  try {
    const std::vector<HostAddress> addresses = addresses_.Read();
    model_.SetNodeNetwork(ChooseNodeNetwork(name_, addresses, settings, node_.get()));
    // A Service that takes the API server's address would cut this node off from it
    // (kubernetes#66966, #104679, #127410). Where the API server runs on this node it may share
    // the address: a node's own addresses are given to Services on purpose (externalIPs of bare
    // metal clusters, load balancers that forward on the node, kube-vip), in each mode such a
    // Service takes its own ports there and nothing else.
    std::unordered_set<net::IpAddress> protected_addresses;
    if (api_server) protected_addresses.insert(*api_server);
    for (const HostAddress& own : addresses)
      protected_addresses.erase(own.address);
    model_.SetProtectedAddresses(std::move(protected_addresses));
  } catch (const std::exception& error) {
    spdlog::error("this node's addresses could not be read: {}", error.what());
  }
}

kube::ProxySettings ThisNode::Resolve(kube::ProxySettings settings) const {
  if (UsesPodCidrs(settings)) settings.cluster_cidrs = pod_cidrs_;
  return settings;
}

// kube-proxy waits for it with everything; here Services are served meanwhile, which a new node's
// network may need to get its CIDR at all.
std::string ThisNode::Missing(const kube::ProxySettings& settings) const {
  if (!UsesPodCidrs(settings) || !pod_cidrs_.empty()) return "";
  return "detectLocalMode is NodeCIDR, but the Node has no spec.podCIDRs yet: until it has, "
         "traffic from outside the cluster to a cluster IP is not masqueraded, and all traffic "
         "counts as from outside under externalTrafficPolicy: Local";
}

bool ThisNode::HasIpv6() const {
  if (!node_) return false;
  const auto is_v6 = [](const auto& item) { return item.family() == net::Family::kIPv6; };
  return std::any_of(node_->internal_ips.begin(), node_->internal_ips.end(), is_v6) ||
         std::any_of(node_->pod_cidrs.begin(), node_->pod_cidrs.end(), is_v6);
}

}  // namespace pointsman::agent
