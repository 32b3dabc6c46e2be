// Is what we wrote still there? A look that is cheap enough to be taken much more often than the
// kernel's rules are compared whole: `nft flush ruleset`, `iptables -t nat -F` and a firewall's
// reload take some of the named things along, as kube-proxy's canary chain shows (pkg/util/iptables
// Monitor; kubernetes#81517).
#pragma once

#include <chrono>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace pointsman::agent {

// The sync thread's. Something that tells of changes at once (netlink) would make `due` earlier;
// what is missing stays the same question.
class Canaries {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  using Names = std::set<std::string>;

  static constexpr std::chrono::seconds kPeriod{30};

  // `there`: what is in the kernel after a full sync that went through; nullopt: that is not known.
  // The next look is due after kPeriod.
  void Begin(std::optional<Names> there, TimePoint now);
  // Nothing is to be missed: no mode serves, or a failure is about to be tried again anyway.
  void Stop();
  // Of what was there, what is not in `there` (nullopt: not known, nothing is missing). What has
  // come meanwhile is missed when it goes.
  std::vector<std::string> Missing(std::optional<Names> there, TimePoint now);

  TimePoint due() const { return due_; }  // max: never

 private:
  std::optional<Names> expected_;
  TimePoint due_ = TimePoint::max();
};

}  // namespace pointsman::agent
