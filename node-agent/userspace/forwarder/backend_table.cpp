#include "node-agent/userspace/forwarder/backend_table.h"

#include <algorithm>

namespace pointsman::forwarder {
namespace {

// Of the time that a client has left, which is told in whole seconds, here and there.
constexpr std::chrono::seconds kRounding{2};

}  // namespace

std::array<net::ShareKey, 3> ShareOf(const Slot& slot, const net::IpAddress& client) {
  const std::string_view service = slot.service;
  return {net::ShareKey::Of(service.substr(0, service.find('/'))),
          net::ShareKey::Of(uint64_t{slot.number}), net::ShareKey::Of(client)};
}

void BackendTable::Set(Slot slot) {
  State& state = slots_[slot.number];
  Affinity* const before = state.affinity;
  const std::string service_before = state.slot.service;
  if (!state.slot.backends.empty()) {
    // The turn stays with the backend that has it, or with the one after it.
    const IpPort turn = state.slot.backends[state.next % state.slot.backends.size()];
    state.next = static_cast<size_t>(
        std::lower_bound(slot.backends.begin(), slot.backends.end(), turn) - slot.backends.begin());
  }
  state.affinity = nullptr;
  if (slot.affinity_seconds > 0) {
    state.affinity = &affinities_[slot.service];
    state.affinity->slots.push_back(slot.number);
  }
  if (before != nullptr) {
    // After the new one took its share: the memory of clients lives on.
    State old;
    old.slot.number = slot.number;
    old.slot.service = service_before;
    old.affinity = before;
    Release(old);
  }
  state.slot = std::move(slot);
}

void BackendTable::Release(State& state) {
  if (state.affinity == nullptr) return;
  std::vector<uint32_t>& slots = state.affinity->slots;
  slots.erase(std::find(slots.begin(), slots.end(), state.slot.number));
  if (!slots.empty()) return;
  for (const auto& [client, place] : state.affinity->clients)
    affine_clients_.erase(place);
  affinities_.erase(state.slot.service);
}

void BackendTable::Remove(uint32_t number) {
  const auto found = slots_.find(number);
  if (found == slots_.end()) return;
  Release(found->second);
  slots_.erase(found);
}

const Slot* BackendTable::Find(uint32_t number) const {
  const auto found = slots_.find(number);
  return found == slots_.end() ? nullptr : &found->second.slot;
}

bool BackendTable::Has(uint32_t number, const IpPort& backend) const {
  const Slot* slot = Find(number);
  return slot != nullptr &&
         std::binary_search(slot->backends.begin(), slot->backends.end(), backend);
}

bool BackendTable::IsSuspect(const IpPort& backend, Clock::time_point now) {
  if (suspects_.empty()) return false;
  const auto found = suspects_.find(backend);
  if (found == suspects_.end()) return false;
  if (now < found->second) return true;
  suspects_.erase(found);
  return false;
}

std::optional<IpPort> BackendTable::Choose(uint32_t number, const net::IpAddress& client,
                                           std::span<const IpPort> tried, Clock::time_point now) {
  const auto found = slots_.find(number);
  if (found == slots_.end()) return std::nullopt;
  State& state = found->second;
  const std::vector<IpPort>& backends = state.slot.backends;
  auto is_tried = [&](const IpPort& backend) {
    return std::find(tried.begin(), tried.end(), backend) != tried.end();
  };
  if (state.affinity != nullptr) {
    const auto known = state.affinity->clients.find(client);
    if (known != state.affinity->clients.end()) {
      const AffineClient& affine = *known->second;
      const bool fresh = now - affine.last <= std::chrono::seconds(state.slot.affinity_seconds);
      if (fresh && std::binary_search(backends.begin(), backends.end(), affine.backend) &&
          !is_tried(affine.backend)) {
        return affine.backend;
      }
    }
  }
  std::optional<IpPort> suspect;
  size_t after_suspect = 0;
  for (size_t i = 0; i < backends.size(); ++i) {
    const size_t at = (state.next + i) % backends.size();
    const IpPort& backend = backends[at];
    if (is_tried(backend)) continue;
    if (IsSuspect(backend, now)) {
      if (!suspect) {
        suspect = backend;
        after_suspect = at + 1;
      }
      continue;
    }
    state.next = at + 1;
    return backend;
  }
  if (suspect) state.next = after_suspect;
  return suspect;
}

void BackendTable::Reached(uint32_t number, const net::IpAddress& client, const IpPort& backend,
                           Clock::time_point now) {
  if (!suspects_.empty()) suspects_.erase(backend);
  const auto found = slots_.find(number);
  if (found == slots_.end() || found->second.affinity == nullptr) return;
  Affinity& affinity = *found->second.affinity;
  const auto [known, fresh] = affinity.clients.try_emplace(client);
  if (fresh) {
    affine_clients_.push_back({&affinity, client, backend, now});
    known->second = std::prev(affine_clients_.end());
    return ForgetBeyondLimit();
  }
  known->second->backend = backend;
  known->second->last = now;
  affine_clients_.splice(affine_clients_.end(), affine_clients_, known->second);
}

void BackendTable::ForgetBeyondLimit() {
  while (affine_clients_.size() > kMaxAffineClients) {
    const AffineClient& oldest = affine_clients_.front();
    oldest.service->clients.erase(oldest.client);
    affine_clients_.pop_front();
  }
}

std::chrono::seconds BackendTable::TimeoutOf(const Affinity& affinity) const {
  return std::chrono::seconds(Find(affinity.slots.front())->affinity_seconds);
}

bool BackendTable::HasAny(const Affinity& affinity, const IpPort& backend) const {
  return std::any_of(affinity.slots.begin(), affinity.slots.end(),
                     [&](uint32_t number) { return Has(number, backend); });
}

std::vector<ServiceBindings> BackendTable::Bindings(Clock::time_point now) const {
  std::vector<ServiceBindings> all;
  for (const auto& [service, affinity] : affinities_) {
    ServiceBindings of{.service = service, .bindings = {}};
    const std::chrono::seconds timeout = TimeoutOf(affinity);
    for (const auto& [client, place] : affinity.clients) {
      const auto left = std::chrono::ceil<std::chrono::seconds>(place->last + timeout - now);
      if (left.count() < 1) continue;
      of.bindings.push_back({client, place->backend, static_cast<uint32_t>(left.count())});
    }
    if (!of.bindings.empty()) all.push_back(std::move(of));
  }
  return all;
}

size_t BackendTable::Bind(const std::vector<ServiceBindings>& given, Clock::time_point now) {
  size_t without_place = 0;
  auto first_added = affine_clients_.end();
  for (const ServiceBindings& of : given) {
    const auto found = affinities_.find(of.service);
    if (found == affinities_.end()) {
      without_place += of.bindings.size();
      continue;
    }
    Affinity& affinity = found->second;
    const std::chrono::seconds timeout = TimeoutOf(affinity);
    for (const Binding& binding : of.bindings) {
      if (!HasAny(affinity, binding.backend)) {
        ++without_place;
        continue;
      }
      const Clock::time_point last =
          now - (timeout - std::min(std::chrono::seconds(binding.seconds_left), timeout));
      const auto [known, fresh] = affinity.clients.try_emplace(binding.client);
      if (!fresh) {
        const AffineClient& here = *known->second;
        if (now - here.last <= timeout && last <= here.last + kRounding &&
            HasAny(affinity, here.backend)) {
          continue;
        }
        if (known->second == first_added) ++first_added;  // given twice
        affine_clients_.erase(known->second);
      }
      affine_clients_.push_back({&affinity, binding.client, binding.backend, last});
      known->second = std::prev(affine_clients_.end());
      if (first_added == affine_clients_.end()) first_added = known->second;
    }
  }
  AffineClients added;
  added.splice(added.end(), affine_clients_, first_added, affine_clients_.end());
  // The longest silent first, as before.
  const auto earlier = [](const AffineClient& a, const AffineClient& b) { return a.last < b.last; };
  added.sort(earlier);
  affine_clients_.merge(added, earlier);
  ForgetBeyondLimit();
  return without_place;
}

void BackendTable::Failed(const IpPort& backend, Clock::time_point now) {
  if (suspects_.size() >= kMaxSuspects && !suspects_.contains(backend)) {
    std::erase_if(suspects_, [now](const auto& suspect) { return suspect.second <= now; });
    if (suspects_.size() >= kMaxSuspects) return;
  }
  suspects_[backend] = now + kSuspectTime;
}

}  // namespace pointsman::forwarder
