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
#include "e2e/control-plane/registry/api_time.h"
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

std::string randomSuffix() {
  // Without vowels and look-alikes, as the API server's name generator.
  static constexpr std::string_view kLetters = "bcdfghjklmnpqrstvwxz2456789";
  thread_local std::mt19937_64 random{std::random_device{}()};
  std::string suffix;
  for (int i = 0; i < 5; ++i)
    suffix += kLetters[random() % kLetters.size()];
  return suffix;
}

// Everything but metadata and status: what the generation counts.
Json specOf(const Json& object, bool hasStatus) {
  Json copy = object;
  copy.erase("metadata");
  if (hasStatus) copy.erase("status");
  return copy;
}

ObjectPtr unstored(const Json& object, std::uint64_t version) {
  auto stored = std::make_shared<StoredObject>();
  stored->name = stringAt(object, {"metadata", "name"});
  stored->ns = stringAt(object, {"metadata", "namespace"});
  stored->uid = stringAt(object, {"metadata", "uid"});
  stored->resourceVersion = version;
  stored->json = object.dump();
  return stored;
}

// Type errors of builtin types are decoding errors in a real API server.
void throwIfInvalid(const ResourceType& type, const std::string& name,
                    const std::vector<FieldError>& errors) {
  if (errors.empty()) return;
  if (!type.custom) {
    for (const FieldError& error : errors) {
      if (error.reason != "FieldValueTypeInvalid") continue;
      throw badRequest(type.kind + " in version \"" + type.version + "\" cannot be handled as a " +
                       type.kind + ": json: cannot unmarshal field " + error.field + ": " +
                       error.message);
    }
  }
  throw invalid(type.group, type.kind, name, errors);
}

void applyAllDefaults(Json& object, const ResourceType& type) {
  if (type.schema) type.schema->applyDefaults(object);
  if (type.applyDefaults) type.applyDefaults(object);
}

// Throws StatusError 400 or 422.
void validateObject(const Json& object, const Json* old, const ResourceType& type,
                    const std::string& name, const RequestInfo& info) {
  std::vector<FieldError> errors = validateMetadata(object, type);
  const auto add = [&](std::vector<FieldError>&& more) {
    std::move(more.begin(), more.end(), std::back_inserter(errors));
  };
  if (type.schema) add(type.schema->validate(object, old));
  const bool typed = std::any_of(errors.begin(), errors.end(), [](const FieldError& e) {
    return e.reason == "FieldValueTypeInvalid";
  });
  if (type.validate && !typed) add(type.validate(object, old, info));
  throwIfInvalid(type, name, errors);
}

void checkPreconditions(const Json& metadata, const Target& target, const StoredObject& before) {
  const ResourceType& type = *target.type;
  const std::string uid = metadata.value("uid", "");
  if (!uid.empty() && uid != before.uid) {
    throw conflict(
        type.group, type.plural, target.name,
        "Precondition failed: UID in precondition: " + uid + ", UID in object meta: " + before.uid);
  }
  const std::string version = metadata.value("resourceVersion", "");
  if (!version.empty() && version != "0" &&
      parseVersion("metadata.resourceVersion", version) != before.resourceVersion) {
    throw modifiedMeanwhile(type, target.name);
  }
}

// A write of the status takes only that, and of the metadata what is not the owner's.
Json withStatusOf(const Json& object, const Json& old, bool track) {
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

void copyOrErase(Json& object, const Json& old, const char* field) {
  if (old.contains(field)) {
    object[field] = old[field];
  } else {
    object.erase(field);
  }
}

// A write of anything else leaves the status alone, and what the server wrote into the metadata.
void keepServersPart(Json& object, const Json& old, const Target& target) {
  const ResourceType& type = *target.type;
  if (type.hasStatus) copyOrErase(object, old, "status");
  Json& metadata = object["metadata"];
  const Json& oldMetadata = old["metadata"];
  for (const char* field : kServerFields)
    copyOrErase(metadata, oldMetadata, field);
  copyOrErase(metadata, oldMetadata, "generateName");
  if (!oldMetadata.contains("deletionTimestamp") || !metadata.contains("finalizers")) return;
  const Json had = oldMetadata.value("finalizers", Json::array());
  for (const Json& f : metadata["finalizers"]) {
    if (std::find(had.begin(), had.end(), f) != had.end()) continue;
    throw invalid(type.group, type.kind, target.name,
                  {{"metadata.finalizers", "FieldValueForbidden",
                    "Forbidden: no new finalizers can be added if the object is being "
                    "deleted, found new finalizers []string{" +
                        f.dump() + "}"}});
  }
}

}  // namespace

