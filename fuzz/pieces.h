// A reader that takes its bytes in pieces must not care how they are cut.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace pointsman::fuzz {

// What `read(pieces)` gives, as text, must be the same for the whole input at once and for two ways
// to cut it, which depend on the input alone. `read` gets a function that calls its argument with
// each piece.
template <typename Read>
void CheckPieces(std::string_view input, const Read& read) {
  const std::string whole = read([&](const auto& add) { add(input); });
  uint64_t state = 0x9e3779b97f4a7c15U;
  for (const char byte : input)
    state = (state ^ static_cast<uint8_t>(byte)) * 0x100000001b3U;
  // Of a long input the pieces are larger, so that it takes no more time than it finds.
  const uint64_t least = 1 + input.size() / 16384;
  for (const uint64_t longest : {least, least * 40}) {
    const std::string cut = read([&](const auto& add) {
      uint64_t random = state;
      for (std::string_view rest = input; !rest.empty();) {
        random = random * 6364136223846793005U + 1442695040888963407U;
        const size_t size = std::min<size_t>(rest.size(), 1 + (random >> 33U) % longest);
        add(rest.substr(0, size));
        rest.remove_prefix(size);
      }
    });
    if (cut != whole) {
      throw std::logic_error(fmt::format(
          "cut into pieces of at most {} bytes it is read as\n{}\nand as a whole as\n{}", longest,
          cut, whole));
    }
  }
}

// Bytes that a reader promises behind what it hands out; AddressSanitizer looks on.
inline void TouchBehind(std::string_view text, size_t padding) {
  volatile char sink = 0;
  for (size_t i = 0; i < padding; ++i)
    sink = text.data()[text.size() + i];
  static_cast<void>(sink);
}

}  // namespace pointsman::fuzz
