// What differs from mode to mode outside of the dataplanes. A new mode is a folder and a line of
// this table.
#pragma once

#include <chrono>
#include <span>

#include "kube/pointsman/mode.h"
#include "kube/pointsman/proxy_settings.h"

namespace pointsman::agent {

struct ModeTraits {
  kube::Mode mode{};
  // Does it write iptables' tables?
  bool uses_iptables = false;
  // Zero: a connection to a Service opens when an endpoint accepts it. Else it opens before any
  // does, and is reset if none has within this time.
  std::chrono::milliseconds endpoint_accepts_within{0};
  // How often its rules are compared with the kernel whole, and how far apart changes are written
  // at least: of each mode its own setting; userspace mode's are iptables mode's, whose rules it
  // has.
  kube::Duration (*sync_period)(const kube::ProxySettings&) = nullptr;
  kube::Duration (*min_sync_period)(const kube::ProxySettings&) = nullptr;
  // kube-proxy's counter of syncs that failed in this mode; null: it has none.
  const char* failed_syncs_metric = nullptr;
};

std::span<const ModeTraits> AllModes();
const ModeTraits& TraitsOf(kube::Mode mode);

}  // namespace pointsman::agent
