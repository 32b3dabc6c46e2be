#include "e2e/control-plane/api/crds.h"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <initializer_list>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "e2e/control-plane/api/render.h"
#include "e2e/control-plane/base/api_time.h"
#include "e2e/control-plane/registry/field_checks.h"
#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/schema/json_schema_props.h"
#include "kube/text/ascii.h"

namespace pointsman::e2e {
namespace {

constexpr const char* kCrds = "apiextensions.k8s.io/customresourcedefinitions";

void SetCondition(Json& status, const char* type, const char* value, const char* reason,
                  const std::string& message) {
  if (!status.contains("conditions") || !status["conditions"].is_array()) {
    status["conditions"] = Json::array();
  }
  for (Json& c : status["conditions"]) {
    if (c.value("type", "") != type) continue;
    if (c.value("status", "") != value) {
      c["lastTransitionTime"] = FormatTime(std::chrono::system_clock::now());
    }
    c["status"] = value;
    c["reason"] = reason;
    c["message"] = message;
    return;
  }
  status["conditions"].push_back(
      {{"type", type},
       {"status", value},
       {"reason", reason},
       {"message", message},
       {"lastTransitionTime", FormatTime(std::chrono::system_clock::now())}});
}

std::vector<std::string> Strings(const Json& object, std::initializer_list<const char*> path) {
  std::vector<std::string> list;
  if (const Json* value = At(object, path); value != nullptr && value->is_array()) {
    for (const Json& item : *value) {
      if (item.is_string()) list.push_back(item);
    }
  }
  return list;
}

// Of a definition whose names are accepted, or clash with those of the kind `clash`.
void SetStatus(Json& status, const Json& names, const std::string& clash,
               const std::string& storage_version) {
  if (status.is_null()) status = Json::object();
  if (clash.empty()) {
    SetCondition(status, "NamesAccepted", "True", "NoConflicts", "no conflicts found");
    SetCondition(status, "Established", "True", "InitialNamesAccepted",
                 "the initial names have been accepted");
    status["acceptedNames"] = names;
  } else {
    SetCondition(status, "NamesAccepted", "False", "KindConflict",
                 "\"" + clash + "\" is already in use");
    SetCondition(status, "Established", "False", "NotAccepted", "not all names are accepted");
    if (!status.contains("acceptedNames")) status["acceptedNames"] = {{"plural", ""}, {"kind", ""}};
  }
  std::vector<std::string> stored = Strings(status, {"storedVersions"});
  if (std::find(stored.begin(), stored.end(), storage_version) == stored.end())
    stored.push_back(storage_version);
  status["storedVersions"] = stored;
}

void CheckNames(const Json& crd, const Json& spec, std::vector<FieldError>& errors) {
  const std::string group = StringAt(spec, {"group"});
  const std::string plural = StringAt(spec, {"names", "plural"});
  if (group.empty()) errors.push_back(Required("spec.group"));
  if (plural.empty()) errors.push_back(Required("spec.names.plural"));
  if (StringAt(spec, {"names", "kind"}).empty()) errors.push_back(Required("spec.names.kind"));
  if (!group.empty()) {
    if (const auto why = CheckDns1123Subdomain(group); !why.empty())
      errors.push_back(InvalidValue("spec.group", group, why));
    if (group.find('.') == std::string::npos)
      errors.push_back(
          InvalidValue("spec.group", group, "should be a domain with at least one dot"));
  }
  const std::string name = StringAt(crd, {"metadata", "name"});
  if (name != plural + "." + group)
    errors.push_back(
        InvalidValue("metadata.name", name, "must be spec.names.plural+\".\"+spec.group"));
}

void CheckScopeAndConversion(const Json& spec, std::vector<FieldError>& errors) {
  const std::vector<std::string> scopes{"Cluster", "Namespaced"};
  const std::string scope = StringAt(spec, {"scope"});
  if (scope.empty()) {
    errors.push_back(Required("spec.scope"));
  } else if (!OneOf(scope, scopes)) {
    errors.push_back(NotSupported("spec.scope", scope, scopes));
  }
  const std::string conversion = StringAt(spec, {"conversion", "strategy"});
  if (conversion == "Webhook") {
    errors.push_back(
        ForbiddenValue("spec.conversion.strategy", "this server converts without webhooks only"));
  } else if (conversion != "None") {
    errors.push_back(NotSupported("spec.conversion.strategy", conversion, {"None", "Webhook"}));
  }
}

void CheckColumns(const Json& columns, const std::string& path, std::vector<FieldError>& errors) {
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const std::string where = path + ".additionalPrinterColumns[" + std::to_string(i) + "]";
    if (StringAt(columns[i], {"name"}).empty()) errors.push_back(Required(where + ".name"));
    const std::string type = StringAt(columns[i], {"type"});
    if (!OneOf(type, {"integer", "number", "string", "boolean", "date"}))
      errors.push_back(
          InvalidValue(where + ".type", type, "must be one of boolean,date,integer,number,string"));
    const std::string path_text = StringAt(columns[i], {"jsonPath"});
    if (path_text.empty()) {
      errors.push_back(Required(where + ".jsonPath"));
      continue;
    }
    try {
      const JsonPath parsed(path_text);
    } catch (const std::invalid_argument& e) {
      errors.push_back(InvalidValue(where + ".jsonPath", path_text, e.what()));
    }
  }
}

// `seen` gets the names of the versions.
void CheckVersions(const Json& versions, const SchemaProvider& schemas, std::set<std::string>& seen,
                   std::vector<FieldError>& errors) {
  int storage = 0;
  for (std::size_t i = 0; i < versions.size(); ++i) {
    const Json& version = versions[i];
    const std::string path = "spec.versions[" + std::to_string(i) + "]";
    const std::string name = StringAt(version, {"name"});
    if (const auto why = CheckDns1035Label(name); !why.empty())
      errors.push_back(InvalidValue(path + ".name", name, why));
    if (!seen.insert(name).second)
      errors.push_back(InvalidValue("spec.versions", name, "must contain unique version names"));
    if (version.value("storage", false)) ++storage;
    if (const Json* schema = At(version, {"schema", "openAPIV3Schema"})) {
      for (FieldError& e : schemas.Check(*schema, path + ".schema.openAPIV3Schema"))
        errors.push_back(std::move(e));
    } else {
      errors.push_back(Required(path + ".schema.openAPIV3Schema", "schemas are required"));
    }
    CheckColumns(ArrayAt(version, {"additionalPrinterColumns"}), path, errors);
  }
  if (storage != 1)
    errors.push_back(InvalidValue("spec.versions", versions,
                                  "must have exactly one version marked as storage version"));
}

void CheckUnchanged(const Json& spec, const Json& old, const std::set<std::string>& versions,
                    std::vector<FieldError>& errors) {
  for (const char* field : {"group", "scope"}) {
    if (StringAt(old, {"spec", field}) != StringAt(spec, {field}))
      errors.push_back(InvalidValue(std::string("spec.") + field, StringAt(spec, {field}),
                                    "field is immutable"));
  }
  for (const std::string& stored : Strings(old, {"status", "storedVersions"})) {
    if (!versions.contains(stored))
      errors.push_back(
          InvalidValue("status.storedVersions", stored, "must appear in spec.versions"));
  }
}

}  // namespace

