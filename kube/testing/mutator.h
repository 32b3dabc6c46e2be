// Makes odd inputs out of good ones, always the same ones for the same seed: for tests that run a
// property over many inputs, and for fuzzing beside libFuzzer's own mutations.
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace pointsman::testing {

// Not thread-safe. The same on every machine: it uses no distribution of the standard library,
// whose results differ, and no clock.
class Mutator {
 public:
  explicit Mutator(uint64_t seed) : state_(seed) {}

  // From 0 to `bound` - 1; `bound` is not 0.
  uint64_t Below(uint64_t bound);

  // `json` with one to three values changed into something odd, which is still JSON: other types,
  // extreme numbers, long and strange texts, values left out, repeated or put elsewhere. What is no
  // JSON is given to Bytes.
  std::string Json(const std::string& json);
  // One to four bytes changed, put in, taken out or repeated.
  std::string Bytes(std::string text);
  // Mostly the first, now and then the second.
  std::string Any(const std::string& json);

  // A text that a tenant could write: empty, long, in many scripts, with control characters.
  std::string OddText();
  nlohmann::json OddValue();

 private:
  void MutateValue(nlohmann::json& root);

  uint64_t state_;
};

// Calls `check(input)` with each text of `corpus` and `rounds` mutations of each. What `check`
// throws comes out as std::runtime_error that names seed and input, shortened.
template <typename Check>
void ForMutations(const std::vector<std::string>& corpus, uint64_t rounds, Check&& check);

[[noreturn]] void ThrowFor(uint64_t seed, std::string_view input, std::string_view what);

template <typename Check>
void ForMutations(const std::vector<std::string>& corpus, uint64_t rounds, Check&& check) {
  uint64_t seed = 0;
  for (const std::string& text : corpus) {
    for (uint64_t round = 0; round <= rounds; ++round, ++seed) {
      const std::string input = round == 0 ? text : Mutator(seed).Any(text);
      try {
        check(input);
      } catch (const std::exception& error) {
        ThrowFor(seed, input, error.what());
      }
    }
  }
}

}  // namespace pointsman::testing
