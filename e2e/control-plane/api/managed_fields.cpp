#include "e2e/control-plane/api/managed_fields.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "e2e/control-plane/registry/api_time.h"
#include "e2e/control-plane/registry/json_path.h"

namespace pointsman::e2e {
namespace {

/// A set of fields as a tree: the keys are FieldsV1 path elements ("f:spec", "k:{…}", "v:…").
struct FieldSet {
  bool self = false;  // the path to here is a member
  std::map<std::string, FieldSet> children;

  bool empty() const { return !self && children.empty(); }

  Json toJson() const {
    Json out = Json::object();
    for (const auto& [key, child] : children) {
      out[key] = child.toJson();
      if (child.self && !child.children.empty()) out[key]["."] = Json::object();
    }
    return out;
  }
  static FieldSet fromJson(const Json& json) {
    FieldSet set;
    if (!json.is_object()) return set;
    for (const auto& [key, value] : json.items()) {
      if (key == ".") {
        set.self = true;
        continue;
      }
      FieldSet child = fromJson(value);
      if (value.empty()) child.self = true;
      set.children[key] = std::move(child);
    }
    return set;
  }
  bool contains(const std::vector<std::string>& path) const {
    const FieldSet* set = this;
    for (const std::string& element : path) {
      const auto found = set->children.find(element);
      if (found == set->children.end()) return false;
      set = &found->second;
    }
    return set->self;
  }
  void insert(const std::vector<std::string>& path) {
    FieldSet* set = this;
    for (const std::string& element : path)
      set = &set->children[element];
    set->self = true;
  }
  void merge(const FieldSet& other) {
    self = self || other.self;
    for (const auto& [key, child] : other.children)
      children[key].merge(child);
  }
  void subtract(const FieldSet& other) {
    if (other.self) self = false;
    for (const auto& [key, child] : other.children) {
      const auto found = children.find(key);
      if (found == children.end()) continue;
      found->second.subtract(child);
      if (found->second.empty()) children.erase(found);
    }
  }
  template <typename F>
  void forEach(const F& f, std::vector<std::string>& path) const {
    if (self) f(path);
    for (const auto& [key, child] : children) {
      path.push_back(key);
      child.forEach(f, path);
      path.pop_back();
    }
  }
};

const Json& emptySchema() {
  static const Json none = Json::object();
  return none;
}

const Json& metadataSchema() {
  static const Json schema = Json::parse(R"({"properties":{
    "finalizers":{"x-kubernetes-list-type":"set"},
    "ownerReferences":{"x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["uid"],
                       "items":{"x-kubernetes-map-type":"atomic"}}}})");
  return schema;
}

const Json& child(const Json& schema, const std::string& field, bool root) {
  if (root && field == "metadata") return metadataSchema();
  if (const auto p = schema.find("properties"); p != schema.end()) {
    if (const auto found = p->find(field); found != p->end()) return *found;
  }
  if (const auto a = schema.find("additionalProperties"); a != schema.end() && a->is_object()) {
    return *a;
  }
  return emptySchema();
}

const Json& items(const Json& schema) {
  const auto found = schema.find("items");
  return found == schema.end() ? emptySchema() : *found;
}

bool isSet(const Json& schema) {
  return schema.value("x-kubernetes-list-type", "") == "set";
}
bool isMap(const Json& schema) {
  return schema.value("x-kubernetes-list-type", "") == "map";
}
bool isAtomic(const Json& value, const Json& schema) {
  if (value.is_object()) return schema.value("x-kubernetes-map-type", "") == "atomic";
  if (value.is_array()) return !isSet(schema) && !isMap(schema);
  return true;
}

// The path element of a list item: its keys, or its value.
std::string elementOf(const Json& item, const Json& listSchema) {
  if (isSet(listSchema)) return "v:" + item.dump();
  Json keys = Json::object();
  const Json& itemProperties =
      items(listSchema).contains("properties") ? items(listSchema)["properties"] : emptySchema();
  for (const Json& key : listSchema["x-kubernetes-list-map-keys"]) {
    const std::string name = key;
    if (item.is_object() && item.contains(name)) {
      keys[name] = item[name];
    } else if (itemProperties.contains(name) && itemProperties[name].contains("default")) {
      keys[name] = itemProperties[name]["default"];
    } else if (name == "protocol") {
      // The builtin types default it, and appliers leave it out.
      keys[name] = "TCP";
    }
  }
  return "k:" + keys.dump();
}

