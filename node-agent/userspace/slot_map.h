// Which slot of the forwarder stands for which class of traffic of which Service port.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "node-agent/model/service_model.h"
#include "node-agent/userspace/forwarder/backend_table.h"

namespace pointsman::agent {

// A Service port as userspace mode sees it.
struct Steered {
  // The same with the address of a slot in the place of the backends: what the rules send to. SCTP,
  // which the forwarder does not speak, has no backends at all and is refused.
  EntryPtr entry;
  std::vector<forwarder::Slot> slots;  // of the traffic that has backends
  // Of one kind of traffic, those beyond what the forwarder takes (forwarder::kMaxBackendsOfSlot).
  size_t backends_left_out = 0;
};

// The Services (namespace and name) that get no slots, since `slots` are not enough for all of
// those that `served` names. See fair_share.h for who they are.
std::set<std::pair<std::string, std::string>> WithoutSlots(
    const ServiceModel& model, uint32_t slots,
    const std::function<bool(const ServicePortEntry&)>& served);

// Not thread-safe.
class SlotMap {
 public:
  // Takes over the numbers of a running forwarder. `last`: the number it says was given out last.
  void Adopt(const std::vector<forwarder::Slot>& slots, uint32_t last);
  // Begins at a random number: with no forwarder left to ask, conntrack may still know numbers of
  // an earlier one.
  void StartAfresh();
  bool empty() const { return numbers_.empty(); }

  // `port`: of the forwarder in that family. Numbers are given to what has none. Throws
  // std::length_error when there are none left, and has given out none then.
  Steered Steer(const ServicePortEntry& entry, uint16_t port);
  // The number is free again, but comes last when others are given out: packets that were sent on
  // their way to it must not reach another Service.
  void Free(const forwarder::Slot& slot);
  uint32_t last() const { return last_; }

 private:
  using Key = std::pair<std::string, uint8_t>;  // service, kind
  // `fresh`: it was given out just now.
  uint32_t NumberOf(const std::string& service, uint8_t kind, bool& fresh);

  std::map<Key, uint32_t> numbers_;
  std::vector<bool> used_ = std::vector<bool>(forwarder::kMaxSlot + 1);
  uint32_t last_ = 0;
};

}  // namespace pointsman::agent
