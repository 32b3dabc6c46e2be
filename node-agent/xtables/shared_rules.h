// Rules that many Service ports need together: each is there as long as one of them does.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "node-agent/dataplane/service_refusals.h"
#include "node-agent/dataplane/use_counts.h"
#include "node-agent/model/reply_sources.h"
#include "node-agent/xtables/service_rules.h"

namespace pointsman::agent::xtables {

class SharedRules {
 public:
  struct Need {
    bool invalid = false;            // the rules of RenderInvalid
    bool hairpin_addresses = false;  // those of RenderHairpin
    bool affinity_warnings = false;
  };
  struct Changed {
    bool invalid = false;
    bool hairpin = false;
    bool health = false;
  };

  SharedRules() = default;
  // What is not needed is not counted.
  explicit SharedRules(const Need& need) : need_(need) {}
  const Need& need() const { return need_; }

  // Counts what the entry needs once more, or once less.
  void Add(const ServicePortEntry& entry, int64_t by);
  // Adds what `delta`, of the same need, has counted; says which rules are others now.
  Changed Apply(const SharedRules& delta);

  // Drops what comes from endpoints of Services.
  void RenderInvalid(std::string_view chain, std::string& text) const;
  // Masquerades what an endpoint sends to itself. `masquerade`: the target with its options.
  void RenderHairpin(std::string_view chain, std::string_view masquerade, std::string& text) const;
  // Accepts health checks of load balancers.
  void RenderHealth(std::string_view chain, std::string& text) const;
  // One for each Service with sessionAffinity, sorted.
  std::vector<ServiceWarning> AffinityWarnings() const;

 private:
  // Rendered in their order.
  template <typename Key>
  using Counts = UseCounts<std::map<Key, int64_t>>;

  Need need_;
  Counts<ReplySource> reply_sources_;
  Counts<net::IpAddress> hairpin_;
  Counts<uint16_t> health_ports_;
  Counts<std::pair<std::string, std::string>> affine_services_;  // namespace and name
};

}  // namespace pointsman::agent::xtables
