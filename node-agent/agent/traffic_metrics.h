// What was seen of clients' connections around handovers (traffic/client_traffic.h), as metrics.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/registry.h>

namespace pointsman::agent {

// Not thread-safe, except that what it reads may be counted meanwhile.
class TrafficMetrics {
 public:
  // `registry` outlives this.
  explicit TrafficMetrics(prometheus::Registry& registry);

  // Brings the registry up to date.
  void Read();

 private:
  prometheus::Counter& answered_;
  prometheus::Counter& unanswered_;
  prometheus::Counter& lost_;
  prometheus::Counter& failures_;
};

}  // namespace pointsman::agent
