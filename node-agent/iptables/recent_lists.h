// sessionAffinity in iptables mode: each backend of a Service port has a list of the kernel's match
// "recent" with the clients that belong to it (service_rules.h).
//
// /proc/net/xt_recent has these lists; how they are read and written, what is evicted and when an
// entry counts no more is in the kernel's net/netfilter/xt_recent.c. All of it is of the calling
// thread's network namespace.
#pragma once

#include <cstddef>
#include <vector>

#include "node-agent/dataplane/dataplane.h"

namespace pointsman::agent {

// Which clients of `family` are bound, and how long they still are; at most `most`. A client that
// is in the lists of several backends of a Service port goes to that which saw it last. A list that
// is not there has no clients. Throws std::system_error, std::runtime_error when a list cannot be
// read or is not as we know it.
//
// The kernel tells times in jiffies and not what time it is now. To learn that, a client 0.0.0.0 is
// in one of the lists for a moment; where none has room for it, the client that was seen last of
// all has its time renewed instead.
std::vector<ClientBinding> ReadRecentBindings(const ServiceModel& model, net::Family family,
                                              size_t most);

// Puts the clients of `family` into their backends' lists. One whose backend is no choice of the
// Service port any more is left out, and one that is bound already stays where it is. The kernel
// has only one time to give, now: each client's affinity time-out begins anew.
//
// A list holds as many clients as module xt_recent's parameter ip_list_tot says (100 unless set):
// those with the most time left are taken, the others are told of in a problem. Throws as
// ReadRecentBindings.
SyncResult WriteRecentBindings(const ServiceModel& model, net::Family family,
                               const std::vector<ClientBinding>& bindings);

}  // namespace pointsman::agent
