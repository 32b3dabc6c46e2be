// Compiled expressions of x-kubernetes-validations and of ValidatingAdmissionPolicies.
//
// What the environment of Kubernetes offers beyond the CEL standard is there as far as rules of
// custom resources use it: string and list functions, IP and CIDR functions (from 1.31). What is
// not there is a compile error, so that no rule is ever ignored.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "e2e/control-plane/schema/cel/evaluation.h"
#include "e2e/control-plane/schema/cel/parser.h"
#include "e2e/control-plane/schema/structural.h"

namespace pointsman::e2e::schema::cel {

enum class ResultType { kBool, kString };

struct CompileOptions {
  // Of x-kubernetes-validations: self and oldSelf. Must outlive the program. Null: there are none.
  const Structural* self = nullptr;
  // Further variables, and their schemas, which must outlive the program; null: of any type, known
  // only when evaluated.
  std::map<std::string, const Structural*> variables;
  bool resource_root = false;  // apiVersion, kind, metadata.name can be used
  int kubernetes_minor = 35;
  bool optional_old_self = false;  // oldSelf is an optional
  ResultType result = ResultType::kBool;
};

// Immutable: any number of threads may evaluate it.
class Program {
 public:
  // Throws CompileError: syntax, unknown names and functions, fields the schema does not have,
  // operands of types that the operator does not take, a result of another type.
  static std::shared_ptr<const Program> Compile(const std::string& source,
                                                const CompileOptions& options);
  ~Program();

  bool uses_old_self() const;
  // `old` may be null. Throws EvalError, CostExceeded.
  bool EvaluateBool(const Json& self, const Json* old, Cost& cost) const;
  std::string EvaluateString(const Json& self, const Json* old, Cost& cost) const;
  // With CompileOptions::variables: a value for each; null for what there is not.
  using Variables = std::map<std::string, const Json*>;
  bool EvaluateBool(const Variables& variables, Cost& cost) const;
  std::string EvaluateString(const Variables& variables, Cost& cost) const;

 private:
  struct Impl;
  explicit Program(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace pointsman::e2e::schema::cel
