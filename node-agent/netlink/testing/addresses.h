// For tests: many addresses and routes on the loopback interface of a network namespace.
#pragma once

#include <cstdint>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "kube/net/ip_address.h"
#include "node-agent/netlink/message.h"

namespace pointsman::agent::netlink::testing {

// In each network namespace.
inline constexpr int kLoopback = 1;

// The address number `i`, below 65536.
inline net::IpAddress NthAddress(size_t i) {
  return net::IpAddress::V4(0x0a010000U + static_cast<uint32_t>(i));
}

// Gives `address` to the loopback interface. The kernel answers EEXIST.
inline size_t AddAddress(Batch& batch, const net::IpAddress& address) {
  Message request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, sizeof(ifaddrmsg));
  auto* header = request.header<ifaddrmsg>();
  header->ifa_family = address.is_v4() ? AF_INET : AF_INET6;
  header->ifa_prefixlen = address.is_v4() ? 32 : 128;
  header->ifa_scope = RT_SCOPE_HOST;
  header->ifa_index = kLoopback;
  request.PutAddress(IFA_LOCAL, address);
  return batch.Add(request);
}

}  // namespace pointsman::agent::netlink::testing
