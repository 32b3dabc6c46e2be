#include "e2e/control-plane/api/admission_policies.h"

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/schema/cel/program.h"
#include "e2e/control-plane/schema/structural.h"

namespace pointsman::e2e {
namespace {

using schema::Structural;
namespace cel = schema::cel;

constexpr int kNewest = 35;
constexpr const char* kPolicies = "admissionregistration.k8s.io/validatingadmissionpolicies";
constexpr const char* kBindings = "admissionregistration.k8s.io/validatingadmissionpolicybindings";

// The variable "request" (apiserver/pkg/cel/environment: BuildRequestType).
const Structural& RequestSchema() {
  static const Structural& schema = *[] {
    const Json text = {{"type", "string"}};
    const auto object = [&](std::initializer_list<const char*> fields) {
      Json of = {{"type", "object"}, {"properties", Json::object()}};
      for (const char* field : fields)
        of["properties"][field] = text;
      return of;
    };
    const Json strings = {{"type", "array"}, {"items", text}};
    Json request = object({"name", "namespace", "operation", "subResource", "requestSubResource"});
    Json& fields = request["properties"];
    fields["kind"] = fields["requestKind"] = object({"group", "version", "kind"});
    fields["resource"] = fields["requestResource"] = object({"group", "version", "resource"});
    fields["userInfo"] = object({"username", "uid"});
    fields["userInfo"]["properties"]["groups"] = strings;
    fields["userInfo"]["properties"]["extra"] = {{"type", "object"},
                                                 {"additionalProperties", strings}};
    fields["dryRun"] = {{"type", "boolean"}};
    schema::FieldErrors errors;
    return new Structural(schema::ParseSchema(request, "request", kNewest, errors));
  }();
  return schema;
}

std::shared_ptr<const cel::Program> Compile(const std::string& source, cel::ResultType result,
                                            int minor = kNewest) {
  cel::CompileOptions options;
  options.variables = {{"request", &RequestSchema()}, {"object", nullptr}, {"oldObject", nullptr}};
  options.kubernetes_minor = minor;
  options.result = result;
  return cel::Program::Compile(source, options);
}

Json RequestJson(const AdmissionRequest& request) {
  const ResourceType& type = request.type;
  const Json kind = {{"group", type.group}, {"version", type.version}, {"kind", type.kind}};
  const Json resource = {
      {"group", type.group}, {"version", type.version}, {"resource", type.plural}};
  Json user = {{"username", request.user.name}, {"groups", request.user.groups}};
  // As Go's omitempty.
  if (!request.user.uid.empty()) user["uid"] = request.user.uid;
  if (!request.user.extra.empty()) user["extra"] = request.user.extra;
  return {{"kind", kind},
          {"requestKind", kind},
          {"resource", resource},
          {"requestResource", resource},
          {"subResource", request.subresource},
          {"requestSubResource", request.subresource},
          {"name", request.name},
          {"namespace", request.ns},
          {"operation", request.operation},
          {"userInfo", user},
          {"dryRun", request.dry_run}};
}

bool Names(const Json& rule, const char* field, const std::string& value) {
  const Json& list = ArrayAt(rule, {field});
  return std::any_of(list.begin(), list.end(),
                     [&](const Json& item) { return item == value || item == "*"; });
}

bool Matches(const Json& rule, const AdmissionRequest& request) {
  const std::string resource = request.subresource.empty()
                                   ? request.type.plural
                                   : request.type.plural + "/" + request.subresource;
  // "*" is every resource, but no subresource.
  const Json& resources = ArrayAt(rule, {"resources"});
  const bool of_resource = std::any_of(resources.begin(), resources.end(), [&](const Json& item) {
    return item == resource || (item == "*" && request.subresource.empty());
  });
  const Json& only = ArrayAt(rule, {"resourceNames"});
  return of_resource && Names(rule, "apiGroups", request.type.group) &&
         Names(rule, "apiVersions", request.type.version) &&
         Names(rule, "operations", request.operation) &&
         (only.empty() || std::find(only.begin(), only.end(), request.name) != only.end());
}

// One policy on one request.
class Evaluation {
 public:
  Evaluation(const Json& policy, const AdmissionRequest& request, const Json& described)
      : spec_(policy["spec"]),
        request_(request),
        variables_{
            {"request", &described}, {"object", request.object}, {"oldObject", request.old}} {}

