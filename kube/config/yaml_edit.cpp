#include "kube/config/yaml_edit.h"

#include <algorithm>
#include <array>
#include <optional>
#include <stdexcept>
#include <vector>

#include <yaml-cpp/yaml.h>

#include "kube/config/yaml_json.h"
#include "kube/text/json_text.h"
#include "kube/text/text.h"

namespace pointsman::kube {
namespace {

using nlohmann::json;

constexpr size_t kMaxEditMessage = 1024;

struct Replacement {
  size_t at = 0;
  size_t length = 0;
  std::string text;
};

// A word that is a string in every YAML without quotes.
bool IsBare(const std::string& word) {
  // "y", "no", "1e3", "0x1f" and the like are no strings; nor is what has a "-" or "~" in front.
  const bool letters_and_digits =
      !word.empty() && std::all_of(word.begin(), word.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
      });
  if (!letters_and_digits) return false;
  return ParseYaml("key: " + word).value["key"] == word;
}

class Editor {
 public:
  explicit Editor(std::string_view text)
      : text_(text), eol_(text.find("\r\n") != std::string_view::npos ? "\r\n" : "\n") {
    const size_t first = text_.find_first_not_of(" \t\r\n");
    json_ = first != std::string_view::npos && text_[first] == '{';
  }

  std::string Apply(const json& changes) {
    const YAML::Node root = YAML::Load(std::string(text_));
    if (!root.IsMap()) throw std::invalid_argument("the document is no mapping");
    ChangeMap(root, changes, "", /*is_root=*/true);
    std::stable_sort(replacements_.begin(), replacements_.end(),
                     [](const Replacement& a, const Replacement& b) { return a.at < b.at; });
    std::string result;
    size_t at = 0;
    for (const Replacement& replacement : replacements_) {
      if (replacement.at < at) throw std::invalid_argument("two changes of one place");
      result += text_.substr(at, replacement.at - at);
      result += replacement.text;
      at = replacement.at + replacement.length;
    }
    result += text_.substr(at);
    return result;
  }

 private:
  [[noreturn]] void Refuse(size_t at, const std::string& path, const std::string& what) const {
    const auto line = std::count(text_.begin(), text_.begin() + static_cast<ptrdiff_t>(at), '\n');
    throw std::invalid_argument(text::Message(
        "line " + std::to_string(line + 1) + ": " + path + ": " + what, kMaxEditMessage));
  }

  char At(size_t at) const { return at < text_.size() ? text_[at] : '\n'; }
  bool EndsLine(size_t at) const { return At(at) == '\n' || At(at) == '\r'; }
  // Where the first byte of a node is; yaml-cpp counts bytes, as a text without a byte order mark
  // has them.
  size_t Position(const YAML::Node& node, const std::string& path) const {
    const YAML::Mark mark = node.Mark();
    if (mark.is_null() || mark.pos < 0 || static_cast<size_t>(mark.pos) > text_.size())
      Refuse(0, path, "where it is cannot be told");
    return static_cast<size_t>(mark.pos);
  }

  // The end of a quoted word that begins at `at`; nullopt: not on this line.
  std::optional<size_t> EndOfQuoted(size_t at) const {
    const char quote = At(at);
    for (size_t i = at + 1; !EndsLine(i); ++i) {
      if (quote == '"' && At(i) == '\\') {
        ++i;
        if (EndsLine(i)) return std::nullopt;
      } else if (At(i) == quote) {
        if (quote == '"' || At(i + 1) != '\'') return i + 1;
        ++i;
      }
    }
    return std::nullopt;
  }

  // The same of a list or mapping in brackets.
  std::optional<size_t> EndOfFlow(size_t at) const {
    size_t depth = 0;
    for (size_t i = at; !EndsLine(i);) {
      const char c = At(i);
      const bool begins_word =
          i == at || std::string_view(" \t[{,:").find(At(i - 1)) != std::string_view::npos;
      if ((c == '"' || c == '\'') && begins_word) {
        const auto end = EndOfQuoted(i);
        if (!end) return std::nullopt;
        i = *end;
        continue;
      }
      if (c == '#' && (At(i - 1) == ' ' || At(i - 1) == '\t')) return std::nullopt;
      if (c == '[' || c == '{') ++depth;
      if ((c == ']' || c == '}') && --depth == 0) return i + 1;
      ++i;
    }
    return std::nullopt;
  }

