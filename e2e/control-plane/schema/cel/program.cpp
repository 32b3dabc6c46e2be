#include "e2e/control-plane/schema/cel/program.h"

#include <charconv>
#include <cmath>
#include <compare>

#include <re2/re2.h>

#include "e2e/control-plane/schema/cel/types.h"
#include "e2e/control-plane/schema/formats.h"
#include "kube/net/ip_address.h"

namespace pointsman::e2e::schema::cel {
namespace {

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

[[noreturn]] void NoOverload() {
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

template <typename T>
const T& Need(const Value& value) {
  if (const auto* typed = As<T>(value)) return *typed;
  NoOverload();
}

// Code points, because CEL counts and cuts strings by them.
std::vector<std::string> Runes(const std::string& text) {
  std::vector<std::string> runes;
  for (char c : text) {
    if ((static_cast<unsigned char>(c) & 0xc0) == 0x80 && !runes.empty()) {
      runes.back() += c;
    } else {
      runes.emplace_back(1, c);
    }
  }
  return runes;
}

std::string Join(const std::vector<std::string>& runes, size_t from, size_t to) {
  std::string out;
  for (size_t i = from; i < to; ++i)
    out += runes[i];
  return out;
}

std::string ShowDouble(double value) {
  return Json(value).dump();
}

std::optional<Cidr> ParseCidr(const std::string& text) {
  auto prefix = net::IpPrefix::Parse(text);
  if (!prefix) return std::nullopt;
  auto address = net::IpAddress::Parse(text.substr(0, text.find('/')));
  if (!address) return std::nullopt;
  return Cidr{*address, *prefix};
}

Value MakeList(std::vector<Value> items) {
  return {std::make_shared<const std::vector<Value>>(std::move(items))};
}

class Evaluator {
 public:
  Evaluator(const Structural* schema, const Json& self, const Json* old, bool optional_old,
            Cost& cost)
      : cost_(cost) {
    variables_.emplace_back("self", FromJson(self, schema));
    Value before = old ? FromJson(*old, schema) : Value{nullptr};
    if (optional_old) {
      before = Value{Optional{old ? std::make_shared<const Value>(before) : nullptr}};
    }
    variables_.emplace_back("oldSelf", std::move(before));
  }

  Evaluator(const std::map<std::string, const Structural*>& schemas,
            const Program::Variables& variables, Cost& cost)
      : cost_(cost) {
    for (const auto& [name, schema] : schemas) {
      const auto given = variables.find(name);
      const bool there = given != variables.end() && given->second != nullptr;
      variables_.emplace_back(name, there ? FromJson(*given->second, schema) : Value{nullptr});
    }
  }

  Value Eval(const Node& node) {
    cost_.Spend(1);
    switch (node.kind) {
      case Node::Kind::kLiteral:
        return std::visit([](const auto& literal) { return Value{literal}; }, node.literal);
      case Node::Kind::kIdent:
        for (auto it = variables_.rbegin(); it != variables_.rend(); ++it) {
          if (it->first == node.name) return it->second;
        }
        return {TypeName{node.name}};
      case Node::Kind::kSelect:
        return Select(Eval(*node.args[0]), node.name);
      case Node::Kind::kHas:
        return {Has(Eval(*node.args[0]), node.name)};
      case Node::Kind::kIndex:
        return IndexOf(Eval(*node.args[0]), Eval(*node.args[1]));
      case Node::Kind::kCall:
        return Call(node);
      case Node::Kind::kMethod:
        return Method(node);
      case Node::Kind::kMacro:
        return Macro(node);
      case Node::Kind::kList: {
        std::vector<Value> items;
        for (const auto& arg : node.args)
          items.push_back(Eval(*arg));
        return MakeList(std::move(items));
      }
      case Node::Kind::kMap: {
        std::vector<std::pair<Value, Value>> pairs;
        for (size_t i = 0; i + 1 < node.args.size(); i += 2) {
          pairs.emplace_back(Eval(*node.args[i]), Eval(*node.args[i + 1]));
        }
        return {std::make_shared<const std::vector<std::pair<Value, Value>>>(std::move(pairs))};
      }
    }
    NoOverload();
  }

 private:
  std::optional<Value> Lookup(const Value& target, const Value& key) {
    if (const Json* object = ObjectOf(target)) {
      const auto* name = As<std::string>(key);
      if (!name) return std::nullopt;
      auto found = object->find(*name);
      if (found == object->end()) return std::nullopt;
      const auto* schema = As<Reference>(target)->schema;
      // A null that the schema does not call nullable counts as absent.
      return FromJson(*found, schema ? schema->Field(*name) : nullptr);
    }
    for (const auto& [k, v] : *Need<Map>(target)) {
      if (Equal(k, key, cost_)) return v;
    }
    return std::nullopt;
  }

  static std::string FieldName(const Value& target, const std::string& name) {
    const auto* reference = As<Reference>(target);
    bool map = !reference || !reference->schema || reference->schema->additional_properties_allowed;
    return map ? name : UnescapeField(name);
  }

  Value Select(const Value& target, const std::string& name) {
    auto found = Lookup(target, {FieldName(target, name)});
    if (!found) throw EvalError("no such key: " + name);
    return *found;
  }

  bool Has(const Value& target, const std::string& name) {
    return Lookup(target, {FieldName(target, name)}).has_value();
  }

  Value IndexOf(const Value& target, const Value& index) {
    if (!IsList(target)) {
      auto found = Lookup(target, index);
      if (!found) throw EvalError("no such key: " + Show(index));
      return *found;
    }
    int64_t i = Need<int64_t>(index);
    const Json* array = ArrayOf(target);
    auto size = static_cast<int64_t>(array ? array->size() : Need<List>(target)->size());
    if (i < 0 || i >= size) throw EvalError("index out of bounds: " + std::to_string(i));
    auto at = static_cast<size_t>(i);
    if (!array) return (*Need<List>(target))[at];
    const auto* schema = As<Reference>(target)->schema;
    return FromJson((*array)[at], schema ? schema->items.get() : nullptr);
  }

  static std::string Show(const Value& value) {
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

  // && and || take an error on one side when the other side decides (cel-spec, logical operators).
  Value Logical(const Node& node, bool decisive) {
    std::exception_ptr error;
    for (const auto& arg : node.args) {
      try {
        if (Need<bool>(Eval(*arg)) == decisive) return {decisive};
      } catch (const CostExceeded&) {
        throw;
      } catch (const EvalError&) {
        if (!error) error = std::current_exception();
      }
    }
    if (error) std::rethrow_exception(error);
    return {!decisive};
  }

  Value Call(const Node& node) {
    const std::string& op = node.name;
    if (op == "&&") return Logical(node, false);
    if (op == "||") return Logical(node, true);
    if (op == "?:") return Eval(*node.args[Need<bool>(Eval(*node.args[0])) ? 1 : 2]);
    std::vector<Value> args;
    for (const auto& arg : node.args)
      args.push_back(Eval(*arg));
    if (op == "!") return {!Need<bool>(args[0])};
    if (op == "==") return {Equal(args[0], args[1], cost_)};
    if (op == "!=") return {!Equal(args[0], args[1], cost_)};
    if (op == "<") return {Compare(args[0], args[1], cost_) < 0};
    if (op == "<=") return {Compare(args[0], args[1], cost_) <= 0};
    if (op == ">") return {Compare(args[0], args[1], cost_) > 0};
    if (op == ">=") return {Compare(args[0], args[1], cost_) >= 0};
    if (op == "in") {
      if (IsMap(args[1])) return {Lookup(args[1], args[0]).has_value()};
      for (const auto& item : Items(args[1], cost_)) {
        if (Equal(args[0], item, cost_)) return {true};
      }
      return {false};
    }
    if (op == "-" && args.size() == 1) {
      if (const auto* d = As<double>(args[0])) return {-*d};
      int64_t out = 0;
      if (__builtin_sub_overflow(int64_t{0}, Need<int64_t>(args[0]), &out)) Overflow();
      return {out};
    }
    if (op.size() == 1 && !std::isalpha(static_cast<unsigned char>(op[0]))) {
      return Arithmetic(op[0], args[0], args[1]);
    }
    return Function(op, args);
  }

  [[noreturn]] static void Overflow() { throw EvalError("return error for overflow"); }

  template <typename T>
  static T Integral(char op, T a, T b) {
    T out = 0;
    bool overflow = false;
    switch (op) {
      case '+':
        overflow = __builtin_add_overflow(a, b, &out);
        break;
      case '-':
        overflow = __builtin_sub_overflow(a, b, &out);
        break;
      case '*':
        overflow = __builtin_mul_overflow(a, b, &out);
        break;
      default:
        if (b == 0) throw EvalError(op == '/' ? "division by zero" : "modulus by zero");
        if (std::is_signed_v<T> && a == std::numeric_limits<T>::min() && b == static_cast<T>(-1)) {
          Overflow();
        }
        out = op == '/' ? a / b : a % b;
    }
    if (overflow) Overflow();
    return out;
  }

  Value Arithmetic(char op, const Value& a, const Value& b) {
    if (As<Timestamp>(a) && As<Duration>(b)) {
      return {op == '+' ? *As<Timestamp>(a) + *As<Duration>(b)
                        : *As<Timestamp>(a) - *As<Duration>(b)};
    }
    if (As<Duration>(a) && As<Timestamp>(b) && op == '+') {
      return {*As<Timestamp>(b) + *As<Duration>(a)};
    }
    if (op == '+' && IsList(a) && IsList(b)) {
      auto items = Items(a, cost_);
      for (auto& item : Items(b, cost_))
        items.push_back(std::move(item));
      return MakeList(std::move(items));
    }
    if (a.v.index() != b.v.index()) NoOverload();
    if (const auto* x = As<int64_t>(a)) return {Integral(op, *x, *As<int64_t>(b))};
    if (const auto* x = As<uint64_t>(a)) return {Integral(op, *x, *As<uint64_t>(b))};
    if (const auto* x = As<double>(a)) {
      double y = *As<double>(b);
      if (op == '%') NoOverload();
      return {op == '+' ? *x + y : op == '-' ? *x - y : op == '*' ? *x * y : *x / y};
    }
    if (const auto* x = As<Duration>(a); x && (op == '+' || op == '-')) {
      return {Duration{Integral<int64_t>(op, x->count(), As<Duration>(b)->count())}};
    }
    if (As<Timestamp>(a) && op == '-') return {Duration{*As<Timestamp>(a) - *As<Timestamp>(b)}};
    if (const auto* x = As<std::string>(a); x && op == '+') {
      const auto& y = *As<std::string>(b);
      cost_.Spend(static_cast<int64_t>((x->size() + y.size()) / 10));
      return {*x + y};
    }
    NoOverload();
  }

  Value Size(const Value& value) {
    if (const auto* s = As<std::string>(value)) {
      cost_.Spend(static_cast<int64_t>(s->size() / 10));
      return {static_cast<int64_t>(Runes(*s).size())};
    }
    if (const auto* b = As<Bytes>(value)) return {static_cast<int64_t>(b->data.size())};
    if (const auto* reference = As<Reference>(value)) {
      return {static_cast<int64_t>(reference->json->size())};
    }
    if (const auto* map = As<Map>(value)) return {static_cast<int64_t>((*map)->size())};
    return {static_cast<int64_t>(Need<List>(value)->size())};
  }

  Value Matches(const std::string& text, const std::string& pattern) {
    cost_.Spend(static_cast<int64_t>(text.size() * (pattern.size() / 4 + 1) / 10));
    RE2 regex(pattern, RE2::Quiet);
    if (!regex.ok()) throw EvalError("error parsing regexp: " + regex.error());
    return {RE2::PartialMatch(text, regex)};
  }

  Value ToInt(const Value& value) {
    if (As<int64_t>(value)) return value;
    if (const auto* u = As<uint64_t>(value)) {
      if (*u > static_cast<uint64_t>(INT64_MAX)) Overflow();
      return {static_cast<int64_t>(*u)};
    }
    if (const auto* d = As<double>(value)) {
      if (!(std::fabs(*d) < 9.2233720368547758e18)) Overflow();
      return {static_cast<int64_t>(*d)};
    }
    if (const auto* t = As<Timestamp>(value)) {
      return {static_cast<int64_t>(
          std::chrono::floor<std::chrono::seconds>(*t).time_since_epoch().count())};
    }
    return {Parsed<int64_t>(Need<std::string>(value))};
  }

  template <typename T>
  static T Parsed(const std::string& text) {
    T out = 0;
    auto result = std::from_chars(text.data(), text.data() + text.size(), out);
    if (result.ec != std::errc() || result.ptr != text.data() + text.size()) {
      throw EvalError("type conversion error from string " + Json(text).dump());
    }
    return out;
  }

  Value Function(const std::string& name, const std::vector<Value>& args) {
    const Value& value = args[0];
    if (name == "size") return Size(value);
    if (name == "matches") return Matches(Need<std::string>(value), Need<std::string>(args[1]));
    if (name == "int") return ToInt(value);
    if (name == "uint") {
      if (As<uint64_t>(value)) return value;
      if (const auto* s = As<std::string>(value)) return {Parsed<uint64_t>(*s)};
      int64_t i = *As<int64_t>(ToInt(value));
      if (i < 0) Overflow();
      return {static_cast<uint64_t>(i)};
    }
    if (name == "double") {
      if (As<double>(value)) return value;
      if (const auto* i = As<int64_t>(value)) return {static_cast<double>(*i)};
      if (const auto* u = As<uint64_t>(value)) return {static_cast<double>(*u)};
      return {Parsed<double>(Need<std::string>(value))};
    }
    if (name == "string") return {Show(value)};
    if (name == "dyn") return value;
    if (name == "duration") {
      if (As<Duration>(value)) return value;
      auto duration = ParseGoDuration(Need<std::string>(value));
      if (!duration) throw EvalError("invalid duration " + Json(Show(value)).dump());
      return {*duration};
    }
    if (name == "timestamp") {
      if (As<Timestamp>(value)) return value;
      auto time = ParseDateTime(Need<std::string>(value));
      if (!time) throw EvalError("invalid timestamp " + Json(Show(value)).dump());
      return {*time};
    }
    if (name == "type") return {TypeName{NameOf(value)}};
    if (name == "isIP") return {net::IpAddress::Parse(Need<std::string>(value)).has_value()};
    if (name == "isCIDR") return {ParseCidr(Need<std::string>(value)).has_value()};
    if (name == "ip") {
      auto address = net::IpAddress::Parse(Need<std::string>(value));
      if (!address) throw EvalError("IP Address " + Json(Show(value)).dump() + " parse error");
      return {*address};
    }
    if (name == "cidr") {
      auto cidr = ParseCidr(Need<std::string>(value));
      if (!cidr)
        throw EvalError("network address parse error: invalid CIDR address: " + Show(value));
      return {*cidr};
    }
    throw EvalError("no such function: " + name);
  }

  static std::string NameOf(const Value& value) {
    if (IsList(value)) return "list";
    if (IsMap(value)) return "map";
    static constexpr const char* kNames[] = {"null_type", "bool",   "int",  "uint",
                                             "double",    "string", "bytes"};
    return value.v.index() < std::size(kNames) ? kNames[value.v.index()] : "dyn";
  }

  Value Method(const Node& node) {
    Value target = Eval(*node.args[0]);
    std::vector<Value> args;
    for (size_t i = 1; i < node.args.size(); ++i)
      args.push_back(Eval(*node.args[i]));
    const std::string& name = node.name;
    if (name == "size") return Size(target);
    if (const auto* text = As<std::string>(target)) return OfString(name, *text, args);
    if (IsList(target)) return OfList(name, target, args);
    if (const auto* d = As<Duration>(target)) {
      using namespace std::chrono;
      if (name == "getHours") return {int64_t{duration_cast<hours>(*d).count()}};
      if (name == "getMinutes") return {int64_t{duration_cast<minutes>(*d).count()}};
      if (name == "getSeconds") return {int64_t{duration_cast<seconds>(*d).count()}};
      if (name == "getMilliseconds") return {int64_t{duration_cast<milliseconds>(*d).count()}};
    }
    if (const auto* ip = As<net::IpAddress>(target)) {
      if (name == "family") return {int64_t{ip->is_v4() ? 4 : 6}};
      if (name == "isUnspecified") return {ip->IsUnspecified()};
      if (name == "isLoopback") return {ip->IsLoopback()};
    }
    if (const auto* cidr = As<Cidr>(target)) return OfCidr(name, *cidr, args);
    if (const auto* optional = As<Optional>(target)) {
      if (name == "hasValue") return {optional->value != nullptr};
      if (optional->value) return *optional->value;
      if (name == "orValue") return args[0];
      throw EvalError("optional.none() dereference");
    }
    NoOverload();
  }

  Value OfCidr(const std::string& name, const Cidr& cidr, const std::vector<Value>& args) {
    if (name == "prefixLength") return {int64_t{cidr.prefix.length()}};
    if (name == "ip") return {cidr.address};
    if (name == "masked") return {Cidr{cidr.prefix.address(), cidr.prefix}};
    Value arg = args.at(0);
    if (As<std::string>(arg)) arg = Function(name == "containsIP" ? "ip" : "cidr", {arg});
    if (name == "containsIP") return {cidr.prefix.Contains(Need<net::IpAddress>(arg))};
    const Cidr& other = Need<Cidr>(arg);
    return {cidr.prefix.Contains(other.prefix.address()) &&
            cidr.prefix.length() <= other.prefix.length()};
  }

  Value OfString(const std::string& name, const std::string& text, const std::vector<Value>& args) {
    cost_.Spend(static_cast<int64_t>(text.size() / 10));
    auto string_at = [&](size_t i) -> const std::string& { return Need<std::string>(args.at(i)); };
    if (name == "startsWith") return {text.starts_with(string_at(0))};
    if (name == "endsWith") return {text.ends_with(string_at(0))};
    if (name == "contains") return {text.find(string_at(0)) != std::string::npos};
    if (name == "matches") return Matches(text, string_at(0));
    if (name == "find") {
      Matches(text, string_at(0));
      std::string found;
      RE2::PartialMatch(text, RE2("(" + string_at(0) + ")"), &found);
      return {found};
    }
    if (name == "lowerAscii" || name == "upperAscii") {
      std::string out = text;
      for (char& c : out) {
        if (name[0] == 'l' && c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
        if (name[0] == 'u' && c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
      }
      return {out};
    }
    if (name == "trim") {
      size_t first = text.find_first_not_of(" \t\r\n\v\f");
      if (first == std::string::npos) return {std::string()};
      return {text.substr(first, text.find_last_not_of(" \t\r\n\v\f") - first + 1)};
    }
    if (name == "indexOf" || name == "lastIndexOf") {
      size_t at = name == "indexOf" ? text.find(string_at(0)) : text.rfind(string_at(0));
      if (at == std::string::npos) return {int64_t{-1}};
      return {static_cast<int64_t>(Runes(text.substr(0, at)).size())};
    }
    if (name == "charAt" || name == "substring") {
      auto runes = Runes(text);
      auto size = static_cast<int64_t>(runes.size());
      int64_t from = Need<int64_t>(args.at(0));
      int64_t to = name == "charAt"   ? std::min(from + 1, size)
                   : args.size() == 2 ? Need<int64_t>(args[1])
                                      : size;
      if (from < 0 || from > size || to < from || to > size) {
        throw EvalError("index out of range: " + std::to_string(from));
      }
      return {Join(runes, static_cast<size_t>(from), static_cast<size_t>(to))};
    }
    if (name == "replace") {
      if (string_at(0).empty()) throw EvalError("replace of the empty string is not supported");
      std::string out;
      size_t from = 0;
      for (size_t at = text.find(string_at(0)); at != std::string::npos;
           at = text.find(string_at(0), from)) {
        out.append(text, from, at - from).append(string_at(1));
        cost_.Spend(1 + static_cast<int64_t>(string_at(1).size() / 10));
        from = at + string_at(0).size();
      }
      return {out.append(text, from)};
    }
    if (name == "split") {
      std::vector<Value> parts;
      if (string_at(0).empty()) {
        for (auto& rune : Runes(text))
          parts.push_back({std::move(rune)});
        return MakeList(std::move(parts));
      }
      size_t from = 0;
      for (size_t at = text.find(string_at(0)); at != std::string::npos;
           at = text.find(string_at(0), from)) {
        parts.push_back({text.substr(from, at - from)});
        from = at + string_at(0).size();
      }
      parts.push_back({text.substr(from)});
      return MakeList(std::move(parts));
    }
    NoOverload();
  }

  Value OfList(const std::string& name, const Value& target, const std::vector<Value>& args) {
    auto items = Items(target, cost_);
    if (name == "join") {
      std::string out;
      for (size_t i = 0; i < items.size(); ++i) {
        if (i && !args.empty()) out += Need<std::string>(args[0]);
        out += Need<std::string>(items[i]);
        cost_.Spend(static_cast<int64_t>(out.size() / 100));
      }
      return {out};
    }
    if (name == "isSorted") {
      for (size_t i = 1; i < items.size(); ++i) {
        if (Compare(items[i - 1], items[i], cost_) > 0) return {false};
      }
      return {true};
    }
    if (name == "sum") {
      Value total = items.empty() ? Value{int64_t{0}} : items[0];
      for (size_t i = 1; i < items.size(); ++i)
        total = Arithmetic('+', total, items[i]);
      return total;
    }
    if (name == "min" || name == "max") {
      if (items.empty()) throw EvalError(name + " called on empty list");
      Value best = items[0];
      for (const auto& item : items) {
        auto order = Compare(item, best, cost_);
        if (name == "min" ? order < 0 : order > 0) best = item;
      }
      return best;
    }
    int64_t found = -1;
    for (size_t i = 0; i < items.size(); ++i) {
      if (!Equal(items[i], args.at(0), cost_)) continue;
      found = static_cast<int64_t>(i);
      if (name == "indexOf") break;
    }
    return {found};
  }

  Value Macro(const Node& node) {
    auto items = Items(Eval(*node.args[0]), cost_);
    const std::string& name = node.name;
    std::exception_ptr error;
    std::vector<Value> out;
    int64_t matches = 0;
    for (auto& item : items) {
      variables_.emplace_back(node.variable, item);
      struct Pop {
        decltype(variables_)& variables;
        ~Pop() { variables.pop_back(); }
      } pop{variables_};
      if (name == "map") {
        if (node.args.size() == 3 && !Need<bool>(Eval(*node.args[1]))) continue;
        out.push_back(Eval(*node.args.back()));
        continue;
      }
      bool holds = false;
      try {
        holds = Need<bool>(Eval(*node.args[1]));
      } catch (const CostExceeded&) {
        throw;
      } catch (const EvalError&) {
        if (name != "all" && name != "exists") throw;
        if (!error) error = std::current_exception();
        continue;
      }
      if (name == "all" && !holds) return {false};
      if (name == "exists" && holds) return {true};
      if (holds) {
        ++matches;
        if (name == "filter") out.push_back(item);
      }
    }
    if (error) std::rethrow_exception(error);
    if (name == "all") return {true};
    if (name == "exists") return {false};
    if (name == "exists_one") return {matches == 1};
    return MakeList(std::move(out));
  }

  Cost& cost_;
  std::vector<std::pair<std::string, Value>> variables_;
};

}  // namespace

struct Program::Impl {
  std::string source;
  NodePtr root;
  const Structural* schema = nullptr;
  std::map<std::string, const Structural*> variables;
  bool uses_old_self = false;
  bool optional_old_self = false;
};

void Cost::Spend(int64_t units) {
  left -= units;
  if (left < 0) {
    throw CostExceeded(
        "validation failed due to running out of cost budget, no further validation "
        "rules will be run");
  }
}

Program::Program(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Program::~Program() = default;

std::shared_ptr<const Program> Program::Compile(const std::string& source,
                                                const CompileOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->source = source;
  impl->root = Parse(source);
  impl->schema = options.self;
  impl->variables = options.variables;
  impl->optional_old_self = options.optional_old_self;
  Type type = Check(*impl->root, source, options, impl->uses_old_self);
  bool wants_bool = options.result == ResultType::kBool;
  if (type.kind != Kind::kDynamic && type.kind != (wants_bool ? Kind::kBool : Kind::kString)) {
    throw CompileError(source, 0,
                       wants_bool ? "cel expression must evaluate to a bool"
                                  : "messageExpression must evaluate to a string");
  }
  return std::shared_ptr<const Program>(new Program(std::move(impl)));
}

bool Program::uses_old_self() const {
  return impl_->uses_old_self;
}

bool Program::EvaluateBool(const Json& self, const Json* old, Cost& cost) const {
  Evaluator evaluator(impl_->schema, self, old, impl_->optional_old_self, cost);
  return Need<bool>(evaluator.Eval(*impl_->root));
}

std::string Program::EvaluateString(const Json& self, const Json* old, Cost& cost) const {
  Evaluator evaluator(impl_->schema, self, old, impl_->optional_old_self, cost);
  return Need<std::string>(evaluator.Eval(*impl_->root));
}

bool Program::EvaluateBool(const Variables& variables, Cost& cost) const {
  Evaluator evaluator(impl_->variables, variables, cost);
  return Need<bool>(evaluator.Eval(*impl_->root));
}

std::string Program::EvaluateString(const Variables& variables, Cost& cost) const {
  Evaluator evaluator(impl_->variables, variables, cost);
  return Need<std::string>(evaluator.Eval(*impl_->root));
}

}  // namespace pointsman::e2e::schema::cel
