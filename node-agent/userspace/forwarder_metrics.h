// What userspace mode's forwarders count, as metrics of the agent's: a forwarder has no port of its
// own to be scraped on and is asked over its control socket, when the agent is, by a thread that
// may wait for it. docs/metrics.md lists them.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include "kube/process/log_limit.h"
#include "node-agent/userspace/running_forwarders.h"

namespace pointsman::agent {

// Thread-safe. The counters count from the making of this object: what a forwarder that was there
// already had counted until then is left out, so that a restarted agent's begin at 0 as its other
// ones do. They never fall when one of several forwarders ends. What one counts between the last
// Read and its end is lost.
class ForwarderMetrics {
 public:
  // `registry` outlives this. Nothing is to be seen in it before there is a forwarder.
  ForwarderMetrics(prometheus::Registry& registry, std::string directory);
  ~ForwarderMetrics();  // stops; a forwarder that does not answer holds it up for 2 s
  ForwarderMetrics(const ForwarderMetrics&) = delete;
  ForwarderMetrics& operator=(const ForwarderMetrics&) = delete;

  // Asks the forwarders of the network namespace of the thread that made this. They answer within a
  // millisecond; when one does not, what was read before stays in the registry after `patience`,
  // and what is still to come is there at a later call.
  void Read(std::chrono::milliseconds patience = std::chrono::milliseconds(200));

 private:
  struct Metric;  // one of the counters: which number of Stats, and where it goes

  void Run(const std::stop_token& stop);
  void Take(const ForwarderStats& read);
  void Add(const forwarder::Stats& now, const forwarder::Stats& before);
  prometheus::Counter& Of(const Metric& metric);
  static const std::vector<Metric>& Metrics();

  prometheus::Registry& registry_;
  const std::string directory_;
  // The reader's.
  std::set<std::string> there_before_;              // and not read yet
  std::map<std::string, forwarder::Stats> before_;  // by the control socket's path
  bool seen_ = false;
  kube::LogLimit log_;

  std::mutex mutex_;
  std::condition_variable_any changed_;
  uint64_t asked_ = 0;  // numbers of reads
  uint64_t begun_ = 0;
  uint64_t done_ = 0;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace pointsman::agent
