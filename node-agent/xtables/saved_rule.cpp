#include "node-agent/xtables/saved_rule.h"

#include <algorithm>

namespace pointsman::agent::xtables {
namespace {

// Takes the next word off `rule`, with its quotes; "": there is none. A text with blanks is quoted,
// and a quote in it has a backslash in front (libxtables, xtables_save_string).
std::string_view TakeWord(std::string_view& rule) {
  rule.remove_prefix(std::min(rule.find_first_not_of(' '), rule.size()));
  size_t end = 0;
  bool quoted = false;
  for (; end < rule.size() && (quoted || rule[end] != ' '); ++end) {
    if (rule[end] == '"') quoted = !quoted;
    if (quoted && rule[end] == '\\' && end + 1 < rule.size()) ++end;
  }
  const std::string_view word = rule.substr(0, end);
  rule.remove_prefix(end);
  return word;
}

}  // namespace

SavedRule TakeApart(std::string_view rule) {
  constexpr std::string_view kComment = " comment --comment ";
  SavedRule parts;
  while (true) {
    const std::string_view word = TakeWord(rule);
    if (word.empty()) return parts;
    if (word == "-m" && rule.starts_with(kComment)) {
      rule.remove_prefix(kComment.size());
      TakeWord(rule);
      continue;
    }
    if (word == "-j" || word == "-g") {
      parts.goes = word == "-g";
      parts.target = TakeWord(rule);
      return parts;
    }
    if (!parts.match.empty()) parts.match += ' ';
    parts.match += word;
  }
}

}  // namespace pointsman::agent::xtables