// Never owned: the object's identity and what the server keeps.
bool isStripped(const std::vector<std::string>& path) {
  if (path.empty()) return false;
  if (path[0] == "f:apiVersion" || path[0] == "f:kind") return true;
  if (path[0] != "f:metadata") return false;
  if (path.size() == 1) return true;
  static const std::set<std::string> server = {"f:name",
                                               "f:namespace",
                                               "f:creationTimestamp",
                                               "f:selfLink",
                                               "f:uid",
                                               "f:generation",
                                               "f:managedFields",
                                               "f:resourceVersion",
                                               "f:deletionTimestamp",
                                               "f:deletionGracePeriodSeconds",
                                               "f:clusterName"};
  return server.contains(path[1]);
}

// Every field that `value` has.
void collect(const Json& value, const Json& schema, std::vector<std::string>& path, FieldSet& set,
             bool root) {
  if (isStripped(path) && path.size() != 1) return;
  if (!path.empty() && isStripped(path) && path[0] != "f:metadata") return;
  if (!root && (isAtomic(value, schema) || value.empty())) {
    set.insert(path);
    return;
  }
  if (value.is_object()) {
    if (!root && path != std::vector<std::string>{"f:metadata"}) {
      // A struct's presence belongs to its fields; an entry of a map list or a plain map is owned
      // itself as well.
      if (path.back().starts_with("k:") || schema.contains("additionalProperties"))
        set.insert(path);
    }
    for (const auto& [field, member] : value.items()) {
      path.push_back("f:" + field);
      collect(member, child(schema, field, root), path, set, false);
      path.pop_back();
    }
    return;
  }
  for (const Json& item : value) {
    path.push_back(elementOf(item, schema));
    if (isSet(schema)) {
      set.insert(path);
    } else {
      collect(item, items(schema), path, set, false);
    }
    path.pop_back();
  }
}

FieldSet fieldsOf(const Json& object, const Json& schema) {
  FieldSet set;
  std::vector<std::string> path;
  collect(object, schema, path, set, true);
  return set;
}

// The value at a path of the set, or null.
const Json* valueAt(const Json& object, const Json& schema, const std::vector<std::string>& path) {
  const Json* value = &object;
  const Json* s = &schema;
  bool root = true;
  for (const std::string& element : path) {
    if (element.starts_with("f:")) {
      const std::string field = element.substr(2);
      if (!value->is_object()) return nullptr;
      const auto found = value->find(field);
      if (found == value->end()) return nullptr;
      value = &*found;
      s = &child(*s, field, root);
    } else {
      if (!value->is_array()) return nullptr;
      const auto found = std::find_if(value->begin(), value->end(), [&](const Json& item) {
        return elementOf(item, *s) == element;
      });
      if (found == value->end()) return nullptr;
      value = &*found;
      s = &items(*s);
    }
    root = false;
  }
  return value;
}

// Removes what is at a path; containers that become empty by it stay.
void removeAt(Json& object, const Json& schema, const std::vector<std::string>& path) {
  Json* value = &object;
  const Json* s = &schema;
  for (std::size_t i = 0; i < path.size(); ++i) {
    const bool last = i + 1 == path.size();
    if (path[i].starts_with("f:")) {
      const std::string field = path[i].substr(2);
      if (!value->is_object() || !value->contains(field)) return;
      if (last) {
        value->erase(field);
        return;
      }
      s = &child(*s, field, i == 0);
      value = &(*value)[field];
    } else {
      if (!value->is_array()) return;
      const auto found = std::find_if(value->begin(), value->end(), [&](const Json& item) {
        return elementOf(item, *s) == path[i];
      });
      if (found == value->end()) return;
      if (last) {
        value->erase(found);
        return;
      }
      s = &items(*s);
      value = &*found;
    }
  }
}

void mergeInto(Json& target, const Json& config, const Json& schema, bool root) {
  if (config.is_object() && target.is_object() && (root || !isAtomic(config, schema))) {
    for (const auto& [field, value] : config.items()) {
      if (target.contains(field)) {
        mergeInto(target[field], value, child(schema, field, root), false);
      } else {
        target[field] = value;
      }
    }
    return;
  }
  if (config.is_array() && target.is_array() && (isSet(schema) || isMap(schema))) {
    for (const Json& item : config) {
      const std::string element = elementOf(item, schema);
      const auto found = std::find_if(target.begin(), target.end(), [&](const Json& t) {
        return elementOf(t, schema) == element;
      });
      if (found == target.end()) {
        target.push_back(item);
      } else if (isMap(schema)) {
        mergeInto(*found, item, items(schema), false);
      }
    }
    return;
  }
  target = config;
}

