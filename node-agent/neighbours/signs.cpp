#include "node-agent/neighbours/signs.h"

#include <algorithm>
#include <utility>

namespace pointsman::agent {

namespace {

bool IsInTable(const SignPattern& pattern, std::string_view where) {
  return pattern.table.empty() ||
         (where.starts_with(pattern.table) && where.substr(pattern.table.size()).starts_with(' '));
}

}  // namespace

bool MatchesName(const SignPattern& pattern, SignKind kind, std::string_view name) {
  if (pattern.kind != kind) return false;
  return pattern.name.ends_with('*')
             ? name.starts_with(pattern.name.substr(0, pattern.name.size() - 1))
             : name == pattern.name;
}

bool Matches(const SignPattern& pattern, const Sign& sign) {
  return MatchesName(pattern, sign.kind, sign.name) && IsInTable(pattern, sign.where);
}

SignCollector::SignCollector(const std::vector<SignPattern>& patterns) {
  slots_.reserve(patterns.size());
  for (const SignPattern& pattern : patterns)
    slots_.push_back({.pattern = pattern});
}

bool SignCollector::Wants(SignKind kind) const {
  return std::any_of(slots_.begin(), slots_.end(),
                     [kind](const Slot& slot) { return slot.pattern.kind == kind; });
}

bool SignCollector::Wants(SignKind kind, std::string_view name) const {
  return std::any_of(slots_.begin(), slots_.end(),
                     [&](const Slot& slot) { return MatchesName(slot.pattern, kind, name); });
}

void SignCollector::Offer(SignKind kind, std::string_view name, std::string_view where) {
  for (Slot& slot : slots_) {
    if (!MatchesName(slot.pattern, kind, name) || !IsInTable(slot.pattern, where)) continue;
    const std::pair<std::string_view, std::string_view> first(slot.first.name, slot.first.where);
    if (slot.filled && first <= std::pair(name, where)) continue;
    slot.filled = true;
    slot.first = {kind, std::string(name), std::string(where)};
  }
}

void SignCollector::Forget(SignKind kind) {
  for (Slot& slot : slots_) {
    if (slot.pattern.kind == kind) slot.filled = false;
  }
}

Signs SignCollector::Take() {
  Signs signs;
  for (Slot& slot : slots_) {
    if (std::exchange(slot.filled, false)) signs.found.push_back(std::move(slot.first));
  }
  std::sort(signs.found.begin(), signs.found.end());
  signs.found.erase(std::unique(signs.found.begin(), signs.found.end()), signs.found.end());
  signs.unread = std::exchange(unread_, {});
  return signs;
}

}  // namespace pointsman::agent
