// What the evaluation of an expression may cost, and how it fails.
#pragma once

#include <cstdint>
#include <stdexcept>

namespace pointsman::e2e::schema::cel {

// "no such key: x", "divide by zero", …
class EvalError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class CostExceeded : public EvalError {
 public:
  using EvalError::EvalError;
};

// What evaluation may still cost, in units of one small operation each.
struct Cost {
  int64_t left = 10'000'000;
  void Spend(int64_t units);  // throws CostExceeded
};

}  // namespace pointsman::e2e::schema::cel
