#include "e2e/control-plane/registry/protobuf.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "e2e/control-plane/base/api_time.h"
#include "e2e/control-plane/base/base64.h"
#include "e2e/control-plane/registry/builtin_schemas.h"

namespace pointsman::e2e {
namespace {

constexpr std::string_view kMagic("k8s\0", 4);

StatusError Malformed(const std::string& why) {
  return BadRequest("the protobuf body is malformed: " + why);
}

StatusError Unsupported(const std::string& what) {
  return {415, "UnsupportedMediaType",
          what +
              " is not taken as application/vnd.kubernetes.protobuf here - accepted media types "
              "include: application/json, application/yaml",
          Json::object()};
}

class Reader {
 public:
  explicit Reader(std::string_view data) : data_(data) {}

  // The next field; false at the end. Varints are in number(), the others in bytes().
  bool Next() {
    if (data_.empty()) return false;
    const std::uint64_t tag = Varint();
    field_ = static_cast<int>(tag >> 3);
    switch (tag & 7) {
      case 0:
        number_ = Varint();
        break;
      case 1:
        bytes_ = Take(8);
        break;
      case 2:
        bytes_ = Take(Varint());
        break;
      case 5:
        bytes_ = Take(4);
        break;
      default:
        throw Malformed("wire type " + std::to_string(tag & 7));
    }
    return true;
  }
  int field() const { return field_; }
  std::uint64_t number() const { return number_; }
  std::string_view bytes() const { return bytes_; }

 private:
  std::uint64_t Varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (data_.empty()) throw Malformed("it ends inside a number");
      const auto byte = static_cast<unsigned char>(data_.front());
      data_.remove_prefix(1);
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) return value;
    }
    throw Malformed("a number is too long");
  }
  std::string_view Take(std::uint64_t size) {
    if (size > data_.size()) throw Malformed("it ends inside a field");
    const std::string_view part = data_.substr(0, size);
    data_.remove_prefix(size);
    return part;
  }

  std::string_view data_;
  int field_ = 0;
  std::uint64_t number_ = 0;
  std::string_view bytes_;
};

Json TimeOf(std::string_view message, bool micro) {
  std::int64_t seconds = 0;
  std::int64_t nanos = 0;
  Reader reader(message);
  while (reader.Next()) {
    if (reader.field() == 1) seconds = static_cast<std::int64_t>(reader.number());
    if (reader.field() == 2) nanos = static_cast<std::int64_t>(reader.number());
  }
  // The zero time of Go (year 1) stands for none.
  if (message.empty() || seconds <= -62135596800) return nullptr;
  std::string out = FormatTime(std::chrono::system_clock::from_time_t(seconds));
  if (!micro) return out;
  out.pop_back();  // the Z
  return out + fmt::format(".{:06}Z", nanos / 1000);
}

// Fields that are pointers in Go: a zero in them was set on purpose. The encoding writes all other
// zeroes too, where JSON leaves them out.
bool IsPointer(const std::string& field) {
  static const std::set<std::string> pointers = {"replicas",
                                                 "revisionHistoryLimit",
                                                 "terminationGracePeriodSeconds",
                                                 "runAsUser",
                                                 "runAsGroup",
                                                 "fsGroup",
                                                 "runAsNonRoot",
                                                 "defaultMode",
                                                 "mode",
                                                 "optional",
                                                 "priority",
                                                 "automountServiceAccountToken",
                                                 "enableServiceLinks",
                                                 "allowPrivilegeEscalation",
                                                 "privileged",
                                                 "readOnlyRootFilesystem",
                                                 "immutable",
                                                 "ready",
                                                 "serving",
                                                 "terminating",
                                                 "controller",
                                                 "blockOwnerDeletion",
                                                 "gracePeriodSeconds",
                                                 "orphanDependents",
                                                 "allocateLoadBalancerNodePorts",
                                                 "tolerationSeconds",
                                                 "emptyDir",
                                                 "securityContext",
                                                 "selector",
                                                 "podSelector",
                                                 "value"};
  return pointers.contains(field);
}

Json DecodeMessage(std::string_view name, std::string_view data, bool top);

void Put(Json& object, const BuiltinField& field, std::string_view type, const Reader& reader);

void PutIntOrString(Json& object, const std::string& name, std::string_view message) {
  std::uint64_t kind = 0;
  std::int64_t number = 0;
  std::string word;
  Reader inner(message);
  while (inner.Next()) {
    if (inner.field() == 1) kind = inner.number();
    if (inner.field() == 2) number = static_cast<std::int64_t>(inner.number());
    if (inner.field() == 3) word = inner.bytes();
  }
  if (kind == 1) {
    object[name] = word;
  } else if (number != 0 || name != "targetPort") {
    object[name] = number;
  }
}

