#include "node-agent/ipvs/graceful_termination.h"

#include <algorithm>
#include <linux/ip_vs.h>
#include <netinet/in.h>

namespace pointsman::agent::ipvs {
namespace {

using netlink::IpvsDestination;

// How often destinations of weight 0 are looked at while there are any.
constexpr auto kLookPeriod = std::chrono::seconds(30);
constexpr auto kMinLookPeriod = std::chrono::seconds(1);

bool PodTerminates(const ServicePortEntry* entry, const IpvsDestination& d) {
  if (entry == nullptr) return false;
  const auto at = std::lower_bound(entry->draining.begin(), entry->draining.end(),
                                   Backend{d.address, d.port, false});
  return at != entry->draining.end() && at->ip == d.address && at->port == d.port;
}

bool IsIdle(const IpvsDestination& d) {
  return d.active == 0 && d.inactive == 0;
}

}  // namespace

bool GracefulTermination::Forget(const FrontendKey& key, const IpvsDestination& d) {
  const auto found = terminating_.find(key);
  if (found == terminating_.end()) return false;
  const size_t erased = std::erase_if(found->second, [&](const Terminating& terminating) {
    return terminating.ip == d.address && terminating.port == d.port;
  });
  if (found->second.empty()) terminating_.erase(found);
  return erased != 0;
}

bool GracefulTermination::Write(Writer& writer, const ServerDiff& diff, bool counted) {
  if (diff.present == nullptr) {
    if (counted) terminating_.erase(diff.key);  // whatever there was is gone
    if (diff.wanted == 0) return false;
    writer.NewServer(diff.server, diff.entry);
  } else if (diff.server_differs) {
    writer.SetServer(diff.server, diff.entry);
  }
  // New backends first: a Service never has fewer than before or after.
  for (const IpvsDestination& d : diff.missing)
    writer.NewDestination(diff.server, d, diff.entry);
  for (const IpvsDestination* d : diff.changed) {
    writer.SetDestination(diff.server, MakeDestination(d->address, d->port), diff.entry);
    Forget(diff.key, *d);
  }
  size_t kept = diff.wanted;
  const auto now = Clock::now();
  for (const IpvsDestination* d : diff.surplus) {
    if (Terminate(writer, diff, *d, counted, now)) ++kept;
  }
  if (kept == 0) writer.DeleteServer(diff.server, diff.entry);
  return kept != 0;
}

bool GracefulTermination::Terminate(Writer& writer, const ServerDiff& diff,
                                    const IpvsDestination& d, bool counted, Clock::time_point now) {
  const bool pod_terminates = PodTerminates(diff.entry, d);
  // dh does not look past a destination of weight 0.
  const bool can_drain =
      diff.key.protocol != IPPROTO_UDP && diff.server.scheduler != "dh" && !diff.left_to_another;
  if (!can_drain || (!pod_terminates && drain_timeout_.count() == 0)) {
    writer.DeleteDestination(diff.server, d, diff.entry);
    Forget(diff.key, d);
    return false;
  }
  std::vector<Terminating>& all = terminating_[diff.key];
  const auto known = std::find_if(all.begin(), all.end(), [&](const Terminating& terminating) {
    return terminating.ip == d.address && terminating.port == d.port;
  });
  if (d.weight != 0) {
    IpvsDestination stopped = MakeDestination(d.address, d.port);
    stopped.weight = 0;
    writer.SetDestination(diff.server, stopped, diff.entry);
    stopped_.insert(diff.key);
  } else {
    const bool is_over =
        known != all.end() && !pod_terminates && !known->pod_terminates && known->deadline <= now;
    if (is_over || (counted && IsIdle(d))) {
      writer.DeleteDestination(diff.server, d, diff.entry);
      if (known != all.end()) all.erase(known);
      if (all.empty()) terminating_.erase(diff.key);
      return false;
    }
  }
  const auto deadline = now + std::chrono::duration_cast<Clock::duration>(drain_timeout_);
  if (known == all.end()) {
    all.push_back({d.address, d.port, deadline, pod_terminates});
    return true;
  }
  if (known->pod_terminates && !pod_terminates) {
    // Gone from the slices is not dead: a Pod deleted by force, a slice of another controller. A
    // server that is dead answers here what it answers in the other modes.
    known->deadline = deadline;
    stopped_.insert(diff.key);
  }
  known->pod_terminates = pod_terminates;
  return true;
}

std::vector<FrontendKey> GracefulTermination::DeleteIdle(Writer& writer, netlink::Ipvs& ipvs,
                                                         const FrontendTable& frontends) {
  std::vector<FrontendKey> gone;
  std::vector<IpvsDestination> destinations;
  for (const FrontendKey& key : stopped_) {
    const Frontend* frontend = frontends.Find(key);
    if (frontend == nullptr) continue;
    const netlink::IpvsServer server = ToServer(key);
    destinations.clear();
    ipvs.Destinations(server, destinations);
    size_t left = destinations.size();
    for (const IpvsDestination& d : destinations) {
      if (d.weight != 0 || !IsIdle(d) || !Forget(key, d)) continue;
      writer.DeleteDestination(server, d, frontend->entry.get());
      --left;
    }
    if (left != 0) continue;
    writer.DeleteServer(server, frontend->entry.get());
    gone.push_back(key);
  }
  stopped_.clear();
  return gone;
}

void GracefulTermination::AppendTo(std::vector<IpvsDestination>& destinations,
                                   const FrontendKey& key) const {
  const auto found = terminating_.find(key);
  if (found == terminating_.end()) return;
  for (const Terminating& terminating : found->second) {
    destinations.push_back(MakeDestination(terminating.ip, terminating.port));
    destinations.back().weight = 0;
  }
}

void GracefulTermination::Keep(const FrontendTable& frontends) {
  std::erase_if(terminating_, [&](const auto& item) { return !frontends.Contains(item.first); });
}

void GracefulTermination::clear() {
  terminating_.clear();
  stopped_.clear();
}

GracefulTermination::Clock::time_point GracefulTermination::NextLook() const {
  if (terminating_.empty()) return Clock::time_point::max();
  const auto now = Clock::now();
  // Those whose connections have ended go then, and those of terminating pods are looked after.
  auto next = now + kLookPeriod;
  for (const auto& [key, destinations] : terminating_) {
    for (const Terminating& terminating : destinations) {
      if (!terminating.pod_terminates) next = std::min(next, terminating.deadline);
    }
  }
  return std::max(next, now + kMinLookPeriod);
}

}  // namespace pointsman::agent::ipvs
