#include "e2e/control-plane/schema/openapi_document.h"

#include <bit>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "e2e/control-plane/schema/json_schema_props.h"

namespace pointsman::e2e::openapi {
namespace {

constexpr const char* kMeta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
constexpr const char* kOwner = "io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference";
constexpr const char* kListMeta = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

std::string ReversedGroup(const std::string& group) {
  std::string out;
  std::string rest = group;
  while (!rest.empty()) {
    size_t dot = rest.rfind('.');
    out += (out.empty() ? "" : ".") + rest.substr(dot == std::string::npos ? 0 : dot + 1);
    rest.resize(dot == std::string::npos ? 0 : dot);
  }
  return out;
}

// Builtin types are named by their Go package ("discovery" of "discovery.k8s.io"), custom ones by
// their group reversed.
std::string DefinitionName(const ResourceType& type) {
  std::string tail = "." + type.version + "." + type.kind;
  if (type.custom) return ReversedGroup(type.group) + tail;
  if (type.group == "apiextensions.k8s.io") {
    return "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions" + tail;
  }
  return "io.k8s.api." +
         (type.group.empty() ? "core" : type.group.substr(0, type.group.find('.'))) + tail;
}

Json Gvk(const ResourceType& type, const std::string& kind) {
  return {{"group", type.group}, {"version", type.version}, {"kind", kind}};
}

// What OpenAPI v2 cannot say is left out, as the server does for custom resources.
Json ToV2(const Json& schema) {
  static const std::set<std::string> kNotInV2 = {
      "anyOf", "oneOf", "not", "allOf", "nullable", "default", "x-kubernetes-validations"};
  bool nullable = schema.value("nullable", false);
  bool open = nullable || schema.value("x-kubernetes-preserve-unknown-fields", false);
  bool int_or_string = schema.value("x-kubernetes-int-or-string", false);
  Json out = Json::object();
  for (const auto& [key, value] : schema.items()) {
    if (kNotInV2.contains(key)) continue;
    // Where more is allowed than v2 can express, nothing is said.
    if (key == "type" && (nullable || int_or_string)) continue;
    if (open && (key == "properties" || key == "items" || key == "required")) continue;
    if (key == "properties") {
      out[key] = Json::object();
      for (const auto& [name, property] : value.items())
        out[key][name] = ToV2(property);
    } else if ((key == "items" || key == "additionalProperties") && value.is_object()) {
      out[key] = ToV2(value);
    } else {
      out[key] = value;
    }
  }
  if (int_or_string) {
    out["type"] = "string";
    out["format"] = "int-or-string";
  }
  return out;
}

Json Ref(const std::string& prefix, const char* name, bool v2) {
  Json ref = {{"$ref", prefix + name}};
  if (v2) return ref;
  Json out = {{"default", Json::object()}};
  out["allOf"].push_back(std::move(ref));
  return out;
}

Json Of(const char* type, const char* format = nullptr) {
  Json out = {{"type", type}};
  if (format) out["format"] = format;
  return out;
}

Json Described(const char* description) {
  return {{"type", "string"}, {"description", description}};
}

Json ListOf(Json item, Json extensions) {
  extensions["type"] = "array";
  extensions["items"] = std::move(item);
  return extensions;
}

Json MetaDefinition(const std::string& prefix, bool v2) {
  Json strings = Of("object");
  strings["additionalProperties"] = Of("string");
  Json managed = Of("object");
  for (const char* name : {"manager", "operation", "apiVersion", "fieldsType", "subresource"}) {
    managed["properties"][name] = Of("string");
  }
  managed["properties"]["time"] = Of("string", "date-time");
  managed["properties"]["fieldsV1"] = Of("object");

  Json meta = Of("object");
  meta["description"] = "What every stored object has: its name, labels, owners and versions.";
  Json& p = meta["properties"];
  p["name"] = Described("The name, unique in its namespace; it cannot be changed.");
  p["generateName"] = Described("A prefix to make a unique name of.");
  p["namespace"] = Described("The namespace that the name is unique in.");
  p["uid"] = Described("Unique in time and space; set by the server.");
  p["resourceVersion"] = Described("The version of this state of the object; opaque.");
  p["selfLink"] = Described("No longer set.");
  p["generation"] = Of("integer", "int64");
  p["creationTimestamp"] = Of("string", "date-time");
  p["deletionTimestamp"] = Of("string", "date-time");
  p["deletionGracePeriodSeconds"] = Of("integer", "int64");
  p["labels"] = strings;
  p["annotations"] = strings;
  p["finalizers"] = ListOf(
      Of("string"), {{"x-kubernetes-list-type", "set"}, {"x-kubernetes-patch-strategy", "merge"}});
  p["ownerReferences"] =
      ListOf(Ref(prefix, kOwner, v2), {{"x-kubernetes-list-type", "map"},
                                       {"x-kubernetes-list-map-keys", Json::array({"uid"})},
                                       {"x-kubernetes-patch-merge-key", "uid"},
                                       {"x-kubernetes-patch-strategy", "merge"}});
  p["managedFields"] = ListOf(std::move(managed), Json::object());
  return meta;
}

Json OwnerDefinition() {
  Json owner = Of("object");
  owner["description"] = "Names an object that owns this one.";
  owner["required"] = Json::array({"apiVersion", "kind", "name", "uid"});
  for (const auto& name : owner["required"]) {
    owner["properties"][name.get<std::string>()] = Of("string");
  }
  owner["properties"]["controller"] = Of("boolean");
  owner["properties"]["blockOwnerDeletion"] = Of("boolean");
  return owner;
}

Json ListMetaDefinition() {
  Json meta = Of("object");
  for (const char* name : {"continue", "resourceVersion", "selfLink"}) {
    meta["properties"][name] = Of("string");
  }
  meta["properties"]["remainingItemCount"] = Of("integer", "int64");
  return meta;
}

Json CommonDefinitions(const std::string& prefix, bool v2) {
  return {{kMeta, MetaDefinition(prefix, v2)},
          {kOwner, OwnerDefinition()},
          {kListMeta, ListMetaDefinition()}};
}

// The schema within a CustomResourceDefinition, which contains itself: kubectl looks into it, and
// finds there what the server's version does not know.
void AddJsonSchemaProps(Json& definitions, const ResourceType& type, const std::string& prefix,
                        const Emulation& emulation) {
  if (type.group != "apiextensions.k8s.io" || type.plural != "customresourcedefinitions") return;
  const std::string ref = prefix + schema::kJsonSchemaProps;
  definitions[schema::kJsonSchemaProps] = schema::JsonSchemaPropsDefinition(ref, emulation.minor);
  definitions[DefinitionName(type)].at(
      "/properties/spec/properties/versions/items/properties/schema/properties/openAPIV3Schema"_json_pointer) =
      {{"$ref", ref}};
}

void AddDefinitions(Json& definitions, const ResourceType& type, const std::string& prefix,
                    bool v2) {
  Json schema = type.open_api_schema.is_object() ? type.open_api_schema : Of("object");
  if (v2) schema = ToV2(schema);
  Json& properties = schema["properties"];
  for (const auto& [name, what] :
       {std::pair("apiVersion", "The group and version of this object's schema."),
        std::pair("kind", "The kind of the object, in CamelCase.")}) {
    if (!properties.contains(name) || !properties[name].contains("description")) {
      properties[name] = Described(what);
    }
  }
  properties["metadata"] = Ref(prefix, kMeta, v2);
  schema["x-kubernetes-group-version-kind"] = Json::array({Gvk(type, type.kind)});
  std::string name = DefinitionName(type);
  definitions[name] = std::move(schema);

  Json list = Of("object");
  list["description"] = "A list of " + type.kind + ".";
  list["required"] = Json::array({"items"});
  list["properties"]["apiVersion"] = Of("string");
  list["properties"]["kind"] = Of("string");
  list["properties"]["metadata"] = Ref(prefix, kListMeta, v2);
  list["properties"]["items"] = ListOf(Ref(prefix, name.c_str(), v2), Json::object());
  list["x-kubernetes-group-version-kind"] = Json::array({Gvk(type, type.list_kind)});
  definitions[name + "List"] = std::move(list);
}

Json Operation(const ResourceType& type, const std::string& action, bool v2,
               const Emulation& emulation) {
  Json parameters = Json::array();
  auto query = [&](const char* name) {
    Json parameter = {{"name", name}, {"in", "query"}};
    if (v2) {
      parameter["type"] = "string";
    } else {
      parameter["schema"] = Of("string");
    }
    parameters.push_back(std::move(parameter));
  };
  bool writes = action == "post" || action == "put" || action == "patch";
  if (writes || action == "delete") query("dryRun");
  if (writes) query("fieldManager");
  // Server-side field validation is on by default since 1.25 (KEP-2885).
  if (writes && emulation.AtLeast(25)) query("fieldValidation");
  Json operation = {{"operationId", action + type.group + type.version + type.kind},
                    {"parameters", std::move(parameters)},
                    {"x-kubernetes-action", action},
                    {"x-kubernetes-group-version-kind", Gvk(type, type.kind)}};
  operation["responses"]["200"]["description"] = "OK";
  return operation;
}

void AddPaths(Json& paths, const ResourceType& type, bool v2, const Emulation& emulation) {
  std::string base =
      type.group.empty() ? "/api/" + type.version : "/apis/" + type.group + "/" + type.version;
  if (type.namespaced) base += "/namespaces/{namespace}";
  base += "/" + type.plural;
  std::string item = base + "/{name}";
  paths[base]["get"] = Operation(type, "list", v2, emulation);
  paths[base]["post"] = Operation(type, "post", v2, emulation);
  for (const char* verb : {"get", "put", "patch", "delete"}) {
    paths[item][verb] = Operation(type, verb, v2, emulation);
  }
}

Json Info(const Emulation& emulation) {
  return {{"title", "Kubernetes"}, {"version", "v1." + std::to_string(emulation.minor) + ".0"}};
}

// --- protobuf ---

class Message {
 public:
  const std::string& bytes() const { return bytes_; }

