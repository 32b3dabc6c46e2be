// The functions, methods and arithmetic operators of expressions.
#pragma once

#include <string>
#include <vector>

#include "e2e/control-plane/schema/cel/value.h"

namespace pointsman::e2e::schema::cel {

// All throw EvalError, CostExceeded.

// + - * / %
Value Arithmetic(char op, const Value& a, const Value& b, Cost& cost);
// A function with at least one argument.
Value CallFunction(const std::string& name, const std::vector<Value>& args, Cost& cost);
Value CallMethod(const std::string& name, const Value& target, const std::vector<Value>& args,
                 Cost& cost);

// Throws EvalError: the result of an integer operation does not fit.
[[noreturn]] void Overflow();

}  // namespace pointsman::e2e::schema::cel
