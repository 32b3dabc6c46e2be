// Is what we wrote still there? A look that is cheap enough to be taken twice a second, where the
// kernel's rules are compared whole each syncPeriod: `nft flush ruleset`, `iptables -t nat -F` and
// a firewall's reload take some of the named things along, as kube-proxy's canary chain shows
// (pkg/util/iptables Monitor; kubernetes#81517).
#pragma once

#include <chrono>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace pointsman::agent {

// The sync thread's. Looking is chosen over being told: legacy iptables and IPVS tell nobody, and
// what nf_tables tells is mostly what this agent writes itself.
class Canaries {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  using Names = std::set<std::string>;

  static constexpr std::chrono::milliseconds kPeriod{500};
  // Something that takes our rules again and again (two agents that both flush) must not have this
  // one write all of them twice a second for ever: from the kPatience-th time within kMemory on the
  // next look is kFightPeriod away.
  static constexpr int kPatience = 20;
  static constexpr std::chrono::minutes kMemory{1};
  static constexpr std::chrono::seconds kFightPeriod{30};

  // `there`: what is in the kernel after a full sync that went through; nullopt: that is not known.
  // The next look is due after Period().
  void Begin(std::optional<Names> there, TimePoint now);
  // Nothing is to be missed: no mode serves, or a failure is about to be tried again anyway.
  void Stop();
  // Of what was there, what is not in `there` (nullopt: not known, nothing is missing). What has
  // come meanwhile is missed when it goes.
  std::vector<std::string> Missing(std::optional<Names> there, TimePoint now);

  TimePoint due() const { return due_; }  // max: never

 private:
  TimePoint::duration Period() const;

  std::optional<Names> expected_;
  int misses_ = 0;  // since first_miss_
  TimePoint first_miss_ = TimePoint::min();
  TimePoint due_ = TimePoint::max();
};

}  // namespace pointsman::agent
