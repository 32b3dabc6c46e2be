#include "node-agent/xtables/dispatch_tree.h"

#include <fmt/format.h>

#include "node-agent/model/service_hash.h"
#include "node-agent/xtables/chain_names.h"

namespace pointsman::agent::xtables {
namespace {

std::vector<uint8_t> Levels(net::Family family, DispatchTree::Kind kind) {
  // Node ports: blocks of 64.
  if (kind == DispatchTree::Kind::kNodePorts) return {26};
  if (family == net::Family::kIPv4) return {18, 22, 26};
  return {114, 118, 122};
}

// The address after the prefix's last one; nullopt if there is none.
std::optional<net::IpAddress> End(const net::IpPrefix& prefix) {
  std::array<uint8_t, 16> bytes{};
  const net::IpAddress& address = prefix.address();
  std::copy_n(address.data(), address.size(), bytes.begin());
  int bit = prefix.length() - 1;
  for (; bit >= 0; --bit) {
    uint8_t& byte = bytes[static_cast<size_t>(bit / 8)];
    const auto mask = static_cast<uint8_t>(0x80 >> (bit % 8));
    byte ^= mask;
    if ((byte & mask) != 0) return net::IpAddress::FromBytes(bytes.data(), address.size());
  }
  return std::nullopt;
}

uint16_t PortOf(const net::IpAddress& address) {
  return static_cast<uint16_t>(address.v4_host_order() & 0xffff);
}

kube::Protocol ProtocolOf(const net::IpAddress& address) {
  return static_cast<kube::Protocol>(address.v4_host_order() >> 16);
}

std::string_view RejectWith(net::Family family, kube::Protocol protocol) {
  // A reset reaches the client at once; an ICMP error is rate-limited, and lost on a socket that is
  // just inside connect(2), which then waits a second for its SYN to be sent again
  // (net/ipv4/tcp_ipv4.c, tcp_v4_err: sock_owned_by_user).
  if (protocol == kube::Protocol::kTcp) return "REJECT --reject-with tcp-reset";
  return family == net::Family::kIPv4 ? "REJECT --reject-with icmp-port-unreachable"
                                      : "REJECT --reject-with icmp6-port-unreachable";
}

}  // namespace

DispatchTree::DispatchTree(net::Family family, Kind kind, std::string_view prefix, std::string top)
    : family_(family),
      kind_(kind),
      prefix_(prefix),
      top_(std::move(top)),
      levels_(Levels(family, kind)) {}

DispatchKey DispatchTree::PortKey(kube::Protocol protocol, uint16_t port, uint64_t service) {
  return {net::IpAddress::V4(static_cast<uint32_t>(protocol) << 16 | port), protocol, port,
          service};
}

void DispatchTree::Touch(const DispatchKey& key) {
  for (uint8_t level : levels_) {
    net::IpPrefix prefix(key.address, level);
    if (!touched_.contains(prefix)) touched_.emplace(prefix, Exists(prefix));
  }
}

void DispatchTree::Set(const DispatchKey& key, DispatchAction action) {
  auto found = entries_.find(key);
  if (found != entries_.end() && found->second == action) return;
  Touch(key);
  entries_[key] = action;
}

void DispatchTree::Erase(const DispatchKey& key) {
  if (!entries_.contains(key)) return;
  Touch(key);
  entries_.erase(key);
}

void DispatchTree::Clear() {
  entries_.clear();
  touched_.clear();
}

bool DispatchTree::Contains(const net::IpAddress& address, kube::Protocol protocol,
                            uint16_t port) const {
  auto found = entries_.lower_bound({address, protocol, port, 0});
  return found != entries_.end() && found->first.address == address &&
         found->first.protocol == protocol && found->first.port == port;
}

bool DispatchTree::ContainsPort(kube::Protocol protocol, uint16_t port) const {
  return Contains(PortKey(protocol, port, 0).address, protocol, port);
}

DispatchTree::Entries::const_iterator DispatchTree::FirstIn(const net::IpPrefix& prefix) const {
  return entries_.lower_bound({prefix.address(), kube::Protocol::kTcp, 0, 0});
}

DispatchTree::Entries::const_iterator DispatchTree::FirstAfter(const net::IpPrefix& prefix) const {
  std::optional<net::IpAddress> end = End(prefix);
  return end ? entries_.lower_bound({*end, kube::Protocol::kTcp, 0, 0}) : entries_.end();
}

bool DispatchTree::Exists(const net::IpPrefix& prefix) const {
  auto first = FirstIn(prefix);
  return first != entries_.end() && prefix.Contains(first->first.address);
}

DispatchTree::Changes DispatchTree::TakeChanges() {
  Changes changes;
  std::set<net::IpPrefix> write;
  for (const auto& [prefix, existed] : touched_) {
    const bool exists = Exists(prefix);
    const bool leaf = prefix.length() == levels_.back();
    if (exists && (leaf || !existed)) write.insert(prefix);
    if (!exists && existed) changes.remove.push_back(prefix);
    if (exists == existed) continue;
    // The parent gets or loses a rule.
    if (prefix.length() == levels_.front()) {
      changes.top = true;
    } else {
      auto level = std::find(levels_.begin(), levels_.end(), prefix.length());
      net::IpPrefix parent(prefix.address(), *(level - 1));
      if (Exists(parent)) write.insert(parent);
    }
  }
  changes.write.assign(write.begin(), write.end());
  touched_.clear();
  return changes;
}

std::string DispatchTree::ChainOf(const net::IpPrefix& prefix) const {
  if (kind_ == Kind::kNodePorts) {
    return fmt::format("{}P-{}-{}", prefix_, ProtocolName(ProtocolOf(prefix.address())),
                       PortOf(prefix.address()));
  }
  if (prefix.family() == net::Family::kIPv4) {
    return fmt::format("{}V{}-{:08X}", prefix_, prefix.length(), prefix.address().v4_host_order());
  }
  return fmt::format("{}V{}", prefix_, HashText(NameHash(prefix.ToString())));
}

void DispatchTree::RenderTop(std::string& text) const {
  RenderChildren(nullptr, levels_.front(), top_, text);
}

void DispatchTree::Render(const net::IpPrefix& prefix, std::string& text) const {
  const std::string chain = ChainOf(prefix);
  auto level = std::find(levels_.begin(), levels_.end(), prefix.length());
  if (level + 1 == levels_.end()) {
    RenderLeaf(prefix, chain, text);
  } else {
    RenderChildren(&prefix, *(level + 1), chain, text);
  }
}

void DispatchTree::RenderChildren(const net::IpPrefix* parent, uint8_t level,
                                  std::string_view chain, std::string& text) const {
  auto entry = parent != nullptr ? FirstIn(*parent) : entries_.begin();
  while (entry != entries_.end() && (parent == nullptr || parent->Contains(entry->first.address))) {
    const net::IpPrefix child(entry->first.address, level);
    if (kind_ == Kind::kNodePorts) {
      const std::string_view protocol = ProtocolName(ProtocolOf(child.address()));
      const uint16_t first = PortOf(child.address());
      fmt::format_to(std::back_inserter(text), "-A {} -p {} -m {} --dport {}:{} -j {}\n", chain,
                     protocol, protocol, first, first + 63, ChainOf(child));
    } else {
      fmt::format_to(std::back_inserter(text), "-A {} -d {} -j {}\n", chain, child.ToString(),
                     ChainOf(child));
    }
    entry = FirstAfter(child);
  }
}

void DispatchTree::RenderLeaf(const net::IpPrefix& prefix, std::string_view chain,
                              std::string& text) const {
  for (auto entry = FirstIn(prefix);
       entry != entries_.end() && prefix.Contains(entry->first.address); ++entry) {
    const DispatchKey& key = entry->first;
    const std::string_view protocol = ProtocolName(key.protocol);
    fmt::format_to(std::back_inserter(text), "-A {} ", chain);
    if (kind_ == Kind::kAddresses) {
      fmt::format_to(std::back_inserter(text), "-d {}/{} ", key.address.ToString(),
                     key.address.size() * 8);
    }
    fmt::format_to(std::back_inserter(text), "-p {} -m {} --dport {} -j ", protocol, protocol,
                   key.port);
    switch (entry->second) {
      case DispatchAction::kService:
        text += ServiceChain(prefix_, 'S', key.service);
        break;
      case DispatchAction::kExternal:
        text += ServiceChain(prefix_, 'E', key.service);
        break;
      case DispatchAction::kFirewall:
        text += ServiceChain(prefix_, 'F', key.service);
        break;
      case DispatchAction::kReject:
        text += RejectWith(family_, key.protocol);
        break;
      case DispatchAction::kDrop:
        text += "DROP";
        break;
    }
    text += '\n';
  }
}

}  // namespace pointsman::agent::xtables
