#include "e2e/control-plane/api/managed_fields.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "e2e/control-plane/base/api_time.h"
#include "e2e/control-plane/registry/json_path.h"

namespace pointsman::e2e {
namespace {

// A set of fields as a tree: the keys are FieldsV1 path elements ("f:spec", "k:{…}", "v:…").
struct FieldSet {
  bool self = false;  // the path to here is a member
  std::map<std::string, FieldSet> children;

  bool empty() const { return !self && children.empty(); }

  Json ToJson() const {
    Json out = Json::object();
    for (const auto& [key, child] : children) {
      out[key] = child.ToJson();
      if (child.self && !child.children.empty()) out[key]["."] = Json::object();
    }
    return out;
  }
  static FieldSet FromJson(const Json& json) {
    FieldSet set;
    if (!json.is_object()) return set;
    for (const auto& [key, value] : json.items()) {
      if (key == ".") {
        set.self = true;
        continue;
      }
      FieldSet child = FromJson(value);
      if (value.empty()) child.self = true;
      set.children[key] = std::move(child);
    }
    return set;
  }
  bool Contains(const std::vector<std::string>& path) const {
    const FieldSet* set = this;
    for (const std::string& element : path) {
      const auto found = set->children.find(element);
      if (found == set->children.end()) return false;
      set = &found->second;
    }
    return set->self;
  }
  void Insert(const std::vector<std::string>& path) {
    FieldSet* set = this;
    for (const std::string& element : path)
      set = &set->children[element];
    set->self = true;
  }
  void Merge(const FieldSet& other) {
    self = self || other.self;
    for (const auto& [key, child] : other.children)
      children[key].Merge(child);
  }
  void Subtract(const FieldSet& other) {
    if (other.self) self = false;
    for (const auto& [key, child] : other.children) {
      const auto found = children.find(key);
      if (found == children.end()) continue;
      found->second.Subtract(child);
      if (found->second.empty()) children.erase(found);
    }
  }
  template <typename F>
  void ForEach(const F& f, std::vector<std::string>& path) const {
    if (self) f(path);
    for (const auto& [key, child] : children) {
      path.push_back(key);
      child.ForEach(f, path);
      path.pop_back();
    }
  }
};

const Json& EmptySchema() {
  static const Json none = Json::object();
  return none;
}

const Json& MetadataSchema() {
  static const Json schema = Json::parse(R"({"properties":{
    "finalizers":{"x-kubernetes-list-type":"set"},
    "ownerReferences":{"x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["uid"],
                       "items":{"x-kubernetes-map-type":"atomic"}}}})");
  return schema;
}

const Json& Child(const Json& schema, const std::string& field, bool root) {
  if (root && field == "metadata") return MetadataSchema();
  if (const auto p = schema.find("properties"); p != schema.end()) {
    if (const auto found = p->find(field); found != p->end()) return *found;
  }
  if (const auto a = schema.find("additionalProperties"); a != schema.end() && a->is_object()) {
    return *a;
  }
  return EmptySchema();
}

const Json& Items(const Json& schema) {
  const auto found = schema.find("items");
  return found == schema.end() ? EmptySchema() : *found;
}

bool IsSet(const Json& schema) {
  return schema.value("x-kubernetes-list-type", "") == "set";
}
bool IsMap(const Json& schema) {
  return schema.value("x-kubernetes-list-type", "") == "map";
}
bool IsAtomic(const Json& value, const Json& schema) {
  if (value.is_object()) return schema.value("x-kubernetes-map-type", "") == "atomic";
  if (value.is_array()) return !IsSet(schema) && !IsMap(schema);
  return true;
}

// The path element of a list item: its keys, or its value.
std::string ElementOf(const Json& item, const Json& list_schema) {
  if (IsSet(list_schema)) return "v:" + item.dump();
  Json keys = Json::object();
  const Json& item_properties =
      Items(list_schema).contains("properties") ? Items(list_schema)["properties"] : EmptySchema();
  for (const Json& key : list_schema["x-kubernetes-list-map-keys"]) {
    const std::string name = key;
    if (item.is_object() && item.contains(name)) {
      keys[name] = item[name];
    } else if (item_properties.contains(name) && item_properties[name].contains("default")) {
      keys[name] = item_properties[name]["default"];
    } else if (name == "protocol") {
      // The builtin types default it, and appliers leave it out.
      keys[name] = "TCP";
    }
  }
  return "k:" + keys.dump();
}

