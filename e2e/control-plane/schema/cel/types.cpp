#include "e2e/control-plane/schema/cel/types.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <set>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <re2/re2.h>

#include "e2e/control-plane/schema/formats.h"

namespace pointsman::e2e::schema::cel {
namespace {

constexpr int kNetworkFunctionsSince = 31;  // ip(), cidr(), isIP(), isCIDR()

bool IsNumber(Kind kind) {
  return kind == Kind::kInt || kind == Kind::kUint || kind == Kind::kDouble;
}

struct Signature {
  Kind target;  // kDynamic: any
  std::vector<Kind> args;
  Kind result;
  int since = 0;
};

using K = Kind;

const std::multimap<std::string, Signature>& Methods() {
  static const auto& methods = *new std::multimap<std::string, Signature>{
      {"size", {K::kString, {}, K::kInt}},
      {"size", {K::kList, {}, K::kInt}},
      {"size", {K::kMap, {}, K::kInt}},
      {"size", {K::kBytes, {}, K::kInt}},
      {"startsWith", {K::kString, {K::kString}, K::kBool}},
      {"endsWith", {K::kString, {K::kString}, K::kBool}},
      {"contains", {K::kString, {K::kString}, K::kBool}},
      {"matches", {K::kString, {K::kString}, K::kBool}},
      {"find", {K::kString, {K::kString}, K::kString}},
      {"lowerAscii", {K::kString, {}, K::kString}},
      {"upperAscii", {K::kString, {}, K::kString}},
      {"trim", {K::kString, {}, K::kString}},
      {"charAt", {K::kString, {K::kInt}, K::kString}},
      {"indexOf", {K::kString, {K::kString}, K::kInt}},
      {"lastIndexOf", {K::kString, {K::kString}, K::kInt}},
      {"replace", {K::kString, {K::kString, K::kString}, K::kString}},
      {"substring", {K::kString, {K::kInt}, K::kString}},
      {"substring", {K::kString, {K::kInt, K::kInt}, K::kString}},
      {"split", {K::kString, {K::kString}, K::kList}},
      {"join", {K::kList, {}, K::kString}},
      {"join", {K::kList, {K::kString}, K::kString}},
      {"isSorted", {K::kList, {}, K::kBool}},
      {"sum", {K::kList, {}, K::kDynamic}},
      {"min", {K::kList, {}, K::kDynamic}},
      {"max", {K::kList, {}, K::kDynamic}},
      {"indexOf", {K::kList, {K::kDynamic}, K::kInt}},
      {"lastIndexOf", {K::kList, {K::kDynamic}, K::kInt}},
      {"getHours", {K::kDuration, {}, K::kInt}},
      {"getMinutes", {K::kDuration, {}, K::kInt}},
      {"getSeconds", {K::kDuration, {}, K::kInt}},
      {"getMilliseconds", {K::kDuration, {}, K::kInt}},
      {"family", {K::kIp, {}, K::kInt, kNetworkFunctionsSince}},
      {"isUnspecified", {K::kIp, {}, K::kBool, kNetworkFunctionsSince}},
      {"isLoopback", {K::kIp, {}, K::kBool, kNetworkFunctionsSince}},
      {"containsIP", {K::kCidr, {K::kDynamic}, K::kBool, kNetworkFunctionsSince}},
      {"containsCIDR", {K::kCidr, {K::kDynamic}, K::kBool, kNetworkFunctionsSince}},
      {"prefixLength", {K::kCidr, {}, K::kInt, kNetworkFunctionsSince}},
      {"ip", {K::kCidr, {}, K::kIp, kNetworkFunctionsSince}},
      {"masked", {K::kCidr, {}, K::kCidr, kNetworkFunctionsSince}},
      {"hasValue", {K::kOptional, {}, K::kBool}},
      {"value", {K::kOptional, {}, K::kDynamic}},
      {"orValue", {K::kOptional, {K::kDynamic}, K::kDynamic}},
  };
  return methods;
}

const std::multimap<std::string, Signature>& Functions() {
  static const auto& functions = *new std::multimap<std::string, Signature>{
      {"size", {K::kDynamic, {K::kString}, K::kInt}},
      {"size", {K::kDynamic, {K::kList}, K::kInt}},
      {"size", {K::kDynamic, {K::kMap}, K::kInt}},
      {"size", {K::kDynamic, {K::kBytes}, K::kInt}},
      {"matches", {K::kDynamic, {K::kString, K::kString}, K::kBool}},
      {"int", {K::kDynamic, {K::kInt}, K::kInt}},
      {"int", {K::kDynamic, {K::kUint}, K::kInt}},
      {"int", {K::kDynamic, {K::kDouble}, K::kInt}},
      {"int", {K::kDynamic, {K::kString}, K::kInt}},
      {"int", {K::kDynamic, {K::kTimestamp}, K::kInt}},
      {"uint", {K::kDynamic, {K::kInt}, K::kUint}},
      {"uint", {K::kDynamic, {K::kUint}, K::kUint}},
      {"uint", {K::kDynamic, {K::kDouble}, K::kUint}},
      {"uint", {K::kDynamic, {K::kString}, K::kUint}},
      {"double", {K::kDynamic, {K::kInt}, K::kDouble}},
      {"double", {K::kDynamic, {K::kUint}, K::kDouble}},
      {"double", {K::kDynamic, {K::kDouble}, K::kDouble}},
      {"double", {K::kDynamic, {K::kString}, K::kDouble}},
      {"string", {K::kDynamic, {K::kString}, K::kString}},
      {"string", {K::kDynamic, {K::kInt}, K::kString}},
      {"string", {K::kDynamic, {K::kUint}, K::kString}},
      {"string", {K::kDynamic, {K::kDouble}, K::kString}},
      {"string", {K::kDynamic, {K::kBool}, K::kString}},
      {"string", {K::kDynamic, {K::kDuration}, K::kString}},
      {"string", {K::kDynamic, {K::kIp}, K::kString, kNetworkFunctionsSince}},
      {"string", {K::kDynamic, {K::kCidr}, K::kString, kNetworkFunctionsSince}},
      {"duration", {K::kDynamic, {K::kString}, K::kDuration}},
      {"duration", {K::kDynamic, {K::kDuration}, K::kDuration}},
      {"timestamp", {K::kDynamic, {K::kString}, K::kTimestamp}},
      {"timestamp", {K::kDynamic, {K::kTimestamp}, K::kTimestamp}},
      {"dyn", {K::kDynamic, {K::kDynamic}, K::kDynamic}},
      {"type", {K::kDynamic, {K::kDynamic}, K::kType}},
      {"ip", {K::kDynamic, {K::kString}, K::kIp, kNetworkFunctionsSince}},
      {"isIP", {K::kDynamic, {K::kString}, K::kBool, kNetworkFunctionsSince}},
      {"cidr", {K::kDynamic, {K::kString}, K::kCidr, kNetworkFunctionsSince}},
      {"isCIDR", {K::kDynamic, {K::kString}, K::kBool, kNetworkFunctionsSince}},
  };
  return functions;
}

bool Fits(Kind wanted, Kind got) {
  if (got == Kind::kObject && wanted == Kind::kMap) return false;
  return wanted == Kind::kDynamic || got == Kind::kDynamic || wanted == got;
}

Type Of(Kind kind) {
  return Type{.kind = kind};
}

Type ElementOf(const Type& type) {
  return type.element ? *type.element : Type{};
}

class Checker {
 public:
  Checker(const std::string& source, const CompileOptions& options, bool& uses_old_self)
      : source_(source), options_(options), uses_old_self_(uses_old_self) {}

