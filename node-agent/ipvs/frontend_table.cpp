#include "node-agent/ipvs/frontend_table.h"

#include <algorithm>
#include <string>
#include <tuple>

namespace pointsman::agent::ipvs {

const std::vector<Backend>& Frontend::backends() const {
  static const std::vector<Backend> kNone;
  return terminating ? kNone : ChoiceOf(*entry, source).backends;
}

Frontend FrontendTable::MakeFrontend(const FrontendKey& key, const Claim& claim) const {
  Frontend frontend;
  frontend.entry = claim.entry;
  frontend.source = claim.frontend.source;
  frontend.address = claim.frontend.address;
  frontend.vip = frontend.source != FrontendSource::kClusterIp || !host_.Contains(key.ip);
  return frontend;
}

const Frontend* FrontendTable::Find(const FrontendKey& key) const {
  const auto found = frontends_.find(key);
  return found != frontends_.end() ? &found->second : nullptr;
}

std::optional<std::pair<FrontendKey, const Frontend*>> FrontendTable::FindClaim(
    const ServicePortId& id, const FrontendClaim& claim) const {
  const auto at = [&](const FrontendKey& key) {
    const Frontend* frontend = Find(key);
    const bool is_its = frontend != nullptr && !frontend->terminating &&
                        frontend->source == claim.source && frontend->address == claim.address &&
                        frontend->entry->id == id;
    return is_its ? std::optional(std::pair(key, frontend)) : std::nullopt;
  };
  if (auto place = at(claim.key)) return place;
  const std::optional<FrontendKey> spare = SpareKey(claim);
  return spare ? at(*spare) : std::nullopt;
}

const Frontend& FrontendTable::AddTerminating(const FrontendKey& key, Frontend frontend) {
  frontend.terminating = true;
  return frontends_.insert_or_assign(key, std::move(frontend)).first->second;
}

void FrontendTable::Add(const EntryPtr& entry) {
  const bool cached = dns_cache_.Answers(*entry);
  ForEachFrontend(*entry, [&](const FrontendClaim& claim) {
    if (!cached || claim.source != FrontendSource::kClusterIp) Place({entry, claim});
  });
}

void FrontendTable::Place(Claim claim) {
  const auto rank = [](const FrontendSource& source, const ServicePortEntry& entry,
                       const net::IpAddress& address) {
    return std::tie(source, entry.created, entry.id, address);
  };
  for (FrontendKey key = claim.frontend.key;;) {
    const auto [at, fresh] = frontends_.try_emplace(key);
    Frontend& frontend = at->second;
    if (fresh) {
      frontend = MakeFrontend(key, claim);
      return;
    }
    shared_.insert(claim.frontend.key);
    if (rank(claim.frontend.source, *claim.entry, claim.frontend.address) <
        rank(frontend.source, *frontend.entry, frontend.address)) {
      Claim displaced{frontend.entry,
                      MakeClaim(frontend.source, frontend.address, key.port, key.protocol)};
      frontend = MakeFrontend(key, claim);
      claim = std::move(displaced);
    }
    const std::optional<FrontendKey> spare = SpareKey(claim.frontend);
    if (!spare || key == *spare) {
      left_out_.push_back(std::move(claim));
      return;
    }
    key = *spare;
  }
}

bool FrontendTable::ChangesShared(const ModelDelta& delta, const Serves& serves) const {
  if (shared_.empty()) return false;
  const auto sharing = [&](const EntryPtr& entry) {
    // With what decides who has it: a Service that was deleted and made again is younger.
    std::vector<std::tuple<FrontendKey, FrontendSource, net::IpAddress, kube::TimePoint>> claims;
    if (entry == nullptr || !serves(*entry)) return claims;
    ForEachFrontend(*entry, [&](const FrontendClaim& claim) {
      if (shared_.contains(claim.key))
        claims.emplace_back(claim.key, claim.source, claim.address, entry->created);
    });
    return claims;
  };
  return std::any_of(delta.changes.begin(), delta.changes.end(), [&](const EntryChange& change) {
    return sharing(change.before) != sharing(change.after);
  });
}

void FrontendTable::Release(const EntryPtr& entry, Touched& touched) {
  ForEachFrontend(*entry, [&](const FrontendClaim& claim) {
    const auto place = FindClaim(entry->id, claim);
    if (!place) return;
    const auto& [key, frontend] = *place;
    touched.try_emplace(key, *frontend);
    frontends_.erase(key);
  });
}

bool FrontendTable::PutBack(const EntryPtr& entry, Touched& touched) {
  bool all_placed = true;
  ForEachFrontend(*entry, [&](const FrontendClaim& claim) {
    FrontendKey key = claim.key;
    if (shared_.contains(key)) {
      // It was here already (ChangesShared), and is where it was or left out.
      const auto was_at = [&](const std::optional<FrontendKey>& place) {
        const auto before = place ? touched.find(*place) : touched.end();
        return before != touched.end() && before->second &&
               before->second->address == claim.address && before->second->source == claim.source;
      };
      if (const std::optional<FrontendKey> spare = SpareKey(claim); was_at(spare))
        key = *spare;
      else if (!was_at(key))
        return;
    }
    const Frontend* held = Find(key);
    touched.try_emplace(key, held != nullptr ? std::optional(*held) : std::nullopt);
    if (held == nullptr || held->terminating)
      frontends_.insert_or_assign(key, MakeFrontend(key, {entry, claim}));
    else
      all_placed = false;
  });
  return all_placed;
}

std::optional<FrontendTable::Touched> FrontendTable::Change(const ModelDelta& delta,
                                                            const Serves& serves) {
  Touched touched;
  for (const EntryChange& change : delta.changes) {
    if (change.before != nullptr && serves(*change.before)) Release(change.before, touched);
  }
  for (const EntryChange& change : delta.changes) {
    if (change.after == nullptr || !serves(*change.after)) continue;
    if (!PutBack(change.after, touched)) return std::nullopt;
  }
  return touched;
}

std::string FrontendTable::HolderOf(const FrontendKey& key) const {
  const Frontend* holder = Find(key);
  if (holder == nullptr || holder->terminating) return "another";
  return holder->address.ToString() + " (Service port " + holder->entry->id.ToString() + ")";
}

void FrontendTable::AppendWarnings(std::vector<ServiceWarning>& warnings) const {
  for (const auto& [entry, claim] : left_out_) {
    const std::optional<FrontendKey> spare = SpareKey(claim);
    if (!IsExternalAddress(claim.source) || !spare) continue;
    warnings.push_back({entry->id.ns, entry->id.name,
                        claim.address.ToString() + " is not served: its addresses in IPVS, " +
                            claim.key.ip.ToString() + " and " + spare->ip.ToString() +
                            ", are also those of " + HolderOf(claim.key) + " and " +
                            HolderOf(*spare)});
  }
}

}  // namespace pointsman::agent::ipvs