void CustomResources::ApplyDefaults(Json& crd) {
  if (!crd.contains("spec") || !crd["spec"].is_object()) return;
  Json& spec = crd["spec"];
  if (spec.contains("names") && spec["names"].is_object()) {
    Json& names = spec["names"];
    const std::string kind = names.value("kind", "");
    if (names.value("singular", "").empty()) names["singular"] = text::ToLowerAscii(kind);
    if (names.value("listKind", "").empty() && !kind.empty()) names["listKind"] = kind + "List";
  }
  if (!spec.contains("conversion")) spec["conversion"] = {{"strategy", "None"}};
  if (spec.contains("versions") && spec["versions"].is_array()) {
    for (Json& version : spec["versions"]) {
      if (!version.is_object() || !version.contains("additionalPrinterColumns")) continue;
      if (!version["additionalPrinterColumns"].is_array()) continue;
      for (Json& column : version["additionalPrinterColumns"]) {
        if (column.is_object() && column.value("priority", 0) == 0) column.erase("priority");
      }
    }
  }
}

void CustomResources::CheckApplied(const Json& crd, const Emulation& emulation) {
  const Json* versions = At(crd, {"spec", "versions"});
  if (versions == nullptr || !versions->is_array()) return;
  std::string errors;
  for (std::size_t i = 0; i < versions->size(); ++i) {
    const Json* schema = At((*versions)[i], {"schema", "openAPIV3Schema"});
    if (schema == nullptr) continue;
    for (const std::string& path : schema::UndeclaredFields(*schema, emulation.minor)) {
      errors += "\n  .spec.versions[" + std::to_string(i) + "].schema.openAPIV3Schema" + path +
                ": field not declared in schema";
    }
  }
  if (!errors.empty()) {
    throw StatusError(500, "", "failed to create typed patch object: errors:" + errors);
  }
}