  Type Visit(const Node& node) {
    switch (node.kind) {
      case Node::Kind::kLiteral:
        return Of(std::array{Kind::kNull, Kind::kBool, Kind::kInt, Kind::kUint, Kind::kDouble,
                             Kind::kString, Kind::kBytes}[node.literal.index()]);
      case Node::Kind::kIdent:
        return Ident(node);
      case Node::Kind::kSelect:
        return Select(node);
      case Node::Kind::kHas:
        Select(node);
        return Of(Kind::kBool);
      case Node::Kind::kIndex:
        return IndexOf(node);
      case Node::Kind::kCall:
        return Call(node);
      case Node::Kind::kMethod:
        return Method(node);
      case Node::Kind::kMacro:
        return Macro(node);
      case Node::Kind::kList: {
        Type list = Of(Kind::kList);
        list.element = std::make_shared<Type>(Joined(node.args, 0, 1));
        return list;
      }
      case Node::Kind::kMap: {
        Joined(node.args, 0, 2);
        Type map = Of(Kind::kMap);
        map.element = std::make_shared<Type>(Joined(node.args, 1, 2));
        return map;
      }
    }
    return {};
  }

  [[noreturn]] void Fail(const Node& node, const std::string& what) const {
    throw CompileError(source_, node.offset, what);
  }