std::string printable(const std::vector<std::string>& path) {
  std::string text;
  for (const std::string& element : path) {
    if (element.starts_with("f:")) {
      text += "." + element.substr(2);
    } else if (element.starts_with("k:")) {
      const Json keys = Json::parse(element.substr(2));
      std::string inner;
      for (const auto& [key, value] : keys.items()) {
        inner += (inner.empty() ? "" : ",") + key + "=" + value.dump();
      }
      text += "[" + inner + "]";
    } else {
      text += "[=" + element.substr(2) + "]";
    }
  }
  return text;
}

struct Entry {
  Json header;  // without fieldsV1
  FieldSet fields;
};

std::vector<Entry> entriesOf(const Json* object) {
  std::vector<Entry> entries;
  if (object == nullptr) return entries;
  const Json* list = at(*object, {"metadata", "managedFields"});
  if (list == nullptr || !list->is_array()) return entries;
  for (const Json& item : *list) {
    if (!item.is_object()) continue;
    Entry entry{item, FieldSet::fromJson(item.value("fieldsV1", Json::object()))};
    entry.header.erase("fieldsV1");
    entries.push_back(std::move(entry));
  }
  return entries;
}

void storeEntries(Json& object, const std::vector<Entry>& entries) {
  Json list = Json::array();
  for (const Entry& entry : entries) {
    if (entry.fields.empty()) continue;
    Json item = entry.header;
    item["fieldsType"] = "FieldsV1";
    item["fieldsV1"] = entry.fields.toJson();
    list.push_back(std::move(item));
  }
  if (list.empty()) {
    object["metadata"].erase("managedFields");
  } else {
    object["metadata"]["managedFields"] = std::move(list);
  }
}

Entry& entryOf(std::vector<Entry>& entries, const FieldWriter& writer, const char* operation) {
  for (Entry& entry : entries) {
    if (entry.header.value("manager", "") == writer.manager &&
        entry.header.value("operation", "") == operation &&
        entry.header.value("subresource", "") == writer.subresource &&
        entry.header.value("apiVersion", "") == writer.apiVersion) {
      return entry;
    }
  }
  Entry entry;
  entry.header = {
      {"manager", writer.manager}, {"operation", operation}, {"apiVersion", writer.apiVersion}};
  if (!writer.subresource.empty()) entry.header["subresource"] = writer.subresource;
  entries.push_back(std::move(entry));
  return entries.back();
}

// Members of `now` that `before` lacks or has with another value.
FieldSet changed(const Json& now, const Json& before, const Json& schema) {
  FieldSet result;
  std::vector<std::string> path;
  fieldsOf(now, schema)
      .forEach(
          [&](const std::vector<std::string>& p) {
            const Json* a = valueAt(now, schema, p);
            const Json* b = valueAt(before, schema, p);
            // Containers count as present or absent; their content has paths of its own.
            const bool container = a != nullptr && b != nullptr && a->is_object() &&
                                   b->is_object() && !p.empty() &&
                                   (p.back().starts_with("k:") || !a->empty()) && !b->empty();
            if (b == nullptr || (!container && a != nullptr && *a != *b)) {
              result.insert(p);
            }
          },
          path);
  return result;
}

// As a conflict names the owner of a field.
std::string ownerOf(const Entry& entry) {
  std::string who = "\"" + entry.header.value("manager", "") + "\"";
  if (const auto sub = entry.header.value("subresource", ""); !sub.empty()) {
    who += " with subresource \"" + sub + "\"";
  }
  if (entry.header.value("operation", "") == "Update") {
    who += " using " + entry.header.value("apiVersion", "");
  }
  return who;
}

[[noreturn]] void throwConflict(const Json& causes,
                                const std::map<std::string, std::vector<std::string>>& byManager) {
  std::string text = "Apply failed with " + std::to_string(causes.size()) +
                     (causes.size() == 1 ? " conflict: " : " conflicts: ");
  bool first = true;
  for (const auto& [who, fields] : byManager) {
    if (!first) text += "\n";
    first = false;
    if (fields.size() == 1) {
      text += "conflict with " + who + ": " + fields[0];
    } else {
      text += "conflicts with " + who + ":";
      for (const std::string& field : fields)
        text += "\n- " + field;
    }
  }
  throw StatusError(409, "Conflict", text, Json{{"causes", causes}});
}

