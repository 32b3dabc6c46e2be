#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "e2e/control-plane/auth/authorizer.h"

namespace pointsman::e2e {

// Misbehaviour on purpose. PUT /pointsman-debug/faults takes
//   {"rules": [{"verb": "list", "resource": "services", "user": "", "code": 429,
//               "probability": 1.0, "count": 3, "delay": "50ms", "retryAfter": 1,
//               "abort": false, "staleBy": 0}],
//    "dropWatches": true, "expire": true, "RefuseConnections": "2s"}
// `rules` replaces the rules (an empty verb, resource or user matches all; without a count a rule
// holds until replaced); the other members act once. GET returns the rules with their hits.
class Faults {
 public:
  struct Action {
    int code = 0;  // answer with this status; 0: go on
    int retry_after = 0;
    std::chrono::milliseconds delay{0};
    bool abort = false;          // end the connection without an answer
    std::uint64_t stale_by = 0;  // serve lists that many versions behind
  };

  // Throws StatusError 400 naming the member.
  void Set(const Json& rules);
  Json Get() const;
  Action Next(const std::string& user, const AccessRequest& request);

 private:
  struct Rule {
    std::string verb;
    std::string resource;
    std::string user;
    double probability = 1;
    std::optional<std::uint64_t> count;
    Action action;
    std::uint64_t hits = 0;
    Json source;
  };
  mutable std::mutex mutex_;
  std::vector<Rule> rules_;
};

// "250ms", "2s", "1m". Throws StatusError 400.
std::chrono::milliseconds ParseDuration(const std::string& field, const std::string& text);

}  // namespace pointsman::e2e
