// Telling Calico's Felix of ipvs mode. What IPVS sends on passes INPUT and OUTPUT instead of
// FORWARD; Felix judges it there only if an interface kube-ipvs0 exists, which kube-proxy's ipvs
// mode has. When that interface comes or goes Felix ends, is started again, and then writes its
// rules accordingly (felix/dataplane/driver.go, felix/dataplane/linux/int_dataplane.go,
// checkIPVSConfigOnStateUpdate; projectcalico/calico 87c1590).
//
// Where there is no Felix there is no such interface. Beside one in eBPF mode neither: that one
// does nothing but start again and again for it.
#pragma once

#include <string>

#include "node-agent/neighbours/felix_chains.h"
#include "node-agent/neighbours/marker_link.h"

namespace pointsman::agent {

// In the network namespace of the calling thread, always the same. Not thread-safe. All throw what
// MarkerLink and FelixChains throw.
class IpvsNotice {
 public:
  static constexpr const char* kMarker = "kube-ipvs0";
  static constexpr const char* kMadeAs = "kube-ipvs-pm0";
  static constexpr const char* kFelixEbpf = "bpfin.cali";  // an interface that it has in that mode

  explicit IpvsNotice(std::string modules_root) : chains_(std::move(modules_root)) {}

  // ipvs mode is about to take connections. Returns what Felix has not done yet, for a person; "":
  // it has, or it is not on this node.
  std::string Give() { return Tell(/*serves=*/false); }
  // ipvs mode serves: a Felix that came since is told too, and an interface that somebody removed
  // (kube-proxy --cleanup) is made again. Returns as Give.
  std::string Keep() { return Tell(/*serves=*/true); }
  // Is there a Felix that looks for the interface?
  bool IsLookedFor();
  // Nothing of ipvs mode is in the kernel.
  void TakeBack() { marker_.Remove(); }

 private:
  std::string Tell(bool serves);

  MarkerLink marker_{kMarker, kMadeAs};
  FelixChains chains_;
};

}  // namespace pointsman::agent