  bool Applies() {
    const Json& rules = ArrayAt(spec_, {"matchConstraints", "resourceRules"});
    if (std::none_of(rules.begin(), rules.end(),
                     [&](const Json& rule) { return Matches(rule, request_); })) {
      return false;
    }
    const Json& conditions = ArrayAt(spec_, {"matchConditions"});
    return std::all_of(conditions.begin(), conditions.end(), [&](const Json& condition) {
      return Holds(condition.value("expression", ""));
    });
  }

  // Throws StatusError; `who`: the policy with its binding.
  void Validate(const std::string& who) {
    for (const Json& validation : ArrayAt(spec_, {"validations"})) {
      const std::string expression = validation.value("expression", "");
      bool good = false;
      std::string message;
      try {
        good = Holds(expression);
        if (!good) message = MessageOf(validation, expression);
      } catch (const cel::EvalError& error) {
        if (spec_.value("failurePolicy", "Fail") == "Ignore") continue;
        message = "expression '" + expression + "' resulted in error: " + error.what();
      }
      if (!good) Deny(who, message, validation.value("reason", "Invalid"));
    }
  }

 private:
  bool Holds(const std::string& expression) {
    return Compile(expression, cel::ResultType::kBool)->EvaluateBool(variables_, cost_);
  }
  std::string MessageOf(const Json& validation, const std::string& expression) {
    if (const std::string of = validation.value("messageExpression", ""); !of.empty()) {
      return Compile(of, cel::ResultType::kString)->EvaluateString(variables_, cost_);
    }
    return validation.value("message", "failed expression: " + expression);
  }
  [[noreturn]] void Deny(const std::string& who, const std::string& message,
                         const std::string& reason) const {
    const StatusError as = Forbidden(request_.type.group, request_.type.plural, request_.name,
                                     who + " denied request: " + message);
    const int code = reason == "Forbidden" ? 403 : reason == "Unauthorized" ? 401 : 422;
    Json details = as.details();
    details["causes"] = {{{"message", who + " denied request: " + message}}};
    throw StatusError(code, reason, as.what(), details);
  }

