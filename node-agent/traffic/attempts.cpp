#include "node-agent/traffic/attempts.h"

#include <utility>

namespace pointsman::agent {

void Attempts::Asked(const net::IpPort& client, const net::IpPort& place, TimePoint now) {
  // by_age_ holds what has ended too, until its time is over.
  if (by_age_.size() >= kMaxOpen) return;
  const Connection connection{client, place};
  if (of_neither_count_.contains(connection)) return;
  if (open_.emplace(connection, now).second) by_age_.emplace_back(now, connection);
}

void Attempts::Close(const net::IpPort& client, const net::IpPort& place, bool answered) {
  const Connection connection{client, place};
  if (open_.erase(connection) != 0) {
    Count(connection, answered);
  } else {
    of_neither_count_.erase(connection);  // the next of these ports is a new connection
  }
}

void Attempts::Count(const Connection& connection, bool answered) {
  const auto place = outcomes_.find(connection.place);
  const bool known = place != outcomes_.end() && place->second.contains(connection.client.ip);
  if (!known && clients_ >= kMaxClients) return;
  if (!known) ++clients_;
  Outcomes& outcomes = outcomes_[connection.place][connection.client.ip];
  ++(answered ? outcomes.answered : outcomes.unanswered);
}

void Attempts::Expire(TimePoint now) {
  for (; !by_age_.empty() && by_age_.front().first + answer_within_ <= now; by_age_.pop_front()) {
    const auto& [begun, connection] = by_age_.front();
    const auto found = open_.find(connection);
    if (found == open_.end() || found->second != begun) continue;
    Count(connection, /*answered=*/false);
    open_.erase(found);
    // What the client still sends of it is not another one.
    if (of_neither_count_.size() < kMaxOpen) of_neither_count_.insert(connection);
  }
}

void Attempts::ForgetOpen() {
  open_.clear();
  by_age_.clear();
}

PlaceOutcomes Attempts::TakeCount() {
  for (const auto& [connection, begun] : open_) {
    if (of_neither_count_.size() >= kMaxOpen) break;
    of_neither_count_.insert(connection);
  }
  ForgetOpen();
  clients_ = 0;
  return std::exchange(outcomes_, {});
}

}  // namespace pointsman::agent