  // Behind the colon of a key, and what blanks follow it.
  size_t BehindColon(const YAML::Node& key, const std::string& path) const {
    const size_t at = Position(key, path);
    size_t end = at + key.Scalar().size();
    if (At(at) == '"' || At(at) == '\'') {
      const auto quoted = EndOfQuoted(at);
      if (!quoted) Refuse(at, path, "the key is not on one line");
      end = *quoted;
    } else if (text_.substr(std::min(at, text_.size()), key.Scalar().size()) != key.Scalar()) {
      Refuse(at, path, "the key has an anchor, a tag or an alias, which Pointsman does not edit");
    }
    end = SkipBlanks(end);
    if (At(end) != ':') Refuse(at, path, "key and colon are not on one line");
    return end + 1;
  }
  size_t SkipBlanks(size_t at) const {
    while (At(at) == ' ' || At(at) == '\t')
      ++at;
    return at;
  }

  // Where the value behind a colon is; an empty range: nothing is there, and that is null.
  std::pair<size_t, size_t> ValueAt(size_t colon_end, const YAML::Node& value,
                                    const std::string& path) const {
    static const std::string kRemedy =
        " Pointsman changes only what is on one line: write it so that the key and all of its "
        "value "
        "are on one";
    const size_t at = SkipBlanks(colon_end);
    const char first = At(at);
    const bool comment = first == '#' && at > colon_end;
    if (EndsLine(at) || comment || ((first == ',' || first == '}') && value.IsNull())) {
      if (!value.IsNull()) Refuse(at, path, "its value is on other lines than the key." + kRemedy);
      return {colon_end, colon_end};
    }
    if (first == '&' || first == '*' || first == '!')
      Refuse(at, path,
             "is an alias, or has an anchor or a tag, which Pointsman does not edit: write "
             "the value itself");
    if (first == '|' || first == '>') Refuse(at, path, "is a text over several lines." + kRemedy);
    std::optional<size_t> end;
    if (first == '"' || first == '\'') {
      end = EndOfQuoted(at);
    } else if (first == '[' || first == '{') {
      end = EndOfFlow(at);
    } else if (value.IsNull()) {
      static constexpr std::array<std::string_view, 4> kNull{"null", "Null", "NULL", "~"};
      for (const std::string_view word : kNull) {
        if (text_.substr(at, word.size()) == word) end = at + word.size();
      }
    } else if (value.IsScalar() && text_.substr(at, value.Scalar().size()) == value.Scalar()) {
      end = at + value.Scalar().size();
    }
    if (!end || (!value.IsNull() && Position(value, path) != at))
      Refuse(at, path, "its value does not end on its line." + kRemedy);
    return {at, *end};
  }

  // A value in one line. Lists and mappings are in brackets.
  std::string Write(const json& value, char quote) const {
    if (json_) return text::JsonText(value);
    if (value.is_string()) {
      const auto& word = value.get_ref<const std::string&>();
      if (quote == '\'' && word.find_first_of("'\r\n") == std::string::npos)
        return "'" + word + "'";
      if (quote != '"' && IsBare(word)) return word;
      return text::JsonText(value);
    }
    if (value.is_array()) {
      std::string items;
      for (const json& item : value)
        items += (items.empty() ? "" : ", ") + Write(item, 0);
      return "[" + items + "]";
    }
    if (value.is_object()) {
      std::string members;
      for (const auto& [name, member] : value.items())
        members += (members.empty() ? "" : ", ") + WriteMember(name, member);
      return "{" + members + "}";
    }
    return text::JsonText(value);
  }
  std::string WriteMember(const std::string& name, const json& value) const {
    return (json_ || !IsBare(name) ? text::JsonText(json(name)) : name) + ": " + Write(value, 0);
  }

  void Overwrite(const YAML::Node& key, const YAML::Node& value, const json& wanted,
                 const std::string& path) {
    const size_t colon_end = BehindColon(key, path);
    const auto [begin, end] = ValueAt(colon_end, value, path);
    std::string text = Write(wanted, At(begin));
    if (begin == end) text.insert(0, " ");
    replacements_.push_back({begin, end - begin, std::move(text)});
  }

