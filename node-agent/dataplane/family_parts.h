// One family's part of a sync: what the other family's tables refuse is no reason to leave this one
// alone (kubernetes#99127: a kernel whose ip6tables is broken serves IPv4).
#pragma once

#include <stdexcept>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>

#include "node-agent/dataplane/dataplane.h"

namespace pointsman::agent {

// Calls `call`, which returns a SyncResult, and adds what it says to `sum`. Its problems, and what
// it throws of the kernel's (std::runtime_error), are this family's.
template <typename Call>
void AddPartOf(net::Family family, std::string_view what, SyncResult& sum, const Call& call) {
  SyncResult part;
  try {
    part = call();
  } catch (const std::runtime_error& error) {
    part.problems.push_back({fmt::format("{} of {}", what, net::ToString(family)), error.what()});
  }
  for (SyncProblem& problem : part.problems)
    problem.family = family;
  sum.Add(std::move(part));
}

// The same for what is read back; `call` returns a VerifyResult.
template <typename Call>
void AddPartOf(net::Family family, std::string_view what, VerifyResult& sum, const Call& call) {
  VerifyResult part;
  try {
    part = call();
  } catch (const std::runtime_error& error) {
    part.Differ(fmt::format("{} of {}", what, net::ToString(family)), error.what());
  }
  for (SyncProblem& problem : part.differences)
    problem.family = family;
  sum.Add(std::move(part));
}

}  // namespace pointsman::agent
