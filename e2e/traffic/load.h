// Open-loop load: new connections at a fixed rate whatever becomes of the earlier ones, and streams
// that stay open the whole time. Made to notice a single lost connection in a handover.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "e2e/traffic/socket.h"

namespace pointsman::e2e {

struct LoadOptions {
  std::vector<Endpoint> targets;    // each connection takes the next one; not empty
  std::vector<Protocol> protocols;  // taken in turn by new connections and by streams; not empty
  double new_per_second = 100;      // [0, 20000]
  int streams = 0;                  // long-lived connections, spread over the targets
  std::chrono::milliseconds stream_interval{100};
  // For a new connection from its start to its echo; for a message of a stream from sending to
  // echo.
  std::chrono::milliseconds timeout{3000};
  std::optional<std::chrono::milliseconds> duration;  // none: until SIGTERM or SIGINT
  std::string from;                                   // local IP, "": the kernel chooses
  std::string report;     // file for the final report; written to a temporary name and renamed
  bool progress = false;  // one JSON line per second on stdout
};

// Runs the load and returns the report:
//   {"seconds", "connections": {"started", "succeeded", "failed", "failures": {kind: count},
//      "tcp": {"started", "succeeded", "failed"}, "udp": {…}, "backends": {name: count},
//      "latencyMs": {"p50", "p90", "p99", "p999", "max", "mean"}},
//    "streams": {"opened", "alive", "broken", "failures": {kind: count}, "messages", "backends":
//    {name: count},
//      "maxEchoMs"},
//    "firstFailures": [{"time", "kind", "target", "protocol", "of": "connection"|"stream",
//    "backend"}]}
// Kinds: refused, reset, timeout, closed (ended by the other side before the echo), wrong (not what
// was sent), unreachable, no-local-port, or an errno's text. When it ends, what is under way is
// still waited for (up to the timeout), so ending is never counted as a failure. A broken stream is
// not reopened.
nlohmann::json Load(const LoadOptions& options);

}  // namespace pointsman::e2e
