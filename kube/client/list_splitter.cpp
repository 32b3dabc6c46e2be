#include "kube/client/list_splitter.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include <simdjson.h>

namespace pointsman::kube {
namespace {

namespace ondemand = simdjson::ondemand;

static_assert(kJsonPadding >= simdjson::SIMDJSON_PADDING);

// Longer names of the outermost object's members are none that matter here.
constexpr size_t kMaxKey = 64;

// A field that is not there or null leaves `out` as it is.
template <typename T, typename Out>
void ReadOptional(ondemand::object& object, std::string_view name, Out& out) {
  ondemand::value value;
  const auto error = object.find_field_unordered(name).get(value);
  if (error == simdjson::NO_SUCH_FIELD) return;
  if (error != simdjson::SUCCESS) throw simdjson::simdjson_error(error);
  if (value.is_null()) return;
  T read = value;
  out = Out(read);
}

ListMetadata ReadMetadata(const std::string& json) try {
  ondemand::parser parser;
  const simdjson::padded_string padded(json);
  ondemand::document document = parser.iterate(padded);
  ondemand::object metadata = document.get_object();
  ListMetadata read;
  ReadOptional<std::string_view>(metadata, "resourceVersion", read.resource_version);
  ReadOptional<std::string_view>(metadata, "continue", read.continue_token);
  ReadOptional<int64_t>(metadata, "remainingItemCount", read.remaining_items);
  return read;
} catch (const simdjson::simdjson_error& e) {
  throw std::invalid_argument(std::string("list: metadata: ") + e.what());
}

bool IsSpace(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

}  // namespace

ListSplitter::ListSplitter(OnItem on_item, size_t max_item_bytes)
    : on_item_(std::move(on_item)), max_item_bytes_(max_item_bytes) {}

void ListSplitter::Add(std::string_view bytes) {
  while (!bytes.empty()) {
    if (in_string_) {
      SkipString(bytes);
    } else {
      Structure(bytes);
    }
  }
}

void ListSplitter::SkipString(std::string_view& bytes) {
  size_t at = 0;
  while (at < bytes.size()) {
    if (escaped_) {
      escaped_ = false;
      ++at;
      continue;
    }
    at = bytes.find_first_of("\"\\", at);
    if (at == std::string_view::npos) break;
    if (bytes[at++] == '\\') {
      escaped_ = true;
      continue;
    }
    in_string_ = false;
    break;
  }
  at = std::min(at, bytes.size());
  Keep(bytes.substr(0, at));
  if (in_key_) {
    key_ += bytes.substr(0, std::min(at, kMaxKey - std::min(key_.size(), kMaxKey)));
    if (!in_string_) {
      in_key_ = false;
      member_ = key_ == "items\""      ? Member::kItems
                : key_ == "metadata\"" ? Member::kMetadata
                                       : Member::kOther;
    }
  }
  bytes.remove_prefix(at);
}

void ListSplitter::Structure(std::string_view& bytes) {
  size_t at = 0;
  // Deeper than the outermost object and its items only strings and brackets matter.
  const bool inside = keeping_ || depth_ > 2 || (depth_ == 2 && member_ != Member::kItems);
  if (inside) {
    at = std::min(bytes.find_first_of("\"{}[]"), bytes.size());
    Keep(bytes.substr(0, at));
    if (at == bytes.size()) {
      bytes = {};
      return;
    }
  }
  const char c = bytes[at];
  switch (c) {
    case '"':
      BeginString();
      Keep("\"");
      break;
    case '{':
    case '[':
      Open(c);
      break;
    case '}':
    case ']':
      Keep(std::string_view(&c, 1));
      Close();
      break;
    case ',':
      if (depth_ == 1) key_next_ = true;
      break;
    case ':':
      if (depth_ == 1) key_next_ = false;
      break;
    default:
      if (!IsSpace(c)) Scalar(c);
  }
  bytes.remove_prefix(at + 1);
}

void ListSplitter::BeginString() {
  Scalar('"');
  in_string_ = true;
  if (depth_ != 1 || !key_next_) return;
  in_key_ = true;
  key_.clear();
}

void ListSplitter::Scalar(char first) {
  if (depth_ == 0) throw std::invalid_argument("not a list: an object was expected");
  if (depth_ == 2 && member_ == Member::kItems && !keeping_) {
    throw std::invalid_argument("list: items: not an object");
  }
  if (depth_ != 1 || key_next_ || first == 'n' || member_ == Member::kOther) return;
  // The rest of null; any other value is of the wrong type.
  if (std::string_view("ul").find(first) != std::string_view::npos) return;
  throw std::invalid_argument(member_ == Member::kItems ? "list: items: not a list"
                                                        : "list: metadata: not an object");
}

void ListSplitter::Open(char bracket) {
  if (ended_ || (depth_ == 0 && bracket != '{')) {
    throw std::invalid_argument("not a list: one object was expected");
  }
  if (depth_ == 0) key_next_ = true;
  if (depth_ == 1 && member_ == Member::kItems && bracket != '[') {
    throw std::invalid_argument("list: items: not a list");
  }
  if (depth_ == 1 && member_ == Member::kMetadata && bracket != '{') {
    throw std::invalid_argument("list: metadata: not an object");
  }
  const bool item = depth_ == 2 && member_ == Member::kItems;
  if (item && !keeping_ && bracket != '{') {
    throw std::invalid_argument("list: items: not an object");
  }
  if (!keeping_ && (item || (depth_ == 1 && member_ == Member::kMetadata))) {
    keeping_ = true;
    keep_depth_ = depth_;
    kept_.clear();
  }
  Keep(std::string_view(&bracket, 1));
  ++depth_;
}

void ListSplitter::Close() {
  if (depth_ == 0) throw std::invalid_argument("not a list: a bracket too many");
  --depth_;
  if (depth_ == 0) ended_ = true;
  if (!keeping_ || depth_ != keep_depth_) return;
  keeping_ = false;
  if (member_ == Member::kMetadata) {
    metadata_ = std::exchange(kept_, {});
    return;
  }
  kept_.reserve(kept_.size() + kJsonPadding);
  on_item_(kept_);
  // One large item must not hold its memory until the list's end.
  constexpr size_t kKept = 256UL * 1024;
  kept_.clear();
  if (kept_.capacity() > kKept) std::string().swap(kept_);
}

void ListSplitter::Keep(std::string_view bytes) {
  if (!keeping_) return;
  if (bytes.size() > max_item_bytes_ - kept_.size()) {
    throw std::invalid_argument("list: an object longer than " + std::to_string(max_item_bytes_) +
                                " bytes");
  }
  kept_ += bytes;
}

ListMetadata ListSplitter::End() const {
  if (!ended_) throw std::invalid_argument("list: cut off before its end");
  if (metadata_.empty()) throw std::invalid_argument("list: metadata: missing");
  return ReadMetadata(metadata_);
}

}  // namespace pointsman::kube
