// Cluster IPs are local to the node in ipvs mode, and what others publish on "this node", port 80,
// by a chain of type nat in a table of their own (CNI portmap and Docker with nftables, or an
// iptables of the other flavour) takes the port 80 of every cluster IP too. Where our rules stand
// in iptables' tables does not help: chains of type nat of different tables are called one after
// the other until one has translated, and an ACCEPT is no translation (talos#9883;
// net/netfilter/nf_nat_core.c, nf_nat_inet_fn).
//
// So a table "pointsman-ipvs" of nf_tables is called before them and translates what goes to a
// cluster IP to that same address, which changes no packet and ends the search. It knows the
// addresses by our ipset: no Service costs it anything. It is there whenever nf_tables can have it,
// since nobody says beforehand that the first such port is about to be published.
//
// It cannot help while a handover between this mode and iptables mode is under way: cluster IPs are
// local then, and iptables' rules have to see new connections.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "kube/net/ip_address.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/netlink/ipset.h"
#include "node-agent/nf_tables/objects.h"

namespace pointsman::agent::ipvs {

// Not thread-safe. Keeps no socket: a node without nf_tables is not asked for it twice a second.
class NatGuard {
 public:
  static constexpr std::string_view kTable = "pointsman-ipvs";
  static constexpr std::array<std::string_view, 2> kChains{"prerouting", "output"};

  // `ipset` outlives this. `masquerade_bit`, 0..31: of the mark that what this node itself sends to
  // a cluster IP gets, as in table nat, whose rules are not called any more. `modules_root`: see
  // kube::KernelHasModule.
  NatGuard(netlink::Ipset& ipset, int masquerade_bit, std::string modules_root)
      : ipset_(ipset),
        mark_(1U << static_cast<unsigned>(masquerade_bit)),
        modules_root_(std::move(modules_root)) {}

  // Makes the table if the kernel can have it. The set of VIPs exists. Only while no other of our
  // modes takes new connections: its chains would not be called any more. Returns what was written.
  // Throws std::system_error, std::runtime_error with the kernel's words.
  size_t Ensure(net::Family family);
  // Differences from what the last Ensure wrote. Throws std::system_error.
  void Verify(net::Family family, VerifyResult& result) const;
  // Returns whether it was there. Throws as Ensure.
  bool Remove(net::Family family);
  // False also without nf_tables. Throws std::system_error.
  bool Present(net::Family family) const;
  // Is nf_tables there? A node that does without it is not made to load it by being asked for more.
  static bool MayHaveTables(const std::string& modules_root);

 private:
  bool Supported(net::Family family);
  std::vector<nft::Chain> Chains(net::Family family) const;

  netlink::Ipset& ipset_;
  const uint32_t mark_;
  const std::string modules_root_;
  std::map<net::Family, bool> supported_;  // asked when nf_tables was there
  std::set<net::Family> wanted_;
};

}  // namespace pointsman::agent::ipvs
