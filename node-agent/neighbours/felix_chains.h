// Where Calico's Felix has its chains, and whether they are those with which it judges what IPVS
// sends on (felix/rules/static.go, KubeIPVSSupportEnabled; projectcalico/calico 87c1590).
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "kube/net/ip_address.h"

namespace pointsman::agent {

struct FelixPlace {
  std::string where;  // "table filter of iptables-nft, IPv4", "table ip calico of nf_tables"
  bool knows_ipvs = false;
};

// Reads cali-INPUT, which each packet to the node passes: with IPVS in mind it asks
// cali-forward-check first. In nf_tables Felix has a table of its own, whose chains' names begin
// with "filter-" (felix/nftables/table_layer.go). It writes a table in one transaction, so where
// that jump is all of the table is as it belongs to it.
//
// Changes nothing, makes no table and starts no process. Cheap enough for twice a second: a legacy
// table is read when it has changed. In the network namespace of the calling thread, always the
// same. Not thread-safe.
class FelixChains {
 public:
  static constexpr const char* kInput = "cali-INPUT";
  static constexpr const char* kForwardCheck = "cali-forward-check";

  explicit FelixChains(std::string modules_root)  // see KernelHasModule
      : modules_root_(std::move(modules_root)) {}

  // Of every table of both families that has the chain. Throws std::system_error, and
  // std::runtime_error for a legacy table of more than kLargestLegacyTable.
  std::vector<FelixPlace> Read();

 private:
  struct Seen {
    std::vector<char> info;  // what IPT_SO_GET_INFO said
    std::optional<FelixPlace> place;
  };

  void ReadNft(std::vector<FelixPlace>& places) const;
  template <typename Types>
  void ReadLegacy(net::Family family, Seen& seen) const;

  const std::string modules_root_;
  std::array<Seen, 2> legacy_;  // by family
};

}  // namespace pointsman::agent
