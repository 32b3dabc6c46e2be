#include <cctype>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "e2e/control-plane/base/api_time.h"
#include "e2e/control-plane/registry/field_checks.h"
#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"
#include "kube/text/ascii.h"

namespace pointsman::e2e {
namespace {

std::vector<TableColumn> EventColumns() {
  return {{"Last Seen", "string", "", "lastTimestamp", 0},
          Column("Type"),
          Column("Reason"),
          Column("Object"),
          Column("Subobject", "string", 1),
          Column("Source", "string", 1),
          Column("Message"),
          Column("First Seen", "string", 1),
          Column("Count", "string", 1),
          {"Name", "string", "name", "Name", 1}};
}

Cells EventCells(const Json& object, Clock::time_point now) {
  const bool core = object.contains("involvedObject");
  const Json* about = At(object, {core ? "involvedObject" : "regarding"});
  const auto time_of = [&](std::initializer_list<const char*> path) {
    return StringAt(object, path);
  };
  std::string first = time_of({core ? "firstTimestamp" : "deprecatedFirstTimestamp"});
  if (first.empty()) first = time_of({"eventTime"});
  std::string last = time_of({"series", "lastObservedTime"});
  if (last.empty()) last = time_of({core ? "lastTimestamp" : "deprecatedLastTimestamp"});
  if (last.empty()) last = first;
  std::int64_t count = IntAt(object, {"series", "count"});
  if (count == 0) count = IntAt(object, {core ? "count" : "deprecatedCount"});
  if (count == 0) count = 1;
  std::string source = StringAt(object, {core ? "source" : "deprecatedSource", "component"});
  if (const auto host = StringAt(object, {core ? "source" : "deprecatedSource", "host"});
      !host.empty()) {
    source += ", " + host;
  }
  if (source.empty()) {
    source = StringAt(object, {core ? "reportingComponent" : "reportingController"});
  }
  std::string target;
  if (about != nullptr) {
    target = text::ToLowerAscii(StringAt(*about, {"kind"})) + "/" + StringAt(*about, {"name"});
  }
  std::string message = StringAt(object, {core ? "message" : "note"});
  while (!message.empty() && std::isspace(static_cast<unsigned char>(message.back())))
    message.pop_back();
  return {AgeOf(Json{{"t", last}}, "t", now),
          StringAt(object, {"type"}),
          StringAt(object, {"reason"}),
          target,
          about == nullptr ? "" : StringAt(*about, {"fieldPath"}),
          source,
          message,
          AgeOf(Json{{"t", first}}, "t", now),
          count,
          NameOf(object)};
}

// As ValidateEventUpdate's older part.
std::vector<FieldError> CheckEvent(const Json& event, const Json*, const RequestInfo&) {
  const std::string about = StringAt(event, {"involvedObject", "namespace"});
  const std::string ns = StringAt(event, {"metadata", "namespace"});
  if (about.empty() ? ns == "default" || ns == "kube-system" : about == ns) return {};
  return {InvalidValue("involvedObject.namespace", about, "does not match event.namespace")};
}

// Of those of the new API, which say when, who and what.
std::vector<FieldError> CheckEventV1(const Json& event, const Json*, const RequestInfo&) {
  if (StringAt(event, {"eventTime"}).empty()) return {};  // the schema says so
  std::vector<FieldError> errors;
  for (const char* field : {"reportingController", "reportingInstance", "action", "reason"})
    if (StringAt(event, {field}).empty())
      errors.push_back({field, "FieldValueRequired", "Required value"});
  if (const std::string type = StringAt(event, {"type"}); type != "Normal" && type != "Warning")
    errors.push_back(InvalidValue("type", "", "has invalid value: " + type));
  if (StringAt(event, {"note"}).size() > 1024)
    errors.push_back(InvalidValue("message", "", "can have at most 1024 characters"));
  return errors;
}

}  // namespace

ResourceType MakeEventType(const TypeBuilder& build) {
  ResourceType events = build.Make("", "v1", "events", "Event", true, {"ev"});
  events.columns = EventColumns();
  events.cells = EventCells;
  events.validate = CheckEvent;
  events.apply_defaults = [](Json& event) {
    for (const char* field : {"reportingComponent", "reportingInstance"})
      if (!event.contains(field)) event[field] = "";
  };
  build.IndexFields(
      events, {"involvedObject.kind", "involvedObject.namespace", "involvedObject.name",
               "involvedObject.uid", "involvedObject.apiVersion", "involvedObject.resourceVersion",
               "involvedObject.fieldPath", "reason", "reportingComponent", "source", "type"});
  return events;
}

ResourceType MakeEventV1Type(const TypeBuilder& build) {
  ResourceType events_v1 =
      build.Make("events.k8s.io", "v1", "events", "Event", true, {"ev"}, "EventV1");
  events_v1.columns = EventColumns();
  events_v1.cells = EventCells;
  events_v1.validate = CheckEventV1;
  events_v1.apply_defaults = [](Json& event) {
    if (!event.contains("deprecatedSource")) event["deprecatedSource"] = Json::object();
  };
  build.IndexFields(events_v1, {"regarding.kind", "regarding.namespace", "regarding.name",
                                "regarding.uid", "reason", "reportingController", "type"});
  return events_v1;
}

}  // namespace pointsman::e2e