 private:
  Type Joined(const std::vector<NodePtr>& nodes, size_t first, size_t step) {
    Type joined;
    for (size_t i = first; i < nodes.size(); i += step) {
      Type type = Visit(*nodes[i]);
      if (i == first) {
        joined = type;
      } else if (joined.kind != type.kind) {
        joined = Type{};
      }
    }
    return joined;
  }

  Type Ident(const Node& node) {
    for (auto it = scope_.rbegin(); it != scope_.rend(); ++it) {
      if (it->first == node.name) return it->second;
    }
    if (const auto found = options_.variables.find(node.name); found != options_.variables.end()) {
      return found->second == nullptr ? Type{} : TypeOf(*found->second, false);
    }
    if (options_.self == nullptr && (node.name == "self" || node.name == "oldSelf")) {
      Fail(node, "undeclared reference to '" + node.name + "' (in container '')");
    }
    if (node.name == "self") return TypeOf(*options_.self, options_.resource_root);
    if (node.name == "oldSelf") {
      uses_old_self_ = true;
      Type self = TypeOf(*options_.self, options_.resource_root);
      if (!options_.optional_old_self) return self;
      Type optional = Of(Kind::kOptional);
      optional.element = std::make_shared<Type>(self);
      return optional;
    }
    static const std::set<std::string> kTypeNames = {"int",  "uint", "double", "string",
                                                     "bool", "list", "map",    "bytes"};
    if (kTypeNames.contains(node.name)) return Of(Kind::kType);
    Fail(node, "undeclared reference to '" + node.name + "' (in container '')");
  }

  Type Select(const Node& node) {
    Type target = Visit(*node.args[0]);
    if (target.kind == Kind::kDynamic) return {};
    if (target.kind == Kind::kMap) return ElementOf(target);
    if (target.kind == Kind::kObject) {
      std::string name = UnescapeField(node.name);
      if (target.resource && (name == "apiVersion" || name == "kind")) return Of(Kind::kString);
      if (target.resource && name == "metadata") return Metadata();
      auto found = target.schema->properties.find(name);
      // A field without a type (below x-kubernetes-preserve-unknown-fields) cannot be named.
      if (found != target.schema->properties.end()) {
        const Structural& field = found->second;
        if (!field.type.empty() || field.int_or_string) return TypeOf(field, false);
      }
      Fail(node, "undefined field '" + node.name + "'");
    }
    Fail(node, "type '" + target.Name() + "' does not support field selection");
  }

  static Type Metadata() {
    static const Structural& schema = *[] {
      auto* s = new Structural;
      s->type = "object";
      s->properties["name"].type = "string";
      s->properties["generateName"].type = "string";
      return s;
    }();
    return TypeOf(schema, false);
  }

  Type IndexOf(const Node& node) {
    Type target = Visit(*node.args[0]);
    Type index = Visit(*node.args[1]);
    bool list = target.kind == Kind::kList && (Fits(Kind::kInt, index.kind));
    bool map = target.kind == Kind::kMap && Fits(Kind::kString, index.kind);
    if (list || map) return ElementOf(target);
    if (target.kind == Kind::kDynamic) return {};
    NoOverload(node, "_[_]", {target, index});
  }

