#include "e2e/control-plane/api/metadata.h"

#include <algorithm>
#include <cctype>
#include <set>
#include <string>

#include "e2e/control-plane/registry/field_checks.h"
#include "e2e/control-plane/registry/json_path.h"
#include "kube/text/ascii.h"

namespace pointsman::e2e {
namespace {

constexpr std::size_t kMaxAnnotations = 262144;  // bytes of all keys and values

void DropNulls(Json& value) {
  if (value.is_object()) {
    for (auto member = value.begin(); member != value.end();) {
      if (member->is_null()) {
        member = value.erase(member);
      } else {
        DropNulls(*member);
        ++member;
      }
    }
  } else if (value.is_array()) {
    for (Json& item : value)
      DropNulls(item);
  }
}

std::string WrongType(const std::string& field, const std::string& expected) {
  return "json: cannot unmarshal into Go struct field ObjectMeta.metadata." + field + " of type " +
         expected;
}

// Throws StatusError 400 for what Go's decoder of ObjectMeta does not take.
void CheckShape(Json& metadata) {
  if (!metadata.is_object()) throw BadRequest("metadata: must be an object");
  DropNulls(metadata);
  for (const char* field : {"name", "generateName", "namespace", "uid", "resourceVersion"}) {
    if (metadata.contains(field) && !metadata[field].is_string())
      throw BadRequest(WrongType(field, "string"));
  }
  for (const char* field : {"labels", "annotations"}) {
    if (!metadata.contains(field)) continue;
    if (!metadata[field].is_object()) throw BadRequest(WrongType(field, "map[string]string"));
    for (const auto& [key, value] : metadata[field].items()) {
      if (!value.is_string()) {
        throw BadRequest(std::string("json: cannot unmarshal ") + value.type_name() +
                         " into Go struct field ObjectMeta.metadata." + field + " of type string");
      }
    }
    if (metadata[field].empty()) metadata.erase(field);
  }
  for (const char* field : {"finalizers", "ownerReferences", "managedFields"}) {
    if (metadata.contains(field) && !metadata[field].is_array())
      throw BadRequest(WrongType(field, "array"));
  }
}

void CheckName(const std::string& name, const ResourceType& type, std::vector<FieldError>& errors) {
  if (name.empty()) {
    errors.push_back({"metadata.name", "FieldValueRequired",
                      "Required value: name or generateName is required"});
    return;
  }
  std::string why;
  if (type.group == "rbac.authorization.k8s.io") {
    if (name.find_first_of("/%") != std::string::npos || name == "." || name == "..")
      why = "may not contain '/' or '%', nor be '.' or '..'";
  } else if (type.StoreName() == "namespaces") {
    why = CheckDns1123Label(name);
  } else if (type.StoreName() != "services") {  // whose own validation says what their names may be
    why = CheckDns1123Subdomain(name);
  }
  if (!why.empty()) {
    errors.push_back(
        {"metadata.name", "FieldValueInvalid", "Invalid value: " + Json(name).dump() + ": " + why});
  }
}

void CheckAnnotations(const Json& annotations, std::vector<FieldError>& errors) {
  std::size_t total = 0;
  for (const auto& [key, value] : annotations.items()) {
    // Whatever its case (apimachinery, ValidateAnnotations).
    if (const auto why = CheckQualifiedName(text::ToLowerAscii(key)); !why.empty()) {
      errors.push_back({"metadata.annotations", "FieldValueInvalid",
                        "Invalid value: " + Json(key).dump() + ": " + why});
    }
    total += key.size() + value.get_ref<const std::string&>().size();
  }
  if (total > kMaxAnnotations) {
    errors.push_back({"metadata.annotations", "FieldValueTooLong",
                      "Too long: may not be more than 262144 bytes"});
  }
}

void CheckFinalizers(const Json& finalizers, std::vector<FieldError>& errors) {
  for (std::size_t i = 0; i < finalizers.size(); ++i) {
    const Json& f = finalizers[i];
    const std::string text = f.is_string() ? f.get<std::string>() : "";
    if (const auto why = CheckQualifiedName(text); !why.empty()) {
      errors.push_back({"metadata.finalizers[" + std::to_string(i) + "]", "FieldValueInvalid",
                        "Invalid value: " + f.dump() + ": " + why});
    }
  }
}

void CheckOwnerReferences(const Json& owners, std::vector<FieldError>& errors) {
  int controllers = 0;
  for (const Json& owner : owners) {
    for (const char* field : {"apiVersion", "kind", "name", "uid"}) {
      if (StringAt(owner, {field}).empty()) {
        errors.push_back({std::string("metadata.ownerReferences.") + field, "FieldValueInvalid",
                          "Invalid value: \"\": must not be empty"});
      }
    }
    if (owner.is_object() && owner.value("controller", false)) ++controllers;
  }
  if (controllers > 1) {
    errors.push_back({"metadata.ownerReferences", "FieldValueInvalid",
                      "Invalid value: Only one reference can have Controller set to true"});
  }
}

}  // namespace

void CheckIdentity(Json& object, const Target& target) {
  const ResourceType& type = *target.type;
  const std::string api_version = StringAt(object, {"apiVersion"});
  const std::string kind = StringAt(object, {"kind"});
  if (api_version.empty()) object["apiVersion"] = type.GroupVersion();
  if (kind.empty()) object["kind"] = type.kind;
  if (type.custom && (api_version.empty() || kind.empty())) {
    throw BadRequest("Object 'Kind' is missing in '" + object.dump().substr(0, 200) + "'");
  }
  if (object["apiVersion"] != type.GroupVersion()) {
    throw BadRequest("the API version in the data (" + api_version +
                     ") does not match the expected API version (" + type.GroupVersion() + ")");
  }
  if (object["kind"] != type.kind) {
    throw BadRequest(type.kind + " in version \"" + type.version + "\" cannot be handled as a " +
                     type.kind + ": the data is of kind " + kind);
  }
  if (!object.contains("metadata") || object["metadata"].is_null())
    object["metadata"] = Json::object();
  Json& metadata = object["metadata"];
  CheckShape(metadata);
  const std::string ns = metadata.value("namespace", "");
  if (type.namespaced) {
    if (ns.empty()) {
      metadata["namespace"] = target.ns;
    } else if (ns != target.ns) {
      throw BadRequest(
          "the namespace of the provided object does not match the namespace sent on the request");
    }
  } else if (!ns.empty()) {
    throw BadRequest("namespace is not allowed on cluster-scoped resources: " + ns);
  }
  const std::string name = metadata.value("name", "");
  if (!target.name.empty()) {
    if (name.empty()) {
      metadata["name"] = target.name;
    } else if (name != target.name) {
      throw BadRequest("the name of the object (" + name +
                       ") does not match the name on the URL (" + target.name + ")");
    }
  }
}

void DropUnknownFields(Json& object, const Target& target, RequestContext& context) {
  const ResourceType& type = *target.type;
  if (!type.custom) DropNulls(object);
  std::vector<std::string> dropped;
  static const std::set<std::string> known = {"name",
                                              "generateName",
                                              "namespace",
                                              "selfLink",
                                              "uid",
                                              "resourceVersion",
                                              "generation",
                                              "creationTimestamp",
                                              "deletionTimestamp",
                                              "deletionGracePeriodSeconds",
                                              "labels",
                                              "annotations",
                                              "ownerReferences",
                                              "finalizers",
                                              "clusterName",
                                              "managedFields"};
  Json& metadata = object["metadata"];
  for (auto member = metadata.begin(); member != metadata.end();) {
    if (known.contains(member.key())) {
      ++member;
    } else {
      dropped.push_back("metadata." + member.key());
      member = metadata.erase(member);
    }
  }
  metadata.erase("selfLink");
  metadata.erase("clusterName");
  if (type.schema) type.schema->Prune(object, dropped);
  if (dropped.empty()) return;
  if (context.field_validation == "Strict") {
    std::string text;
    for (const std::string& field : dropped) {
      text += (text.empty() ? "" : ", ") + ("unknown field \"" + field + "\"");
    }
    const std::string message = "strict decoding error: " + text;
    throw BadRequest(type.custom ? message
                                 : type.kind + " in version \"" + type.version +
                                       "\" cannot be handled as a " + type.kind + ": " + message);
  }
  if (context.field_validation == "Warn") {
    for (const std::string& field : dropped) {
      context.warnings.push_back("unknown field \"" + field + "\"");
    }
  }
}

std::vector<FieldError> ValidateMetadata(const Json& object, const ResourceType& type) {
  std::vector<FieldError> errors;
  const Json& metadata = object["metadata"];
  CheckName(metadata.value("name", ""), type, errors);
  if (metadata.contains("labels")) CheckLabels(metadata["labels"], "metadata.labels", errors);
  if (metadata.contains("annotations")) CheckAnnotations(metadata["annotations"], errors);
  if (metadata.contains("finalizers")) CheckFinalizers(metadata["finalizers"], errors);
  if (metadata.contains("ownerReferences"))
    CheckOwnerReferences(metadata["ownerReferences"], errors);
  return errors;
}

}  // namespace pointsman::e2e