void ApiServer::requireNamespace(const Target& target) const {
  if (!target.type->namespaced) return;
  const ObjectPtr ns = store_.get("namespaces", "", target.ns);
  if (!ns) throw notFound("", "namespaces", target.ns);
  if (at(ns->parse(), {"metadata", "deletionTimestamp"}) != nullptr) {
    throw StatusError(403, "Forbidden",
                      target.type->plural +
                          " is forbidden: unable to create new content in namespace " + target.ns +
                          " because it is being terminated",
                      Json{{"kind", target.type->plural},
                           {"causes",
                            {{{"reason", "NamespaceTerminating"},
                              {"message", "namespace " + target.ns + " is being terminated"},
                              {"field", "metadata.namespace"}}}}});
  }
}

void ApiServer::admit(const RequestContext& context, const Target& target, const char* operation,
                      const Json* object, const Json* old) const {
  const std::string name = target.name.empty() && object != nullptr
                               ? stringAt(*object, {"metadata", "name"})
                               : target.name;
  policies_.check({context.user, *target.type, target.ns, name, target.subresource, operation,
                   object, old, context.dryRun});
}

// Of an object to be created: what its client may not set is dropped, what the type sets is filled
// in.
void ApiServer::prepareCreation(RequestContext& context, const Target& target, Json& object,
                                const RequestInfo& info) const {
  const ResourceType& type = *target.type;
  checkIdentity(object, target);
  if (!stringAt(object, {"metadata", "resourceVersion"}).empty()) {
    throw badRequest("resourceVersion should not be set on objects to be created");
  }
  requireNamespace(target);
  dropUnknownFields(object, target, context);
  Json& metadata = object["metadata"];
  for (const char* field : kServerFields)
    metadata.erase(field);
  metadata.erase("resourceVersion");
  if (type.hasStatus && type.custom) object.erase("status");
  if (type.prepareForCreate) type.prepareForCreate(object, info);
  if (type.generations) metadata["generation"] = 1;
}

ObjectPtr ApiServer::createObject(RequestContext& context, const Target& target, Json object) {
  const ResourceType& type = *target.type;
  const RequestInfo info = context.info("");
  prepareCreation(context, target, object, info);
  Json& metadata = object["metadata"];
  const bool tracked = metadata.contains("managedFields") && !metadata["managedFields"].is_null();
  const bool generated =
      metadata.value("name", "").empty() && !metadata.value("generateName", "").empty();
  for (int attempt = 1;; ++attempt) {
    if (generated)
      metadata["name"] = metadata.value("generateName", "").substr(0, 58) + randomSuffix();
    const std::string name = metadata.value("name", "");
    if (attempt == 1) applyAllDefaults(object, type);
    validateObject(object, nullptr, type, name, info);
    if (attempt == 1) {
      admit(context, target, "CREATE", &object, nullptr);
      if (!tracked)
        trackUpdate(object, nullptr, {context.manager, type.groupVersion(), ""},
                    type.openApiSchema);
    }
    if (type.allocate) type.allocate(object, nullptr, info);
    if (type.custom) object["apiVersion"] = type.group + "/" + type.storageVersion;
    if (context.dryRun) {
      if (store_.get(type.storeName(), target.ns, name))
        throw alreadyExists(type.group, type.plural, name);
      metadata["uid"] = "00000000-0000-4000-8000-000000000000";
      metadata["creationTimestamp"] = formatTime(std::chrono::system_clock::now());
      return unstored(object, 0);
    }
    try {
      ObjectPtr stored = store_.create(type.storeName(), object);
      if (type.afterWrite) {
        const Json now = stored->parse();
        type.afterWrite(nullptr, &now);
      }
      return stored;
    } catch (const StatusError& error) {
      if (type.abandon) type.abandon(object, nullptr);
      if (error.code() != 409 || !generated || attempt == kMaxNameAttempts) throw;
    }
  }
}

