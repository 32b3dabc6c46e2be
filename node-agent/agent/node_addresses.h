// This node's interface addresses, and when they change.
#pragma once

#include <functional>
#include <stop_token>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "node-agent/model/node_network.h"
#include "node-agent/netlink/address.h"

namespace pointsman::agent {

class NodeAddresses {
 public:
  // `changed` is called on a thread of this object's when an address came or went. Throws
  // std::system_error when the kernel gives no socket.
  explicit NodeAddresses(std::function<void()> changed);
  ~NodeAddresses();  // stops and joins

  // Reads the interfaces now. Throws std::system_error. One caller at a time.
  std::vector<HostAddress> Read();

 private:
  void Watch(std::stop_token stop);

  const std::function<void()> changed_;
  netlink::Socket socket_;
  netlink::AddressMonitor monitor_;
  UniqueFd wake_fd_;  // eventfd: ends Watch
  std::jthread thread_;
};

}  // namespace pointsman::agent