// Never owned: the object's identity and what the server keeps.
bool IsStripped(const std::vector<std::string>& path) {
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

// Every field that `value` has. `maps`: a map that has entries is one itself, as it is to an update
// but not to an apply.
void Collect(const Json& value, const Json& schema, std::vector<std::string>& path, FieldSet& set,
             bool root, bool maps) {
  if (IsStripped(path) && path.size() != 1) return;
  if (!path.empty() && IsStripped(path) && path[0] != "f:metadata") return;
  if (!root && (IsAtomic(value, schema) || value.empty())) {
    set.Insert(path);
    return;
  }
  if (value.is_object()) {
    if (!root && path != std::vector<std::string>{"f:metadata"}) {
      // A struct's presence belongs to its fields; an entry of a map list or a plain map is owned
      // itself as well.
      if (path.back().starts_with("k:") || (maps && schema.contains("additionalProperties")))
        set.Insert(path);
    }
    for (const auto& [field, member] : value.items()) {
      path.push_back("f:" + field);
      Collect(member, Child(schema, field, root), path, set, false, maps);
      path.pop_back();
    }
    return;
  }
  for (const Json& item : value) {
    path.push_back(ElementOf(item, schema));
    if (IsSet(schema)) {
      set.Insert(path);
    } else {
      Collect(item, Items(schema), path, set, false, maps);
    }
    path.pop_back();
  }
}

FieldSet FieldsOf(const Json& object, const Json& schema, bool maps = true) {
  FieldSet set;
  std::vector<std::string> path;
  Collect(object, schema, path, set, true, maps);
  return set;
}

// The value at a path of the set, or null.
const Json* ValueAt(const Json& object, const Json& schema, const std::vector<std::string>& path) {
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
      s = &Child(*s, field, root);
    } else {
      if (!value->is_array()) return nullptr;
      const auto found = std::find_if(value->begin(), value->end(), [&](const Json& item) {
        return ElementOf(item, *s) == element;
      });
      if (found == value->end()) return nullptr;
      value = &*found;
      s = &Items(*s);
    }
    root = false;
  }
  return value;
}

// Removes what is at a path; containers that become empty by it stay.
void RemoveAt(Json& object, const Json& schema, const std::vector<std::string>& path) {
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
      s = &Child(*s, field, i == 0);
      value = &(*value)[field];
    } else {
      if (!value->is_array()) return;
      const auto found = std::find_if(value->begin(), value->end(), [&](const Json& item) {
        return ElementOf(item, *s) == path[i];
      });
      if (found == value->end()) return;
      if (last) {
        value->erase(found);
        return;
      }
      s = &Items(*s);
      value = &*found;
    }
  }
}

void MergeInto(Json& target, const Json& config, const Json& schema, bool root) {
  if (config.is_object() && target.is_object() && (root || !IsAtomic(config, schema))) {
    for (const auto& [field, value] : config.items()) {
      if (target.contains(field)) {
        MergeInto(target[field], value, Child(schema, field, root), false);
      } else {
        target[field] = value;
      }
    }
    return;
  }
  if (config.is_array() && target.is_array() && (IsSet(schema) || IsMap(schema))) {
    for (const Json& item : config) {
      const std::string element = ElementOf(item, schema);
      const auto found = std::find_if(target.begin(), target.end(), [&](const Json& t) {
        return ElementOf(t, schema) == element;
      });
      if (found == target.end()) {
        target.push_back(item);
      } else if (IsMap(schema)) {
        MergeInto(*found, item, Items(schema), false);
      }
    }
    return;
  }
  target = config;
}

