// A transport that tells of every request it carried, for metrics.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "kube/http/transport.h"

namespace pointsman::kube {

struct RequestOutcome {
  std::string method;
  // 0: no answer came (refused, reset, timed out, stopped).
  int status = 0;
  // Until the answer's first bytes came; of a request without an answer, until it failed.
  std::chrono::nanoseconds latency{0};
};

// Thread-safe when `observer` is: it is called on the requests' threads, once for each. A watch is
// told when its first bytes come, as in client-go, and not when it ends.
std::unique_ptr<Transport> ObserveRequests(std::shared_ptr<Transport> transport,
                                           std::function<void(const RequestOutcome&)> observer);

}  // namespace pointsman::kube
