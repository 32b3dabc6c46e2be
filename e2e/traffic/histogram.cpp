#include "e2e/traffic/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace pointsman::e2e {

std::size_t Histogram::Index(std::uint64_t us) {
  if (us < (1U << kSubBits)) return us;
  const int shift = static_cast<int>(std::bit_width(us)) - 1 - kSubBits;
  return (static_cast<std::size_t>(shift) << kSubBits) + (us >> shift);
}

std::uint64_t Histogram::UpperEdge(std::size_t index) {
  if (index < (2U << kSubBits)) return index;
  const std::size_t shift = (index >> kSubBits) - 1;
  return (((index - (shift << kSubBits)) + 1) << shift) - 1;
}

void Histogram::Add(std::chrono::nanoseconds value) {
  const auto us = static_cast<std::uint64_t>(std::max<std::int64_t>(value.count(), 0)) / 1000;
  ++buckets_[std::min(Index(us), buckets_.size() - 1)];
  ++count_;
  sum_us_ += us;
  max_us_ = std::max(max_us_, us);
}

double Histogram::QuantileMs(double quantile) const {
  if (count_ == 0) return 0;
  const auto rank = std::max<std::uint64_t>(
      1, static_cast<std::uint64_t>(std::ceil(quantile * static_cast<double>(count_))));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    seen += buckets_[i];
    if (seen >= rank) return static_cast<double>(std::min(UpperEdge(i), max_us_)) / 1000;
  }
  return MaxMs();
}

double Histogram::MeanMs() const {
  return count_ == 0 ? 0 : static_cast<double>(sum_us_) / static_cast<double>(count_) / 1000;
}

}  // namespace pointsman::e2e