void PutMapEntry(Json& object, const std::string& name, std::string_view value_type,
                 std::string_view message) {
  BuiltinField entry;
  entry.name = "value";
  Json pair = Json::object();
  std::string key;
  Reader inner(message);
  while (inner.Next()) {
    if (inner.field() == 1) key = inner.bytes();
    if (inner.field() == 2) Put(pair, entry, value_type, inner);
  }
  if (!pair.contains("value")) pair["value"] = "";
  object[name][key] = pair["value"];
}

void PutListItem(Json& object, const std::string& name, std::string_view list,
                 const Reader& reader) {
  BuiltinField item;
  item.name = "value";
  Json holder = Json::object();
  Put(holder, item, list.substr(0, list.find('|')), reader);
  object[name].push_back(holder.contains("value") ? holder["value"] : Json(""));
}

// Puts one occurrence of a field into `object`.
void Put(Json& object, const BuiltinField& field, std::string_view type, const Reader& reader) {
  const auto text = [&] { return std::string(reader.bytes()); };
  const std::string& name = field.name;
  switch (type.front()) {
    case 's':
      if (!reader.bytes().empty()) object[name] = text();
      break;
    case 'b':
      if (reader.number() != 0 || IsPointer(name)) object[name] = reader.number() != 0;
      break;
    case 'i':
    case 'l': {
      const auto value = static_cast<std::int64_t>(reader.number());
      if (value != 0 || IsPointer(name)) object[name] = value;
      break;
    }
    case 't':
    case 'u':
      if (Json time = TimeOf(reader.bytes(), type.front() == 'u'); !time.is_null())
        object[name] = time;
      break;
    case 'y':
      object[name] = Base64Encode(reader.bytes());
      break;
    case 'q': {
      Reader inner(reader.bytes());
      while (inner.Next()) {
        if (inner.field() == 1) object[name] = std::string(inner.bytes());
      }
      break;
    }
    case 'x':
      PutIntOrString(object, name, reader.bytes());
      break;
    case '{':
      PutMapEntry(object, name, type.substr(1, type.size() - 2), reader.bytes());
      break;
    case '[':
      PutListItem(object, name, type.substr(1, type.size() - 2), reader);
      break;
    case '*':
      throw Unsupported("the field " + name);
    default: {
      Json value = DecodeMessage(type, reader.bytes(), false);
      if (!value.empty() || IsPointer(name)) object[name] = std::move(value);
    }
  }
}

void DecodeInto(Json& object, const std::vector<BuiltinField>& fields, std::string_view data,
                const std::vector<int>& prefix) {
  Reader reader(data);
  while (reader.Next()) {
    std::vector<int> path = prefix;
    path.push_back(reader.field());
    bool embedded = false;
    for (const BuiltinField& field : fields) {
      if (field.protobuf == path) {
        Put(object, field, field.type, reader);
      } else if (field.protobuf.size() > path.size() &&
                 std::equal(path.begin(), path.end(), field.protobuf.begin())) {
        embedded = true;
      }
    }
    if (embedded) DecodeInto(object, fields, reader.bytes(), path);
  }
}

Json DecodeMessage(std::string_view name, std::string_view data, bool top) {
  const std::vector<BuiltinField>& fields = BuiltinFields(name);
  if (!data.empty() && std::all_of(fields.begin(), fields.end(),
                                   [](const BuiltinField& f) { return f.protobuf.empty(); })) {
    throw Unsupported(std::string(name));
  }
  Json object = Json::object();
  DecodeInto(object, fields, data, {});
  if (top) {
    Reader reader(data);
    while (reader.Next()) {
      if (reader.field() == 1)
        object["metadata"] = DecodeMessage("ObjectMeta", reader.bytes(), false);
    }
  }
  return object;
}

}  // namespace

Json DecodeProtobuf(std::string_view body) {
  if (!body.starts_with(kMagic)) throw Malformed("it does not begin with k8s\\0");
  Reader reader(body.substr(kMagic.size()));
  std::string api_version;
  std::string kind;
  std::string_view raw;
  while (reader.Next()) {
    if (reader.field() == 1) {
      Reader meta(reader.bytes());
      while (meta.Next()) {
        if (meta.field() == 1) api_version = meta.bytes();
        if (meta.field() == 2) kind = meta.bytes();
      }
    } else if (reader.field() == 2) {
      raw = reader.bytes();
    }
  }
  std::string name = kind;
  if (kind == "EndpointSlice" && api_version == "discovery.k8s.io/v1beta1")
    name = "EndpointSliceV1beta1";
  if (kind == "Event" && api_version == "events.k8s.io/v1") name = "EventV1";
  if (!HasBuiltin(name)) throw Unsupported(api_version + " " + kind);
  // Types with no ObjectMeta in field 1.
  const bool top = kind != "DeleteOptions";
  Json object = DecodeMessage(name, raw, top);
  object["apiVersion"] = api_version;
  object["kind"] = kind;
  return object;
}

}  // namespace pointsman::e2e
