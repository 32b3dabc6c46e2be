// The words of a rule as iptables-save prints it.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>
#include <system_error>

#include "kube/net/socket_address.h"

namespace pointsman::agent::xtables {

struct RuleWord {
  std::string_view text;  // without its quotation marks; "" at the end
  bool quoted = false;    // an argument, and no option, whatever is in it
};

// The next one; cut off `rule`.
inline RuleWord NextRuleWord(std::string_view& rule) {
  rule.remove_prefix(std::min(rule.find_first_not_of(' '), rule.size()));
  RuleWord word;
  word.quoted = rule.starts_with('"');
  size_t end = 0;
  if (word.quoted) {
    rule.remove_prefix(1);
    while (end < rule.size() && rule[end] != '"')
      end += rule[end] == '\\' ? 2 : 1;
    end = std::min(end, rule.size());
  } else {
    end = std::min(rule.find(' '), rule.size());
  }
  word.text = rule.substr(0, end);
  rule.remove_prefix(std::min(end + 1, rule.size()));
  return word;
}

// nullopt: none, as of a range.
inline std::optional<uint16_t> ParseRulePort(std::string_view text) {
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return port;
}

// "10.244.1.2:8080", "[fd00::1]:8080".
inline std::optional<net::IpPort> ParseDestination(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string_view ip = text.substr(0, colon);
  if (ip.starts_with('[') && ip.ends_with(']')) ip = ip.substr(1, ip.size() - 2);
  const auto address = net::IpAddress::Parse(ip);
  const auto port = ParseRulePort(text.substr(colon + 1));
  if (!address || !port) return std::nullopt;
  return net::IpPort{*address, *port};
}

}  // namespace pointsman::agent::xtables
