// The verbs create and update, and what every write goes through.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "e2e/control-plane/api/api_server.h"
#include "e2e/control-plane/api/managed_fields.h"
#include "e2e/control-plane/api/metadata.h"
#include "e2e/control-plane/base/api_time.h"
#include "e2e/control-plane/registry/deletion.h"
#include "e2e/control-plane/registry/json_path.h"

namespace pointsman::e2e {
namespace {

constexpr int kMaxNameAttempts = 8;  // of a generated name that is taken
constexpr int kMaxUpdateAttempts =
    21;  // of an update without a resourceVersion that another write comes before

// What only the server writes into metadata.
constexpr std::array kServerFields{"uid", "creationTimestamp", "deletionTimestamp",
                                   "deletionGracePeriodSeconds", "generation"};

std::string RandomSuffix() {
  // Without vowels and look-alikes, as the API server's name generator.
  static constexpr std::string_view kLetters = "bcdfghjklmnpqrstvwxz2456789";
  thread_local std::mt19937_64 random{std::random_device{}()};
  std::string suffix;
  for (int i = 0; i < 5; ++i)
    suffix += kLetters[random() % kLetters.size()];
  return suffix;
}

// Everything but metadata and status: what the generation counts.
Json SpecOf(const Json& object, bool has_status) {
  Json copy = object;
  copy.erase("metadata");
  if (has_status) copy.erase("status");
  return copy;
}

ObjectPtr Unstored(const Json& object, std::uint64_t version) {
  auto stored = std::make_shared<StoredObject>();
  stored->name = StringAt(object, {"metadata", "name"});
  stored->ns = StringAt(object, {"metadata", "namespace"});
  stored->uid = StringAt(object, {"metadata", "uid"});
  stored->resource_version = version;
  stored->json = object.dump();
  return stored;
}

// Type errors of builtin types are decoding errors in a real API server.
void ThrowIfInvalid(const ResourceType& type, const std::string& name,
                    const std::vector<FieldError>& errors) {
  if (errors.empty()) return;
  if (!type.custom) {
    for (const FieldError& error : errors) {
      if (error.reason != "FieldValueTypeInvalid") continue;
      throw BadRequest(type.kind + " in version \"" + type.version + "\" cannot be handled as a " +
                       type.kind + ": json: cannot unmarshal field " + error.field + ": " +
                       error.message);
    }
  }
  throw Invalid(type.group, type.kind, name, errors);
}

void ApplyAllDefaults(Json& object, const ResourceType& type) {
  if (type.schema) type.schema->ApplyDefaults(object);
  if (type.apply_defaults) type.apply_defaults(object);
}

// Throws StatusError 400 or 422.
void ValidateObject(const Json& object, const Json* old, const ResourceType& type,
                    const std::string& name, const RequestInfo& info) {
  std::vector<FieldError> errors = ValidateMetadata(object, type);
  const auto add = [&](std::vector<FieldError>&& more) {
    std::move(more.begin(), more.end(), std::back_inserter(errors));
  };
  if (type.schema) add(type.schema->Validate(object, old));
  const bool typed = std::any_of(errors.begin(), errors.end(), [](const FieldError& e) {
    return e.reason == "FieldValueTypeInvalid";
  });
  if (type.validate && !typed) add(type.validate(object, old, info));
  ThrowIfInvalid(type, name, errors);
}

void CheckPreconditions(const Json& metadata, const Target& target, const StoredObject& before) {
  const ResourceType& type = *target.type;
  const std::string uid = metadata.value("uid", "");
  if (!uid.empty() && uid != before.uid) {
    throw Conflict(
        type.group, type.plural, target.name,
        "Precondition failed: UID in precondition: " + uid + ", UID in object meta: " + before.uid);
  }
  const std::string version = metadata.value("resourceVersion", "");
  if (!version.empty() && version != "0" &&
      ParseVersion("metadata.resourceVersion", version) != before.resource_version) {
    throw ModifiedMeanwhile(type, target.name);
  }
}

// A write of the status takes only that, and of the metadata what is not the owner's.
Json WithStatusOf(const Json& object, const Json& old, bool track) {
  Json next = old;
  if (object.contains("status")) {
    next["status"] = object["status"];
  } else {
    next.erase("status");
  }
  const Json& metadata = object["metadata"];
  if (!track && metadata.contains("managedFields") && !metadata["managedFields"].is_null())
    next["metadata"]["managedFields"] = metadata["managedFields"];
  return next;
}

void CopyOrErase(Json& object, const Json& old, const char* field) {
  if (old.contains(field)) {
    object[field] = old[field];
  } else {
    object.erase(field);
  }
}

// A write of anything else leaves the status alone, and what the server wrote into the metadata.
void KeepServersPart(Json& object, const Json& old, const Target& target) {
  const ResourceType& type = *target.type;
  if (type.has_status) CopyOrErase(object, old, "status");
  Json& metadata = object["metadata"];
  const Json& old_metadata = old["metadata"];
  for (const char* field : kServerFields)
    CopyOrErase(metadata, old_metadata, field);
  CopyOrErase(metadata, old_metadata, "generateName");
  if (!old_metadata.contains("deletionTimestamp") || !metadata.contains("finalizers")) return;
  const Json had = old_metadata.value("finalizers", Json::array());
  for (const Json& f : metadata["finalizers"]) {
    if (std::find(had.begin(), had.end(), f) != had.end()) continue;
    throw Invalid(type.group, type.kind, target.name,
                  {{"metadata.finalizers", "FieldValueForbidden",
                    "Forbidden: no new finalizers can be added if the object is being "
                    "deleted, found new finalizers []string{" +
                        f.dump() + "}"}});
  }
}

}  // namespace

void ApiServer::RequireNamespace(const Target& target, const std::string& name) const {
  if (!target.type->namespaced) return;
  const ObjectPtr ns = store_.Get("namespaces", "", target.ns);
  if (!ns) throw NotFound("", "namespaces", target.ns);
  if (At(ns->Parse(), {"metadata", "deletionTimestamp"}) != nullptr) {
    throw StatusError(403, "Forbidden",
                      target.type->plural + " \"" + name +
                          "\" is forbidden: unable to create new content in namespace " +
                          target.ns + " because it is being terminated",
                      Json{{"kind", target.type->plural},
                           {"name", name},
                           {"causes",
                            {{{"reason", "NamespaceTerminating"},
                              {"message", "namespace " + target.ns + " is being terminated"},
                              {"field", "metadata.namespace"}}}}});
  }
}

void ApiServer::Admit(const RequestContext& context, const Target& target, const char* operation,
                      const Json* object, const Json* old) const {
  const std::string name = target.name.empty() && object != nullptr
                               ? StringAt(*object, {"metadata", "name"})
                               : target.name;
  policies_.Check({context.user, *target.type, target.ns, name, target.subresource, operation,
                   object, old, context.dry_run});
}

// Of an object to be created: what its client may not set is dropped, what the type sets is filled
// in.
void ApiServer::PrepareCreation(RequestContext& context, const Target& target, Json& object,
                                const RequestInfo& info) const {
  const ResourceType& type = *target.type;
  CheckIdentity(object, target);
  if (!StringAt(object, {"metadata", "resourceVersion"}).empty()) {
    throw StatusError(500, "", "resourceVersion should not be set on objects to be created");
  }
  RequireNamespace(target, StringAt(object, {"metadata", "name"}));
  DropUnknownFields(object, target, context);
  Json& metadata = object["metadata"];
  for (const char* field : kServerFields)
    metadata.erase(field);
  metadata.erase("resourceVersion");
  if (type.has_status && type.custom) object.erase("status");
  if (type.prepare_for_create) type.prepare_for_create(object, info);
  if (type.generations) metadata["generation"] = 1;
}

ObjectPtr ApiServer::CreateObject(RequestContext& context, const Target& target, Json object) {
  const ResourceType& type = *target.type;
  const RequestInfo info = context.Info("");
  PrepareCreation(context, target, object, info);
  Json& metadata = object["metadata"];
  const bool tracked = metadata.contains("managedFields") && !metadata["managedFields"].is_null();
  const bool generated =
      metadata.value("name", "").empty() && !metadata.value("generateName", "").empty();
  for (int attempt = 1;; ++attempt) {
    if (generated)
      metadata["name"] = metadata.value("generateName", "").substr(0, 58) + RandomSuffix();
    const std::string name = metadata.value("name", "");
    if (attempt == 1) ApplyAllDefaults(object, type);
    ValidateObject(object, nullptr, type, name, info);
    if (attempt == 1) {
      Admit(context, target, "CREATE", &object, nullptr);
      if (!tracked)
        TrackUpdate(object, nullptr, {context.manager, type.GroupVersion(), ""},
                    type.open_api_schema);
    }
    if (type.allocate) type.allocate(object, nullptr, info);
    if (type.custom) object["apiVersion"] = type.group + "/" + type.storage_version;
    if (context.dry_run) {
      if (store_.Get(type.StoreName(), target.ns, name))
        throw AlreadyExists(type.group, type.plural, name);
      metadata["uid"] = "00000000-0000-4000-8000-000000000000";
      metadata["creationTimestamp"] = FormatTime(std::chrono::system_clock::now());
      return Unstored(object, 0);
    }
    try {
      ObjectPtr stored = store_.Create(type.StoreName(), object);
      if (type.after_write) {
        const Json now = stored->Parse();
        type.after_write(nullptr, &now);
      }
      return stored;
    } catch (const StatusError& error) {
      if (type.abandon) type.abandon(object, nullptr);
      if (error.code() != 409 || !generated || attempt == kMaxNameAttempts) throw;
    }
  }
}

ObjectPtr ApiServer::UpdateObject(RequestContext& context, const Target& target,
                                  const ObjectPtr& before, Json object, bool track) {
  const ResourceType& type = *target.type;
  const bool status = target.subresource == "status";
  CheckIdentity(object, target);
  DropUnknownFields(object, target, context);
  const Json stored = before->Parse();
  Json old = stored;
  old["apiVersion"] = type.GroupVersion();
  CheckPreconditions(object["metadata"], target, *before);
  if (status) {
    object = WithStatusOf(object, old, track);
  } else {
    KeepServersPart(object, old, target);
  }
  const RequestInfo info = context.Info(target.subresource);
  if (type.prepare_for_update) type.prepare_for_update(object, old, info);
  ApplyAllDefaults(object, type);
  ValidateObject(object, &old, type, target.name, info);
  Admit(context, target, "UPDATE", &object, &old);
  if (!status && type.allocate) type.allocate(object, &old, info);
  if (type.generations && !status &&
      SpecOf(object, type.has_status) != SpecOf(old, type.has_status))
    object["metadata"]["generation"] = old["metadata"].value("generation", 0) + 1;
  object["metadata"]["resourceVersion"] = std::to_string(before->resource_version);
  if (track) {
    TrackUpdate(object, &old, {context.manager, type.GroupVersion(), target.subresource},
                type.open_api_schema);
  }
  if (type.custom) object["apiVersion"] = type.group + "/" + type.storage_version;
  if (context.dry_run) {
    if (!status && type.abandon) type.abandon(object, &old);
    return Unstored(object, before->resource_version);
  }
  try {
    ObjectPtr result = store_.Update(type.StoreName(), object, before->resource_version);
    if (result->resource_version != before->resource_version) {
      if (type.after_write) {
        const Json now = result->Parse();
        type.after_write(&stored, &now);
      }
      RemoveIfFinalized(store_, type, result);
    }
    return result;
  } catch (const StatusError&) {
    if (!status && type.abandon) type.abandon(object, &old);
    throw;
  }
}

void ApiServer::Create(RequestContext& context, const Target& target) {
  if (target.type->namespaced && target.ns.empty()) throw MethodNotAllowed();
  const Json body = DecodeBody(context.request, target.type->kind, !target.type->custom);
  Answer(context, 201, target, CreateObject(context, target, body));
}

void ApiServer::Update(RequestContext& context, const Target& target) {
  const Json object = DecodeBody(context.request, target.type->kind, !target.type->custom);
  const bool unconditional = StringAt(object, {"metadata", "resourceVersion"}).empty();
  if (unconditional && !target.type->unconditional_update &&
      store_.Get(target.type->StoreName(), target.ns, target.name)) {
    throw Invalid(target.type->group, target.type->plural, target.name,
                  {{"metadata.resourceVersion", "FieldValueInvalid",
                    "Invalid value: 0x0: must be specified for an update"}});
  }
  for (int attempt = 1;; ++attempt) {
    const ObjectPtr before = store_.Get(target.type->StoreName(), target.ns, target.name);
    if (!before && target.type->created_by_update && target.subresource.empty()) {
      AccessRequest access = AccessOf(context.request, target);
      access.verb = "create";
      Authorize(context, access);
      Json fresh = object;
      CheckIdentity(fresh, target);
      fresh["metadata"].erase("resourceVersion");
      return Answer(context, 201, target, CreateObject(context, target, std::move(fresh)));
    }
    if (!before) throw NotFound(target.type->group, target.type->plural, target.name);
    try {
      return Answer(context, 200, target, UpdateObject(context, target, before, object, true));
    } catch (const StatusError& error) {
      if (error.code() != 409 || !unconditional || attempt == kMaxUpdateAttempts) throw;
    }
  }
}

}  // namespace pointsman::e2e