  Message& Text(int number, std::string_view text) {
    Varint(static_cast<uint64_t>(number) << 3 | 2);
    Varint(text.size());
    bytes_.append(text);
    return *this;
  }
  Message& Sub(int number, const Message& message) { return Text(number, message.bytes_); }
  Message& Integer(int number, int64_t value) {
    Varint(static_cast<uint64_t>(number) << 3);
    Varint(static_cast<uint64_t>(value));
    return *this;
  }
  Message& Double(int number, double value) {
    Varint(static_cast<uint64_t>(number) << 3 | 1);
    auto bits = std::bit_cast<uint64_t>(value);
    for (int i = 0; i < 8; ++i)
      bytes_ += static_cast<char>(bits >> (8 * i));
    return *this;
  }

 private:
  void Varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7)
      bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }

  std::string bytes_;
};

const std::string& TextOf(const Json& value) {
  return value.get_ref<const std::string&>();
}

Message Named(std::string_view name, const Message& value) {
  return Message().Text(1, name).Sub(2, value);
}

// openapi.v2.Any carries YAML; JSON is YAML.
Message Any(const Json& value) {
  return Message().Text(2, value.dump() + "\n");
}

void Extensions(Message& out, int number, const Json& in) {
  for (const auto& [key, value] : in.items()) {
    if (key.starts_with("x-")) out.Sub(number, Named(key, Any(value)));
  }
}

