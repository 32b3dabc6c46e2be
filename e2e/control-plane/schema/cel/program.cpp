#include "e2e/control-plane/schema/cel/program.h"

#include <cctype>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "e2e/control-plane/schema/cel/functions.h"
#include "e2e/control-plane/schema/cel/types.h"
#include "e2e/control-plane/schema/cel/value.h"

namespace pointsman::e2e::schema::cel {
namespace {

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
      return Arithmetic(op[0], args[0], args[1], cost_);
    }
    return CallFunction(op, args, cost_);
  }

  Value Method(const Node& node) {
    const Value target = Eval(*node.args[0]);
    std::vector<Value> args;
    for (size_t i = 1; i < node.args.size(); ++i)
      args.push_back(Eval(*node.args[i]));
    return CallMethod(node.name, target, args, cost_);
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