  [[noreturn]] void NoOverload(const Node& node, const std::string& name,
                               const std::vector<Type>& args) const {
    std::string text = "found no matching overload for '" + name + "' applied to '(";
    for (size_t i = 0; i < args.size(); ++i)
      text += (i ? ", " : "") + args[i].Name();
    Fail(node, text + ")'");
  }

  Type Call(const Node& node) {
    std::vector<Type> args;
    for (const auto& arg : node.args)
      args.push_back(Visit(*arg));
    const std::string& op = node.name;
    if (std::isalpha(static_cast<unsigned char>(op[0])) && op != "in") return Function(node, args);
    auto both = [&](auto... kinds) {
      bool a = false, b = false;
      ((a = a || Fits(kinds, args[0].kind), b = b || Fits(kinds, args.back().kind)), ...);
      return a && b;
    };
    bool same = args[0].kind == args.back().kind || args[0].kind == Kind::kDynamic ||
                args.back().kind == Kind::kDynamic;
    Type result = args[0].kind == Kind::kDynamic ? args.back() : args[0];
    std::string shown = args.size() == 1 ? op + "_" : "_" + op + "_";
    if (op == "!" || op == "&&" || op == "||") {
      if (both(Kind::kBool)) return Of(Kind::kBool);
    } else if (op == "?:") {
      shown = "_?_:_";
      if (Fits(Kind::kBool, args[0].kind)) {
        if (args[1].kind == args[2].kind) return args[1];
        if (args[1].kind == Kind::kDynamic || args[2].kind == Kind::kDynamic) return {};
      }
    } else if (op == "==" || op == "!=") {
      // Comparable kinds: the same, numbers among each other, objects and null.
      bool numbers = IsNumber(args[0].kind) && IsNumber(args[1].kind);
      bool null = args[0].kind == Kind::kNull || args[1].kind == Kind::kNull;
      if (same || null || (numbers && options_.kubernetes_minor >= 26)) return Of(Kind::kBool);
    } else if (op == "<" || op == "<=" || op == ">" || op == ">=") {
      bool numbers = IsNumber(args[0].kind) && IsNumber(args[1].kind);
      if ((same && both(Kind::kBool, Kind::kInt, Kind::kUint, Kind::kDouble, Kind::kString,
                        Kind::kBytes, Kind::kDuration, Kind::kTimestamp)) ||
          (numbers && options_.kubernetes_minor >= 26)) {
        return Of(Kind::kBool);
      }
    } else if (op == "in") {
      shown = "@in";
      if (Fits(Kind::kList, args[1].kind) || Fits(Kind::kMap, args[1].kind)) {
        Kind element = args[1].kind == Kind::kMap ? Kind::kString : ElementOf(args[1]).kind;
        if (Fits(element, args[0].kind) || (IsNumber(element) && IsNumber(args[0].kind))) {
          return Of(Kind::kBool);
        }
      }
    } else if (op == "-" && args.size() == 1) {
      if (args[0].kind != Kind::kUint && both(Kind::kInt, Kind::kDouble)) return result;
    } else if (op == "+" || op == "-") {
      Kind a = args[0].kind;
      Kind b = args[1].kind;
      if (a == Kind::kTimestamp && b == Kind::kDuration) return args[0];
      if (op == "+" && a == Kind::kDuration && b == Kind::kTimestamp) return args[1];
      if (op == "-" && a == Kind::kTimestamp && b == Kind::kTimestamp) return Of(Kind::kDuration);
      if (same && both(Kind::kInt, Kind::kUint, Kind::kDouble, Kind::kDuration)) return result;
      if (op == "+" && same && both(Kind::kString, Kind::kBytes, Kind::kList)) return result;
    } else if (op == "*" || op == "/") {
      if (same && both(Kind::kInt, Kind::kUint, Kind::kDouble)) return result;
    } else if (same && both(Kind::kInt, Kind::kUint)) {
      return result;
    }
    NoOverload(node, shown, args);
  }

