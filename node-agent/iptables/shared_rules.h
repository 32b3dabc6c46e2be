// Rules that many Service ports need together: each is there as long as one of them does.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "node-agent/dataplane/service_refusals.h"
#include "node-agent/iptables/service_rules.h"
#include "node-agent/model/reply_sources.h"

namespace pointsman::agent {

class SharedRules {
 public:
  struct Need {
    bool invalid = false;            // the rules of RenderInvalid
    bool hairpin_addresses = false;  // those of RenderHairpin
    bool affinity_warnings = false;
  };
  // What is not needed is not counted.
  void Clear(const Need& need);
  // Counts what the entry needs once more, or once less. Of a change the state after it is to be
  // added before that before it is taken away: else what stays looks like a change.
  void Add(const ServicePortEntry& entry, int64_t by);

  // Has that changed since the last Take…?
  bool TakeInvalidChanged() { return reply_sources_.TakeChanged(); }
  bool TakeHairpinChanged() { return hairpin_.TakeChanged(); }
  bool TakeHealthChanged() { return health_ports_.TakeChanged(); }

  // Drops what comes from endpoints of Services.
  void RenderInvalid(std::string_view chain, std::string& text) const;
  // Masquerades what an endpoint sends to itself. `masquerade`: the target with its options.
  void RenderHairpin(std::string_view chain, std::string_view masquerade, std::string& text) const;
  // Accepts health checks of load balancers.
  void RenderHealth(std::string_view chain, std::string& text) const;
  // One for each Service with sessionAffinity, sorted.
  std::vector<ServiceWarning> AffinityWarnings() const;

 private:
  template <typename Key>
  class Counted {
   public:
    void Add(const Key& key, int64_t by) {
      const auto [at, fresh] = uses_.try_emplace(key, 0);
      at->second += by;
      changed_ = changed_ || fresh;
      if (at->second != 0) return;
      uses_.erase(at);
      changed_ = true;
    }
    void Clear() {
      uses_.clear();
      changed_ = false;
    }
    bool TakeChanged() { return std::exchange(changed_, false); }
    const std::map<Key, int64_t>& uses() const { return uses_; }

   private:
    std::map<Key, int64_t> uses_;
    bool changed_ = false;
  };

  Need need_;
  Counted<ReplySource> reply_sources_;
  Counted<net::IpAddress> hairpin_;
  Counted<uint16_t> health_ports_;
  Counted<std::pair<std::string, std::string>> affine_services_;  // namespace and name
};

}  // namespace pointsman::agent
