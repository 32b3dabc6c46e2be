// The neighbours by name, for tests that put one beside an agent on a whole node.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "kube/net/ip_address.h"
#include "node-agent/testing/neighbours/felix.h"
#include "node-agent/testing/neighbours/neighbour.h"
#include "node-agent/testing/neighbours/policy_engines.h"

namespace pointsman::agent::testing {

// The node that it is put on. All of one family.
struct NeighbourSite {
  net::Family family = net::Family::kIPv4;
  std::vector<std::string> node;  // the node's addresses, the one that others see first
  std::string uplink;             // the interface to other nodes
  std::string link_prefix;        // of pods' links that are not behind a bridge
  std::string pods;               // all nodes' pods: a CIDR
  std::string node_pods;          // this node's
  std::string nodes;              // the nodes' network: a CIDR
  std::string cluster_ips;        // a CIDR
  PodPolicies policies;           // what a policy engine enforces for pods on this node
  uint16_t host_port = 0;         // that a published port leads
  std::string host_port_to;       // … to this address and port
  std::string dns;                // the cluster IP that the DNS cache listens on
  uint16_t dns_port = 0;
};
void to_json(nlohmann::json& json, const NeighbourSite& site);
void from_json(const nlohmann::json& json, NeighbourSite& site);

struct KnownNeighbour {
  std::string_view name;    // "calico-insert"
  std::string_view source;  // where its structure is from
  // The row of the agent's own table (node-agent/neighbours/neighbour_table.h) by which it knows
  // it;
  // "": by none.
  std::string_view row = {};
  // It enforces NeighbourSite::policies.
  bool polices = false;
  // All of nf_tables is needed to put it in place, as a stock kernel has it.
  bool needs_nf_tables = false;
  // Set: Felix, a program that looks on (felix.h) instead of rules that stay.
  std::optional<CalicoInserts> felix = std::nullopt;
  std::function<Neighbour(const NeighbourSite&)> make = nullptr;
};
// Sorted by name, as long as the program runs.
std::span<const KnownNeighbour> KnownNeighbours();
// Null: there is none of that name.
const KnownNeighbour* FindNeighbour(std::string_view name);
// "calico-append, calico-insert, …"
std::string KnownNeighbourNames();

}  // namespace pointsman::agent::testing
