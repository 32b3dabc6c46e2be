#include <cctype>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "e2e/control-plane/registry/api_time.h"
#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {
namespace {

std::vector<TableColumn> eventColumns() {
  return {{"Last Seen", "string", "", "lastTimestamp", 0},
          column("Type"),
          column("Reason"),
          column("Object"),
          column("Subobject", "string", 1),
          column("Source", "string", 1),
          column("Message"),
          column("First Seen", "string", 1),
          column("Count", "string", 1),
          {"Name", "string", "name", "Name", 1}};
}

Cells eventCells(const Json& object, Clock::time_point now) {
  const bool core = object.contains("involvedObject");
  const Json* about = at(object, {core ? "involvedObject" : "regarding"});
  const auto timeOf = [&](std::initializer_list<const char*> path) {
    return stringAt(object, path);
  };
  std::string first = timeOf({core ? "firstTimestamp" : "deprecatedFirstTimestamp"});
  if (first.empty()) first = timeOf({"eventTime"});
  std::string last = timeOf({"series", "lastObservedTime"});
  if (last.empty()) last = timeOf({core ? "lastTimestamp" : "deprecatedLastTimestamp"});
  if (last.empty()) last = first;
  std::int64_t count = intAt(object, {"series", "count"});
  if (count == 0) count = intAt(object, {core ? "count" : "deprecatedCount"});
  if (count == 0) count = 1;
  std::string source = stringAt(object, {core ? "source" : "deprecatedSource", "component"});
  if (const auto host = stringAt(object, {core ? "source" : "deprecatedSource", "host"});
      !host.empty()) {
    source += ", " + host;
  }
  if (source.empty()) {
    source = stringAt(object, {core ? "reportingComponent" : "reportingController"});
  }
  std::string target;
  if (about != nullptr) {
    target = lowerCase(stringAt(*about, {"kind"})) + "/" + stringAt(*about, {"name"});
  }
  std::string message = stringAt(object, {core ? "message" : "note"});
  while (!message.empty() && std::isspace(static_cast<unsigned char>(message.back())))
    message.pop_back();
  return {ageOf(Json{{"t", last}}, "t", now),
          stringAt(object, {"type"}),
          stringAt(object, {"reason"}),
          target,
          about == nullptr ? "" : stringAt(*about, {"fieldPath"}),
          source,
          message,
          ageOf(Json{{"t", first}}, "t", now),
          count,
          nameOf(object)};
}

}  // namespace

ResourceType makeEventType(const TypeBuilder& build) {
  ResourceType events = build.make("", "v1", "events", "Event", true, {"ev"});
  events.columns = eventColumns();
  events.cells = eventCells;
  build.indexFields(
      events, {"involvedObject.kind", "involvedObject.namespace", "involvedObject.name",
               "involvedObject.uid", "involvedObject.apiVersion", "involvedObject.resourceVersion",
               "involvedObject.fieldPath", "reason", "reportingComponent", "source", "type"});
  return events;
}

ResourceType makeEventV1Type(const TypeBuilder& build) {
  ResourceType eventsV1 =
      build.make("events.k8s.io", "v1", "events", "Event", true, {"ev"}, "EventV1");
  eventsV1.columns = eventColumns();
  eventsV1.cells = eventCells;
  build.indexFields(eventsV1, {"regarding.kind", "regarding.namespace", "regarding.name",
                               "regarding.uid", "reason", "reportingController", "type"});
  return eventsV1;
}

}  // namespace pointsman::e2e
