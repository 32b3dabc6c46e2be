// Finds the rule for an address and port in few steps, with chains as the only data structure that
// iptables has: one chain a prefix, level by level. With 10,000 Services in a /18 a new
// connection's first packet passes at most 16 + 16 + 64 rules where a flat list has 10,000.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "kube/net/ip_address.h"
#include "kube/objects/service.h"

namespace pointsman::agent::xtables {

// What a leaf's rule does.
enum class DispatchAction : uint8_t { kService, kExternal, kFirewall, kReject, kDrop };

// Ordered as the rules in a leaf. The model gives an address and port to one Service alone.
struct DispatchKey {
  net::IpAddress address;  // node ports: protocol and port as an address, see PortKey
  kube::Protocol protocol = kube::Protocol::kTcp;
  uint16_t port = 0;
  uint64_t service = 0;  // ServiceHash
  auto operator<=>(const DispatchKey&) const = default;
};

// Not thread-safe.
class DispatchTree {
 public:
  enum class Kind { kAddresses, kNodePorts };
  // `prefix` of its chains' names outlives this. `top` is the name of the first level's chain.
  // `levels`: prefix lengths, growing; the last one's chains have the rules.
  DispatchTree(net::Family family, Kind kind, std::string_view prefix, std::string top);

  static DispatchKey AddressKey(const net::IpAddress& address, kube::Protocol protocol,
                                uint16_t port, uint64_t service) {
    return {address, protocol, port, service};
  }
  static DispatchKey PortKey(kube::Protocol protocol, uint16_t port, uint64_t service);

  void Set(const DispatchKey& key, DispatchAction action);
  void Erase(const DispatchKey& key);
  void Clear();
  bool empty() const { return entries_.empty(); }
  bool Contains(const net::IpAddress& address, kube::Protocol protocol, uint16_t port) const;
  bool ContainsPort(kube::Protocol protocol, uint16_t port) const;

  const std::string& top() const { return top_; }
  // Chains that are not as they were at the last call, for an incremental write. The top chain's
  // rules are only the tree's part of that chain: its owner renders it.
  struct Changes {
    bool top = false;
    std::vector<net::IpPrefix> write;
    std::vector<net::IpPrefix> remove;
  };
  Changes TakeChanges();

  std::string ChainOf(const net::IpPrefix& prefix) const;
  // Rules of the top chain, or of `prefix`'s, appended as text for iptables-restore.
  void RenderTop(std::string& text) const;
  void Render(const net::IpPrefix& prefix, std::string& text) const;
  // Every chain below the top, parents first.
  template <typename Visit>
  void ForEachChain(const Visit& visit) const {
    for (uint8_t level : levels_) {
      for (auto entry = entries_.begin(); entry != entries_.end();) {
        net::IpPrefix prefix(entry->first.address, level);
        visit(prefix);
        entry = FirstAfter(prefix);
      }
    }
  }

 private:
  using Entries = std::map<DispatchKey, DispatchAction>;
  Entries::const_iterator FirstIn(const net::IpPrefix& prefix) const;
  Entries::const_iterator FirstAfter(const net::IpPrefix& prefix) const;
  bool Exists(const net::IpPrefix& prefix) const;
  // Notes the chains on the key's path, with whether they exist, before the key changes.
  void Touch(const DispatchKey& key);
  void RenderChildren(const net::IpPrefix* parent, uint8_t level, std::string_view chain,
                      std::string& text) const;
  void RenderLeaf(const net::IpPrefix& prefix, std::string_view chain, std::string& text) const;

  const net::Family family_;
  const Kind kind_;
  const std::string_view prefix_;
  const std::string top_;
  const std::vector<uint8_t> levels_;
  Entries entries_;
  std::map<net::IpPrefix, bool> touched_;  // chain → existed before
};

}  // namespace pointsman::agent::xtables
