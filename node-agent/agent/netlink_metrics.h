// What the process counts of its requests over netlink (netlink/counters.h), as metrics.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/registry.h>

namespace pointsman::agent {

// Not thread-safe, except that what it reads may be counted meanwhile.
class NetlinkMetrics {
 public:
  // `registry` outlives this.
  explicit NetlinkMetrics(prometheus::Registry& registry);

  // Brings the registry up to date.
  void Read();

 private:
  prometheus::Family<prometheus::Counter>& requests_;
  prometheus::Family<prometheus::Counter>& errors_;
  prometheus::Family<prometheus::Counter>& repeated_dumps_;
  prometheus::Family<prometheus::Counter>& torn_dumps_;
  prometheus::Family<prometheus::Counter>& overruns_;
  prometheus::Family<prometheus::Counter>& timeouts_;
};

}  // namespace pointsman::agent
