// One libFuzzer program: POINTSMAN_FUZZ_CHECK is the check's number in kChecks. What a check throws
// ends the program, and libFuzzer keeps the input.
#include <cstddef>
#include <cstdint>

#include "fuzz/checks.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pointsman::fuzz::kChecks[POINTSMAN_FUZZ_CHECK].run({reinterpret_cast<const char*>(data), size});
  return 0;
}
