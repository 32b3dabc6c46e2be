// For the tests of the planning: a FakeWorld and what they ask of it.
#pragma once

#include <cstdint>
#include <string>

#include <gtest/gtest.h>

#include "operator/plan/fake_world.h"

namespace pointsman::op {

inline constexpr const char* kNoCanary =
    R"({"rollout": {"canary": {"nodes": 0}, "minReady": "0s"}})";

class PlanTest : public ::testing::Test {
 protected:
  void AddNodes(int count) {
    for (int i = 1; i <= count; ++i)
      world_.AddNode("n" + std::to_string(i));
  }
  const kube::ProxyConfigurationStatus& Status(const std::string& name = "main") const {
    return world_.Configuration(name).status;
  }
  bool Has(const std::string& type, const std::string& name = "main") const {
    return FindCondition(Status(name).conditions, type) != nullptr;
  }
  // "": there is no such condition.
  std::string Reason(const std::string& type, const std::string& name = "main") const {
    return Has(type, name) ? world_.ConditionOf(name, type).reason : "";
  }
  std::string Message(const std::string& type, const std::string& name = "main") const {
    return world_.ConditionOf(name, type).message;
  }
  bool True(const std::string& type, const std::string& name = "main") const {
    return Has(type, name) && world_.ConditionOf(name, type).status == kube::ConditionStatus::kTrue;
  }
  // One round without waiting.
  void Round() {
    world_.Perform(world_.MakePlan());
    world_.StepAgents();
  }
  int64_t AtRevision(int64_t revision) const {
    int64_t count = 0;
    for (const auto& [name, proxy] : world_.proxies)
      count += proxy->spec.revision == revision;
    return count;
  }

  FakeWorld world_;
};

}  // namespace pointsman::op