Message EncodeSchema(const Json& schema) {
  Message out;
  for (const auto& [key, value] : schema.items()) {
    static const std::map<std::string, int> kTexts = {
        {"$ref", 1}, {"format", 2}, {"title", 3}, {"description", 4}, {"pattern", 13}};
    static const std::map<std::string, int> kDoubles = {
        {"multipleOf", 6}, {"maximum", 7}, {"minimum", 9}};
    static const std::map<std::string, int> kIntegers = {
        {"maxLength", 11}, {"minLength", 12},     {"maxItems", 14},
        {"minItems", 15},  {"maxProperties", 17}, {"minProperties", 18}};
    static const std::map<std::string, int> kBooleans = {
        {"exclusiveMaximum", 8}, {"exclusiveMinimum", 10}, {"uniqueItems", 16}};
    if (auto text = kTexts.find(key); text != kTexts.end()) {
      out.Text(text->second, TextOf(value));
    } else if (auto real = kDoubles.find(key); real != kDoubles.end()) {
      out.Double(real->second, value.get<double>());
    } else if (auto integer = kIntegers.find(key); integer != kIntegers.end()) {
      out.Integer(integer->second, value.get<int64_t>());
    } else if (auto flag = kBooleans.find(key); flag != kBooleans.end()) {
      out.Integer(flag->second, value.get<bool>() ? 1 : 0);
    } else if (key == "required") {
      for (const auto& name : value)
        out.Text(19, TextOf(name));
    } else if (key == "enum") {
      for (const auto& choice : value)
        out.Sub(20, Any(choice));
    } else if (key == "additionalProperties") {
      out.Sub(21, value.is_object() ? Message().Sub(1, EncodeSchema(value))
                                    : Message().Integer(2, value.get<bool>() ? 1 : 0));
    } else if (key == "type") {
      out.Sub(22, Message().Text(1, TextOf(value)));
    } else if (key == "items") {
      out.Sub(23, Message().Sub(1, EncodeSchema(value)));
    } else if (key == "properties") {
      Message properties;
      for (const auto& [name, property] : value.items()) {
        properties.Sub(1, Named(name, EncodeSchema(property)));
      }
      out.Sub(25, properties);
    }
  }
  Extensions(out, 31, schema);
  return out;
}

