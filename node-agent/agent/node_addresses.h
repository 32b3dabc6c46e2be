// This node's interface addresses: which of them answer node ports, and when they change.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "kube/objects/node.h"
#include "kube/pointsman/proxy_settings.h"
#include "node-agent/model/service_model.h"
#include "node-agent/netlink/address.h"

namespace pointsman::agent {

class NodeAddresses {
 public:
  // `changed` is called on a thread of this object's when an address came or went. Throws
  // std::system_error when the kernel gives no socket.
  explicit NodeAddresses(std::function<void()> changed);
  ~NodeAddresses();  // stops and joins

  // Reads the interfaces now. `node` may be null. Throws std::system_error. One caller at a time.
  NodeNetwork Network(const std::string& node_name, const kube::ProxySettings& settings,
                      const kube::Node* node);

 private:
  void Watch(std::stop_token stop);

  const std::function<void()> changed_;
  netlink::Socket socket_;
  netlink::AddressMonitor monitor_;
  int wake_fd_;  // eventfd: ends Watch
  std::jthread thread_;
};

}  // namespace pointsman::agent
