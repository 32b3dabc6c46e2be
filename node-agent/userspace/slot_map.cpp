#include "node-agent/userspace/slot_map.h"

#include <algorithm>
#include <random>
#include <stdexcept>

#include <fmt/format.h>

#include "node-agent/dataplane/fair_share.h"
#include "node-agent/userspace/forwarder/protocol.h"

namespace pointsman::agent {
namespace {

enum Kind : uint8_t { kInternal, kExternal, kExternalFromNode };

std::vector<net::IpPort> Places(const std::vector<Backend>& backends) {
  std::vector<net::IpPort> places;
  places.reserve(backends.size());
  for (const Backend& backend : backends) {
    const net::IpPort place{backend.ip, backend.port};
    if (places.empty() || places.back() != place) places.push_back(place);
  }
  return places;
}

}  // namespace

void SlotMap::Adopt(const std::vector<forwarder::Slot>& slots, uint32_t last) {
  numbers_.clear();
  used_.assign(used_.size(), false);
  for (const forwarder::Slot& slot : slots) {
    numbers_[{slot.service, slot.kind}] = slot.number;
    used_[slot.number] = true;
  }
  last_ = last;
}

void SlotMap::StartAfresh() {
  Adopt({}, std::random_device{}() % forwarder::kMaxSlot);
}

uint32_t SlotMap::NumberOf(const std::string& service, uint8_t kind, bool& fresh) {
  const auto [place, added] = numbers_.try_emplace({service, kind}, 0);
  fresh = added;
  if (!fresh) return place->second;
  for (uint32_t tried = 0; tried < forwarder::kMaxSlot; ++tried) {
    last_ = last_ % forwarder::kMaxSlot + 1;
    if (used_[last_]) continue;
    used_[last_] = true;
    place->second = last_;
    return last_;
  }
  numbers_.erase(place);
  throw std::length_error(
      fmt::format("userspace mode serves {} Service ports at most", forwarder::kMaxSlot));
}

Steered SlotMap::Steer(const ServicePortEntry& entry, uint16_t port) {
  const std::string service = entry.id.ToString();
  auto steered = std::make_shared<ServicePortEntry>(entry);
  Steered result;
  std::vector<forwarder::Slot> fresh;
  const auto number_of = [&](Kind kind) {
    bool is_fresh = false;
    try {
      const uint32_t number = NumberOf(service, kind, is_fresh);
      if (is_fresh) fresh.push_back({.number = number, .service = service, .kind = kind});
      return number;
    } catch (const std::length_error&) {
      for (const forwarder::Slot& slot : fresh)
        Free(slot);
      throw;
    }
  };
  const auto steer = [&](BackendChoice& choice, Kind kind) {
    if (choice.backends.empty()) return;
    forwarder::Slot slot{.number = number_of(kind),
                         .service = service,
                         .kind = kind,
                         .udp = entry.id.protocol == Protocol::kUdp,
                         .affinity_seconds = static_cast<uint32_t>(entry.affinity_timeout.count()),
                         .backends = Places(choice.backends)};
    if (slot.backends.size() > forwarder::kMaxBackendsOfSlot) {
      result.backends_left_out =
          std::max(result.backends_left_out, slot.backends.size() - forwarder::kMaxBackendsOfSlot);
      slot.backends.resize(forwarder::kMaxBackendsOfSlot);
    }
    choice.backends = {
        Backend{forwarder::SlotAddress(entry.id.family, slot.number), port, /*local=*/true}};
    result.slots.push_back(std::move(slot));
  };
  if (entry.id.protocol == Protocol::kSctp) {
    for (BackendChoice* choice :
         {&steered->internal, &steered->external, &steered->external_from_node}) {
      *choice = {};
    }
  }
  steer(steered->internal, kInternal);
  steer(steered->external, kExternal);
  if (entry.external_local) {
    steer(steered->external_from_node, kExternalFromNode);
  } else {
    steered->external_from_node = {};
  }
  // The forwarder keeps clients at their backends and draining connections alive.
  steered->affinity_timeout = std::chrono::seconds(0);
  steered->draining.clear();
  result.entry = std::move(steered);
  return result;
}

void SlotMap::Free(const forwarder::Slot& slot) {
  const auto found = numbers_.find({slot.service, slot.kind});
  if (found == numbers_.end() || found->second != slot.number) return;
  used_[slot.number] = false;
  numbers_.erase(found);
}

std::set<std::pair<std::string, std::string>> WithoutSlots(
    const ServiceModel& model, uint32_t slots,
    const std::function<bool(const ServicePortEntry&)>& served) {
  std::map<std::pair<std::string, std::string>, uint64_t> wanted;
  uint64_t total = 0;
  const auto each_kind = [](const ServicePortEntry& entry) -> uint64_t {
    if (entry.id.protocol == Protocol::kSctp) return 0;
    return (entry.internal.backends.empty() ? 0U : 1U) +
           (entry.external.backends.empty() ? 0U : 1U) +
           (entry.external_local && !entry.external_from_node.backends.empty() ? 1U : 0U);
  };
  for (const auto& [id, entry] : model.entries) {
    if (served(*entry)) total += each_kind(*entry);
  }
  std::set<std::pair<std::string, std::string>> without;
  if (total <= slots) return without;
  for (const auto& [id, entry] : model.entries) {
    if (served(*entry)) wanted[{id.ns, id.name}] += each_kind(*entry);
  }
  std::vector<Demand> demands;
  demands.reserve(wanted.size());
  for (const auto& [name, amount] : wanted)
    demands.push_back({name.first, name.second, amount});
  for (const size_t i : BeyondFairShare(demands, slots))
    without.emplace(demands[i].ns, demands[i].service);
  return without;
}

}  // namespace pointsman::agent