Message EncodeOperation(const Json& operation) {
  Message out;
  out.Text(5, TextOf(operation["operationId"]));
  for (const auto& parameter : operation["parameters"]) {
    Message query;
    query.Text(2, "query").Text(4, TextOf(parameter["name"])).Text(6, "string");
    // ParametersItem > Parameter > NonBodyParameter > QueryParameterSubSchema
    out.Sub(8, Message().Sub(1, Message().Sub(2, Message().Sub(3, query))));
  }
  Message responses;
  for (const auto& [code, response] : operation["responses"].items()) {
    Message body = Message().Text(1, TextOf(response["description"]));
    responses.Sub(1, Named(code, Message().Sub(1, body)));
  }
  out.Sub(9, responses);
  Extensions(out, 13, operation);
  return out;
}

}  // namespace

Json BuildV2(const std::vector<ResourceTypePtr>& types, const Emulation& emulation) {
  const std::string prefix = "#/definitions/";
  Json definitions = CommonDefinitions(prefix, true);
  Json paths = Json::object();
  for (const auto& type : types) {
    AddDefinitions(definitions, *type, prefix, true);
    AddJsonSchemaProps(definitions, *type, prefix, emulation);
    AddPaths(paths, *type, true, emulation);
  }
  return {{"swagger", "2.0"},
          {"info", Info(emulation)},
          {"paths", std::move(paths)},
          {"definitions", std::move(definitions)}};
}

Json BuildV3(const std::string& group, const std::string& version,
             const std::vector<ResourceTypePtr>& types, const Emulation& emulation) {
  const std::string prefix = "#/components/schemas/";
  Json schemas = CommonDefinitions(prefix, false);
  Json paths = Json::object();
  for (const auto& type : types) {
    if (type->group != group || type->version != version) continue;
    AddDefinitions(schemas, *type, prefix, false);
    AddJsonSchemaProps(schemas, *type, prefix, emulation);
    AddPaths(paths, *type, false, emulation);
  }
  Json document = {{"openapi", "3.0.0"}, {"info", Info(emulation)}, {"paths", std::move(paths)}};
  document["components"]["schemas"] = std::move(schemas);
  return document;
}

std::string EncodeV2(const Json& document) {
  static constexpr std::pair<const char*, int> kVerbs[] = {
      {"get", 2}, {"put", 3}, {"post", 4}, {"delete", 5}, {"patch", 8}};
  Message paths;
  for (const auto& [path, item] : document["paths"].items()) {
    Message encoded;
    for (const auto& [verb, number] : kVerbs) {
      if (item.contains(verb)) encoded.Sub(number, EncodeOperation(item[verb]));
    }
    paths.Sub(2, Named(path, encoded));
  }
  Message definitions;
  for (const auto& [name, schema] : document["definitions"].items()) {
    definitions.Sub(1, Named(name, EncodeSchema(schema)));
  }
  const Json& info = document["info"];
  return Message()
      .Text(1, "2.0")
      .Sub(2, Message().Text(1, TextOf(info["title"])).Text(2, TextOf(info["version"])))
      .Sub(8, paths)
      .Sub(9, definitions)
      .bytes();
}

}  // namespace pointsman::e2e::openapi
