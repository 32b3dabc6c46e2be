#include "e2e/control-plane/api/selectors.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "e2e/control-plane/base/trim.h"
#include "e2e/control-plane/registry/field_checks.h"

namespace pointsman::e2e {
namespace {

// Splits at commas that are not inside parentheses.
std::vector<std::string_view> SplitTop(std::string_view text) {
  std::vector<std::string_view> parts;
  int depth = 0;
  std::size_t start = 0;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i == text.size() || (text[i] == ',' && depth == 0)) {
      parts.push_back(Trim(text.substr(start, i - start)));
      start = i + 1;
    } else if (text[i] == '(') {
      ++depth;
    } else if (text[i] == ')') {
      --depth;
    }
  }
  return parts;
}

bool IsNumber(const std::string& text, std::int64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

}  // namespace

LabelSelector::LabelSelector(std::string_view text) {
  text = Trim(text);
  if (text.empty()) return;
  const auto bad = [&](const std::string& why) {
    return BadRequest("unable to parse requirement: " + why);
  };
  for (const std::string_view part : SplitTop(text)) {
    if (part.empty()) throw bad("found '', expected: !, identifier, or 'end of string'");
    Requirement r;
    std::string_view key = part;
    if (part.front() == '!') {
      r.op = Requirement::kMissing;
      key = Trim(part.substr(1));
    } else if (const auto sign = part.find_first_of("=!<>"); sign != std::string_view::npos) {
      key = Trim(part.substr(0, sign));
      std::string_view value = part.substr(sign + 1);
      if (part[sign] == '!') {
        if (!value.starts_with('=')) throw bad("found '!', expected: in, notin, =, ==, !=, gt, lt");
        value.remove_prefix(1);
        r.op = Requirement::kNotIn;
      } else if (part[sign] == '=') {
        if (value.starts_with('=')) value.remove_prefix(1);
        r.op = Requirement::kIn;
      } else {
        r.op = part[sign] == '>' ? Requirement::kGreater : Requirement::kLess;
      }
      r.values.emplace_back(Trim(value));
    } else if (const auto space = part.find_first_of(" ("); space != std::string_view::npos) {
      key = part.substr(0, space);
      std::string_view rest = Trim(part.substr(space));
      if (rest.starts_with("notin")) {
        r.op = Requirement::kNotIn;
        rest = Trim(rest.substr(5));
      } else if (rest.starts_with("in")) {
        r.op = Requirement::kIn;
        rest = Trim(rest.substr(2));
      } else {
        throw bad("found '" + std::string(rest) + "', expected: in, notin, =, ==, !=, gt, lt");
      }
      if (!rest.starts_with('(') || !rest.ends_with(')')) {
        throw bad("found '" + std::string(rest) + "', expected: '('");
      }
      for (const std::string_view value : SplitTop(rest.substr(1, rest.size() - 2))) {
        r.values.emplace_back(value);
      }
    }
    r.key = std::string(key);
    if (const std::string why = CheckQualifiedName(r.key); !why.empty()) {
      throw bad("<nil>: Invalid value: " + Json(r.key).dump() + ": " + why);
    }
    std::int64_t ignored = 0;
    if ((r.op == Requirement::kGreater || r.op == Requirement::kLess) &&
        !IsNumber(r.values.at(0), ignored)) {
      throw bad("values: Invalid value: for 'Gt', 'Lt' operators, the value must be an integer");
    }
    for (const std::string& value : r.values) {
      std::vector<FieldError> errors;
      CheckLabels(Json{{r.key, value}}, "values", errors);
      if (!errors.empty()) throw bad("values: " + errors[0].message);
    }
    requirements_.push_back(std::move(r));
  }
}

bool LabelSelector::Matches(const std::vector<std::pair<std::string, std::string>>& labels) const {
  for (const Requirement& r : requirements_) {
    const auto found =
        std::find_if(labels.begin(), labels.end(), [&](const auto& l) { return l.first == r.key; });
    const bool present = found != labels.end();
    const auto listed = [&] {
      return std::find(r.values.begin(), r.values.end(), found->second) != r.values.end();
    };
    bool good = false;
    switch (r.op) {
      case Requirement::kIn:
        good = present && listed();
        break;
      case Requirement::kNotIn:
        good = !present || !listed();
        break;
      case Requirement::kExists:
        good = present;
        break;
      case Requirement::kMissing:
        good = !present;
        break;
      case Requirement::kGreater:
      case Requirement::kLess: {
        std::int64_t have = 0;
        std::int64_t want = 0;
        good = present && IsNumber(found->second, have) && IsNumber(r.values[0], want) &&
               (r.op == Requirement::kGreater ? have > want : have < want);
        break;
      }
    }
    if (!good) return false;
  }
  return true;
}

FieldSelector::FieldSelector(std::string_view text, const ResourceType& type) {
  text = Trim(text);
  if (text.empty()) return;
  for (const std::string_view part : SplitTop(text)) {
    if (part.empty()) continue;
    Requirement r;
    const auto sign = part.find_first_of("=!");
    if (sign == std::string_view::npos || (part[sign] == '!' && part.substr(sign, 2) != "!=")) {
      throw BadRequest("invalid selector: '" + std::string(text) + "'; can't understand '" +
                       std::string(part) + "'");
    }
    r.field = part.substr(0, sign);
    r.equal = part[sign] == '=';
    std::string_view value = part.substr(sign + (r.equal ? 1 : 2));
    if (r.equal && value.starts_with('=')) value.remove_prefix(1);
    r.value = value;
    if (r.field != "metadata.name" && r.field != "metadata.namespace" &&
        std::find(type.selectable_fields.begin(), type.selectable_fields.end(), r.field) ==
            type.selectable_fields.end()) {
      throw BadRequest("field label not supported: " + r.field);
    }
    requirements_.push_back(std::move(r));
  }
}

bool FieldSelector::Matches(const StoredObject& object) const {
  for (const Requirement& r : requirements_) {
    std::string_view value;
    if (r.field == "metadata.name") {
      value = object.name;
    } else if (r.field == "metadata.namespace") {
      value = object.ns;
    } else {
      for (const auto& [field, have] : object.fields) {
        if (field == r.field) value = have;
      }
    }
    if ((value == r.value) != r.equal) return false;
  }
  return true;
}

std::optional<std::string> FieldSelector::name() const {
  for (const Requirement& r : requirements_) {
    if (r.field == "metadata.name" && r.equal) return r.value;
  }
  return std::nullopt;
}

}  // namespace pointsman::e2e
