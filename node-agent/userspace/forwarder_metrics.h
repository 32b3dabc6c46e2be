// What userspace mode's forwarders count, as metrics of the agent's: a forwarder has no port of its
// own to be scraped on and is asked over its control socket, when the agent is. docs/metrics.md
// lists them.
#pragma once

#include <map>
#include <mutex>
#include <string>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include "node-agent/userspace/forwarder_link.h"

namespace pointsman::agent {

// Thread-safe. The counters count from the making of this object: what a forwarder that was there
// already had counted until then is left out, so that a restarted agent's begin at 0 as its other
// ones do. They never fall when one of several forwarders ends. What one counts between the last
// Read and its end is lost.
class ForwarderMetrics {
 public:
  // `registry` outlives this. Nothing is to be seen in it before there is a forwarder.
  ForwarderMetrics(prometheus::Registry& registry, std::string directory);

  // Asks the forwarders of the calling thread's network namespace. Takes up to 2 s for each that
  // does not answer.
  void Read();

 private:
  struct Metric;  // one of the counters: which number of Stats, and where it goes

  void Add(const forwarder::Stats& now, const forwarder::Stats& before);
  prometheus::Counter& Of(const Metric& metric);
  static const std::vector<Metric>& Metrics();

  prometheus::Registry& registry_;
  const std::string directory_;
  std::mutex mutex_;
  std::map<std::string, forwarder::Stats> before_;  // by the control socket's path
  bool seen_ = false;
};

}  // namespace pointsman::agent