ObjectPtr ApiServer::updateObject(RequestContext& context, const Target& target,
                                  const ObjectPtr& before, Json object, bool track) {
  const ResourceType& type = *target.type;
  const bool status = target.subresource == "status";
  checkIdentity(object, target);
  dropUnknownFields(object, target, context);
  const Json stored = before->parse();
  Json old = stored;
  old["apiVersion"] = type.groupVersion();
  checkPreconditions(object["metadata"], target, *before);
  if (status) {
    object = withStatusOf(object, old, track);
  } else {
    keepServersPart(object, old, target);
  }
  const RequestInfo info = context.info(target.subresource);
  if (type.prepareForUpdate) type.prepareForUpdate(object, old, info);
  applyAllDefaults(object, type);
  validateObject(object, &old, type, target.name, info);
  admit(context, target, "UPDATE", &object, &old);
  if (!status && type.allocate) type.allocate(object, &old, info);
  if (type.generations && !status && specOf(object, type.hasStatus) != specOf(old, type.hasStatus))
    object["metadata"]["generation"] = old["metadata"].value("generation", 0) + 1;
  object["metadata"]["resourceVersion"] = std::to_string(before->resourceVersion);
  if (track) {
    trackUpdate(object, &old, {context.manager, type.groupVersion(), target.subresource},
                type.openApiSchema);
  }
  if (type.custom) object["apiVersion"] = type.group + "/" + type.storageVersion;
  if (context.dryRun) {
    if (!status && type.abandon) type.abandon(object, &old);
    return unstored(object, before->resourceVersion);
  }
  try {
    ObjectPtr result = store_.update(type.storeName(), object, before->resourceVersion);
    if (result->resourceVersion != before->resourceVersion) {
      if (type.afterWrite) {
        const Json now = result->parse();
        type.afterWrite(&stored, &now);
      }
      removeIfFinalized(store_, type, result);
    }
    return result;
  } catch (const StatusError&) {
    if (!status && type.abandon) type.abandon(object, &old);
    throw;
  }
}

void ApiServer::create(RequestContext& context, const Target& target) {
  if (target.type->namespaced && target.ns.empty()) throw methodNotAllowed();
  const Json body = decodeBody(context.request, target.type->kind, !target.type->custom);
  answer(context, 201, target, createObject(context, target, body));
}

void ApiServer::update(RequestContext& context, const Target& target) {
  const Json object = decodeBody(context.request, target.type->kind, !target.type->custom);
  const bool unconditional = stringAt(object, {"metadata", "resourceVersion"}).empty();
  if (unconditional && target.type->custom) {
    throw invalid(target.type->group, target.type->kind, target.name,
                  {{"metadata.resourceVersion", "FieldValueInvalid",
                    "Invalid value: 0x0: must be specified for an update"}});
  }
  for (int attempt = 1;; ++attempt) {
    const ObjectPtr before = store_.get(target.type->storeName(), target.ns, target.name);
    if (!before) throw notFound(target.type->group, target.type->plural, target.name);
    try {
      return answer(context, 200, target, updateObject(context, target, before, object, true));
    } catch (const StatusError& error) {
      if (error.code() != 409 || !unconditional || attempt == kMaxUpdateAttempts) throw;
    }
  }
}

}  // namespace pointsman::e2e