  const Json& spec_;
  const AdmissionRequest& request_;
  const cel::Program::Variables variables_;
  cel::Cost cost_;
};

void Refuse(std::vector<FieldError>& errors, const Json& parent, const std::string& path,
            std::initializer_list<const char*> fields) {
  for (const char* field : fields) {
    const auto found = parent.find(field);
    if (found == parent.end() || found->empty()) continue;
    errors.push_back({path + "." + field, "FieldValueForbidden", "Forbidden: not supported here"});
  }
}

void CheckOneOf(std::vector<FieldError>& errors, const std::string& path, const std::string& value,
                const std::set<std::string>& known) {
  if (known.contains(value)) return;
  errors.push_back({path, "FieldValueNotSupported",
                    "Unsupported value: " + Json(value).dump() + ": not supported here"});
}

}  // namespace

void AdmissionPolicies::Check(const AdmissionRequest& request) const {
  const auto bindings = store_.List(kBindings).objects;
  if (bindings.empty()) return;
  const Json described = RequestJson(request);
  for (const ObjectPtr& stored : bindings) {
    const Json binding = stored->Parse();
    const std::string name = StringAt(binding, {"spec", "policyName"});
    const ObjectPtr found = store_.Get(kPolicies, "", name);
    if (!found) continue;  // as a real one: its policy may come later
    const Json policy = found->Parse();
    Evaluation evaluation(policy, request, described);
    const std::string who =
        "ValidatingAdmissionPolicy '" + name + "' with binding '" + stored->name + "'";
    try {
      if (!evaluation.Applies()) continue;
    } catch (const cel::EvalError& error) {
      if (policy["spec"].value("failurePolicy", "Fail") == "Ignore") continue;
      throw Forbidden(request.type.group, request.type.plural, request.name,
                      who + " denied request: match condition: " + error.what());
    }
    evaluation.Validate(who);
  }
}

std::vector<FieldError> AdmissionPolicies::ValidatePolicy(const Json& policy,
                                                          const Emulation& emulation) {
  std::vector<FieldError> errors;
  const Json& spec = policy.at("spec");
  Refuse(errors, spec, "spec", {"paramKind", "variables", "auditAnnotations"});
  const Json match = spec.value("matchConstraints", Json::object());
  Refuse(errors, match, "spec.matchConstraints",
         {"namespaceSelector", "objectSelector", "excludeResourceRules"});
  CheckOneOf(errors, "spec.failurePolicy", spec.value("failurePolicy", "Fail"), {"Fail", "Ignore"});
  const Json& rules = ArrayAt(match, {"resourceRules"});
  if (rules.empty()) {
    errors.push_back(
        {"spec.matchConstraints.resourceRules", "FieldValueRequired", "Required value"});
  }
  for (std::size_t i = 0; i < rules.size(); ++i) {
    const std::string path = "spec.matchConstraints.resourceRules[" + std::to_string(i) + "]";
    CheckOneOf(errors, path + ".scope", rules[i].value("scope", "*"), {"*"});
    for (const char* field : {"apiGroups", "apiVersions", "operations", "resources"}) {
      if (ArrayAt(rules[i], {field}).empty())
        errors.push_back({path + "." + field, "FieldValueRequired", "Required value"});
    }
    for (const std::string resource : ArrayAt(rules[i], {"resources"})) {
      const auto slash = resource.find('/');
      if (slash == std::string::npos) continue;
      CheckOneOf(errors, path + ".resources", resource.substr(slash + 1), {"status"});
      if (resource.starts_with('*')) CheckOneOf(errors, path + ".resources", resource, {});
    }
    for (const std::string operation : ArrayAt(rules[i], {"operations"}))
      CheckOneOf(errors, path + ".operations", operation, {"*", "CREATE", "UPDATE", "DELETE"});
  }
  const auto expression = [&](const Json& of, const char* field, const std::string& path,
                              cel::ResultType result) {
    const std::string source = of.value(field, "");
    if (source.empty()) return;
    try {
      Compile(source, result, emulation.minor);
    } catch (const cel::CompileError& error) {
      errors.push_back({path + "." + field, "FieldValueInvalid",
                        "Invalid value: " + Json(source).dump() + ": " + error.what()});
    }
  };
  const Json& conditions = ArrayAt(spec, {"matchConditions"});
  for (std::size_t i = 0; i < conditions.size(); ++i) {
    expression(conditions[i], "expression", "spec.matchConditions[" + std::to_string(i) + "]",
               cel::ResultType::kBool);
  }
  const Json& validations = ArrayAt(spec, {"validations"});
  if (validations.empty())
    errors.push_back({"spec.validations", "FieldValueRequired", "Required value"});
  for (std::size_t i = 0; i < validations.size(); ++i) {
    const std::string path = "spec.validations[" + std::to_string(i) + "]";
    expression(validations[i], "expression", path, cel::ResultType::kBool);
    expression(validations[i], "messageExpression", path, cel::ResultType::kString);
    CheckOneOf(errors, path + ".reason", validations[i].value("reason", "Invalid"),
               {"Unauthorized", "Forbidden", "Invalid"});
  }
  return errors;
}

std::vector<FieldError> AdmissionPolicies::ValidateBinding(const Json& binding,
                                                           const Emulation& /*emulation*/) {
  std::vector<FieldError> errors;
  const Json& spec = binding.at("spec");
  Refuse(errors, spec, "spec", {"paramRef", "matchResources"});
  if (ArrayAt(spec, {"validationActions"}) != Json::array({"Deny"})) {
    errors.push_back({"spec.validationActions", "FieldValueNotSupported",
                      "Unsupported value: only [Deny] is supported here"});
  }
  return errors;
}

}  // namespace pointsman::e2e