// The fields of the configuration that others own and that have another value. Throws StatusError
// 409 for them unless they are forced.
FieldSet fieldsOfOthers(const std::vector<Entry>& entries, const FieldSet& wanted,
                        const Json& result, const Json& config, const Json& schema,
                        const FieldWriter& writer, bool force) {
  Json causes = Json::array();
  std::map<std::string, std::vector<std::string>> byManager;
  FieldSet taken;
  for (const Entry& entry : entries) {
    const std::string manager = entry.header.value("manager", "");
    if (manager == writer.manager && entry.header.value("operation", "") == "Apply" &&
        entry.header.value("subresource", "") == writer.subresource) {
      continue;
    }
    std::vector<std::string> path;
    wanted.forEach(
        [&](const std::vector<std::string>& p) {
          if (!entry.fields.contains(p)) return;
          const Json* have = valueAt(result, schema, p);
          const Json* want = valueAt(config, schema, p);
          if (have != nullptr && want != nullptr && *have == *want) return;
          if (have != nullptr && want != nullptr && have->is_object() && want->is_object() &&
              !isAtomic(*want, emptySchema()) && !want->empty()) {
            return;  // a container: its fields decide
          }
          taken.insert(p);
          const std::string who = ownerOf(entry);
          byManager[who].push_back(printable(p));
          causes.push_back({{"reason", "FieldManagerConflict"},
                            {"message", "conflict with " + who},
                            {"field", printable(p)}});
        },
        path);
  }
  if (!causes.empty() && !force) throwConflict(causes, byManager);
  return taken;
}

// A container that others than `own` still have something in stays.
bool isShared(const std::vector<std::string>& field, const std::vector<Entry>& entries,
              const Entry& own) {
  for (const Entry& entry : entries) {
    if (&entry == &own) continue;
    const FieldSet* set = &entry.fields;
    for (const std::string& element : field) {
      const auto found = set->children.find(element);
      set = found == set->children.end() ? nullptr : &found->second;
      if (set == nullptr) break;
    }
    if (set != nullptr && !set->empty()) return true;
  }
  return false;
}

// What `own` applied before and leaves out now goes, unless others own it.
void dropLeftOut(Json& result, const std::vector<Entry>& entries, const Entry& own,
                 const FieldSet& wanted, const Json& schema) {
  FieldSet dropped = own.fields;
  dropped.subtract(wanted);
  for (const Entry& entry : entries) {
    if (&entry != &own) dropped.subtract(entry.fields);
  }
  std::vector<std::vector<std::string>> removals;
  std::vector<std::string> path;
  dropped.forEach([&](const std::vector<std::string>& p) { removals.push_back(p); }, path);
  // The deepest first, so that a list item goes after its fields.
  std::stable_sort(removals.begin(), removals.end(),
                   [](const auto& a, const auto& b) { return a.size() > b.size(); });
  for (const auto& removal : removals) {
    if (valueAt(result, schema, removal) != nullptr && !isShared(removal, entries, own))
      removeAt(result, schema, removal);
  }
}

}  // namespace

void trackUpdate(Json& now, const Json* live, const FieldWriter& writer, const Json& schema) {
  std::vector<Entry> entries = entriesOf(live);
  // A client that empties the list (`managedFields: [{}]`) resets ownership.
  const Json empty = Json::object();
  const FieldSet diff = changed(now, live != nullptr ? *live : empty, schema);
  FieldSet removed;
  if (live != nullptr) {
    removed = fieldsOf(*live, schema);
    removed.subtract(fieldsOf(now, schema));
  }
  if (diff.empty() && removed.empty()) {
    storeEntries(now, entries);
    return;
  }
  for (Entry& entry : entries) {
    entry.fields.subtract(removed);
    entry.fields.subtract(diff);
  }
  if (!diff.empty()) {
    Entry& own = entryOf(entries, writer, "Update");
    own.fields.merge(diff);
    own.header["time"] = formatTime(std::chrono::system_clock::now());
  }
  storeEntries(now, entries);
}

Json serverSideApply(const Json* live, const Json& config, const FieldWriter& writer, bool force,
                     const Json& schema) {
  std::vector<Entry> entries = entriesOf(live);
  const FieldSet wanted = fieldsOf(config, schema);
  Json result = live != nullptr ? *live : Json{{"metadata", Json::object()}};

  const FieldSet taken = fieldsOfOthers(entries, wanted, result, config, schema, writer, force);
  for (Entry& entry : entries)
    entry.fields.subtract(taken);

  Entry& own = entryOf(entries, writer, "Apply");
  dropLeftOut(result, entries, own, wanted, schema);
  mergeInto(result, config, schema, true);
  const bool same = own.fields.toJson() == wanted.toJson() && own.fields.self == wanted.self;
  own.fields = wanted;
  if (!same || live == nullptr || result != *live || !own.header.contains("time")) {
    own.header["time"] = formatTime(std::chrono::system_clock::now());
  }
  storeEntries(result, entries);
  return result;
}

}  // namespace pointsman::e2e