  void ChangeMap(const YAML::Node& map, const json& changes, const std::string& path,
                 bool is_root) {
    json added = json::object();
    for (const auto& [name, wanted] : changes.items()) {
      std::string where = path.empty() ? "" : path + ".";
      where += name;
      // Of a key that is there twice the last counts.
      std::optional<std::pair<YAML::Node, YAML::Node>> found;
      for (const auto& pair : map) {
        if (pair.first.IsScalar() && pair.first.Scalar() == name)
          found.emplace(pair.first, pair.second);
      }
      if (!found) {
        added[name] = wanted;
      } else if (wanted.is_object() && found->second.IsMap()) {
        const size_t behind = SkipBlanks(BehindColon(found->first, where));
        if (At(behind) == '*' || At(behind) == '&' || At(behind) == '!')
          Refuse(behind, where,
                 "is an alias, or has an anchor or a tag, which Pointsman does not edit: write the "
                 "values themselves");
        ChangeMap(found->second, wanted, where, false);
      } else if (wanted.is_object() && !found->second.IsNull()) {
        Refuse(Position(found->first, where), where, "is no mapping");
      } else {
        Overwrite(found->first, found->second, wanted, where);
      }
    }
    if (!added.empty()) Add(map, added, path, is_root);
  }

  // Into brackets, to the end of the document, or in front of a block's first key.
  void Add(const YAML::Node& map, const json& added, const std::string& path, bool is_root) {
    const size_t begin = Position(map, path);
    if (At(begin) == '{') {
      std::string members;
      for (const auto& [name, value] : added.items())
        members += (members.empty() ? "" : ", ") + WriteMember(name, value);
      replacements_.push_back({begin + 1, 0, members + (map.size() > 0 ? ", " : "")});
      return;
    }
    const YAML::Node first = map.begin()->first;
    const std::string indent(static_cast<size_t>(std::max(first.Mark().column, 0)), ' ');
    std::string lines;
    for (const auto& [name, value] : added.items()) {
      if (is_root) {
        lines += indent + WriteMember(name, value) + eol_;
      } else {
        lines += WriteMember(name, value) + eol_ + indent;
      }
    }
    if (is_root) {
      const size_t end = EndOfDocument(begin);
      if (At(end - 1) != '\n') lines.insert(0, eol_);
      replacements_.push_back({end, 0, lines});
    } else {
      replacements_.push_back({Position(first, path), 0, lines});
    }
  }

  // The line that ends the document whose content begins at `begin`, or the text's end.
  size_t EndOfDocument(size_t begin) const {
    for (size_t at = text_.find('\n', begin); at != std::string_view::npos;
         at = text_.find('\n', at + 1)) {
      const std::string_view line = text_.substr(at + 1, 4);
      const bool marker = line.substr(0, 3) == "---" || line.substr(0, 3) == "...";
      if (marker &&
          (line.size() < 4 || std::string_view(" \t\r\n").find(line[3]) != std::string_view::npos))
        return at + 1;
    }
    return text_.size();
  }

  const std::string_view text_;
  const std::string eol_;
  bool json_ = false;  // the document is written in brackets, mostly as JSON
  std::vector<Replacement> replacements_;
};

void Set(json& value, const json& changes) {
  if (!value.is_object()) value = json::object();
  for (const auto& [name, wanted] : changes.items()) {
    if (wanted.is_object()) {
      Set(value[name], wanted);
    } else {
      value[name] = wanted;
    }
  }
}

}  // namespace

std::string EditYaml(std::string_view text, const json& changes) {
  if (text.size() > kMaxEditedYaml)
    throw std::invalid_argument("longer than " + std::to_string(kMaxEditedYaml) + " bytes");
  const std::string_view mark = text.substr(0, 2);
  if (text.substr(0, 3) == "\xef\xbb\xbf" || mark == "\xff\xfe" || mark == "\xfe\xff")
    throw std::invalid_argument("has a byte order mark: write it as UTF-8 without one");
  const YamlDocument before = ParseYaml(text);
  std::string result;
  try {
    result = Editor(text).Apply(changes);
  } catch (const YAML::Exception& error) {
    throw std::invalid_argument(text::Message(error.what(), kMaxEditMessage));
  }
  json expected = before.value;
  Set(expected, changes);
  const YamlDocument after = ParseYaml(result);
  if (after.value != expected || after.more != before.more)
    throw std::invalid_argument(
        "cannot be edited in place: with the changed values other values would differ, too (an "
        "alias or a merge key refers to them); write them without");
  return result;
}

}  // namespace pointsman::kube
