#include "kube/objects/json_reader.h"

#include <cstring>
#include <memory>

#include "kube/text/text.h"

namespace pointsman::kube {
namespace {

// What one thread reuses from text to text.
struct Workspace {
  simdjson::ondemand::parser parser;
  std::unique_ptr<char[]> buffer;
  size_t capacity = 0;
  bool busy = false;
};

thread_local Workspace workspace;

// An object of the API server has at most 1.5 MiB (etcd's limit), but JSON can be larger than what
// is stored; a thread does not keep more than this.
constexpr size_t kKeptCapacity = size_t{4} << 20;

// Of the name of a field in a problem's path, in bytes. Those that the decoders know are shorter.
constexpr size_t kMostOfKey = 64;

}  // namespace

bool JsonReader::Is(Value& value, simdjson::ondemand::json_type type, std::string_view name) {
  const simdjson::ondemand::json_type found = value.type();
  if (found == type) return true;
  if (found == simdjson::ondemand::json_type::null) {
    // is_null() also consumes it: a mistyped "nul" must not pass.
    if (!value.is_null()) throw simdjson::simdjson_error(simdjson::N_ATOM_ERROR);
    return false;
  }
  Problem("is not " + std::string(name));
  return false;
}

std::optional<std::string_view> JsonReader::String(Value value) {
  if (!Is(value, simdjson::ondemand::json_type::string, "a string")) return std::nullopt;
  return std::string_view(value.get_string());
}

std::optional<bool> JsonReader::Bool(Value value) {
  if (!Is(value, simdjson::ondemand::json_type::boolean, "true or false")) return std::nullopt;
  return bool(value.get_bool());
}

std::optional<int64_t> JsonReader::Int(Value value, int64_t min, int64_t max) {
  if (!Is(value, simdjson::ondemand::json_type::number, "a number")) return std::nullopt;
  int64_t number = 0;
  const auto error = value.get_int64().get(number);
  if (error != simdjson::SUCCESS || number < min || number > max) {
    Problem("is not a whole number from " + std::to_string(min) + " to " + std::to_string(max));
    return std::nullopt;
  }
  return number;
}

std::optional<net::IpAddress> JsonReader::ParseAddress(std::string_view text) {
  auto address = net::IpAddress::ParseSloppy(text);
  if (!address) Problem("not an IP address: " + text::Quote(text));
  return address;
}

std::optional<net::IpAddress> JsonReader::Address(Value value) {
  const auto text = String(value);
  return text ? ParseAddress(*text) : std::nullopt;
}

std::optional<net::IpPrefix> JsonReader::Prefix(Value value) {
  const auto text = String(value);
  return text ? ParsePrefix(*text) : std::nullopt;
}

std::optional<net::IpPrefix> JsonReader::ParsePrefix(std::string_view text) {
  auto prefix = net::IpPrefix::ParseSloppy(text::TrimSpace(text));
  if (!prefix) Problem("not a CIDR: " + text::Quote(text));
  return prefix;
}

std::string JsonReader::Path() const {
  std::string path;
  for (size_t i = 0; i < depth_; ++i) {
    const Segment& segment = segments_[i];
    if (segment.index >= 0) {
      path += "[" + std::to_string(segment.index) + "]";
    } else {
      if (!path.empty()) path += '.';
      path += text::Escape(text::Cut(segment.key, kMostOfKey));
    }
  }
  return path;
}

void JsonReader::Problem(std::string_view what) {
  // Bounded: a peer can send any number of bad values.
  constexpr size_t kMaxProblems = 20;
  if (problems_->size() < kMaxProblems) {
    problems_->push_back(Path() + ": " + std::string(what));
  } else if (problems_->size() == kMaxProblems) {
    problems_->emplace_back("more values that were not understood");
  }
}

JsonDocument::JsonDocument(std::string_view json) {
  Workspace& work = workspace;
  if (work.busy) throw std::logic_error("JsonDocument: one at a time in a thread");
  const size_t needed = json.size() + simdjson::SIMDJSON_PADDING;
  if (work.capacity < needed) {
    const size_t capacity = std::max<size_t>(needed + needed / 2, 16384);
    work.buffer.reset(new char[capacity]);  // not value-initialized: it is overwritten
    work.capacity = capacity;
  }
  // The data of an empty view may be null, which memcpy must not be given.
  if (!json.empty()) std::memcpy(work.buffer.get(), json.data(), json.size());
  std::memset(work.buffer.get() + json.size(), 0, simdjson::SIMDJSON_PADDING);
  document_ = work.parser.iterate(work.buffer.get(), json.size(), work.capacity);
  work.busy = true;
}

JsonDocument::~JsonDocument() {
  Workspace& work = workspace;
  work.busy = false;
  if (work.capacity > kKeptCapacity) {
    work.buffer.reset();
    work.capacity = 0;
    work.parser = simdjson::ondemand::parser();
  }
}

simdjson::ondemand::object JsonDocument::Root() {
  return document_.get_object();
}

void JsonDocument::ExpectEnd() {
  // There is a current location only while tokens are left.
  const char* rest = nullptr;
  if (document_.current_location().get(rest) == simdjson::SUCCESS) {
    throw simdjson::simdjson_error(simdjson::TAPE_ERROR);
  }
}

}  // namespace pointsman::kube
