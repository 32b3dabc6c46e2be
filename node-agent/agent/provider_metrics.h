// A ProviderState as metrics.
#pragma once

#include <map>
#include <mutex>
#include <optional>

#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/labels.h>
#include <prometheus/registry.h>

#include "node-agent/agent/provider_state.h"

namespace pointsman::agent {

// Thread-safe.
class ProviderMetrics {
 public:
  // `registry` outlives this.
  explicit ProviderMetrics(prometheus::Registry& registry);

  void Set(const ProviderState& state);

 private:
  using Family = prometheus::Family<prometheus::Gauge>;
  // What means nothing on this node now has no series.
  using Shown = std::map<prometheus::Labels, prometheus::Gauge*>;
  static void Show(Family& family, Shown& shown, const prometheus::Labels& labels,
                   std::optional<double> value);

  Family& provider_;
  Family& stock_;
  Family& missing_;
  Family& bridge_;
  Family& leftovers_;
  std::mutex mutex_;
  Shown stock_shown_;
  Shown missing_shown_;
  Shown bridge_shown_;
  Shown leftovers_shown_;
};

}  // namespace pointsman::agent
