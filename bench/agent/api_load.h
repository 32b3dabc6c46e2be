// Services with EndpointSlices in the API server, single changes of them, and when the API server
// sent each change to the agent.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "kube/client/client.h"
#include "kube/net/ip_address.h"

namespace pointsman::bench {

// One endpoint of one Service that is ready or not.
struct ReadinessChange {
  net::IpAddress service;
  net::IpAddress endpoint;
  bool ready = false;
  uint64_t resource_version = 0;  // of the changed slice; known after Apply
};

// Not thread-safe.
class ApiLoad {
 public:
  static constexpr uint16_t kServicePort = 80;
  static constexpr uint16_t kEndpointPort = 8080;

  // Everything outlives this. At most 15 endpoints a Service. `watch_log`: the control plane's
  // --watch-log.
  ApiLoad(kube::Client& api, std::filesystem::path watch_log, uint32_t endpoints);

  // Creates the Services that are missing to have `count` (up to 40,000).
  void Grow(uint32_t count);
  uint32_t services() const { return count_; }

  // The change that flips the last endpoint of a Service; it is ready at first.
  ReadinessChange Plan(uint32_t service) const;
  void Apply(uint32_t service, ReadinessChange& change);

  // When the API server sent that version of a slice to `user`. Throws when it did not within 10 s.
  std::chrono::steady_clock::time_point SentAt(uint64_t resource_version, const std::string& user);

 private:
  kube::Json Slice(uint32_t service, bool last_ready) const;

  kube::Client& api_;
  const std::filesystem::path watch_log_;
  const uint32_t endpoints_;
  uint32_t count_ = 0;
  std::map<uint32_t, bool> not_ready_;  // Services whose last endpoint is not
  std::ifstream log_;
  std::string line_;                                             // the log's last, perhaps half
  std::map<std::pair<std::string, uint64_t>, int64_t> sent_at_;  // of the log's lines so far
};

}  // namespace pointsman::bench
