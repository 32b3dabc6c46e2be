#include "kube/objects/json_reader.h"

#include <charconv>
#include <cstring>
#include <memory>

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

// "010.000.1.001" -> "10.0.1.1"; "" when it is not that.
std::string StripLeadingZeros(std::string_view text) {
  std::string stripped;
  size_t at = 0;
  while (at <= text.size()) {
    const size_t dot = std::min(text.find('.', at), text.size());
    std::string_view part = text.substr(at, dot - at);
    while (part.size() > 1 && part[0] == '0')
      part.remove_prefix(1);
    if (!stripped.empty()) stripped += '.';
    stripped += part;
    at = dot + 1;
  }
  return stripped;
}

bool IsV4Mapped(const net::IpAddress& address) {
  static constexpr std::array<uint8_t, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return !address.is_v4() && std::memcmp(address.data(), kMapped.data(), kMapped.size()) == 0;
}

net::IpAddress Unmapped(const net::IpAddress& address) {
  return IsV4Mapped(address) ? net::IpAddress::FromBytes(address.data() + 12, 4) : address;
}

std::optional<net::IpAddress> ParseSloppy(std::string_view text) {
  auto address = net::IpAddress::Parse(text);
  if (!address && text.find(':') == std::string_view::npos &&
      text.find('.') != std::string_view::npos) {
    address = net::IpAddress::Parse(StripLeadingZeros(text));
  }
  if (address) address = Unmapped(*address);
  return address;
}

std::string Quoted(std::string_view text) {
  // A problem ends up in conditions and Events: keep it readable.
  constexpr size_t kShown = 64;
  std::string quoted = "\"";
  quoted += text.substr(0, kShown);
  quoted += text.size() > kShown ? "…\"" : "\"";
  return quoted;
}

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

std::optional<net::IpAddress> JsonReader::Address(Value value) {
  const auto text = String(value);
  if (!text) return std::nullopt;
  auto address = ParseSloppy(*text);
  if (!address) Problem("not an IP address: " + Quoted(*text));
  return address;
}

std::optional<net::IpPrefix> JsonReader::Prefix(Value value) {
  const auto text = String(value);
  if (!text) return std::nullopt;
  std::string_view trimmed = *text;
  constexpr std::string_view kBlanks = " \t\r\n\v\f";
  trimmed.remove_prefix(std::min(trimmed.find_first_not_of(kBlanks), trimmed.size()));
  trimmed.remove_suffix(trimmed.size() - (trimmed.find_last_not_of(kBlanks) + 1));
  auto prefix = net::IpPrefix::Parse(trimmed);
  if (!prefix) {
    const size_t slash = trimmed.find('/');
    if (slash != std::string_view::npos) {
      prefix = net::IpPrefix::Parse(StripLeadingZeros(trimmed.substr(0, slash)) +
                                    std::string(trimmed.substr(slash)));
    }
  }
  if (prefix && prefix->length() >= 96 && IsV4Mapped(prefix->address())) {
    prefix =
        net::IpPrefix(Unmapped(prefix->address()), static_cast<uint8_t>(prefix->length() - 96));
  }
  if (!prefix) Problem("not a CIDR: " + Quoted(*text));
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
      path += segment.key;
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
