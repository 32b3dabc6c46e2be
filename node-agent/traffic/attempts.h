// New connections of clients to Services, and what became of each: answered or not.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <unordered_map>
#include <unordered_set>

#include "kube/net/socket_address.h"
#include "node-agent/traffic/service_places.h"

namespace pointsman::agent {

struct Outcomes {
  uint64_t answered = 0;
  // Reset, or not answered in time.
  uint64_t unanswered = 0;
  uint64_t all() const { return answered + unanswered; }
};
// Of one place, by client.
using ClientOutcomes = std::unordered_map<net::IpAddress, Outcomes>;
using PlaceOutcomes = std::unordered_map<net::IpPort, ClientOutcomes, IpPortHash>;

// Bounded, whatever clients do: what there is no room for is not counted, and is no evidence
// either way. Not thread-safe.
class Attempts {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  static constexpr size_t kMaxOpen = 65'536;     // not known yet what becomes of them
  static constexpr size_t kMaxClients = 32'768;  // over all places

  // `answer_within`: what is open for longer stays unanswered.
  explicit Attempts(std::chrono::milliseconds answer_within) : answer_within_(answer_within) {}

  void Asked(const net::IpPort& client, const net::IpPort& place, TimePoint now);
  void Answered(const net::IpPort& client, const net::IpPort& place) { Close(client, place, true); }
  void Reset(const net::IpPort& client, const net::IpPort& place) { Close(client, place, false); }
  // What is open for too long by then is unanswered.
  void Expire(TimePoint now);
  // Answers may have been missed: what is open is forgotten.
  void ForgetOpen();

  // What is counted until here; a new count begins. Connections that are open are of neither count:
  // not of this, since they may yet be answered, nor of the next, however often they are tried.
  PlaceOutcomes TakeCount();
  const PlaceOutcomes& outcomes() const { return outcomes_; }

 private:
  struct Connection {
    net::IpPort client;
    net::IpPort place;
    bool operator==(const Connection&) const = default;
  };
  struct ConnectionHash {
    size_t operator()(const Connection& connection) const noexcept {
      return IpPortHash()(connection.client) * 131 + IpPortHash()(connection.place);
    }
  };

  void Close(const net::IpPort& client, const net::IpPort& place, bool answered);
  void Count(const Connection& connection, bool answered);

  const std::chrono::milliseconds answer_within_;
  std::unordered_map<Connection, TimePoint, ConnectionHash> open_;
  std::deque<std::pair<TimePoint, Connection>> by_age_;  // of open_, and some that have ended
  std::unordered_set<Connection, ConnectionHash> of_neither_count_;
  PlaceOutcomes outcomes_;
  size_t clients_ = 0;
};

}  // namespace pointsman::agent
