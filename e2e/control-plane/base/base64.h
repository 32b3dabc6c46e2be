#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace pointsman::e2e {

// RFC 4648, section 4.
std::string Base64Encode(std::string_view data);
// Section 5, the alphabet of URLs and file names, without padding.
std::string Base64UrlEncode(std::string_view data);
// nullopt when malformed.
std::optional<std::string> Base64UrlDecode(std::string_view text);

}  // namespace pointsman::e2e
