// For tests: a client in a network namespace that connects to a place over TCP again and again.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <thread>

#include "kube/net/socket_address.h"

namespace pointsman::agent::testing {

// From construction to destruction, in a thread of its own. A connection is closed as soon as it
// is open.
class SteadyClient {
 public:
  struct Habits {
    std::chrono::milliseconds every{20};       // a new one
    std::chrono::milliseconds patience{5000};  // then it gives up
    // Each goes to the next of so many ports, from the place's own.
    uint16_t ports = 1;
  };
  // `host`: one of a TestNetwork; "": the node. Throws std::system_error if there is no such
  // namespace.
  SteadyClient(const std::string& host, const net::IpPort& place, const Habits& habits);
  SteadyClient(const std::string& host, const net::IpPort& place)
      : SteadyClient(host, place, Habits{}) {}
  ~SteadyClient();
  SteadyClient(const SteadyClient&) = delete;
  SteadyClient& operator=(const SteadyClient&) = delete;

  uint64_t opened() const { return opened_; }
  uint64_t failed() const { return failed_; }  // refused, unreachable or given up

 private:
  void Run();

  const net::IpPort place_;
  const Habits habits_;
  std::atomic<uint64_t> opened_{0};
  std::atomic<uint64_t> failed_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace pointsman::agent::testing