  Type Function(const Node& node, const std::vector<Type>& args) {
    bool known = false;
    std::set<Kind> results;
    auto [first, last] = Functions().equal_range(node.name);
    for (auto it = first; it != last; ++it) {
      const Signature& s = it->second;
      if (s.since > options_.kubernetes_minor) continue;
      known = true;
      bool fits = s.args.size() == args.size();
      for (size_t i = 0; fits && i < args.size(); ++i)
        fits = Fits(s.args[i], args[i].kind);
      if (fits) results.insert(s.result);
    }
    if (!known) Fail(node, "undeclared reference to '" + node.name + "' (in container '')");
    if (results.empty()) NoOverload(node, node.name, args);
    if (node.name == "matches") CheckRegex(*node.args[1]);
    CheckLiteral(node);
    return results.size() == 1 ? Of(*results.begin()) : Type{};
  }

  Type Method(const Node& node) {
    Type target = Visit(*node.args[0]);
    std::vector<Type> args;
    for (size_t i = 1; i < node.args.size(); ++i)
      args.push_back(Visit(*node.args[i]));
    bool known = false;
    std::vector<Signature> matching;
    auto [first, last] = Methods().equal_range(node.name);
    for (auto it = first; it != last; ++it) {
      const Signature& s = it->second;
      if (s.since > options_.kubernetes_minor) continue;
      known = true;
      bool fits = s.args.size() == args.size() && Fits(s.target, target.kind);
      for (size_t i = 0; fits && i < args.size(); ++i)
        fits = Fits(s.args[i], args[i].kind);
      if (fits) matching.push_back(s);
    }
    if (!known) Fail(node, "undeclared reference to '" + node.name + "' (in container '')");
    if (matching.empty()) {
      args.insert(args.begin(), target);
      NoOverload(node, node.name, args);
    }
    if (node.name == "matches" || node.name == "find") CheckRegex(*node.args[1]);
    if (matching.size() > 1 && std::any_of(matching.begin(), matching.end(), [&](const auto& s) {
          return s.result != matching[0].result;
        })) {
      return {};
    }
    if (node.name == "split") {
      Type list = Of(Kind::kList);
      list.element = std::make_shared<Type>(Of(Kind::kString));
      return list;
    }
    if (node.name == "sum" || node.name == "min" || node.name == "max" || node.name == "value") {
      return ElementOf(target);
    }
    if (node.name == "orValue") return args[0];
    return Of(matching[0].result);
  }

  void CheckRegex(const Node& node) const {
    const auto* text =
        node.kind == Node::Kind::kLiteral ? std::get_if<std::string>(&node.literal) : nullptr;
    if (!text) return;
    RE2 regex(*text, RE2::Quiet);
    if (!regex.ok()) Fail(node, "invalid matches argument: error parsing regexp: " + regex.error());
  }

  // A bad literal of duration() fails when the rule is compiled, as on the server.
  void CheckLiteral(const Node& node) const;

  Type Macro(const Node& node) {
    Type range = Visit(*node.args[0]);
    Type variable;
    if (range.kind == Kind::kList) {
      variable = ElementOf(range);
    } else if (range.kind == Kind::kMap) {
      variable = Of(Kind::kString);
    } else if (range.kind != Kind::kDynamic) {
      Fail(*node.args[0], "expression of type '" + range.Name() +
                              "' cannot be range of a comprehension (must be list, map, or "
                              "dynamic)");
    }
    scope_.emplace_back(node.variable, variable);
    std::vector<Type> bodies;
    for (size_t i = 1; i < node.args.size(); ++i)
      bodies.push_back(Visit(*node.args[i]));
    scope_.pop_back();
    bool condition = node.name != "map" || bodies.size() == 2;
    if (condition && !Fits(Kind::kBool, bodies[0].kind)) {
      NoOverload(*node.args[1], "_&&_", {Of(Kind::kBool), bodies[0]});
    }
    if (node.name == "filter" || node.name == "map") {
      Type list = Of(Kind::kList);
      list.element = std::make_shared<Type>(node.name == "map" ? bodies.back() : variable);
      return list;
    }
    return Of(Kind::kBool);
  }

