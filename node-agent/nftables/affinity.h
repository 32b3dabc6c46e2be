// The clients that sessionAffinity binds, as elements of map `affinity` (layout.h): pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "node-agent/dataplane/client_binding.h"
#include "node-agent/nftables/elements.h"

namespace pointsman::agent::nft {

// Where affinity may send clients in one family: what is in `affinity-endpoints`, with whose it is.
class AffinityEndpoints {
 public:
  AffinityEndpoints(const ServiceModel& model, net::Family family);

  bool empty() const { return entries_.empty(); }
  // Takes an element of `affinity` apart; all but the time left. False: it is nobody's, or leads
  // where that traffic of its Service may not go.
  bool Read(std::string_view key, std::string_view data, ClientBinding& binding) const;
  // Appends the elements that lead the client to its backend: one for each kind of traffic that has
  // a choice of its own with this backend in it. None: no traffic may go there.
  void AppendElements(const ClientBinding& binding, std::vector<Element>& to) const;

 private:
  const net::Family family_;
  std::unordered_map<std::string, EntryPtr> entries_;  // by key in `affinity-endpoints`
  // The numbers that stand for a Service port in keys.
  std::unordered_map<ServicePortId, std::vector<std::string>, ServicePortIdHash> owners_;
};

}  // namespace pointsman::agent::nft
