// A hash of text that is the same on every machine and in every version: it is in names of objects.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace pointsman::text {

// FNV-1a in 16 hexadecimal digits. Nobody who can choose the text is to gain by a collision.
inline std::string Hash(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3ULL;
  }
  return fmt::format("{:016x}", hash);
}

}  // namespace pointsman::text
