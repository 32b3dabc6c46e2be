// The string formats that apiextensions checks (k8s.io/kube-openapi/pkg/validation/strfmt).
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace pointsman::e2e::schema {

// False if `text` is not of that format. A format that a real server does not know is not checked,
// and holds for every text.
bool HasFormat(std::string_view format, std::string_view text);

// "1h30m", "250ms", "-1.5s", "0": Go's time.ParseDuration. Nullopt for anything else.
std::optional<std::chrono::nanoseconds> ParseGoDuration(std::string_view text);

// RFC 3339 with an optional fraction: nanoseconds since the epoch. Nullopt also for a time that has
// none in 64 bits (before 1677-09-22, after 2262-04-11), though it has the format "date-time".
std::optional<std::chrono::sys_time<std::chrono::nanoseconds>> ParseDateTime(std::string_view text);

// DNS-1123 and DNS-1035 names (apimachinery's validation): lower case alphanumerics, '-' inside,
// labels up to 63, subdomains up to 253 characters. Empty result: valid; else why not, in the
// server's words.
std::string CheckDns1123Label(std::string_view text);
std::string CheckDns1123Subdomain(std::string_view text);

}  // namespace pointsman::e2e::schema
