#include "node-agent/testing/random_model.h"

#include <algorithm>
#include <chrono>
#include <set>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>

namespace pointsman::agent::testing {
namespace {

net::IpAddress AddressIn(const ServicePortEntry& entry, const char* v4_net, const char* v6_net,
                         uint32_t host) {
  return Ip(entry.id.family == net::Family::kIPv4
                ? fmt::format("{}.{}.{}", v4_net, host / 200, host % 200)
                : fmt::format("{}{:x}", v6_net, host));
}

}  // namespace

BackendChoice RandomModel::Choice(const ServicePortEntry& entry) {
  BackendChoice choice;
  // So few that many Services have the same.
  for (uint32_t count = Below(5); count > 0; --count) {
    const uint32_t host = Below(60);
    choice.backends.push_back({AddressIn(entry, "10.244", "fd00:244::", host), 8080,
                               /*local=*/host % 4 == 0, /*unplaced=*/host % 4 == 1});
  }
  std::sort(choice.backends.begin(), choice.backends.end());
  choice.backends.erase(std::unique(choice.backends.begin(), choice.backends.end()),
                        choice.backends.end());
  if (Below(2) != 0) choice.when_empty = BackendChoice::WhenEmpty::kDrop;
  return choice;
}

ServicePortEntry RandomModel::Entry() {
  ServicePortEntry entry;
  const bool v4 = Below(3) != 0;
  const uint32_t number = Below(40);
  entry.id = {"ns" + std::to_string(number % 3), "svc" + std::to_string(number), "p",
              static_cast<Protocol>(Below(3)), v4 ? net::Family::kIPv4 : net::Family::kIPv6};
  // Addresses near each other and far apart: they share prefixes of every length.
  entry.cluster_ip = AddressIn(entry, "10.96", "fd00:1::", Below(2) != 0 ? number : number * 1201);
  entry.port = static_cast<uint16_t>(80 + Below(3));
  if (Below(2) != 0) entry.node_port = static_cast<uint16_t>(30000 + number);
  if (Below(3) == 0) entry.external_ips.push_back(AddressIn(entry, "198.51", "2001:db8::", number));
  if (Below(4) == 0) {
    entry.load_balancer_ips.push_back(AddressIn(entry, "203.0", "2001:db8:1::", number));
    for (uint32_t count = Below(3); count > 0; --count) {
      const std::string range = v4 ? fmt::format("192.{}.0.0/{}", 160 + count, 16 + Below(9))
                                   : fmt::format("fd00:{}::/{}", 160 + count, 32 + Below(9));
      entry.source_ranges.push_back(net::IpPrefix::Parse(range).value());
    }
    std::sort(entry.source_ranges.begin(), entry.source_ranges.end());
    if (v4 && Below(3) == 0) entry.source_ranges = {net::IpPrefix::Parse("0.0.0.0/0").value()};
    entry.source_ranges_deny_all = entry.source_ranges.empty() && Below(3) == 0;
    entry.node_in_source_ranges = !entry.source_ranges.empty() && Below(2) == 0;
  }
  if (Below(4) == 0) entry.affinity_timeout = std::chrono::seconds(10 + Below(3));
  entry.internal = Choice(entry);
  if (Below(4) == 0) entry.internal_masquerade = Masquerade::kAlways;
  entry.external = Below(2) != 0 ? entry.internal : Choice(entry);
  entry.external_local = Below(3) == 0;
  entry.external_from_node = Below(2) != 0 ? entry.internal : Choice(entry);
  // None on this node, and some elsewhere.
  if (entry.external_local && !entry.external_from_node.backends.empty())
    entry.external.when_empty = BackendChoice::WhenEmpty::kDrop;
  if (Below(6) == 0) entry.health_check_node_port = static_cast<uint16_t>(32000 + number % 5);
  return entry;
}

ModelDelta RandomModel::Step(ModelMaker& maker) {
  ModelDelta delta;
  // A delta has an entry once, and none of two that differ in their protocol alone: they have the
  // same addresses.
  std::set<std::pair<std::string, net::Family>> changed;
  for (uint32_t count = 1 + Below(4); count > 0; --count) {
    const ServicePortEntry entry = Entry();
    const ServicePortId& id = entry.id;
    if (!changed.emplace(id.name, id.family).second) continue;
    const ModelDelta one =
        maker.model.entries.contains(id) && Below(3) == 0 ? maker.Remove(id) : maker.Put(entry);
    delta.changes.insert(delta.changes.end(), one.changes.begin(), one.changes.end());
  }
  return delta;
}

}  // namespace pointsman::agent::testing
