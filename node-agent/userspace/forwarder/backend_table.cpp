#include "node-agent/userspace/forwarder/backend_table.h"

#include <algorithm>

namespace pointsman::forwarder {

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
    ++state.affinity->users;
  }
  if (before != nullptr) {
    // After the new one took its share: the memory of clients lives on.
    State old;
    old.slot.service = service_before;
    old.affinity = before;
    Release(old);
  }
  state.slot = std::move(slot);
}

void BackendTable::Release(State& state) {
  if (state.affinity == nullptr || --state.affinity->users > 0) return;
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
    if (affine_clients_.size() > kMaxAffineClients) {
      const AffineClient& oldest = affine_clients_.front();
      oldest.service->clients.erase(oldest.client);
      affine_clients_.pop_front();
    }
    return;
  }
  known->second->backend = backend;
  known->second->last = now;
  affine_clients_.splice(affine_clients_.end(), affine_clients_, known->second);
}

void BackendTable::Failed(const IpPort& backend, Clock::time_point now) {
  if (suspects_.size() >= kMaxSuspects && !suspects_.contains(backend)) {
    std::erase_if(suspects_, [now](const auto& suspect) { return suspect.second <= now; });
    if (suspects_.size() >= kMaxSuspects) return;
  }
  suspects_[backend] = now + kSuspectTime;
}

}  // namespace pointsman::forwarder
