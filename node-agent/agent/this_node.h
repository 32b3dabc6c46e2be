// What is known of this node, as far as settings and model depend on it: its Node object, its pod
// CIDRs and its interfaces' addresses.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kube/net/ip_address.h"
#include "kube/objects/node.h"
#include "kube/pointsman/proxy_settings.h"
#include "node-agent/agent/node_addresses.h"
#include "node-agent/model/model_builder.h"

namespace pointsman::agent {

// Not thread-safe: the sync thread owns it.
class ThisNode {
 public:
  // `model` is told what is new; it outlives this. `addresses_changed`: see NodeAddresses.
  ThisNode(std::string name, ModelBuilder& model, std::function<void()> addresses_changed)
      : name_(std::move(name)), model_(model), addresses_(std::move(addresses_changed)) {}

  // Null: it is gone. Returns whether Resolve gives other settings than before.
  bool Set(std::shared_ptr<const kube::Node> node, const kube::ProxySettings* settings);
  // Reads the interfaces. `api_server`: its address, if it is known as one. What fails is logged.
  void ReadAddresses(const kube::ProxySettings& settings,
                     const std::optional<net::IpAddress>& api_server);

  // The settings with what only this node knows: its own pod CIDRs.
  kube::ProxySettings Resolve(kube::ProxySettings settings) const;
  // What this node does not have yet of what it is to use, for a person; "" for nothing.
  std::string Missing(const kube::ProxySettings& settings) const;
  bool HasIpv6() const;
  bool eligible() const { return node_ && !node_->deleting && !node_->to_be_deleted; }
  std::string uid() const { return node_ ? node_->uid : ""; }

 private:
  const std::string name_;
  ModelBuilder& model_;
  NodeAddresses addresses_;
  std::shared_ptr<const kube::Node> node_;
  std::vector<net::IpPrefix> pod_cidrs_;  // the last that the Node had
};

}  // namespace pointsman::agent
