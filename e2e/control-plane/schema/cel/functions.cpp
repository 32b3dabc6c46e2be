#include "e2e/control-plane/schema/cel/functions.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>
#include <system_error>
#include <type_traits>
#include <utility>

#include <re2/re2.h>

#include "e2e/control-plane/schema/formats.h"

namespace pointsman::e2e::schema::cel {
namespace {

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

template <typename T>
T Integral(char op, T a, T b) {
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

Value Size(const Value& value, Cost& cost) {
  if (const auto* s = As<std::string>(value)) {
    cost.Spend(static_cast<int64_t>(s->size() / 10));
    return {static_cast<int64_t>(Runes(*s).size())};
  }
  if (const auto* b = As<Bytes>(value)) return {static_cast<int64_t>(b->data.size())};
  if (const auto* reference = As<Reference>(value)) {
    return {static_cast<int64_t>(reference->json->size())};
  }
  if (const auto* map = As<Map>(value)) return {static_cast<int64_t>((*map)->size())};
  return {static_cast<int64_t>(Need<List>(value)->size())};
}

Value Matches(const std::string& text, const std::string& pattern, Cost& cost) {
  cost.Spend(static_cast<int64_t>(text.size() * (pattern.size() / 4 + 1) / 10));
  RE2 regex(pattern, RE2::Quiet);
  if (!regex.ok()) throw EvalError("error parsing regexp: " + regex.error());
  return {RE2::PartialMatch(text, regex)};
}

template <typename T>
T Parsed(const std::string& text) {
  T out = 0;
  auto result = std::from_chars(text.data(), text.data() + text.size(), out);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size()) {
    throw EvalError("type conversion error from string " + Json(text).dump());
  }
  return out;
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

std::string Replaced(const std::string& text, const std::string& from_text,
                     const std::string& to_text, Cost& cost) {
  if (from_text.empty()) throw EvalError("replace of the empty string is not supported");
  std::string out;
  size_t from = 0;
  for (size_t at = text.find(from_text); at != std::string::npos; at = text.find(from_text, from)) {
    out.append(text, from, at - from).append(to_text);
    cost.Spend(1 + static_cast<int64_t>(to_text.size() / 10));
    from = at + from_text.size();
  }
  return out.append(text, from);
}

Value Split(const std::string& text, const std::string& separator) {
  std::vector<Value> parts;
  if (separator.empty()) {
    for (auto& rune : Runes(text))
      parts.push_back({std::move(rune)});
    return MakeList(std::move(parts));
  }
  size_t from = 0;
  for (size_t at = text.find(separator); at != std::string::npos; at = text.find(separator, from)) {
    parts.push_back({text.substr(from, at - from)});
    from = at + separator.size();
  }
  parts.push_back({text.substr(from)});
  return MakeList(std::move(parts));
}

Value OfString(const std::string& name, const std::string& text, const std::vector<Value>& args,
               Cost& cost) {
  cost.Spend(static_cast<int64_t>(text.size() / 10));
  auto string_at = [&](size_t i) -> const std::string& { return Need<std::string>(args.at(i)); };
  if (name == "startsWith") return {text.starts_with(string_at(0))};
  if (name == "endsWith") return {text.ends_with(string_at(0))};
  if (name == "contains") return {text.find(string_at(0)) != std::string::npos};
  if (name == "matches") return Matches(text, string_at(0), cost);
  if (name == "find") {
    Matches(text, string_at(0), cost);
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
  if (name == "replace") return {Replaced(text, string_at(0), string_at(1), cost)};
  if (name == "split") return Split(text, string_at(0));
  NoOverload();
}

Value OfList(const std::string& name, const Value& target, const std::vector<Value>& args,
             Cost& cost) {
  auto items = Items(target, cost);
  if (name == "join") {
    std::string out;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i && !args.empty()) out += Need<std::string>(args[0]);
      out += Need<std::string>(items[i]);
      cost.Spend(static_cast<int64_t>(out.size() / 100));
    }
    return {out};
  }
  if (name == "isSorted") {
    for (size_t i = 1; i < items.size(); ++i) {
      if (Compare(items[i - 1], items[i], cost) > 0) return {false};
    }
    return {true};
  }
  if (name == "sum") {
    Value total = items.empty() ? Value{int64_t{0}} : items[0];
    for (size_t i = 1; i < items.size(); ++i)
      total = Arithmetic('+', total, items[i], cost);
    return total;
  }
  if (name == "min" || name == "max") {
    if (items.empty()) throw EvalError(name + " called on empty list");
    Value best = items[0];
    for (const auto& item : items) {
      auto order = Compare(item, best, cost);
      if (name == "min" ? order < 0 : order > 0) best = item;
    }
    return best;
  }
  int64_t found = -1;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!Equal(items[i], args.at(0), cost)) continue;
    found = static_cast<int64_t>(i);
    if (name == "indexOf") break;
  }
  return {found};
}

