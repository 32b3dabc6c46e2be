#include "e2e/control-plane/registry/json_path.h"

#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace pointsman::e2e {
namespace {

[[noreturn]] void Fail(std::string_view path, const char* why) {
  throw std::invalid_argument("JSONPath '" + std::string(path) + "': " + why);
}

std::string Quoted(std::string_view path, std::string_view text) {
  if (text.size() < 2 || (text.front() != '\'' && text.front() != '"') ||
      text.back() != text.front()) {
    Fail(path, "a quoted name was expected");
  }
  return std::string(text.substr(1, text.size() - 2));
}

bool IsNameEnd(char c) {
  return c == '.' || c == '[' || c == '=' || c == '!' || c == '<' || c == '>' || c == ' ';
}

std::vector<std::string> Dotted(std::string_view path, std::string_view text) {
  std::vector<std::string> names;
  while (!text.empty()) {
    if (text.front() != '.') Fail(path, "a filter names fields as @.a.b");
    text.remove_prefix(1);
    std::size_t n = 0;
    while (n < text.size() && !IsNameEnd(text[n]))
      ++n;
    names.emplace_back(text.substr(0, n));
    text.remove_prefix(n);
  }
  return names;
}

}  // namespace

JsonPath::JsonPath(std::string_view path) {
  std::string_view rest = path;
  if (rest.starts_with('{') && rest.ends_with('}')) rest = rest.substr(1, rest.size() - 2);
  if (rest.starts_with('$')) rest.remove_prefix(1);
  while (!rest.empty()) {
    Step step;
    if (rest.front() == '.') {
      rest.remove_prefix(1);
      if (rest.empty()) break;  // "." alone is the object itself
      if (rest.front() == '[') continue;
      while (!rest.empty() && rest.front() != '.' && rest.front() != '[') {
        if (rest.front() == '\\' && rest.size() > 1) rest.remove_prefix(1);
        step.name.push_back(rest.front());
        rest.remove_prefix(1);
      }
      if (step.name.empty()) Fail(path, "recursive descent is not supported");
      if (step.name == "*") step.kind = Step::kAll;
    } else if (rest.front() == '[') {
      std::size_t end = 1;
      char quote = 0;
      for (; end < rest.size(); ++end) {
        if (quote != 0) {
          if (rest[end] == quote) quote = 0;
        } else if (rest[end] == '\'' || rest[end] == '"') {
          quote = rest[end];
        } else if (rest[end] == ']') {
          break;
        }
      }
      if (end >= rest.size()) Fail(path, "unterminated array");
      std::string_view inner = rest.substr(1, end - 1);
      rest.remove_prefix(end + 1);
      if (inner == "*") {
        step.kind = Step::kAll;
      } else if (inner.starts_with("?(") && inner.ends_with(")")) {
        step.kind = Step::kFilter;
        inner = inner.substr(2, inner.size() - 3);
        if (!inner.starts_with("@")) Fail(path, "a filter begins with @");
        inner.remove_prefix(1);
        for (const std::string_view op : {"==", "!="}) {
          const auto pos = inner.find(op);
          if (pos == std::string_view::npos) continue;
          std::string_view left = inner.substr(0, pos);
          std::string_view right = inner.substr(pos + 2);
          while (left.ends_with(' '))
            left.remove_suffix(1);
          while (right.starts_with(' '))
            right.remove_prefix(1);
          while (right.ends_with(' '))
            right.remove_suffix(1);
          step.op = op;
          step.filter_path = Dotted(path, left);
          if (right.starts_with('\'') || right.starts_with('"')) {
            step.value = Quoted(path, right);
          } else {
            step.value = Json::parse(right, nullptr, false);
            if (step.value.is_discarded()) Fail(path, "the filter's value is malformed");
          }
          break;
        }
        if (step.op.empty()) Fail(path, "a filter compares with == or !=");
      } else if (inner.starts_with('\'') || inner.starts_with('"')) {
        step.name = Quoted(path, inner);
      } else {
        step.kind = Step::kIndex;
        const auto [stop, error] =
            std::from_chars(inner.data(), inner.data() + inner.size(), step.index);
        if (error != std::errc() || stop != inner.data() + inner.size()) {
          Fail(path, "the index is not a number");
        }
      }
    } else {
      Fail(path, "it must begin with a dot");
    }
    steps_.push_back(std::move(step));
  }
}

std::vector<const Json*> JsonPath::Find(const Json& root) const {
  std::vector<const Json*> found{&root};
  for (const Step& step : steps_) {
    std::vector<const Json*> next;
    for (const Json* value : found) {
      switch (step.kind) {
        case Step::kField:
          if (value->is_object()) {
            const auto member = value->find(step.name);
            if (member != value->end()) next.push_back(&*member);
          }
          break;
        case Step::kIndex:
          if (value->is_array()) {
            const int size = static_cast<int>(value->size());
            const int index = step.index < 0 ? size + step.index : step.index;
            if (index >= 0 && index < size)
              next.push_back(&(*value)[static_cast<std::size_t>(index)]);
          }
          break;
        case Step::kAll:
          if (value->is_structured()) {
            for (const Json& member : *value)
              next.push_back(&member);
          }
          break;
        case Step::kFilter:
          if (!value->is_array()) break;
          for (const Json& member : *value) {
            const Json* probe = &member;
            for (const std::string& name : step.filter_path) {
              if (probe == nullptr || !probe->is_object() || !probe->contains(name)) {
                probe = nullptr;
                break;
              }
              probe = &(*probe)[name];
            }
            if (probe != nullptr && (*probe == step.value) == (step.op == "==")) {
              next.push_back(&member);
            }
          }
          break;
      }
    }
    found = std::move(next);
  }
  return found;
}

const Json* At(const Json& object, std::initializer_list<const char*> path) {
  const Json* value = &object;
  for (const char* name : path) {
    if (!value->is_object()) return nullptr;
    const auto found = value->find(name);
    if (found == value->end()) return nullptr;
    value = &*found;
  }
  return value;
}

std::string StringAt(const Json& object, std::initializer_list<const char*> path) {
  const Json* value = At(object, path);
  return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

std::int64_t IntAt(const Json& object, std::initializer_list<const char*> path,
                   std::int64_t otherwise) {
  const Json* value = At(object, path);
  return value != nullptr && value->is_number_integer() ? value->get<std::int64_t>() : otherwise;
}

const Json& ArrayAt(const Json& object, std::initializer_list<const char*> path) {
  static const Json empty = Json::array();
  const Json* value = At(object, path);
  return value != nullptr && value->is_array() ? *value : empty;
}

}  // namespace pointsman::e2e
