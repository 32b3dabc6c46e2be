#include "e2e/control-plane/api/patch.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <string_view>

namespace pointsman::e2e {
namespace {

const Json& NoSchema() {
  static const Json none = Json::object();
  return none;
}

const Json& ChildSchema(const Json& schema, const std::string& field) {
  if (!schema.is_object()) return NoSchema();
  if (const auto properties = schema.find("properties"); properties != schema.end()) {
    if (const auto child = properties->find(field); child != properties->end()) return *child;
  }
  if (const auto additional = schema.find("additionalProperties");
      additional != schema.end() && additional->is_object()) {
    return *additional;
  }
  return NoSchema();
}

constexpr std::string_view kDelete = "$deleteFromPrimitiveList/";
constexpr std::string_view kOrder = "$setElementOrder/";

// metadata is not spelled out in the schemas of the types.
const Json& MetadataPatchSchema() {
  static const Json schema = Json::parse(R"({"properties":{
    "finalizers":{"x-kubernetes-patch-strategy":"merge"},
    "ownerReferences":{"x-kubernetes-patch-strategy":"merge","x-kubernetes-patch-merge-key":"uid"}}})");
  return schema;
}

void MergeObject(Json& target, const Json& patch, const Json& schema, bool root);

Json WithoutDirectives(const Json& value, const Json& schema) {
  if (!value.is_object()) return value;
  Json clean = Json::object();
  MergeObject(clean, value, schema, false);
  return clean;
}

void OrderBy(Json& list, const Json& order, const std::string& key) {
  const auto rank = [&](const Json& item) -> std::size_t {
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (key.empty() ? order[i] == item
                      : item.is_object() && order[i].is_object() && order[i].contains(key) &&
                            item.contains(key) && order[i][key] == item[key]) {
        return i;
      }
    }
    return order.size();
  };
  // Items of the order take their order; the others keep their places relative to each other.
  std::stable_sort(list.begin(), list.end(),
                   [&](const Json& a, const Json& b) { return rank(a) < rank(b); });
}

void MergeList(Json& target, const Json& patch, const Json& schema) {
  const std::string key = schema.value("x-kubernetes-patch-merge-key", "");
  if (key.empty()) {
    for (const Json& item : patch) {
      if (std::find(target.begin(), target.end(), item) == target.end()) target.push_back(item);
    }
    return;
  }
  const Json& item_schema = schema.contains("items") ? schema["items"] : NoSchema();
  for (const Json& item : patch) {
    if (item.is_object() && item.value("$patch", "") == "replace") {
      target = Json::array();
      for (const Json& other : patch) {
        if (!other.is_object() || !other.contains("$patch")) target.push_back(other);
      }
      return;
    }
  }
  for (const Json& item : patch) {
    if (!item.is_object() || !item.contains(key)) {
      throw BadRequest("map: " + item.dump() + " does not contain declared merge key: " + key);
    }
    const auto same = [&](const Json& t) {
      return t.is_object() && t.contains(key) && t[key] == item[key];
    };
    if (item.value("$patch", "") == "delete") {
      target.erase(std::remove_if(target.begin(), target.end(), same), target.end());
      continue;
    }
    const auto found = std::find_if(target.begin(), target.end(), same);
    if (found == target.end()) {
      target.push_back(WithoutDirectives(item, item_schema));
    } else {
      MergeObject(*found, item, item_schema, false);
    }
  }
}

void MergeObject(Json& target, const Json& patch, const Json& schema, bool root) {
  if (const auto directive = patch.find("$patch"); directive != patch.end()) {
    if (*directive == "replace") {
      target = patch;
      target.erase("$patch");
      return;
    }
    if (*directive == "delete") {
      target = Json::object();
      return;
    }
    if (*directive != "merge") {
      throw BadRequest("Unknown patch type found: " + directive->dump());
    }
  }
  if (const auto retain = patch.find("$retainKeys"); retain != patch.end() && retain->is_array()) {
    for (auto member = target.begin(); member != target.end();) {
      const bool keep = std::find(retain->begin(), retain->end(), member.key()) != retain->end();
      member = keep ? std::next(member) : target.erase(member);
    }
  }
  for (const auto& [field, value] : patch.items()) {
    if (field == "$patch" || field == "$retainKeys" || field.starts_with(kOrder)) continue;
    if (field.starts_with(kDelete)) {
      const std::string name = field.substr(kDelete.size());
      if (!target.contains(name) || !target[name].is_array() || !value.is_array()) continue;
      Json& list = target[name];
      list.erase(std::remove_if(list.begin(), list.end(),
                                [&gone = value](const Json& item) {
                                  return std::find(gone.begin(), gone.end(), item) != gone.end();
                                }),
                 list.end());
      continue;
    }
    if (value.is_null()) {
      target.erase(field);
      continue;
    }
    const Json& child =
        root && field == "metadata" ? MetadataPatchSchema() : ChildSchema(schema, field);
    if (value.is_object()) {
      const std::string strategy = child.value("x-kubernetes-patch-strategy", "");
      if (!target.contains(field) || !target[field].is_object() || strategy == "replace") {
        target[field] = WithoutDirectives(value, child);
        if (value.value("$patch", "") == "delete") target.erase(field);
        continue;
      }
      if (value.contains("$patch") && value["$patch"] == "delete") {
        target.erase(field);
        continue;
      }
      MergeObject(target[field], value, child, false);
    } else if (value.is_array()) {
      const std::string strategy = child.value("x-kubernetes-patch-strategy", "");
      if (strategy.find("merge") == std::string::npos) {
        target[field] = value;
        continue;
      }
      if (!target.contains(field) || !target[field].is_array()) target[field] = Json::array();
      MergeList(target[field], value, child);
    } else {
      target[field] = value;
    }
  }
  for (const auto& [field, value] : patch.items()) {
    if (!field.starts_with(kOrder) || !value.is_array()) continue;
    const std::string name = field.substr(kOrder.size());
    if (!target.contains(name) || !target[name].is_array()) continue;
    const Json& child =
        root && name == "metadata" ? MetadataPatchSchema() : ChildSchema(schema, name);
    OrderBy(target[name], value, child.value("x-kubernetes-patch-merge-key", ""));
  }
}

}  // namespace

void ApplyJsonPatch(Json& object, const Json& patch) {
  if (!patch.is_array()) throw BadRequest("json: a JSON patch is an array of operations");
  try {
    object = object.patch(patch);
  } catch (const Json::parse_error& e) {
    throw BadRequest(std::string("error decoding patch: ") + e.what());
  } catch (const Json::exception& e) {
    // Testing what is not so, or a path that is not there: 422, as the API server answers.
    throw StatusError(
        422, "Invalid",
        std::string("the server rejected our request due to an error in our request: ") + e.what(),
        Json::object());
  }
}

void ApplyMergePatch(Json& object, const Json& patch) {
  if (!patch.is_object()) throw BadRequest("error decoding patch: a merge patch is an object");
  object.merge_patch(patch);
}

void ApplyStrategicMergePatch(Json& object, const Json& patch, const Json& schema) {
  if (!patch.is_object())
    throw BadRequest("error decoding patch: a strategic merge patch is an object");
  MergeObject(object, patch, schema, true);
}

}  // namespace pointsman::e2e
