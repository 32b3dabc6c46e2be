#include "kube/config/yaml_json.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <sstream>
#include <stdexcept>
#include <vector>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include "kube/text/text.h"

namespace pointsman::kube {
namespace {

constexpr size_t kMaxDepth = 32;
constexpr size_t kMaxValues = 10'000;
constexpr size_t kMaxKey = 1024;
constexpr size_t kMaxPath = 512;
constexpr size_t kMaxMessage = 1024;
// An alias copies what it names: ten of a long string are ten long strings.
constexpr size_t kMaxGrowth = 16;

[[noreturn]] void Fail(const YAML::Mark& mark, const std::string& what) {
  const std::string line = mark.is_null() ? "" : "line " + std::to_string(mark.line + 1) + ": ";
  throw std::invalid_argument(text::Message(line + what, kMaxMessage));
}

template <size_t N>
bool IsOneOf(std::string_view text, const std::array<std::string_view, N>& words) {
  return std::find(words.begin(), words.end(), text) != words.end();
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

nlohmann::json Scalar(const YAML::Mark& mark, const std::string& tag, const std::string& text) {
  if (!text::IsValidUtf8(text)) Fail(mark, "not UTF-8");
  // "!": quoted.
  if (tag == "!" || tag == "tag:yaml.org,2002:str") return text;
  static constexpr std::array<std::string_view, 11> kTrue{
      "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"};
  static constexpr std::array<std::string_view, 11> kFalse{
      "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"};
  static constexpr std::array<std::string_view, 5> kNull{"", "~", "null", "Null", "NULL"};
  if (IsOneOf(text, kNull)) return nullptr;
  if (IsOneOf(text, kTrue)) return true;
  if (IsOneOf(text, kFalse)) return false;
  if (const auto value = ParseGoInteger(text)) return *value;
  if (const auto value = ParseFloat(text)) {
    // Go writes 1e3 and 08 as the JSON numbers 1000 and 8, which fit an integer field.
    constexpr double kExact = 1LL << 53;
    if (std::abs(*value) < kExact && std::trunc(*value) == *value) {
      return static_cast<int64_t>(*value);
    }
    return *value;
  }
  return text;
}

// A value with what it costs to have it again.
struct Anchored {
  nlohmann::json value;
  size_t values = 0;
  size_t bytes = 0;
};

// A list or mapping that is being read.
struct Open {
  nlohmann::json value;
  std::string path;
  YAML::anchor_t anchor = 0;
  size_t values_before = 0;
  size_t bytes_before = 0;
  // Of a mapping: the key whose value comes next.
  bool has_key = false;
  bool merge = false;
  std::string key;
};

// Makes the JSON value out of the parser's events, so that its bounds hold while it is read.
class Builder final : public YAML::EventHandler {
 public:
  Builder(YamlDocument& document, size_t max_bytes) : document_(document), max_bytes_(max_bytes) {}

  void OnDocumentStart(const YAML::Mark& /*mark*/) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (WantsKey()) Fail(mark, PathHere() + ": a key is no string");
    Leaf(mark, anchor, nullptr, 0);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (WantsKey()) Fail(mark, PathHere() + ": a key is no string");
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) Fail(mark, "an alias of what it is within");
    Count(mark, found->second.values, found->second.bytes);
    Put(mark, found->second.value);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& text) override {
    if (WantsKey()) {
      Key(mark, tag, text);
    } else {
      Leaf(mark, anchor, Scalar(mark, tag, text), text.size());
    }
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    Begin(mark, anchor, nlohmann::json::array());
  }
  void OnSequenceEnd() override { End(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    Begin(mark, anchor, nlohmann::json::object());
  }
  void OnMapEnd() override { End(); }

 private:
  bool WantsKey() const {
    return !open_.empty() && open_.back().value.is_object() && !open_.back().has_key;
  }

  // Of the value that comes next.
  std::string PathHere() const {
    if (open_.empty()) return "";
    const Open& in = open_.back();
    if (in.value.is_array()) return in.path + "[" + std::to_string(in.value.size()) + "]";
    return in.path.empty() ? in.key : in.path + "." + in.key;
  }

  void Count(const YAML::Mark& mark, size_t values, size_t bytes) {
    values_ += values;
    bytes_ += bytes;
    if (values_ > kMaxValues) Fail(mark, "too many values");
    if (bytes_ > max_bytes_) Fail(mark, "too much text in aliases");
  }

  void Line(const YAML::Mark& mark, const std::string& path) {
    if (!mark.is_null() && path.size() <= kMaxPath) {
      document_.lines.try_emplace(path, mark.line + 1);
    }
  }

  void Key(const YAML::Mark& mark, const std::string& tag, const std::string& text) {
    Open& in = open_.back();
    if (!text::IsValidUtf8(text)) Fail(mark, "not UTF-8");
    if (text.size() > kMaxKey) Fail(mark, "a key is longer than 1 KiB");
    Count(mark, 0, text.size());
    in.key = text;
    in.has_key = true;
    in.merge = text == "<<" && tag != "!";
    if (in.merge) return;
    const std::string path = PathHere();
    if (in.value.contains(text) && path.size() <= kMaxPath) {
      document_.duplicates[path] = mark.line + 1;
    }
    Line(mark, path);  // the key's line: the value may begin further down
  }

  void Leaf(const YAML::Mark& mark, YAML::anchor_t anchor, nlohmann::json value, size_t bytes) {
    Count(mark, 1, bytes);
    if (anchor != 0) anchors_[anchor] = {value, 1, bytes};
    Put(mark, std::move(value));
  }

  void Begin(const YAML::Mark& mark, YAML::anchor_t anchor, nlohmann::json empty) {
    if (WantsKey()) Fail(mark, PathHere() + ": a key is no string");
    if (open_.size() >= kMaxDepth) Fail(mark, PathHere() + ": nested too deep");
    Open next;
    next.value = std::move(empty);
    next.path = PathHere();
    next.anchor = anchor;
    next.values_before = values_;
    next.bytes_before = bytes_;
    Count(mark, 1, 0);
    Line(mark, next.path);
    mark_ = mark;
    open_.push_back(std::move(next));
  }

  void End() {
    Open done = std::move(open_.back());
    open_.pop_back();
    if (done.anchor != 0) {
      anchors_[done.anchor] = {done.value, values_ - done.values_before,
                               bytes_ - done.bytes_before};
    }
    Put(mark_, std::move(done.value));
  }

  void Put(const YAML::Mark& mark, nlohmann::json value) {
    if (open_.empty()) {
      document_.value = std::move(value);
      return;
    }
    Open& in = open_.back();
    if (in.value.is_array()) {
      Line(mark, PathHere());
      in.value.push_back(std::move(value));
      return;
    }
    in.has_key = false;
    if (in.merge) {
      Merge(mark, in.value, value);
    } else {
      in.value[in.key] = std::move(value);
    }
  }

  // In place, so that what follows goes before it: decode.go, mapping() and merge().
  static void Merge(const YAML::Mark& mark, nlohmann::json& object, const nlohmann::json& from) {
    if (from.is_object()) {
      object.update(from);
    } else if (from.is_array()) {
      for (auto each = from.rbegin(); each != from.rend(); ++each) {  // the first goes before
        if (!each->is_object()) Fail(mark, "<< merges mappings only");
        object.update(*each);
      }
    } else {
      Fail(mark, "<< merges mappings only");
    }
  }

  YamlDocument& document_;
  const size_t max_bytes_;
  size_t values_ = 0;
  size_t bytes_ = 0;
  YAML::Mark mark_ = YAML::Mark::null_mark();
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Anchored> anchors_;
};

// Whether the parser finds something after the document it has read. What that is does not matter,
// not even whether it is YAML.
bool HasMore(YAML::Parser& parser) {
  try {
    return static_cast<bool>(parser);
  } catch (const YAML::Exception&) {
    return true;
  }
}

bool IsUtf16(std::string_view text) {
  return text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff");
}

}  // namespace

std::optional<int64_t> ParseGoInteger(std::string_view given) {
  std::string digits(given);
  std::erase(digits, '_');
  std::string_view text = digits;
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  int base = 10;
  if (text.size() > 2 && text[0] == '0' && !(text[1] >= '0' && text[1] <= '9')) {
    switch (text[1]) {
      case 'x':
      case 'X':
        base = 16;
        break;
      case 'o':
      case 'O':
        base = 8;
        break;
      case 'b':
      case 'B':
        base = 2;
        break;
      default:
        return std::nullopt;
    }
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

int YamlDocument::LineOf(const std::string& path) const {
  std::string_view at = path;
  while (!at.empty()) {
    if (const auto found = lines.find(at); found != lines.end()) return found->second;
    const size_t cut = at.find_last_of(".[");
    at = at.substr(0, cut == std::string_view::npos ? 0 : cut);
  }
  return 0;
}

YamlDocument ParseYaml(std::string_view text) {
  YamlDocument document;
  if (!IsUtf16(text) && !text::IsValidUtf8(text)) throw std::invalid_argument("not UTF-8");
  Builder builder(document, 4096 + text.size() * kMaxGrowth);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder)) {
      throw std::invalid_argument("there is no YAML document in it");
    }
    document.more = HasMore(parser);
  } catch (const YAML::Exception& error) {
    Fail(error.mark, error.msg);
  }
  return document;
}

}  // namespace pointsman::kube
