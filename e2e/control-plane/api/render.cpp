#include "e2e/control-plane/api/render.h"

#include <charconv>
#include <chrono>
#include <cstdint>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <yaml-cpp/yaml.h>

#include "e2e/control-plane/base/api_time.h"
#include "e2e/control-plane/base/trim.h"
#include "e2e/control-plane/registry/json_path.h"

namespace pointsman::e2e {
namespace {

Json Partial(const Json& object) {
  return {{"kind", "PartialObjectMetadata"},
          {"apiVersion", "meta.k8s.io/v1"},
          {"metadata", object.value("metadata", Json::object())}};
}

Json Row(const ResourceType& type, const Json& object, const Rendering& rendering) {
  Json result = {{"cells", type.cells(object, std::chrono::system_clock::now())}};
  if (rendering.include_object == "Metadata") {
    result["object"] = Partial(object);
    result["object"]["apiVersion"] = "meta.k8s.io/" + rendering.table_version;
  } else if (rendering.include_object == "Object") {
    result["object"] = object;
  }
  return result;
}

Json ColumnDefinitions(const ResourceType& type) {
  Json list = Json::array();
  for (const TableColumn& c : type.columns) {
    list.push_back({{"name", c.name},
                    {"type", c.type},
                    {"format", c.format},
                    {"description", c.description},
                    {"priority", c.priority}});
  }
  return list;
}

Json Table(const ResourceType& type, const Rendering& rendering, bool columns) {
  return {{"kind", "Table"},
          {"apiVersion", "meta.k8s.io/" + rendering.table_version},
          {"metadata", Json::object()},
          {"columnDefinitions", columns ? ColumnDefinitions(type) : Json()},
          {"rows", Json::array()}};
}

Json ParseAs(const ResourceType& type, const StoredObject& object) {
  Json value = object.Parse();
  value["apiVersion"] = type.GroupVersion();
  return value;
}

Json FromYaml(const YAML::Node& node, int depth) {
  if (depth > 200) throw std::invalid_argument("it is nested too deeply");
  switch (node.Type()) {
    case YAML::NodeType::Undefined:
    case YAML::NodeType::Null:
      return nullptr;
    case YAML::NodeType::Sequence: {
      Json list = Json::array();
      for (const YAML::Node& item : node)
        list.push_back(FromYaml(item, depth + 1));
      return list;
    }
    case YAML::NodeType::Map: {
      Json map = Json::object();
      for (const auto& pair : node)
        map[pair.first.Scalar()] = FromYaml(pair.second, depth + 1);
      return map;
    }
    case YAML::NodeType::Scalar:
      break;
  }
  const std::string& text = node.Scalar();
  if (node.Tag() == "!") return text;  // quoted
  if (text == "null" || text == "~" || text.empty() || text == "Null" || text == "NULL")
    return nullptr;
  // sigs.k8s.io/yaml reads YAML 1.1, where yes and on are booleans.
  static const std::set<std::string> yes = {"true", "True", "TRUE", "yes", "Yes",
                                            "YES",  "on",   "On",   "ON"};
  static const std::set<std::string> no = {"false", "False", "FALSE", "no", "No",
                                           "NO",    "off",   "Off",   "OFF"};
  if (yes.contains(text)) return true;
  if (no.contains(text)) return false;
  std::int64_t integer = 0;
  const char* begin = text.data() + (text.front() == '+' ? 1 : 0);
  const char* end = text.data() + text.size();
  if (const auto [stop, error] = std::from_chars(begin, end, integer);
      error == std::errc() && stop == end) {
    return integer;
  }
  double number = 0;
  if (const auto [stop, error] = std::from_chars(begin, end, number);
      error == std::errc() && stop == end &&
      text.find_first_of("0123456789") != std::string::npos) {
    return number;
  }
  return text;
}

void Emit(YAML::Emitter& out, const Json& value) {
  switch (value.type()) {
    case Json::value_t::object:
      if (value.empty()) {
        out << YAML::Flow;
      }
      out << YAML::BeginMap;
      for (const auto& [key, member] : value.items()) {
        out << YAML::Key << key << YAML::Value;
        Emit(out, member);
      }
      out << YAML::EndMap;
      break;
    case Json::value_t::array:
      if (value.empty()) out << YAML::Flow;
      out << YAML::BeginSeq;
      for (const Json& item : value)
        Emit(out, item);
      out << YAML::EndSeq;
      break;
    case Json::value_t::string:
      out << YAML::DoubleQuoted << value.get<std::string>();
      break;
    case Json::value_t::null:
      out << YAML::Null;
      break;
    default:
      out << value.dump();
      break;
  }
}

}  // namespace

Rendering Negotiate(const HttpRequest& request) {
  Rendering rendering;
  if (const auto include = request.Parameter("includeObject"); include && !include->empty()) {
    if (*include != "None" && *include != "Metadata" && *include != "Object") {
      throw BadRequest("unrecognized includeObject value: \"" + *include + "\"");
    }
    rendering.include_object = *include;
  }
  const std::string accept = request.Header("Accept");
  if (accept.empty()) return rendering;
  std::string_view rest = accept;
  while (!rest.empty()) {
    const auto comma = rest.find(',');
    std::string_view range = Trim(rest.substr(0, comma));
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
    const auto semicolon = range.find(';');
    const std::string_view media = Trim(range.substr(0, semicolon));
    std::string_view parameters =
        semicolon == std::string_view::npos ? std::string_view() : range.substr(semicolon + 1);
    std::string as;
    std::string version;
    std::string group;
    while (!parameters.empty()) {
      const auto end = parameters.find(';');
      const std::string_view parameter = Trim(parameters.substr(0, end));
      parameters = end == std::string_view::npos ? std::string_view() : parameters.substr(end + 1);
      if (parameter.starts_with("as=")) as = parameter.substr(3);
      if (parameter.starts_with("v=")) version = parameter.substr(2);
      if (parameter.starts_with("g=")) group = parameter.substr(2);
    }
    const bool yaml = media == "application/yaml";
    if (!yaml && media != "application/json" && media != "*/*" && media != "application/*")
      continue;
    if (!as.empty()) {
      if (group != "meta.k8s.io" || (version != "v1" && version != "v1beta1")) continue;
      if (as == "Table") {
        rendering.form = Rendering::Form::kTable;
      } else if (as == "PartialObjectMetadata" || as == "PartialObjectMetadataList") {
        rendering.form = Rendering::Form::kPartial;
      } else {
        continue;
      }
      rendering.table_version = version;
    }
    rendering.yaml = yaml;
    return rendering;
  }
  throw StatusError(
      406, "NotAcceptable",
      "only the following media types are accepted: application/json, application/yaml");
}

std::string ObjectText(const ResourceType& type, const StoredObject& object) {
  if (type.version == type.storage_version) return object.json;
  // Keys are sorted, so that apiVersion is nearly always the first.
  const std::string stored = "{\"apiVersion\":\"" + (type.group.empty() ? "" : type.group + "/") +
                             type.storage_version + "\"";
  if (object.json.starts_with(stored)) {
    return "{\"apiVersion\":\"" + type.GroupVersion() + "\"" + object.json.substr(stored.size());
  }
  return ParseAs(type, object).dump();
}

std::string RenderObject(const ResourceType& type, const StoredObject& object,
                         const Rendering& rendering) {
  std::string text;
  switch (rendering.form) {
    case Rendering::Form::kObject:
      text = ObjectText(type, object);
      break;
    case Rendering::Form::kPartial:
      text = Partial(object.Parse()).dump();
      break;
    case Rendering::Form::kTable: {
      Json t = Table(type, rendering, true);
      t["metadata"]["resourceVersion"] = std::to_string(object.resource_version);
      t["rows"].push_back(Row(type, ParseAs(type, object), rendering));
      text = t.dump();
      break;
    }
  }
  return rendering.yaml ? ToYaml(text) : text;
}

std::string RenderEventObject(const ResourceType& type, const StoredObject& object,
                              const Rendering& rendering, bool first) {
  if (rendering.form == Rendering::Form::kObject) return ObjectText(type, object);
  if (rendering.form == Rendering::Form::kPartial) return Partial(object.Parse()).dump();
  Json t = Table(type, rendering, first);
  t["metadata"]["resourceVersion"] = std::to_string(object.resource_version);
  t["rows"].push_back(Row(type, ParseAs(type, object), rendering));
  return t.dump();
}

std::string RenderList(const ResourceType& type, const std::vector<ObjectPtr>& objects,
                       const ListMeta& meta, const Rendering& rendering) {
  Json metadata = {{"resourceVersion", std::to_string(meta.resource_version)}};
  if (!meta.continue_token.empty()) metadata["continue"] = meta.continue_token;
  if (meta.remaining) metadata["remainingItemCount"] = *meta.remaining;
  std::string text;
  if (rendering.form == Rendering::Form::kTable) {
    Json t = Table(type, rendering, true);
    t["metadata"] = metadata;
    for (const ObjectPtr& object : objects) {
      t["rows"].push_back(Row(type, ParseAs(type, *object), rendering));
    }
    text = t.dump();
  } else {
    const bool as_partial = rendering.form == Rendering::Form::kPartial;
    std::size_t size = 256;
    if (!as_partial) {
      for (const ObjectPtr& object : objects)
        size += object->json.size() + 1;
    }
    text.reserve(size);
    text += "{\"kind\":\"" + (as_partial ? "PartialObjectMetadataList" : type.list_kind) +
            "\",\"apiVersion\":\"" + (as_partial ? "meta.k8s.io/v1" : type.GroupVersion()) +
            "\",\"metadata\":" + metadata.dump() + ",\"items\":[";
    bool comma = false;
    for (const ObjectPtr& object : objects) {
      if (comma) text += ',';
      comma = true;
      if (as_partial) {
        text += Partial(object->Parse()).dump();
      } else if (type.version == type.storage_version) {
        text += object->json;
      } else {
        text += ObjectText(type, *object);
      }
    }
    text += "]}";
  }
  return rendering.yaml ? ToYaml(text) : text;
}

void SetCustomColumns(ResourceType& type, const Json& additional_printer_columns) {
  type.columns = {{"Name", "string", "name",
                   "Name must be unique within a namespace. Is required when creating resources.",
                   0}};
  struct Column {
    JsonPath path;
    std::string type;
  };
  std::vector<Column> columns;
  const Json standard = Json::parse(
      R"([{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp",
           "description":"CreationTimestamp is the server time when this object was created."}])");
  const bool given = additional_printer_columns.is_array() && !additional_printer_columns.empty();
  for (const Json& c : given ? additional_printer_columns : standard) {
    type.columns.push_back({c.value("name", ""), c.value("type", "string"), c.value("format", ""),
                            c.value("description", ""), c.value("priority", 0)});
    columns.push_back({JsonPath(c.value("jsonPath", "")), c.value("type", "string")});
  }
  type.cells = [columns = std::move(columns)](const Json& object,
                                              std::chrono::system_clock::time_point now) {
    std::vector<Json> cells{StringAt(object, {"metadata", "name"})};
    for (const Column& column : columns) {
      const auto found = column.path.Find(object);
      if (found.empty() || found[0]->is_null()) {
        cells.emplace_back(nullptr);
        continue;
      }
      const Json& value = *found[0];
      if (column.type == "integer") {
        cells.push_back(value.is_number() ? Json(value.get<std::int64_t>()) : Json());
      } else if (column.type == "number" || column.type == "boolean") {
        cells.push_back(value.is_primitive() ? value : Json());
      } else if (column.type == "date") {
        const std::string text = value.is_string() ? value.get<std::string>() : "";
        const auto time = ParseTime(text);
        if (time) {
          cells.emplace_back(
              HumanDuration(std::chrono::duration_cast<std::chrono::seconds>(now - *time)));
        } else {
          cells.emplace_back("<invalid>");
        }
      } else {
        // Several matches are printed one after the other, as kubectl's JSONPath printer does.
        std::string text;
        for (const Json* v : found) {
          text += (text.empty() ? "" : " ") + (v->is_string() ? v->get<std::string>() : v->dump());
        }
        cells.emplace_back(text);
      }
    }
    return cells;
  };
}

std::string ToYaml(const std::string& json) {
  YAML::Emitter out;
  Emit(out, Json::parse(json));
  return std::string(out.c_str()) + "\n";
}

Json ParseYaml(const std::string& text) {
  try {
    return FromYaml(YAML::Load(text), 0);
  } catch (const YAML::Exception& e) {
    throw std::invalid_argument(std::string("error converting YAML to JSON: ") + e.what());
  }
}

}  // namespace pointsman::e2e