std::vector<FieldError> CustomResources::Validate(const Json& crd, const Json* old) const {
  std::vector<FieldError> errors;
  const Json& spec = crd.contains("spec") ? crd["spec"] : crd;
  CheckNames(crd, spec, errors);
  CheckScopeAndConversion(spec, errors);
  std::set<std::string> versions;
  CheckVersions(ArrayAt(spec, {"versions"}), schemas_, versions, errors);
  if (!versions.empty() && old != nullptr) CheckUnchanged(spec, *old, versions, errors);
  return errors;
}

ResourceType CustomResources::TypeOf(const Json& spec, const Json& version,
                                     const std::string& storage_version) const {
  const Json& names = spec["names"];
  ResourceType type;
  type.group = spec.value("group", "");
  type.version = version.value("name", "");
  type.storage_version = storage_version;
  type.plural = names.value("plural", "");
  type.singular = names.value("singular", "");
  type.kind = names.value("kind", "");
  type.list_kind = names.value("listKind", "");
  type.short_names = Strings(names, {"shortNames"});
  type.categories = Strings(names, {"categories"});
  type.namespaced = spec.value("scope", "") == "Namespaced";
  type.has_status = At(version, {"subresources", "status"}) != nullptr;
  type.custom = true;
  type.unconditional_update = false;
  type.generations = true;
  if (const Json* schema = At(version, {"schema", "openAPIV3Schema"})) {
    type.open_api_schema = *schema;
    type.schema = schemas_.Compile(*schema);
  }
  SetCustomColumns(type, version.value("additionalPrinterColumns", Json()));
  return type;
}

void CustomResources::Serve(const Json& crd) {
  const std::lock_guard lock(mutex_);
  const Json& spec = crd["spec"];
  const std::string group = spec.value("group", "");
  const Json& names = spec["names"];
  const std::string plural = names.value("plural", "");
  std::string clash;
  for (const ResourceTypePtr& type : *registry_.types()) {
    if (type->group == group && type->plural != plural && type->kind == names.value("kind", ""))
      clash = type->kind;
  }
  std::string storage_version;
  for (const Json& version : spec["versions"]) {
    if (version.value("storage", false)) storage_version = version.value("name", "");
  }
  std::set<std::string> served;
  if (clash.empty()) {
    for (const Json& version : spec["versions"]) {
      if (!version.value("served", false)) continue;
      ResourceType type = TypeOf(spec, version, storage_version);
      served.insert(type.version);
      registry_.Add(std::move(type));
    }
  }
  for (const ResourceTypePtr& type : *registry_.types()) {
    if (type->custom && type->group == group && type->plural == plural &&
        !served.contains(type->version))
      registry_.Remove(type->group, type->version, type->plural);
  }
  store_.Modify(kCrds, "", crd["metadata"].value("name", ""), [&](Json& object) {
    SetStatus(object["status"], names, clash, storage_version);
    return true;
  });
}

void CustomResources::Withdraw(const Json& crd) {
  const std::lock_guard lock(mutex_);
  const std::string group = crd["spec"].value("group", "");
  const std::string plural = crd["spec"]["names"].value("plural", "");
  const ResourceName name = group + "/" + plural;
  for (const ResourceTypePtr& type : *registry_.types()) {
    if (type->custom && type->group == group && type->plural == plural) {
      registry_.Remove(group, type->version, plural);
    }
  }
  for (const ObjectPtr& object : store_.List(name).objects) {
    try {
      store_.Remove(name, object->ns, object->name);
    } catch (const StatusError& e) {
      if (e.code() != 404) throw;  // somebody else removed it
    }
  }
}

}  // namespace pointsman::e2e
