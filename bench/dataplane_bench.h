// What the benchmarks of the single dataplanes share: a model of many Services, the same procedure,
// and the line of figures.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "node-agent/dataplane/dataplane.h"

namespace pointsman::bench {

struct DataplaneBench {
  std::string name;                      // of the line
  std::vector<uint32_t> services{1000};  // one run each
  uint32_t endpoints = 10;               // of each Service, 1 to 16
  int changes = 200;                     // of one Service's endpoints, timed one by one

  // Before each run; may throw.
  std::function<void()> prepare = [] {};
  // A dataplane as a process has it that has just started.
  std::function<std::unique_ptr<agent::Dataplane>()> make;
  // Makes another entry of each, for what a mode depends on.
  std::function<void(agent::ServicePortEntry&)> adapt = [](agent::ServicePortEntry&) {};
  // Each second change takes an endpoint away; otherwise each replaces one.
  bool resize = false;
  net::Family family = net::Family::kIPv4;

  // --services, --endpoints, --changes
  void AddOptions(CLI::App& app);
  // Prints a line a run. Returns what main() returns.
  int Run() const;

 private:
  void Measure(uint32_t number) const;
  agent::ServicePortEntry Entry(uint32_t service) const;
  agent::ServicePortEntry Changed(uint32_t service, uint32_t change) const;
};

// A network namespace of its own for this thread. Throws std::system_error.
void EnterNetworkNamespace();

}  // namespace pointsman::bench
