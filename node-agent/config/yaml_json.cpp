#include "node-agent/config/yaml_json.h"

#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <stdexcept>
#include <string_view>

#include <yaml-cpp/yaml.h>

namespace pointsman::agent {
namespace {

constexpr int kMaxDepth = 32;
constexpr int kMaxValues = 10'000;

[[noreturn]] void Fail(const YAML::Mark& mark, const std::string& what) {
  if (mark.is_null()) throw std::invalid_argument(what);
  throw std::invalid_argument("line " + std::to_string(mark.line + 1) + ": " + what);
}

template <size_t N>
bool IsOneOf(std::string_view text, const std::array<std::string_view, N>& words) {
  for (const std::string_view word : words) {
    if (text == word) return true;
  }
  return false;
}

std::optional<int64_t> ParseInt(std::string_view text) {
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  int base = 10;
  if (text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'o' || text[1] == 'b')) {
    base = text[1] == 'x' ? 16 : text[1] == 'o' ? 8 : 2;
    text.remove_prefix(2);
  } else if (text.size() > 1 && text[0] == '0') {
    base = 8;  // YAML 1.1: 0755
  }
  uint64_t magnitude = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), magnitude, base);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  if (magnitude > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  const auto value = static_cast<int64_t>(magnitude);
  return negative ? -value : value;
}

std::optional<double> ParseFloat(std::string_view text) {
  if (text.find_first_not_of("0123456789+-.eE") != std::string_view::npos ||
      text.find_first_of("0123456789") == std::string_view::npos) {
    return std::nullopt;
  }
  if (text[0] == '+') text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

nlohmann::json Scalar(const YAML::Node& node) {
  const std::string& text = node.Scalar();
  const std::string& tag = node.Tag();
  if (tag == "!" || tag == "tag:yaml.org,2002:str") return text;  // quoted, or said to be a string
  static constexpr std::array<std::string_view, 9> kTrue{"true", "True", "TRUE", "yes", "Yes",
                                                         "YES",  "on",   "On",   "ON"};
  static constexpr std::array<std::string_view, 9> kFalse{"false", "False", "FALSE", "no", "No",
                                                          "NO",    "off",   "Off",   "OFF"};
  static constexpr std::array<std::string_view, 5> kNull{"", "~", "null", "Null", "NULL"};
  if (IsOneOf(text, kNull)) return nullptr;
  if (IsOneOf(text, kTrue)) return true;
  if (IsOneOf(text, kFalse)) return false;
  if (const auto value = ParseInt(text)) return *value;
  if (const auto value = ParseFloat(text)) return *value;
  return text;
}

class Converter {
 public:
  explicit Converter(YamlDocument& document) : document_(document) {}

  nlohmann::json Convert(const YAML::Node& node, const std::string& path, int depth) {
    if (depth > kMaxDepth) Fail(node.Mark(), path + ": nested too deep");
    if (++values_ > kMaxValues) Fail(node.Mark(), "too many values");
    if (!node.Mark().is_null()) document_.lines.try_emplace(path, node.Mark().line + 1);
    switch (node.Type()) {
      case YAML::NodeType::Null:
      case YAML::NodeType::Undefined:
        return nullptr;
      case YAML::NodeType::Scalar:
        return Scalar(node);
      case YAML::NodeType::Sequence: {
        nlohmann::json list = nlohmann::json::array();
        for (const YAML::Node& item : node) {
          list.push_back(Convert(item, path + "[" + std::to_string(list.size()) + "]", depth + 1));
        }
        return list;
      }
      case YAML::NodeType::Map: {
        nlohmann::json object = nlohmann::json::object();
        for (const auto& member : node) {
          if (!member.first.IsScalar()) Fail(member.first.Mark(), path + ": a key is no string");
          const std::string& key = member.first.Scalar();
          const std::string below = path.empty() ? key : path + "." + key;
          const int line = member.first.Mark().line + 1;
          if (object.contains(key)) {
            document_.duplicates.emplace(below, line);
            continue;
          }
          // The key's line: the value may begin further down.
          document_.lines.try_emplace(below, line);
          object[key] = Convert(member.second, below, depth + 1);
        }
        return object;
      }
    }
    return nullptr;
  }

 private:
  YamlDocument& document_;
  int values_ = 0;
};

}  // namespace

int YamlDocument::LineOf(const std::string& path) const {
  std::string_view at = path;
  while (!at.empty()) {
    if (const auto found = lines.find(at); found != lines.end()) return found->second;
    const size_t cut = at.find_last_of(".[");
    at = at.substr(0, cut == std::string_view::npos ? 0 : cut);
  }
  return 0;
}

YamlDocument ParseYaml(const std::string& text) {
  YamlDocument document;
  try {
    const std::vector<YAML::Node> nodes = YAML::LoadAll(text);
    if (nodes.empty()) throw std::invalid_argument("there is no YAML document in it");
    if (nodes.size() > 1) throw std::invalid_argument("there is more than one YAML document in it");
    document.value = Converter(document).Convert(nodes[0], "", 0);
  } catch (const YAML::Exception& error) {
    Fail(error.mark, error.msg);
  }
  return document;
}

}  // namespace pointsman::agent
