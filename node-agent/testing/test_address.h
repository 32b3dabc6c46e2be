// For tests: addresses as the socket calls take them, and sockets of other network namespaces.
#pragma once

#include <cstdint>
#include <string>
#include <sys/socket.h>

#include "base/unique_fd.h"
#include "node-agent/testing/net_namespace.h"

namespace pointsman::agent::testing {

class TestAddress {
 public:
  // Throws std::bad_optional_access if `ip` is no address.
  TestAddress(const std::string& ip, uint16_t port);
  // The address of that family on which everything ends that has none of its own.
  static TestAddress Any(int family, uint16_t port);

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t size() const { return size_; }
  int family() const { return storage_.ss_family; }

 private:
  sockaddr_storage storage_;
  socklen_t size_;
};

// Without the "::ffff:" of IPv4 on a socket of both families.
std::string AddressText(const sockaddr_storage& address);

// A socket belongs to the namespace that its maker is in. Throws std::system_error.
UniqueFd SocketIn(const NetNamespace& where, int family, int type, int protocol = 0);

}  // namespace pointsman::agent::testing
