#include "node-agent/userspace/slot_map.h"

#include <random>
#include <stdexcept>

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

uint32_t SlotMap::NumberOf(const std::string& service, uint8_t kind) {
  const auto [place, fresh] = numbers_.try_emplace({service, kind}, 0);
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
  const auto steer = [&](BackendChoice& choice, Kind kind) {
    if (choice.backends.empty()) return;
    forwarder::Slot slot{.number = NumberOf(service, kind),
                         .service = service,
                         .kind = kind,
                         .udp = entry.id.protocol == Protocol::kUdp,
                         .affinity_seconds = static_cast<uint32_t>(entry.affinity_timeout.count()),
                         .backends = Places(choice.backends)};
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

}  // namespace pointsman::agent