std::string Printable(const std::vector<std::string>& path) {
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

std::vector<Entry> EntriesOf(const Json* object) {
  std::vector<Entry> entries;
  if (object == nullptr) return entries;
  const Json* list = At(*object, {"metadata", "managedFields"});
  if (list == nullptr || !list->is_array()) return entries;
  for (const Json& item : *list) {
    if (!item.is_object()) continue;
    Entry entry{item, FieldSet::FromJson(item.value("fieldsV1", Json::object()))};
    entry.header.erase("fieldsV1");
    entries.push_back(std::move(entry));
  }
  return entries;
}

void StoreEntries(Json& object, const std::vector<Entry>& entries) {
  Json list = Json::array();
  for (const Entry& entry : entries) {
    if (entry.fields.empty()) continue;
    Json item = entry.header;
    item["fieldsType"] = "FieldsV1";
    item["fieldsV1"] = entry.fields.ToJson();
    list.push_back(std::move(item));
  }
  if (list.empty()) {
    object["metadata"].erase("managedFields");
  } else {
    object["metadata"]["managedFields"] = std::move(list);
  }
}

Entry& EntryOf(std::vector<Entry>& entries, const FieldWriter& writer, const char* operation) {
  for (Entry& entry : entries) {
    if (entry.header.value("manager", "") == writer.manager &&
        entry.header.value("operation", "") == operation &&
        entry.header.value("subresource", "") == writer.subresource &&
        entry.header.value("apiVersion", "") == writer.api_version) {
      return entry;
    }
  }
  Entry entry;
  entry.header = {
      {"manager", writer.manager}, {"operation", operation}, {"apiVersion", writer.api_version}};
  if (!writer.subresource.empty()) entry.header["subresource"] = writer.subresource;
  entries.push_back(std::move(entry));
  return entries.back();
}

// Members of `now` that `before` lacks or has with another value.
FieldSet Changed(const Json& now, const Json& before, const Json& schema) {
  FieldSet result;
  std::vector<std::string> path;
  FieldsOf(now, schema)
      .ForEach(
          [&](const std::vector<std::string>& p) {
            const Json* a = ValueAt(now, schema, p);
            const Json* b = ValueAt(before, schema, p);
            // Containers count as present or absent; their content has paths of its own.
            const bool container = a != nullptr && b != nullptr && a->is_object() &&
                                   b->is_object() && !p.empty() &&
                                   (p.back().starts_with("k:") || !a->empty()) && !b->empty();
            if (b == nullptr || (!container && a != nullptr && *a != *b)) {
              result.Insert(p);
            }
          },
          path);
  return result;
}

// As a conflict names the owner of a field.
std::string OwnerOf(const Entry& entry) {
  std::string who = "\"" + entry.header.value("manager", "") + "\"";
  if (const auto sub = entry.header.value("subresource", ""); !sub.empty()) {
    who += " with subresource \"" + sub + "\"";
  }
  if (entry.header.value("operation", "") == "Update") {
    who += " using " + entry.header.value("apiVersion", "");
  }
  return who;
}

[[noreturn]] void ThrowConflict(const Json& causes,
                                const std::map<std::string, std::vector<std::string>>& by_manager) {
  std::string text = "Apply failed with " + std::to_string(causes.size()) +
                     (causes.size() == 1 ? " conflict: " : " conflicts: ");
  bool first = true;
  for (const auto& [who, fields] : by_manager) {
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
FieldSet FieldsOfOthers(const std::vector<Entry>& entries, const FieldSet& wanted,
                        const Json& result, const Json& config, const Json& schema,
                        const FieldWriter& writer, bool force) {
  Json causes = Json::array();
  std::map<std::string, std::vector<std::string>> by_manager;
  FieldSet taken;
  for (const Entry& entry : entries) {
    const std::string manager = entry.header.value("manager", "");
    if (manager == writer.manager && entry.header.value("operation", "") == "Apply" &&
        entry.header.value("subresource", "") == writer.subresource) {
      continue;
    }
    std::vector<std::string> path;
    wanted.ForEach(
        [&](const std::vector<std::string>& p) {
          if (!entry.fields.Contains(p)) return;
          const Json* have = ValueAt(result, schema, p);
          const Json* want = ValueAt(config, schema, p);
          if (have != nullptr && want != nullptr && *have == *want) return;
          if (have != nullptr && want != nullptr && have->is_object() && want->is_object() &&
              !IsAtomic(*want, EmptySchema()) && !want->empty()) {
            return;  // a container: its fields decide
          }
          taken.Insert(p);
          const std::string who = OwnerOf(entry);
          by_manager[who].push_back(Printable(p));
          causes.push_back({{"reason", "FieldManagerConflict"},
                            {"message", "conflict with " + who},
                            {"field", Printable(p)}});
        },
        path);
  }
  if (!causes.empty() && !force) ThrowConflict(causes, by_manager);
  return taken;
}

// A container that others than `own` still have something in stays.
bool IsShared(const std::vector<std::string>& field, const std::vector<Entry>& entries,
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
void DropLeftOut(Json& result, const std::vector<Entry>& entries, const Entry& own,
                 const FieldSet& wanted, const Json& schema) {
  FieldSet dropped = own.fields;
  dropped.Subtract(wanted);
  for (const Entry& entry : entries) {
    if (&entry != &own) dropped.Subtract(entry.fields);
  }
  std::vector<std::vector<std::string>> removals;
  std::vector<std::string> path;
  dropped.ForEach([&](const std::vector<std::string>& p) { removals.push_back(p); }, path);
  // What contains others first: a list item goes with all that is in it, and without the fields
  // that it is known by it would not be found.
  std::stable_sort(removals.begin(), removals.end(),
                   [](const auto& a, const auto& b) { return a.size() < b.size(); });
  for (const auto& removal : removals) {
    if (ValueAt(result, schema, removal) != nullptr && !IsShared(removal, entries, own))
      RemoveAt(result, schema, removal);
  }
}

}  // namespace

void TrackUpdate(Json& now, const Json* live, const FieldWriter& writer, const Json& schema) {
  std::vector<Entry> entries = EntriesOf(live);
  if (const Json* list = At(now, {"metadata", "managedFields"});
      live != nullptr && list != nullptr && (*list == Json::array({Json::object()}))) {
    // So a client resets ownership.
    now["metadata"].erase("managedFields");
    return;
  }
  const Json empty = Json::object();
  const FieldSet diff = Changed(now, live != nullptr ? *live : empty, schema);
  FieldSet removed;
  if (live != nullptr) {
    removed = FieldsOf(*live, schema);
    removed.Subtract(FieldsOf(now, schema));
  }
  if (diff.empty() && removed.empty()) {
    StoreEntries(now, entries);
    return;
  }
  for (Entry& entry : entries) {
    entry.fields.Subtract(removed);
    entry.fields.Subtract(diff);
  }
  if (!diff.empty()) {
    Entry& own = EntryOf(entries, writer, "Update");
    own.fields.Merge(diff);
    own.header["time"] = FormatTime(std::chrono::system_clock::now());
  }
  StoreEntries(now, entries);
}

Json ServerSideApply(const Json* live, const Json& config, const FieldWriter& writer, bool force,
                     const Json& schema) {
  std::vector<Entry> entries = EntriesOf(live);
  const FieldSet wanted = FieldsOf(config, schema, /*maps=*/false);
  Json result = live != nullptr ? *live : Json{{"metadata", Json::object()}};

  const FieldSet taken = FieldsOfOthers(entries, wanted, result, config, schema, writer, force);
  for (Entry& entry : entries)
    entry.fields.Subtract(taken);

  Entry& own = EntryOf(entries, writer, "Apply");
  DropLeftOut(result, entries, own, wanted, schema);
  MergeInto(result, config, schema, true);
  const bool same = own.fields.ToJson() == wanted.ToJson() && own.fields.self == wanted.self;
  own.fields = wanted;
  if (!same || live == nullptr || result != *live || !own.header.contains("time")) {
    own.header["time"] = FormatTime(std::chrono::system_clock::now());
  }
  StoreEntries(result, entries);
  return result;
}

}  // namespace pointsman::e2e
