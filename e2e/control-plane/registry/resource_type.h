#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "e2e/control-plane/base/status_error.h"
#include "e2e/control-plane/store/store.h"

namespace pointsman::e2e {

// The API server version that is imitated: what is served, what is validated and how it is worded.
struct Emulation {
  int minor = 35;  // 20 … 35
  bool AtLeast(int m) const { return minor >= m; }
};

// A schema made ready for use: of a CRD's version or of a builtin type. Implemented in
// e2e/control-plane/schema. Immutable and thread-safe.
class ObjectSchema {
 public:
  virtual ~ObjectSchema() = default;

  // Fills in defaults, as structural schemas define them (also inside lists and maps).
  virtual void ApplyDefaults(Json& object) const = 0;

  // Drops every field the schema does not know, and adds its path ("spec.foo",
  // "spec.ports[0].bar") to `dropped`. apiVersion, kind and metadata are left alone.
  virtual void Prune(Json& object, std::vector<std::string>& dropped) const = 0;

  // All violations. `old` is null on creation (transition rules of CEL and ratcheting use it).
  virtual std::vector<FieldError> Validate(const Json& object, const Json* old) const = 0;
};
using ObjectSchemaPtr = std::shared_ptr<const ObjectSchema>;

// Makes schemas of OpenAPI v3 text and OpenAPI documents of types; implemented in
// e2e/control-plane/schema. Thread-safe.
struct ResourceType;
using ResourceTypePtr = std::shared_ptr<const ResourceType>;
class SchemaProvider {
 public:
  virtual ~SchemaProvider() = default;

  // Checks that a CRD's openAPIV3Schema is structural and well-formed, as the apiextensions API
  // server does; paths begin with `path` (e.g. "spec.versions[0].schema.openAPIV3Schema").
  virtual std::vector<FieldError> Check(const Json& open_api_v3_schema,
                                        const std::string& path) const = 0;

  // `preserveUnknown`: types the schema leaves open stay open (builtin types pass false).
  virtual ObjectSchemaPtr Compile(const Json& open_api_v3_schema) const = 0;

  // /openapi/v2 as JSON and as gnostic protobuf (com.github.proto-openapi.spec.v2@v1.0+protobuf),
  // of all served types.
  virtual std::string OpenApiV2Json(const std::vector<ResourceTypePtr>& types) const = 0;
  virtual std::string OpenApiV2Protobuf(const std::vector<ResourceTypePtr>& types) const = 0;

  // /openapi/v3/apis/GROUP/VERSION (or /openapi/v3/api/v1) of the types of that group version.
  virtual std::string OpenApiV3Json(const std::string& group, const std::string& version,
                                    const std::vector<ResourceTypePtr>& types) const = 0;
};

// Who asks, for hooks.
struct RequestInfo {
  std::string user;
  std::vector<std::string> groups;
  bool dry_run = false;
  // Warning headers to answer with.
  std::vector<std::string>* warnings = nullptr;
  // "" or "status".
  std::string subresource;
};

struct TableColumn {
  std::string name;
  std::string type = "string";  // string, integer, number, boolean, date
  std::string format;           // "name" for the first column
  std::string description;
  int priority = 0;  // above 0: only with -o wide
};

// One served resource in one version. Everything the generic handlers need to know of it.
// Immutable once registered.
struct ResourceType {
  std::string group;    // empty for core
  std::string version;  // "v1"
  std::string plural;   // "endpointslices"
  std::string singular;
  std::string kind;
  std::string list_kind;  // kind + "List"
  std::vector<std::string> short_names;
  std::vector<std::string> categories;
  bool namespaced = true;
  bool has_status = false;
  bool custom = false;  // from a CustomResourceDefinition
  // metadata.generation is kept: it rises with every change outside metadata and status.
  bool generations = false;
  // A PUT of what is not there creates it (AllowCreateOnUpdate); an apply always does.
  bool created_by_update = false;
  // A PUT without a resourceVersion is taken for the newest (AllowUnconditionalUpdate).
  bool unconditional_update = true;
  // DELETE answers with the object and not with a Status (ReturnDeletedObject).
  bool returned_when_deleted = false;
  // The version objects are stored in (the same schema family; only apiVersion differs).
  std::string storage_version;

  // The OpenAPI v3 schema of the whole object, with x-kubernetes-* extensions (list-map-keys,
  // list-type, patch-merge-key, patch-strategy, int-or-string, preserve-unknown-fields,
  // embedded-resource). Builtin types have one as well; it says what fields exist.
  Json open_api_schema;
  ObjectSchemaPtr schema;  // compiled; null: nothing is known (then nothing is dropped)

  // Hooks; all may be empty. They may throw StatusError.
  // After the schema's own defaults, on creation and on update.
  std::function<void(Json& object)> apply_defaults;
  // After the schema's own validation. old is null on creation.
  std::function<std::vector<FieldError>(const Json& object, const Json* old, const RequestInfo&)>
      validate;
  // Before defaulting and validation: drop what clients may not set, fill in what the server sets.
  std::function<void(Json& object, const RequestInfo&)> prepare_for_create;
  std::function<void(Json& object, const Json& old, const RequestInfo&)> prepare_for_update;
  // After validation, before the store: take resources (cluster IPs, node ports) for `object`;
  // old is null on creation. Not called for dry runs of `allocate` needing side effects: with
  // info.dry_run it must fill in plausible values and keep nothing.
  std::function<void(Json& object, const Json* old, const RequestInfo&)> allocate;
  // The write after allocate() failed: give back what it took.
  std::function<void(const Json& object, const Json* old)> abandon;
  // The write is done. Creation: old is null. Removal: now is null.
  std::function<void(const Json* old, const Json* now)> after_write;

  std::vector<TableColumn> columns;
  // The cells of one row, as many as columns. Ages are computed from `now`.
  std::function<std::vector<Json>(const Json& object, std::chrono::system_clock::time_point now)>
      cells;
  // See Store::SetFieldIndexer; also names the selectable fields (beside metadata.*).
  std::vector<std::string> selectable_fields;

  std::string GroupVersion() const { return group.empty() ? version : group + "/" + version; }
  // The name in the store.
  ResourceName StoreName() const { return group.empty() ? plural : group + "/" + plural; }
};

// The served types. Thread-safe; readers take snapshots.
class Registry {
 public:
  using Types = std::vector<ResourceTypePtr>;

  // Adds, or replaces the one of the same group, version and plural.
  void Add(ResourceType type);
  void Remove(const std::string& group, const std::string& version, const std::string& plural);
  ResourceTypePtr Find(std::string_view group, std::string_view version,
                       std::string_view plural) const;
  // Any served version, the storage version first; null if none.
  ResourceTypePtr FindByStoreName(const ResourceName& name) const;
  ResourceTypePtr FindByKind(std::string_view group, std::string_view version,
                             std::string_view kind) const;
  std::shared_ptr<const Types> types() const;
  // Rises with every change; OpenAPI documents are made again then.
  std::uint64_t generation() const;

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const Types> types_ = std::make_shared<const Types>();
  std::uint64_t generation_ = 0;
};

}  // namespace pointsman::e2e
