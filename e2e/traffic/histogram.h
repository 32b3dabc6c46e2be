// Counts durations in buckets of about 1.6% width, from 1 µs to hours, in constant memory.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

namespace pointsman::e2e {

class Histogram {
 public:
  void Add(std::chrono::nanoseconds value);
  std::uint64_t count() const { return count_; }
  // `quantile` in [0, 1]. In milliseconds: the upper edge of the bucket, never above max(); 0 when
  // empty.
  double QuantileMs(double quantile) const;
  double MaxMs() const { return static_cast<double>(max_us_) / 1000; }
  double MeanMs() const;

 private:
  static constexpr int kSubBits = 6;  // 64 buckets per power of two
  static std::size_t Index(std::uint64_t us);
  static std::uint64_t UpperEdge(std::size_t index);
  std::array<std::uint64_t, (40 - kSubBits) << kSubBits> buckets_{};
  std::uint64_t count_ = 0;
  std::uint64_t sum_us_ = 0;
  std::uint64_t max_us_ = 0;
};

}  // namespace pointsman::e2e
