// One libFuzzer program: POINTSMAN_FUZZ_CHECK is the check's name in kChecks. What a check throws
// ends the program, and libFuzzer keeps the input.
#include <cstddef>
#include <cstdint>
#include <stdexcept>

#include "fuzz/checks.h"

namespace {

constexpr auto CheckOf(std::string_view name) {
  for (const pointsman::fuzz::Check& check : pointsman::fuzz::kChecks) {
    if (check.name == name) return check.run;
  }
  throw std::invalid_argument("no such check");
}

constexpr auto kRun = CheckOf(POINTSMAN_FUZZ_CHECK);

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  kRun({reinterpret_cast<const char*>(data), size});
  return 0;
}
