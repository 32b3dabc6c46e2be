#include "node-agent/dataplane/fair_share.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <tuple>
#include <utility>

namespace pointsman::agent {

std::vector<size_t> BeyondFairShare(const std::vector<Demand>& demands, uint64_t room) {
  uint64_t total =
      std::accumulate(demands.begin(), demands.end(), uint64_t{0},
                      [](uint64_t sum, const Demand& demand) { return sum + demand.amount; });
  if (total <= room) return {};
  struct Tenant {
    uint64_t amount = 0;
    std::vector<size_t> services;  // the one to go first is the last
  };
  std::map<std::string_view, Tenant> tenants;
  for (size_t i = 0; i < demands.size(); ++i) {
    Tenant& tenant = tenants[demands[i].ns];
    tenant.amount += demands[i].amount;
    tenant.services.push_back(i);
  }
  std::set<std::pair<uint64_t, std::string_view>> by_amount;
  for (auto& [ns, tenant] : tenants) {
    std::sort(tenant.services.begin(), tenant.services.end(), [&](size_t a, size_t b) {
      return std::tie(demands[a].amount, demands[a].service) <
             std::tie(demands[b].amount, demands[b].service);
    });
    by_amount.emplace(tenant.amount, ns);
  }
  std::vector<size_t> beyond;
  while (total > room) {
    const auto greediest = std::prev(by_amount.end());
    Tenant& tenant = tenants.at(greediest->second);
    const size_t service = tenant.services.back();
    tenant.services.pop_back();
    beyond.push_back(service);
    total -= demands[service].amount;
    tenant.amount -= demands[service].amount;
    auto node = by_amount.extract(greediest);
    node.value().first = tenant.amount;
    by_amount.insert(std::move(node));
  }
  std::sort(beyond.begin(), beyond.end());
  return beyond;
}

}  // namespace pointsman::agent
