// For property tests: random sequences of changes to a service model, the same for the same seed.
#pragma once

#include <cstdint>
#include <random>

#include "node-agent/testing/model_maker.h"

namespace pointsman::agent::testing {

class RandomModel {
 public:
  // Do addresses and node ports belong to one entry each, as the agent's model sees to it, or may
  // several have the same?
  enum class Addresses : uint8_t { kOwn, kShared };

  explicit RandomModel(uint32_t seed, Addresses addresses = Addresses::kShared)
      : random_(seed), addresses_(addresses) {}

  // Adds, replaces and removes one to four entries of `maker`'s model.
  ModelDelta Step(ModelMaker& maker);

 private:
  uint32_t Below(uint32_t limit) { return static_cast<uint32_t>(random_() % limit); }
  ServicePortEntry Entry();
  BackendChoice Choice(const ServicePortEntry& entry);

  std::mt19937 random_;
  Addresses addresses_;
};

}  // namespace pointsman::agent::testing
