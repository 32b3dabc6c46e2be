// Text from outside on its way to people: names, values and messages that a tenant, a node, a peer
// or a tool wrote, and that we trim, cut, quote and put into conditions, Events, logs and metrics.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

// All functions are thread-safe, take any bytes and throw nothing but std::bad_alloc. Sizes are
// bytes. What is not UTF-8 (RFC 3629: overlong forms and surrogates are not) counts as one invalid
// byte after the other, as in Go.
namespace pointsman::text {

inline constexpr std::string_view kEllipsis = "…";  // 3 bytes

bool IsValidUtf8(std::string_view text);

// Each invalid byte becomes U+FFFD, so it can grow to three times its size.
std::string ToValidUtf8(std::string_view text);

// The longest beginning of at most `max_size` bytes that ends at a character's border.
std::string_view Cut(std::string_view text, size_t max_size);

// `text` itself when it has at most `max_size` bytes, else its beginning with an ellipsis:
// `max_size` bytes at the most with it, ending at a character's border.
std::string Shorten(std::string_view text, size_t max_size);

enum class LineBreaks : bool { kEscape, kKeep };

// Valid UTF-8 that does to a terminal, a log or a page nothing but be read: what it contains stays
// on its line and in its order, and one sees all of it. Escaped as Go's %q does it (\n, \x1b,
// \u202e) are: control characters (C0, DEL, C1), white space other than ' ', format characters that
// are not seen or that reorder others (bidirectional controls, "Trojan Source", CVE-2021-42574),
// and invalid bytes. A backslash stays as it is. kKeep: '\n' and '\t' stay too. It grows to four
// times its size at most.
std::string Escape(std::string_view text, LineBreaks line_breaks = LineBreaks::kEscape);

// What was written, quoted within a message: "abc", or "abc…" when it is longer than `max_size`
// bytes. Escaped as above, and '"' and '\' too.
std::string Quote(std::string_view text, size_t max_size = 64);

// A message of several sentences or lines: Escape with kKeep, then Shorten.
std::string Message(std::string_view text, size_t max_size);

// Go's strings.TrimSpace, which the API server calls before it validates: the white space of
// Unicode (White_Space: also U+0085, U+00A0, U+3000 …) at both ends.
std::string_view TrimSpace(std::string_view text);

}  // namespace pointsman::text
