// For tests: Calico's Felix as a program, as far as ipvs mode and it have to do with each other.
#pragma once

#include <atomic>
#include <chrono>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "node-agent/testing/neighbours/policy_engines.h"

namespace pointsman::agent::testing {

// Looks when it starts whether there is an interface kube-ipvs0, and `start` later writes its rules
// for what it saw. When such an interface comes or goes it ends, and is started again
// (felix/dataplane/driver.go, felix/dataplane/linux/int_dataplane.go; projectcalico/calico
// 87c1590). In the network namespace of the thread that makes it; its rules stay when it ends.
class Felix {
 public:
  struct Settings {
    net::Family family = net::Family::kIPv4;
    PodPolicies policies;
    std::string link_prefix;
    std::vector<std::string> node;  // the node's addresses
    CalicoInserts inserts = CalicoInserts::kFirst;
    std::chrono::milliseconds start{1000};
  };

  // Has written its rules once.
  explicit Felix(Settings settings);
  ~Felix();
  Felix(const Felix&) = delete;
  Felix& operator=(const Felix&) = delete;

  // Others hold from now on, for the same pods: it writes its chains, and does not look at the
  // builtin ones.
  void SetPolicies(PodPolicies policies);
  // Looks whether all is in its place, as it does every three minutes.
  void LookAgain();
  // Notices nothing from now on, like one that cannot be started again; or does again.
  void Hang(bool hangs);
  // Its rules were written so often.
  int writes() const { return writes_; }

  // What it has left: all of its chains.
  static void RemoveRules(net::Family family = net::Family::kIPv4);

 private:
  void Loop();
  bool KnowsIpvs();
  Neighbour Rules(bool for_ipvs) const;
  void Write(bool for_ipvs);
  void WriteLocked(bool for_ipvs);
  // False: it ends for good.
  bool Wait(int fd, std::chrono::milliseconds longest) const;

  std::mutex mutex_;  // guards all writing, and what follows
  Settings settings_;
  UniqueFd stop_;  // eventfd
  std::atomic<bool> hangs_{false};
  std::atomic<int> writes_{0};
  bool knows_ipvs_ = false;  // the last ones are those for IPVS
  std::thread thread_;
};

}  // namespace pointsman::agent::testing
