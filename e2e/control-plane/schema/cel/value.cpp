#include "e2e/control-plane/schema/cel/value.h"

#include <algorithm>
#include <iterator>

#include "e2e/control-plane/schema/formats.h"

namespace pointsman::e2e::schema::cel {
namespace {

std::partial_ordering CompareNumbers(const Value& a, const Value& b) {
  if (As<double>(a) || As<double>(b)) {
    auto number = [](const Value& v) {
      if (const auto* i = As<int64_t>(v)) return static_cast<double>(*i);
      if (const auto* u = As<uint64_t>(v)) return static_cast<double>(*u);
      return *As<double>(v);
    };
    return number(a) <=> number(b);
  }
  const auto* ai = As<int64_t>(a);
  const auto* bi = As<int64_t>(b);
  if (ai && bi) return *ai <=> *bi;
  if (ai)
    return *ai < 0 ? std::partial_ordering::less : static_cast<uint64_t>(*ai) <=> *As<uint64_t>(b);
  if (bi)
    return *bi < 0 ? std::partial_ordering::greater
                   : *As<uint64_t>(a) <=> static_cast<uint64_t>(*bi);
  return *As<uint64_t>(a) <=> *As<uint64_t>(b);
}

bool IsNumber(const Value& v) {
  return As<int64_t>(v) || As<uint64_t>(v) || As<double>(v);
}

std::string ShowDouble(double value) {
  return Json(value).dump();
}

}  // namespace

void NoOverload() {
  throw EvalError("no such overload");
}

Value FromJson(const Json& json, const Structural* schema) {
  switch (json.type()) {
    case Json::value_t::boolean:
      return {json.get<bool>()};
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      if (schema && schema->type == "number") return {json.get<double>()};
      return {json.get<int64_t>()};
    case Json::value_t::number_float:
      if (schema && schema->type == "integer") return {static_cast<int64_t>(json.get<double>())};
      return {json.get<double>()};
    case Json::value_t::string: {
      const auto& text = json.get_ref<const std::string&>();
      if (schema && schema->format == "duration") {
        auto duration = ParseGoDuration(text);
        if (!duration) throw EvalError("unexpected duration " + json.dump());
        return {*duration};
      }
      if (schema && (schema->format == "date-time" || schema->format == "date")) {
        auto time = ParseDateTime(schema->format == "date" ? text + "T00:00:00Z" : text);
        if (!time) throw EvalError("unexpected time " + json.dump());
        return {*time};
      }
      return {text};
    }
    case Json::value_t::array:
    case Json::value_t::object:
      return {Reference{&json, schema}};
    default:
      return {nullptr};
  }
}

Value MakeList(std::vector<Value> items) {
  return {std::make_shared<const std::vector<Value>>(std::move(items))};
}

std::optional<Cidr> ParseCidr(const std::string& text) {
  auto prefix = net::IpPrefix::Parse(text);
  if (!prefix) return std::nullopt;
  auto address = net::IpAddress::Parse(text.substr(0, text.find('/')));
  if (!address) return std::nullopt;
  return Cidr{*address, *prefix};
}

const Json* ArrayOf(const Value& value) {
  const auto* reference = As<Reference>(value);
  return reference && reference->json->is_array() ? reference->json : nullptr;
}

const Json* ObjectOf(const Value& value) {
  const auto* reference = As<Reference>(value);
  return reference && reference->json->is_object() ? reference->json : nullptr;
}

bool IsList(const Value& value) {
  return As<List>(value) || ArrayOf(value);
}

bool IsMap(const Value& value) {
  return As<Map>(value) || ObjectOf(value);
}

std::vector<Value> Items(const Value& value, Cost& cost) {
  if (const auto* list = As<List>(value)) {
    cost.Spend(static_cast<int64_t>((*list)->size()));
    return **list;
  }
  std::vector<Value> out;
  if (const Json* array = ArrayOf(value)) {
    cost.Spend(static_cast<int64_t>(array->size()));
    const auto* schema = As<Reference>(value)->schema;
    for (const auto& item : *array) {
      out.push_back(FromJson(item, schema ? schema->items.get() : nullptr));
    }
  } else if (const Json* object = ObjectOf(value)) {
    cost.Spend(static_cast<int64_t>(object->size()));
    for (const auto& [key, unused] : object->items())
      out.push_back({key});
  } else if (const auto* map = As<Map>(value)) {
    cost.Spend(static_cast<int64_t>((*map)->size()));
    for (const auto& [key, unused] : **map)
      out.push_back(key);
  } else {
    NoOverload();
  }
  return out;
}

bool Equal(const Value& a, const Value& b, Cost& cost) {
  cost.Spend(1);
  if (IsNumber(a) && IsNumber(b)) return CompareNumbers(a, b) == 0;
  if (IsList(a) && IsList(b)) {
    auto x = Items(a, cost);
    auto y = Items(b, cost);
    const auto* schema = As<Reference>(a) ? As<Reference>(a)->schema : nullptr;
    if (x.size() != y.size()) return false;
    if (schema && (schema->list_type == "set" || schema->list_type == "map")) {
      // Sets and maps are equal in any order (apiextensions).
      return std::all_of(x.begin(), x.end(), [&](const Value& i) {
        return std::any_of(y.begin(), y.end(), [&](const Value& j) { return Equal(i, j, cost); });
      });
    }
    return std::equal(x.begin(), x.end(), y.begin(),
                      [&](const Value& i, const Value& j) { return Equal(i, j, cost); });
  }
  if (ObjectOf(a) && ObjectOf(b)) {
    cost.Spend(static_cast<int64_t>(ObjectOf(a)->size()));
    return *ObjectOf(a) == *ObjectOf(b);
  }
  if (a.v.index() != b.v.index()) return false;
  if (const auto* x = As<bool>(a)) return *x == *As<bool>(b);
  if (const auto* x = As<std::string>(a)) {
    cost.Spend(static_cast<int64_t>(x->size() / 10));
    return *x == *As<std::string>(b);
  }
  if (const auto* x = As<Bytes>(a)) return *x == *As<Bytes>(b);
  if (const auto* x = As<Duration>(a)) return *x == *As<Duration>(b);
  if (const auto* x = As<Timestamp>(a)) return *x == *As<Timestamp>(b);
  if (const auto* x = As<net::IpAddress>(a)) return *x == *As<net::IpAddress>(b);
  if (const auto* x = As<Cidr>(a)) {
    const auto* y = As<Cidr>(b);
    return x->address == y->address && x->prefix.length() == y->prefix.length();
  }
  if (const auto* x = As<TypeName>(a)) return x->name == As<TypeName>(b)->name;
  return As<std::nullptr_t>(a) != nullptr;
}

std::partial_ordering Compare(const Value& a, const Value& b, Cost& cost) {
  cost.Spend(1);
  if (IsNumber(a) && IsNumber(b)) return CompareNumbers(a, b);
  if (a.v.index() != b.v.index()) NoOverload();
  if (const auto* x = As<bool>(a)) return *x <=> *As<bool>(b);
  if (const auto* x = As<std::string>(a)) {
    cost.Spend(static_cast<int64_t>(x->size() / 10));
    return *x <=> *As<std::string>(b);
  }
  if (const auto* x = As<Bytes>(a)) return *x <=> *As<Bytes>(b);
  if (const auto* x = As<Duration>(a)) return *x <=> *As<Duration>(b);
  if (const auto* x = As<Timestamp>(a)) return *x <=> *As<Timestamp>(b);
  NoOverload();
}

std::string Show(const Value& value) {
  if (const auto* s = As<std::string>(value)) return *s;
  if (const auto* i = As<int64_t>(value)) return std::to_string(*i);
  if (const auto* u = As<uint64_t>(value)) return std::to_string(*u);
  if (const auto* d = As<double>(value)) return ShowDouble(*d);
  if (const auto* b = As<bool>(value)) return *b ? "true" : "false";
  if (const auto* d = As<Duration>(value)) {
    return ShowDouble(std::chrono::duration<double>(*d).count()) + "s";
  }
  if (const auto* ip = As<net::IpAddress>(value)) return ip->ToString();
  if (const auto* cidr = As<Cidr>(value)) {
    return cidr->address.ToString() + "/" + std::to_string(cidr->prefix.length());
  }
  NoOverload();
}

std::string TypeNameOf(const Value& value) {
  if (IsList(value)) return "list";
  if (IsMap(value)) return "map";
  static constexpr const char* kNames[] = {"null_type", "bool",   "int",  "uint",
                                           "double",    "string", "bytes"};
  return value.v.index() < std::size(kNames) ? kNames[value.v.index()] : "dyn";
}

}  // namespace pointsman::e2e::schema::cel
