#include "node-agent/traffic/client_traffic.h"

#include <algorithm>
#include <exception>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "node-agent/handover/probe.h"
#include "node-agent/traffic/comparison.h"

namespace pointsman::agent {
namespace {

constexpr std::chrono::milliseconds kEndpointTimeout{1000};

void AddEndpoints(const BackendChoice& choice, std::set<net::IpPort>& endpoints) {
  for (const Backend& backend : choice.backends)
    endpoints.insert({backend.ip, backend.port});
}

std::set<net::IpPort> EndpointsOf(const ServicePortEntry& entry) {
  std::set<net::IpPort> endpoints;
  AddEndpoints(entry.internal, endpoints);
  AddEndpoints(entry.external, endpoints);
  AddEndpoints(entry.external_from_node, endpoints);
  return endpoints;
}

// Of many, some from everywhere in the list.
std::vector<net::IpPort> Sample(const std::set<net::IpPort>& endpoints, size_t most) {
  const size_t step = (endpoints.size() + most - 1) / most;
  std::vector<net::IpPort> sample;
  sample.reserve(most);
  size_t i = 0;
  for (const net::IpPort& endpoint : endpoints) {
    if (i++ % step == 0) sample.push_back(endpoint);
  }
  return sample;
}

bool AnyAnswered(const PlaceOutcomes& outcomes) {
  return std::any_of(outcomes.begin(), outcomes.end(), [](const auto& place) {
    return std::any_of(place.second.begin(), place.second.end(),
                       [](const auto& client) { return client.second.answered > 0; });
  });
}

}  // namespace

WatchedTraffic& ProcessWatchedTraffic() {
  static WatchedTraffic traffic;
  return traffic;
}

bool ClientTraffic::Open(const ServiceModel& model) {
  places_ = ServicePlaces(model);
  if (places_.empty()) return false;
  try {
    tap_ = std::make_unique<ConnectionTap>();
  } catch (const std::exception& error) {
    ++ProcessWatchedTraffic().failures;
    if (!std::exchange(told_, true))
      spdlog::warn("handovers are not judged by clients' connections on this node: {}",
                   error.what());
    return false;
  }
  attempts_ = std::make_unique<Attempts>(windows_.answer_within);
  phase_ = Phase::kBefore;
  begun_ = last_read_ = clock_();
  return true;
}

void ClientTraffic::Stop() {
  tap_.reset();
  attempts_.reset();
  places_ = {};
  before_.clear();
  cleared_.clear();
  phase_ = Phase::kIdle;
}

void ClientTraffic::Take(const Segment& segment, bool leaves, TimePoint at) {
  switch (segment.kind) {
    case Segment::Kind::kSyn:
      if (!leaves && places_.Find(segment.destination) != nullptr)
        attempts_->Asked(segment.source, segment.destination, at);
      break;
    case Segment::Kind::kSynAck:
      if (leaves) attempts_->Answered(segment.destination, segment.source);
      break;
    case Segment::Kind::kReset:
      if (leaves) attempts_->Reset(segment.destination, segment.source);
      break;
  }
}

bool ClientTraffic::Read() {
  try {
    // The thread may have been busy with something else for long.
    const TimePoint now = clock_();
    const std::chrono::nanoseconds longest = now - std::exchange(last_read_, now);
    const uint64_t lost = tap_->Read([&](const Segment& segment, bool leaves, auto age) {
      Take(segment, leaves, now - std::clamp(age, std::chrono::nanoseconds(0), longest));
    });
    if (lost > 0) {
      ProcessWatchedTraffic().lost += lost;
      attempts_->ForgetOpen();
    }
    attempts_->Expire(now);
    return true;
  } catch (const std::exception& error) {
    ++ProcessWatchedTraffic().failures;
    spdlog::warn("clients' connections can no longer be watched: {}", error.what());
    Stop();
    return false;
  }
}

bool ClientTraffic::SeenEnough(const ServiceModel& model) {
  if (phase_ != Phase::kBefore) {
    Stop();
    if (!Open(model)) return true;
  }
  return !Read() || clock_() - begun_ >= windows_.before;
}

void ClientTraffic::CountOutcomes(const PlaceOutcomes& outcomes) const {
  for (const auto& [place, clients] : outcomes) {
    for (const auto& [client, of_client] : clients) {
      ProcessWatchedTraffic().answered += of_client.answered;
      ProcessWatchedTraffic().unanswered += of_client.unanswered;
    }
  }
}

size_t ClientTraffic::Before(kube::Mode, kube::Mode, const ServiceModel&) {
  if (phase_ != Phase::kBefore || !Read()) return 0;
  before_ = attempts_->TakeCount();
  CountOutcomes(before_);
  std::erase_if(before_, [](const auto& place) {
    return std::none_of(place.second.begin(), place.second.end(),
                        [](const auto& client) { return client.second.answered > 0; });
  });
  phase_ = Phase::kStep;
  const size_t compared = before_.size();
  if (before_.empty()) Stop();  // nobody uses a Service here, so nothing can tell
  return compared;
}

std::vector<std::string> ClientTraffic::AfterSwitch() {
  if (phase_ != Phase::kStep || !Read()) return {};
  figures_ = {};
  attempts_->TakeCount();  // what came while the step was made: of it, or of before, nobody knows
  phase_ = Phase::kAfter;
  begun_ = clock_();
  next_comparison_ = begun_ + windows_.answer_within + windows_.compare;
  return {};
}

std::optional<std::vector<std::string>> ClientTraffic::Verdict(const ServiceModel& model) {
  if (phase_ != Phase::kAfter || !Read()) {
    Stop();
    return std::vector<std::string>{};
  }
  const TimePoint now = clock_();
  const bool over = now - begun_ >= windows_.after;
  if (now < next_comparison_ && !over) return std::nullopt;
  next_comparison_ = now + windows_.compare;
  std::vector<std::string> worse = HeldAgainst(Suspects(model), model);
  if (worse.empty() && !over) return std::nullopt;
  CountOutcomes(attempts_->outcomes());
  if (worse.empty()) figures_ = Compared(model);
  Stop();
  return worse;
}

std::vector<Worse> ClientTraffic::Suspects(const ServiceModel& model) const {
  std::vector<Worse> suspects;
  std::set<net::IpAddress> clients;
  for (const auto& [place, after] : attempts_->outcomes()) {
    const auto before = before_.find(place);
    if (before == before_.end() || cleared_.contains(place)) continue;
    // Gone meanwhile: then nobody is to be answered.
    const ServicePortEntry* const entry = places_.Find(place);
    if (entry == nullptr || !model.entries.contains(entry->id)) continue;
    if (auto worse = Compare(place, before->second, after)) {
      clients.insert(worse->clients.begin(), worse->clients.end());
      suspects.push_back(*std::move(worse));
    }
  }
  if (clients.size() < 2 && AnyAnswered(attempts_->outcomes())) return {};
  std::sort(suspects.begin(), suspects.end(),
            [](const Worse& a, const Worse& b) { return a.after.unanswered > b.after.unanswered; });
  if (suspects.size() > kMaxSuspects) suspects.resize(kMaxSuspects);
  return suspects;
}

std::vector<bool> ClientTraffic::EndpointsAnswer(const std::vector<net::IpPort>& places,
                                                 const ServiceModel& model) const {
  std::vector<net::IpPort> endpoints;
  std::vector<size_t> ends;
  for (const net::IpPort& place : places) {
    const ServicePortEntry& was = *places_.Find(place);
    std::set<net::IpPort> all = EndpointsOf(was);
    all.merge(EndpointsOf(*model.entries.at(was.id)));
    const auto sample = Sample(all, kMaxEndpoints);
    endpoints.insert(endpoints.end(), sample.begin(), sample.end());
    ends.push_back(endpoints.size());
  }
  std::vector<bool> answer(places.size(), false);
  if (endpoints.empty()) return answer;
  const std::vector<ProbeOutcome> outcomes =
      RunTcpProbes(endpoints, ProbeDepth::kOpen, kEndpointTimeout);
  size_t first = 0;
  for (size_t i = 0; i < places.size(); first = ends[i++]) {
    answer[i] =
        ends[i] > first &&
        std::all_of(outcomes.begin() + static_cast<std::ptrdiff_t>(first),
                    outcomes.begin() + static_cast<std::ptrdiff_t>(ends[i]),
                    [](ProbeOutcome outcome) { return outcome != ProbeOutcome::kNotOpened; });
  }
  return answer;
}

// Where more fail than before it may be the endpoints that died. The worst are asked; if one of
// those is not alive nobody knows of the rest either, and they are left out.
TrafficFigures ClientTraffic::Compared(const ServiceModel& model) const {
  struct Suspect {
    net::IpPort place;
    TrafficFigures figures;
    double excess = 0;
  };
  std::vector<Suspect> suspects;
  TrafficFigures sum;
  double excess = 0;
  for (const auto& [place, after] : attempts_->outcomes()) {
    const auto before = before_.find(place);
    const ServicePortEntry* const entry = places_.Find(place);
    if (before == before_.end() || cleared_.contains(place) || entry == nullptr ||
        !model.entries.contains(entry->id))
      continue;
    TrafficFigures of_place;
    for (const auto& [client, outcomes] : after) {
      const auto was = before->second.find(client);
      if (was == before->second.end() || was->second.answered == 0) continue;
      of_place.Add(
          {was->second.all(), was->second.unanswered, outcomes.all(), outcomes.unanswered});
    }
    if (of_place.after == 0) continue;
    const double more = static_cast<double>(of_place.failed_after) -
                        static_cast<double>(of_place.after) *
                            static_cast<double>(of_place.failed_before) /
                            static_cast<double>(of_place.before);
    if (more < 1) {
      sum.Add(of_place);
    } else {
      suspects.push_back({place, of_place, more});
      excess += more;
    }
  }
  if (suspects.empty()) return sum;
  std::sort(suspects.begin(), suspects.end(),
            [](const Suspect& a, const Suspect& b) { return a.excess > b.excess; });
  bool all_answer = true;
  size_t asked = 0;
  if (excess >= static_cast<double>(kFewest)) {
    std::vector<net::IpPort> places;
    for (const Suspect& suspect : suspects) {
      if (places.size() < kMaxSuspects) places.push_back(suspect.place);
    }
    for (const bool answers : EndpointsAnswer(places, model)) {
      if (answers) sum.Add(suspects[asked].figures);
      all_answer = all_answer && answers;
      ++asked;
    }
  }
  for (; all_answer && asked < suspects.size(); ++asked)
    sum.Add(suspects[asked].figures);
  return sum;
}

std::vector<std::string> ClientTraffic::HeldAgainst(const std::vector<Worse>& suspects,
                                                    const ServiceModel& model) {
  std::vector<net::IpPort> places;
  places.reserve(suspects.size());
  for (const Worse& suspect : suspects)
    places.push_back(suspect.place);
  const std::vector<bool> alive = EndpointsAnswer(places, model);
  std::vector<std::string> worse;
  std::vector<const Worse*> held;
  for (size_t i = 0; i < suspects.size(); ++i) {
    if (alive[i]) {
      worse.push_back(Describe(suspects[i]));
      held.push_back(&suspects[i]);
    } else {
      spdlog::info("not held against the handover, since not all of its endpoints answer: {}",
                   Describe(suspects[i]));
      cleared_.insert(suspects[i].place);
    }
  }
  if (!worse.empty()) worse.back() += OneNamespaceAlone(held);
  return worse;
}

std::string ClientTraffic::OneNamespaceAlone(const std::vector<const Worse*>& worse) const {
  const std::string& ns = places_.Find(worse.front()->place)->id.ns;
  const auto of_it = [&](const Worse* each) { return places_.Find(each->place)->id.ns == ns; };
  if (!std::all_of(worse.begin(), worse.end(), of_it)) return "";
  std::set<std::string_view> others;
  for (const auto& [place, clients] : attempts_->outcomes()) {
    const ServicePortEntry* const entry = places_.Find(place);
    if (entry == nullptr || entry->id.ns == ns || !before_.contains(place)) continue;
    if (std::any_of(clients.begin(), clients.end(),
                    [](const auto& client) { return client.second.answered > 0; }))
      others.insert(entry->id.ns);
  }
  if (others.empty()) return "";
  return fmt::format(
      "; all of these are of namespace {}, and clients of Services of {} other namespaces are "
      "answered",
      ns, others.size());
}

std::string ClientTraffic::Describe(const Worse& worse) const {
  return fmt::format(
      "{} of {} new connections of {} clients to Service {} at {} stayed unanswered; before it {} "
      "of {} were answered",
      worse.after.unanswered, worse.after.all(), worse.clients.size(),
      places_.Find(worse.place)->id.ToString(), worse.place.ToString(), worse.before.answered,
      worse.before.all());
}

}  // namespace pointsman::agent