Value OfCidr(const std::string& name, const Cidr& cidr, const std::vector<Value>& args,
             Cost& cost) {
  if (name == "prefixLength") return {int64_t{cidr.prefix.length()}};
  if (name == "ip") return {cidr.address};
  if (name == "masked") return {Cidr{cidr.prefix.address(), cidr.prefix}};
  Value arg = args.at(0);
  if (As<std::string>(arg)) arg = CallFunction(name == "containsIP" ? "ip" : "cidr", {arg}, cost);
  if (name == "containsIP") return {cidr.prefix.Contains(Need<net::IpAddress>(arg))};
  const Cidr& other = Need<Cidr>(arg);
  return {cidr.prefix.Contains(other.prefix.address()) &&
          cidr.prefix.length() <= other.prefix.length()};
}

}  // namespace

void Overflow() {
  throw EvalError("return error for overflow");
}

Value Arithmetic(char op, const Value& a, const Value& b, Cost& cost) {
  if (As<Timestamp>(a) && As<Duration>(b)) {
    return {op == '+' ? *As<Timestamp>(a) + *As<Duration>(b)
                      : *As<Timestamp>(a) - *As<Duration>(b)};
  }
  if (As<Duration>(a) && As<Timestamp>(b) && op == '+') {
    return {*As<Timestamp>(b) + *As<Duration>(a)};
  }
  if (op == '+' && IsList(a) && IsList(b)) {
    auto items = Items(a, cost);
    for (auto& item : Items(b, cost))
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
    cost.Spend(static_cast<int64_t>((x->size() + y.size()) / 10));
    return {*x + y};
  }
  NoOverload();
}

Value CallFunction(const std::string& name, const std::vector<Value>& args, Cost& cost) {
  const Value& value = args[0];
  if (name == "size") return Size(value, cost);
  if (name == "matches") return Matches(Need<std::string>(value), Need<std::string>(args[1]), cost);
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
  if (name == "type") return {TypeName{TypeNameOf(value)}};
  if (name == "isIP") return {net::IpAddress::Parse(Need<std::string>(value)).has_value()};
  if (name == "isCIDR") return {ParseCidr(Need<std::string>(value)).has_value()};
  if (name == "ip") {
    auto address = net::IpAddress::Parse(Need<std::string>(value));
    if (!address) throw EvalError("IP Address " + Json(Show(value)).dump() + " parse error");
    return {*address};
  }
  if (name == "cidr") {
    auto cidr = ParseCidr(Need<std::string>(value));
    if (!cidr) throw EvalError("network address parse error: invalid CIDR address: " + Show(value));
    return {*cidr};
  }
  throw EvalError("no such function: " + name);
}

Value CallMethod(const std::string& name, const Value& target, const std::vector<Value>& args,
                 Cost& cost) {
  if (name == "size") return Size(target, cost);
  if (const auto* text = As<std::string>(target)) return OfString(name, *text, args, cost);
  if (IsList(target)) return OfList(name, target, args, cost);
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
  if (const auto* cidr = As<Cidr>(target)) return OfCidr(name, *cidr, args, cost);
  if (const auto* optional = As<Optional>(target)) {
    if (name == "hasValue") return {optional->value != nullptr};
    if (optional->value) return *optional->value;
    if (name == "orValue") return args[0];
    throw EvalError("optional.none() dereference");
  }
  NoOverload();
}

}  // namespace pointsman::e2e::schema::cel