  const std::string& source_;
  const CompileOptions& options_;
  bool& uses_old_self_;
  std::vector<std::pair<std::string, Type>> scope_;
};

void Checker::CheckLiteral(const Node& node) const {
  const Node& arg = *node.args.at(0);
  const auto* text =
      arg.kind == Node::Kind::kLiteral ? std::get_if<std::string>(&arg.literal) : nullptr;
  if (!text) return;
  if (node.name == "duration" && !ParseGoDuration(*text)) {
    Fail(arg, "invalid duration argument");
  }
  if (node.name == "timestamp" && !ParseDateTime(*text)) Fail(arg, "invalid timestamp argument");
}

}  // namespace

std::string UnescapeField(const std::string& name) {
  static constexpr std::pair<std::string_view, std::string_view> kEscapes[] = {
      {"__underscores__", "__"}, {"__dot__", "."}, {"__dash__", "-"}, {"__slash__", "/"}};
  std::string out;
  for (size_t i = 0; i < name.size();) {
    bool replaced = false;
    for (const auto& [from, to] : kEscapes) {
      if (name.compare(i, from.size(), from) == 0) {
        out += to;
        i += from.size();
        replaced = true;
        break;
      }
    }
    if (!replaced) out += name[i++];
  }
  // Reserved words are wrapped: __namespace__.
  if (out.size() > 4 && out.starts_with("__") && out.ends_with("__")) {
    return out.substr(2, out.size() - 4);
  }
  return out;
}

std::string Type::Name() const {
  auto element_name = [this] { return element ? element->Name() : std::string("dyn"); };
  switch (kind) {
    case Kind::kDynamic:
      return "dyn";
    case Kind::kNull:
      return "null";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kUint:
      return "uint";
    case Kind::kDouble:
      return "double";
    case Kind::kString:
      return "string";
    case Kind::kBytes:
      return "bytes";
    case Kind::kList:
      return "list(" + element_name() + ")";
    case Kind::kMap:
      return "map(string, " + element_name() + ")";
    case Kind::kObject:
      return "object";
    case Kind::kDuration:
      return "google.protobuf.Duration";
    case Kind::kTimestamp:
      return "google.protobuf.Timestamp";
    case Kind::kIp:
      return "net.IP";
    case Kind::kCidr:
      return "net.CIDR";
    case Kind::kOptional:
      return "optional_type(" + element_name() + ")";
    case Kind::kType:
      return "type";
  }
  return "dyn";
}

Type TypeOf(const Structural& s, bool resource_root) {
  Type type;
  if (s.int_or_string) return type;
  if (s.type == "string") {
    type.kind = Kind::kString;
    if (s.format == "date-time" || s.format == "date") type.kind = Kind::kTimestamp;
    if (s.format == "duration") type.kind = Kind::kDuration;
    if (s.format == "byte") type.kind = Kind::kBytes;
  } else if (s.type == "integer") {
    type.kind = Kind::kInt;
  } else if (s.type == "number") {
    type.kind = Kind::kDouble;
  } else if (s.type == "boolean") {
    type.kind = Kind::kBool;
  } else if (s.type == "array") {
    type.kind = Kind::kList;
    type.schema = &s;
    if (s.items) type.element = std::make_shared<Type>(TypeOf(*s.items, false));
  } else if (s.type == "object" && s.additional_properties_allowed) {
    type.kind = Kind::kMap;
    type.schema = &s;
    if (s.additional_properties) {
      type.element = std::make_shared<Type>(TypeOf(*s.additional_properties, false));
    }
  } else if (s.type == "object") {
    type.kind = Kind::kObject;
    type.schema = &s;
    type.resource = resource_root || s.embedded_resource;
  }
  return type;
}

Type Check(const Node& root, const std::string& source, const CompileOptions& options,
           bool& uses_old_self) {
  return Checker(source, options, uses_old_self).Visit(root);
}

}  // namespace pointsman::e2e::schema::cel
