// ipsets over nfnetlink: no process is started and many elements go in one sendmsg.
// Attributes: /usr/include/linux/netfilter/ipset/ip_set.h.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kube/net/ip_address.h"
#include "node-agent/netlink/socket.h"

namespace pointsman::agent::netlink {

enum class SetType : uint8_t { kHashIp, kHashIpPort, kHashIpPortIp, kHashIpPortNet, kHashNetPort };
std::string_view ToString(SetType type);  // "hash:ip,port"

struct SetElement {
  net::IpAddress ip;
  uint8_t protocol = 0;  // IPPROTO_…; hash:ip,port*, hash:net,port
  uint16_t port = 0;     // hash:ip,port*, hash:net,port
  net::IpAddress ip2;    // hash:ip,port,ip and hash:ip,port,net
  // hash:net,port (of ip), hash:ip,port,net (of ip2); 1 or more.
  uint8_t prefix_length = 0;
  auto operator<=>(const SetElement&) const = default;
  std::string ToString(SetType type) const;  // as `ipset list` prints it
};

struct SetInfo {
  std::string name;
  std::string type_name;
  net::Family family = net::Family::kIPv4;
};

// Text of an error number that ipset may return (its own are from 4096).
std::string IpsetErrorText(int error);

// Not thread-safe.
class Ipset {
 public:
  Ipset();

  // Sets of this network namespace, without elements. Throws std::system_error; ENOENT as a
  // message names ip_set when the kernel has no ipset.
  std::vector<SetInfo> List();
  // 0 or an error number (IpsetErrorText). Creating what is there already with the same
  // parameters is no error; with others it is
  // IPSET_ERR_EXIST_SETNAME2 or EEXIST.
  int Create(const std::string& name, SetType type, net::Family family, uint32_t max_elements);
  // kInUse: a rule, or a set of sets, refers to it.
  int Destroy(const std::string& name);
  static const int kInUse;
  // The number by which rules refer to the set, as long as it exists. Throws std::system_error;
  // ENOENT: there is none of that name.
  uint16_t IndexOf(const std::string& name);
  // Appends to `out`. 0 or an error number; ENOENT: no such set.
  int Elements(const std::string& name, std::vector<SetElement>& out);

  // Adding what is there and deleting what is not are no errors.
  static size_t Add(Batch& batch, std::string_view name, SetType type, const SetElement& element);
  static size_t Delete(Batch& batch, std::string_view name, SetType type,
                       const SetElement& element);
  std::vector<Failure> Execute(Batch& batch) { return socket_.Execute(batch); }

 private:
  Socket socket_;
};

}  // namespace pointsman::agent::netlink
