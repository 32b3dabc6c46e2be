// metav1.Duration: the text form of durations in the Kubernetes API, which is that of Go's
// time.Duration ("1h30m", "250ms", "15m0s").
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace pointsman::kube {

// Accepts what Go's time.ParseDuration accepts: an optional sign, then "0" or one or more decimal
// numbers (a fraction is allowed: "1.5h"), each with a unit of ns, us, µs, ms, s, m or h. Fractions
// below a nanosecond are cut off. nullopt for anything else and for what does not fit in 64 bits of
// nanoseconds (about 292 years).
std::optional<std::chrono::nanoseconds> ParseDuration(std::string_view text);

// The form that Go's time.Duration prints and the API stores: "0s", "1.5s", "250ms", "15m0s",
// "24h0m0s". ParseDuration(FormatDuration(d)) == d.
std::string FormatDuration(std::chrono::nanoseconds duration);

}  // namespace pointsman::kube
