#include "kubectl-pointsman/document.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace pointsman::plugin {
namespace {

using nlohmann::json;

std::string Scalar(const json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace);
}

// A key or a word that means itself in YAML: one of letters that is none of its booleans or nulls.
bool IsPlain(const std::string& text) {
  static constexpr std::array<std::string_view, 10> kWords = {
      "true", "false", "null", "yes", "no", "on", "off", "y", "n", "none"};
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  if (text.empty() || !std::all_of(text.begin(), text.end(), letter)) return false;
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return std::find(kWords.begin(), kWords.end(), lower) == kWords.end();
}

std::string Key(const std::string& key) {
  return IsPlain(key) ? key : Scalar(key);
}

// `value` after "key:" or "-", with what comes before it.
void Append(const json& value, size_t indent, bool in_list, std::string& text) {
  if (!value.is_structured() || value.empty()) {
    const bool plain = value.is_string() && IsPlain(value.get_ref<const std::string&>());
    text += " " + (plain ? value.get<std::string>() : Scalar(value)) + "\n";
    return;
  }
  bool first = in_list;
  if (!in_list) text += "\n";
  if (value.is_array()) {
    for (const json& element : value) {
      text += (first ? " " : std::string(indent, ' ')) + "-";
      first = false;
      Append(element, indent + 2, true, text);
    }
    return;
  }
  for (const auto& [key, member] : value.items()) {
    text += (first ? " " : std::string(indent, ' ')) + Key(key) + ":";
    first = false;
    Append(member, indent + 2, false, text);
  }
}

}  // namespace

std::string JsonDocument(const json& value) {
  return value.dump(2, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace) + "\n";
}

std::string YamlDocument(const json& value) {
  if (!value.is_object() || value.empty()) return Scalar(value) + "\n";
  std::string text;
  for (const auto& [key, member] : value.items()) {
    text += Key(key) + ":";
    Append(member, 2, false, text);
  }
  return text;
}

}  // namespace pointsman::plugin
