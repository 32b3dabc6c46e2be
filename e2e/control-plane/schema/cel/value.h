// The values that expressions compute with.
#pragma once

#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "e2e/control-plane/schema/cel/evaluation.h"
#include "e2e/control-plane/schema/cel/parser.h"
#include "e2e/control-plane/schema/structural.h"
#include "kube/net/ip_address.h"

namespace pointsman::e2e::schema::cel {

using Duration = std::chrono::nanoseconds;
using Timestamp = std::chrono::sys_time<Duration>;

struct Value;
using List = std::shared_ptr<const std::vector<Value>>;
using Map = std::shared_ptr<const std::vector<std::pair<Value, Value>>>;

// An array or object of the resource, not copied. schema may be null.
struct Reference {
  const Json* json = nullptr;
  const Structural* schema = nullptr;
};

struct Optional {
  std::shared_ptr<const Value> value;  // null: none
};

struct TypeName {
  std::string name;
};

// A CIDR keeps its host bits, which IpPrefix clears.
struct Cidr {
  net::IpAddress address;
  net::IpPrefix prefix;
};

struct Value {
  std::variant<std::nullptr_t, bool, int64_t, uint64_t, double, std::string, Bytes, List, Map,
               Reference, Duration, Timestamp, net::IpAddress, Cidr, Optional, TypeName>
      v;
};

template <typename T>
const T* As(const Value& value) {
  return std::get_if<T>(&value.v);
}

// Throws EvalError: an operator or function is given operands that it does not take.
[[noreturn]] void NoOverload();

// The value as a T; throws NoOverload's error when it is something else.
template <typename T>
const T& Need(const Value& value) {
  if (const auto* typed = As<T>(value)) return *typed;
  NoOverload();
}

// `schema` may be null. The value may refer to `json`.
Value FromJson(const Json& json, const Structural* schema);
Value MakeList(std::vector<Value> items);
// "10.0.0.0/8"; the host bits may be set.
std::optional<Cidr> ParseCidr(const std::string& text);

// The array or object that a value refers to, or null.
const Json* ArrayOf(const Value& value);
const Json* ObjectOf(const Value& value);
bool IsList(const Value& value);
bool IsMap(const Value& value);
// A list's items, a map's keys.
std::vector<Value> Items(const Value& value, Cost& cost);

bool Equal(const Value& a, const Value& b, Cost& cost);
std::partial_ordering Compare(const Value& a, const Value& b, Cost& cost);

// As string() converts it.
std::string Show(const Value& value);
// As type() calls it.
std::string TypeNameOf(const Value& value);

}  // namespace pointsman::e2e::schema::cel
