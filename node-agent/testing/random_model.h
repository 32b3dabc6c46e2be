// For property tests: random sequences of changes to a service model, the same for the same seed.
#pragma once

#include <cstdint>
#include <random>

#include "node-agent/testing/model_maker.h"

namespace pointsman::agent::testing {

class RandomModel {
 public:
  // Addresses and node ports belong to one entry each, as the agent's model sees to it.
  explicit RandomModel(uint32_t seed) : random_(seed) {}

  // Adds, replaces and removes one to four entries of `maker`'s model.
  ModelDelta Step(ModelMaker& maker);

 private:
  uint32_t Below(uint32_t limit) { return static_cast<uint32_t>(random_() % limit); }
  ServicePortEntry Entry();
  BackendChoice Choice(const ServicePortEntry& entry);

  std::mt19937 random_;
};

}  // namespace pointsman::agent::testing
