// How often a mode's rules are compared with the kernel whole, and how far apart changes are
// written at least: of each mode its own setting; userspace mode's are iptables mode's, whose rules
// it has.
#pragma once

#include "kube/pointsman/mode.h"
#include "kube/pointsman/proxy_settings.h"

namespace pointsman::agent {

kube::Duration SyncPeriod(const kube::ProxySettings& settings, kube::Mode mode);
kube::Duration MinSyncPeriod(const kube::ProxySettings& settings, kube::Mode mode);

}  // namespace pointsman::agent
