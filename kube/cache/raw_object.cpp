#include "kube/cache/raw_object.h"

#include <simdjson.h>

#include "kube/client/client.h"

namespace pointsman::kube {

ObjectName ReadObjectName(std::string_view object) {
  simdjson::ondemand::parser parser;
  simdjson::ondemand::document document;
  simdjson::ondemand::object metadata;
  ObjectName read;
  if (parser.iterate(object.data(), object.size(), object.size() + kJsonPadding).get(document) !=
          simdjson::SUCCESS ||
      document.find_field_unordered("metadata").get_object().get(metadata) != simdjson::SUCCESS) {
    return read;
  }
  std::string_view text;
  if (metadata.find_field_unordered("name").get_string().get(text) == simdjson::SUCCESS)
    read.name = text;
  if (metadata.find_field_unordered("namespace").get_string().get(text) == simdjson::SUCCESS)
    read.ns = text;
  return read;
}

}  // namespace pointsman::kube
