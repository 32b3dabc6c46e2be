// Reads one JSON object field by field with simdjson, in whatever order the fields come, and knows
// the path of the value it is at. Internal to the decoders of this folder.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <simdjson.h>

#include "kube/net/ip_address.h"
#include "kube/objects/interned_string.h"
#include "kube/text/text.h"

namespace pointsman::kube {

// A value of the wrong type or out of range is a problem of that value: it is reported and left
// out. Text that is not JSON at all ends the reading with an exception. Fields that are null are as
// good as absent everywhere, as in the Kubernetes API.
//
// Not thread-safe; the views it returns live as long as the ReadDocument call.
class JsonReader {
 public:
  using Value = simdjson::ondemand::value;

  explicit JsonReader(std::vector<std::string>* problems) : problems_(problems) {}

  // Calls `field(key, value)` for each field; does nothing but report when `value` is no object.
  template <typename F>
  void Object(Value value, F&& field) {
    if (Is(value, simdjson::ondemand::json_type::object, "an object")) {
      Fields(simdjson::ondemand::object(value.get_object()), field);
    }
  }

  template <typename F>
  void Fields(simdjson::ondemand::object object, F&& field) {
    const Scope scope(*this);
    for (auto item : object) {
      const std::string_view key = item.unescaped_key();
      segments_[depth_ - 1].key = key;
      field(key, Value(item.value()));
    }
  }

  // Calls `element(value)` for each element; index() tells which one it is.
  template <typename F>
  void Array(Value value, F&& element) {
    if (!Is(value, simdjson::ondemand::json_type::array, "a list")) return;
    const Scope scope(*this);
    for (auto item : value.get_array()) {
      ++segments_[depth_ - 1].index;
      element(Value(item.value()));
    }
  }

  // nullopt for null and, with a problem reported, for another type.
  std::optional<std::string_view> String(Value value);
  std::optional<bool> Bool(Value value);
  std::optional<int64_t> Int(Value value, int64_t min, int64_t max);
  // In the spellings that the API server and kube-proxy take (IpAddress::ParseSloppy).
  std::optional<net::IpAddress> Address(Value value);
  std::optional<net::IpAddress> ParseAddress(std::string_view text);
  // As above, and white space around the CIDR is allowed: the API's validation trims it, and so
  // does kube-proxy (pkg/apis/core/validation, pkg/proxy/util MapCIDRsByIPFamily).
  std::optional<net::IpPrefix> Prefix(Value value);
  std::optional<net::IpPrefix> ParsePrefix(std::string_view text);

  void Assign(Value value, std::string& target) {
    if (const auto text = String(value)) target.assign(*text);
  }
  void Assign(Value value, InternedString& target) {
    if (const auto text = String(value)) target = *text;
  }
  void Assign(Value value, bool& target) {
    if (const auto flag = Bool(value)) target = *flag;
  }

  // Notes `what` with the path of the current value: "spec.ports[2].port: …". At most 21 problems
  // are kept. `what` names values by text::Quote only: problems are UTF-8 of a few hundred bytes.
  void Problem(std::string_view what);
  std::string Path() const;

 private:
  // One level of nesting: a field of an object (key) or an element of a list (index >= 0).
  struct Segment {
    std::string_view key;
    int index = -1;
  };
  class Scope {
   public:
    explicit Scope(JsonReader& reader) : reader_(reader) {
      if (reader_.depth_ == kMaxDepth) throw std::logic_error("JsonReader: nested too deep");
      reader_.segments_[reader_.depth_++] = {};
    }
    ~Scope() { --reader_.depth_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    JsonReader& reader_;
  };

  // Far more than the objects read here have; only our own code decides how deep it goes.
  static constexpr size_t kMaxDepth = 16;

  bool Is(Value& value, simdjson::ondemand::json_type type, std::string_view name);

  std::vector<std::string>* problems_;
  std::array<Segment, kMaxDepth> segments_{};
  size_t depth_ = 0;
};

// The thread's parser at work on one text. The text is copied into a padded buffer that the thread
// keeps (up to 4 MiB) for the next one.
class JsonDocument {
 public:
  explicit JsonDocument(std::string_view json);
  ~JsonDocument();
  JsonDocument(const JsonDocument&) = delete;
  JsonDocument& operator=(const JsonDocument&) = delete;

  simdjson::ondemand::object Root();
  // Throws when anything follows the object.
  void ExpectEnd();

 private:
  simdjson::ondemand::document document_;
};

// Reads `json` as an object of `kind` and calls `field(key, value)` for each top-level field; list
// items carry no "kind", so it is only checked when present. Throws std::invalid_argument for text
// that is not a JSON object or is of another kind.
template <typename F>
void ReadDocument(std::string_view json, std::string_view kind, JsonReader& reader, F&& field) {
  try {
    JsonDocument document(json);
    reader.Fields(document.Root(), [&](std::string_view key, JsonReader::Value value) {
      if (key == "kind") {
        const auto text = reader.String(value);
        if (text && *text != kind) {
          throw std::invalid_argument("kind: expected " + std::string(kind) + ", found " +
                                      text::Quote(*text));
        }
        return;
      }
      field(key, value);
    });
    document.ExpectEnd();
  } catch (const simdjson::simdjson_error& error) {
    throw std::invalid_argument("not a " + std::string(kind) + ": invalid JSON: " + error.what());
  }
}

}  // namespace pointsman::kube
