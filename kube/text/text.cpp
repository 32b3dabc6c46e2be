#include "kube/text/text.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>

#include <utf8.h>

namespace pointsman::text {
namespace {

// One character, or one invalid byte.
struct Rune {
  char32_t code = 0;
  size_t size = 0;
  bool valid = false;
};

struct Range {
  char32_t first;
  char32_t last;
};

template <size_t N>
bool IsIn(const std::array<Range, N>& ranges, char32_t code) {
  return std::any_of(ranges.begin(), ranges.end(), [code](const Range& range) {
    return code >= range.first && code <= range.last;
  });
}

// Unicode's White_Space, which is what Go's unicode.IsSpace takes.
bool IsSpace(char32_t code) {
  static constexpr std::array<Range, 10> kSpaces{{{0x09, 0x0d},
                                                  {0x20, 0x20},
                                                  {0x85, 0x85},
                                                  {0xa0, 0xa0},
                                                  {0x1680, 0x1680},
                                                  {0x2000, 0x200a},
                                                  {0x2028, 0x2029},
                                                  {0x202f, 0x202f},
                                                  {0x205f, 0x205f},
                                                  {0x3000, 0x3000}}};
  return IsIn(kSpaces, code);
}

// Category Cf as far as it hides text or changes its order, and the marks that draw nothing.
bool IsInvisible(char32_t code) {
  static constexpr std::array<Range, 11> kInvisible{{{0x00ad, 0x00ad},
                                                     {0x061c, 0x061c},
                                                     {0x115f, 0x1160},
                                                     {0x180e, 0x180e},
                                                     {0x200b, 0x200f},
                                                     {0x202a, 0x202e},
                                                     {0x2060, 0x206f},
                                                     {0x3164, 0x3164},
                                                     {0xfeff, 0xfeff},
                                                     {0xfff9, 0xfffb},
                                                     {0xe0000, 0xe007f}}};
  return IsIn(kInvisible, code);
}

bool IsControl(char32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0);
}

bool IsContinuation(char byte) {
  return (static_cast<unsigned char>(byte) & 0xc0U) == 0x80U;
}

// The first one of `text`, which is not empty.
Rune First(std::string_view text) {
  const auto byte = static_cast<unsigned char>(text[0]);
  if (byte < 0x80) return {byte, 1, true};
  constexpr size_t kLongest = 4;
  const char* at = text.data();
  const char* const end = at + std::min(text.size(), kLongest);
  if (utf8::find_invalid(at, end) == at) return {byte, 1, false};
  const char32_t code = utf8::unchecked::next(at);
  return {code, static_cast<size_t>(at - text.data()), true};
}

// The last one of `text`, which is not empty.
Rune Last(std::string_view text) {
  size_t start = text.size() - 1;
  while (start > 0 && text.size() - start < 4 && IsContinuation(text[start]))
    --start;
  const Rune rune = First(text.substr(start));
  if (rune.valid && start + rune.size == text.size()) return rune;
  return {static_cast<unsigned char>(text.back()), 1, false};
}

void AppendEscaped(const Rune& rune, std::string& out) {
  const auto code = static_cast<uint32_t>(rune.code);
  switch (code) {
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      break;
  }
  char text[11];
  const char* format = "\\U%08x";
  if (!rune.valid || code < 0x80) {
    format = "\\x%02x";
  } else if (code < 0x10000) {
    format = "\\u%04x";
  }
  out.append(text, static_cast<size_t>(std::snprintf(text, sizeof text, format, code)));
}

bool IsSeen(const Rune& rune) {
  if (!rune.valid) return false;
  if (rune.code >= 0x20 && rune.code < 0x7f) return true;
  return !IsControl(rune.code) && !IsSpace(rune.code) && !IsInvisible(rune.code);
}

void AppendAsSeen(std::string_view text, LineBreaks line_breaks, std::string_view also_escaped,
                  std::string& out) {
  while (!text.empty()) {
    const Rune rune = First(text);
    if (rune.size == 1 && also_escaped.find(text[0]) != std::string_view::npos) {
      out += '\\';
      out += text[0];
    } else if (IsSeen(rune) ||
               (line_breaks == LineBreaks::kKeep && (rune.code == U'\n' || rune.code == U'\t'))) {
      out += text.substr(0, rune.size);
    } else {
      AppendEscaped(rune, out);
    }
    text.remove_prefix(rune.size);
  }
}

}  // namespace

bool IsValidUtf8(std::string_view text) {
  return utf8::is_valid(text.begin(), text.end());
}

std::string ToValidUtf8(std::string_view text) {
  std::string valid;
  valid.reserve(text.size());
  while (!text.empty()) {
    const auto good =
        static_cast<size_t>(utf8::find_invalid(text.begin(), text.end()) - text.begin());
    valid += text.substr(0, good);
    text.remove_prefix(good);
    if (text.empty()) break;
    valid += "\xef\xbf\xbd";
    text.remove_prefix(1);
  }
  return valid;
}

std::string_view Cut(std::string_view text, size_t max_size) {
  if (text.size() <= max_size) return text;
  // A character has three bytes after its first at the most; where there are more of them, none
  // belongs to a character.
  size_t end = max_size;
  while (end > 0 && max_size - end < 3 && IsContinuation(text[end]))
    --end;
  const bool within = end < max_size && First(text.substr(end)).size > max_size - end;
  return text.substr(0, within ? end : max_size);
}

std::string Shorten(std::string_view text, size_t max_size) {
  if (text.size() <= max_size) return std::string(text);
  if (max_size < kEllipsis.size()) return std::string(Cut(text, max_size));
  return std::string(Cut(text, max_size - kEllipsis.size())).append(kEllipsis);
}

std::string Escape(std::string_view text, LineBreaks line_breaks) {
  std::string out;
  out.reserve(text.size());
  AppendAsSeen(text, line_breaks, "", out);
  return out;
}

std::string Quote(std::string_view text, size_t max_size) {
  const std::string_view shown = Cut(text, max_size);
  std::string out = "\"";
  AppendAsSeen(shown, LineBreaks::kEscape, "\"\\", out);
  if (shown.size() < text.size()) out += kEllipsis;
  return out += '"';
}

std::string Message(std::string_view text, size_t max_size) {
  // Escaping makes nothing shorter, so what is beyond the bound anyhow need not be looked at.
  const bool cut = text.size() > max_size;
  std::string message = Escape(cut ? Cut(text, max_size) : text, LineBreaks::kKeep);
  if (cut) message += kEllipsis;
  return Shorten(message, max_size);
}

std::string_view TrimSpace(std::string_view text) {
  const auto is_space = [](const Rune& rune) { return rune.valid && IsSpace(rune.code); };
  while (!text.empty()) {
    const Rune rune = First(text);
    if (!is_space(rune)) break;
    text.remove_prefix(rune.size);
  }
  while (!text.empty()) {
    const Rune rune = Last(text);
    if (!is_space(rune)) break;
    text.remove_suffix(rune.size);
  }
  return text;
}

}  // namespace pointsman::text
