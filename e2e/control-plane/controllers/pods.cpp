#include "e2e/control-plane/controllers/pods.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <iomanip>
#include <iterator>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "e2e/control-plane/controllers/controller.h"
#include "e2e/control-plane/registry/deletion.h"

namespace pointsman::e2e {
namespace {

const ResourceType& PodType(const ResourceTypePtr& type) {
  if (!type) throw std::logic_error("pods are not a registered type");
  return *type;
}

const Json* ReadyCondition(const Json& pod) {
  const Json::json_pointer conditions("/status/conditions");
  if (!pod.contains(conditions)) return nullptr;
  for (const Json& condition : pod[conditions]) {
    if (condition.value("type", "") == "Ready") return &condition;
  }
  return nullptr;
}

}  // namespace

Json ControllerReference(const Json& owner) {
  const Json& meta = owner["metadata"];
  return {{"apiVersion", owner["apiVersion"]},
          {"kind", owner["kind"]},
          {"name", meta["name"]},
          {"uid", meta["uid"]},
          {"controller", true},
          {"blockOwnerDeletion", true}};
}

bool DropOwner(Json& object, const std::string& uid) {
  const Json owners = object["metadata"].value("ownerReferences", Json::array());
  Json kept = Json::array();
  std::copy_if(owners.begin(), owners.end(), std::back_inserter(kept),
               [&](const Json& owner) { return owner.value("uid", "") != uid; });
  if (kept.size() == owners.size()) return false;
  if (kept.empty()) {
    object["metadata"].erase("ownerReferences");
  } else {
    object["metadata"]["ownerReferences"] = std::move(kept);
  }
  return true;
}

Json PodFromTemplate(const Json& owner, const Json& pod_template) {
  const Json& meta = owner["metadata"];
  const std::string prefix = meta["name"].get<std::string>() + "-";
  const Json template_meta = pod_template.value("metadata", Json::object());
  Json pod = {{"apiVersion", "v1"},
              {"kind", "Pod"},
              {"metadata",
               {{"namespace", meta["namespace"]},
                {"generateName", prefix},
                {"name", GeneratedName(prefix)},
                {"labels", template_meta.value("labels", Json::object())},
                {"ownerReferences", Json::array({ControllerReference(owner)})}}},
              {"spec", pod_template["spec"]}};
  if (template_meta.contains("annotations"))
    pod["metadata"]["annotations"] = template_meta["annotations"];
  return pod;
}

ObjectPtr CreatePod(Store& store, Registry& registry, Json pod) {
  const ResourceTypePtr found = registry.Find("", "v1", "pods");
  const ResourceType& type = PodType(found);
  if (type.prepare_for_create) type.prepare_for_create(pod, {});
  if (type.apply_defaults) type.apply_defaults(pod);
  if (type.validate) {
    const auto errors = type.validate(pod, nullptr, {});
    if (!errors.empty()) throw Invalid("", "Pod", pod["metadata"]["name"], errors);
  }
  return store.Create("pods", std::move(pod));
}

void DeletePod(Store& store, Registry& registry, const Json& pod) {
  if (IsTerminating(pod)) return;
  const ResourceTypePtr found = registry.Find("", "v1", "pods");
  try {
    DeleteObject(store, PodType(found), pod["metadata"]["namespace"].get<std::string>(),
                 pod["metadata"]["name"].get<std::string>());
  } catch (const StatusError& error) {
    if (error.code() != 404) throw;
  }
}

bool IsReady(const Json& pod) {
  const Json* ready = ReadyCondition(pod);
  return ready != nullptr && ready->value("status", "") == "True";
}

std::optional<std::chrono::system_clock::time_point> ReadySince(const Json& pod) {
  if (!IsReady(pod)) return std::nullopt;
  std::istringstream text(ReadyCondition(pod)->value("lastTransitionTime", ""));
  std::tm parts{};
  text >> std::get_time(&parts, "%Y-%m-%dT%H:%M:%SZ");
  if (text.fail()) return std::nullopt;
  return std::chrono::system_clock::from_time_t(timegm(&parts));
}

bool IsTerminating(const Json& object) {
  return object["metadata"].contains("deletionTimestamp");
}

bool HasEnded(const Json& pod) {
  const std::string phase = pod.value("/status/phase"_json_pointer, "");
  return phase == "Failed" || phase == "Succeeded";
}

bool IsControlledBy(const Json& object, const Json& owner) {
  const Json owners = object["metadata"].value("ownerReferences", Json::array());
  return std::any_of(owners.begin(), owners.end(), [&](const Json& reference) {
    return reference.value("controller", false) &&
           reference.value("uid", "") == owner["metadata"]["uid"];
  });
}

std::string ControllerKey(const StoredObject& object, const std::string& kind) {
  if (object.json.find("\"ownerReferences\"") == std::string::npos) return "";
  const Json owners = object.Parse()["metadata"].value("ownerReferences", Json::array());
  for (const Json& owner : owners) {
    if (owner.value("kind", "") == kind && owner.value("controller", false))
      return JoinKey(object.ns, owner.value("name", ""));
  }
  return "";
}

std::string HashOf(const Json& value) {
  uint64_t hash = 1469598103934665603ULL;  // FNV-1a
  for (unsigned char c : value.dump())
    hash = (hash ^ c) * 1099511628211ULL;
  return fmt::format("{:010x}", hash & 0xffffffffffULL);
}

int64_t Share(const Json& value, int64_t total, bool round_up) {
  if (value.is_number()) return value.get<int64_t>();
  const int64_t percent = std::stoll(value.get<std::string>());
  return (total * percent + (round_up ? 99 : 0)) / 100;
}

}  // namespace pointsman::e2e
