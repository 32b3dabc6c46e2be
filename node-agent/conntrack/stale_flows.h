// Conntrack entries that would send packets where nothing answers any more. A rule change does not
// touch them: each new datagram of the same flow renews the entry, so a UDP client that keeps its
// port (a resolver) talks to a dead pod for as long as it talks (kubernetes#19029, #48370; what
// kube-proxy's conntrack cleanup is for). TCP and SCTP need none of this: a peer that is gone ends
// the connection, and one that is terminating keeps those it has (kubernetes PR #115299).
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "node-agent/dataplane/dataplane.h"
#include "node-agent/model/service_model.h"
#include "node-agent/netlink/conntrack.h"

namespace pointsman::agent {

// Works for every mode: whatever chose the backend, the reply direction of the entry names it.
// Not thread-safe. Everything throws std::system_error when the kernel cannot be asked.
class StaleFlows {
 public:
  // Whether flows to this address, which stands in a backend's place, are looked after by what
  // answers there.
  using LooksAfterItsOwn = std::function<bool(const net::IpAddress&)>;

  struct Result {
    SyncResult sync;         // problems; kernel_writes: entries deleted
    uint64_t looked_at = 0;  // entries read; 0: nothing had to be looked for
  };

  explicit StaleFlows(LooksAfterItsOwn looks_after_its_own =
                          [](const net::IpAddress&) { return false; })
      : looks_after_its_own_(std::move(looks_after_its_own)) {}

  // To be called after the dataplane has written `delta`. Deletes UDP entries
  //  * to a frontend (any of its addresses, or its node port) whose backend is no longer one of it,
  //  * to a frontend that got its first backend, and that go elsewhere (they were made before it).
  // At most one dump a family, and none when the delta took no backend away and gave
  // no frontend its first one.
  Result Clean(const ServiceModel& model, const ModelDelta& delta);

  // The same for everything in the model, without a delta: after a Clean that failed.
  Result CleanAll(const ServiceModel& model);

 private:
  const LooksAfterItsOwn looks_after_its_own_;
  netlink::Conntrack conntrack_;
};

}  // namespace pointsman::agent
