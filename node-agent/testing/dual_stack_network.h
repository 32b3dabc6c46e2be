// For tests: a node with pods and a client outside, each a network namespace with real sockets, in
// IPv4 and IPv6. All of it ends with the object.
#pragma once

#include <memory>
#include <vector>

#include "kube/net/ip_address.h"
#include "node-agent/testing/clients.h"
#include "node-agent/testing/named_servers.h"
#include "node-agent/testing/net_namespace.h"

namespace pointsman::agent::testing {

// Pod k has 10.244.k.2 and fd00:244:k::2 behind the node's …1; the client outside has 192.168.77.2
// and fd00:77::2 and sees the node as …1, its default route. Every pod and the node itself answer
// on port 8080 (the node also on 8081, on its loopback addresses only), TCP and UDP, with their
// name and the client's address.
class DualStackNetwork {
 public:
  explicit DualStackNetwork(int pods);

  const NetNamespace& pod(int k) const { return *pods_[static_cast<size_t>(k)]; }
  const NetNamespace& outside() const { return outside_; }
  const NetNamespace& node() const { return node_; }
  static net::IpAddress PodIp(int k, net::Family family);
  // From now on what the client outside sends to pod k goes past the node, and only the answers
  // come through it: routes of which the node sees one direction.
  void AddPathPastNode(int k);

 private:
  NetNamespace node_;
  NetNamespace outside_;
  std::vector<std::unique_ptr<NetNamespace>> pods_;
  NamedServers servers_;
};

}  // namespace pointsman::agent::testing
