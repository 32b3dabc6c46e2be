// What a dataplane throws is a problem of its sync and not the end of the agent.
#pragma once

#include <exception>
#include <string>
#include <string_view>

#include "node-agent/dataplane/dataplane.h"

namespace pointsman::agent {

// What `call` returns, a SyncResult; if it throws, one with that as the problem of `object`.
template <typename Call>
SyncResult Guarded(std::string_view object, const Call& call) {
  try {
    return call();
  } catch (const std::exception& error) {
    return {.problems = {{std::string(object), error.what()}}};
  }
}

}  // namespace pointsman::agent
