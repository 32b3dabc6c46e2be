#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "e2e/control-plane/http/message.h"
#include "e2e/control-plane/registry/resource_type.h"

namespace pointsman::e2e {

// What the client wants an object to look like.
struct Rendering {
  enum class Form { kObject, kTable, kPartial } form = Form::kObject;
  bool yaml = false;
  std::string table_version = "v1";  // of meta.k8s.io
  std::string include_object = "Metadata";

  std::string ContentType() const { return yaml ? "application/yaml" : "application/json"; }
};

// Reads Accept (and includeObject). Throws StatusError 406.
Rendering Negotiate(const HttpRequest& request);

// The stored text with the apiVersion of `type`.
std::string ObjectText(const ResourceType& type, const StoredObject& object);

// One object as asked for.
std::string RenderObject(const ResourceType& type, const StoredObject& object,
                         const Rendering& rendering);
// The object of a watch event; the first table of a watch has column definitions.
std::string RenderEventObject(const ResourceType& type, const StoredObject& object,
                              const Rendering& rendering, bool first);
struct ListMeta {
  std::uint64_t resource_version = 0;
  std::string continue_token;
  std::optional<std::size_t> remaining;
};
std::string RenderList(const ResourceType& type, const std::vector<ObjectPtr>& objects,
                       const ListMeta& meta, const Rendering& rendering);

// Columns and cells of a custom resource, from additionalPrinterColumns.
void SetCustomColumns(ResourceType& type, const Json& additional_printer_columns);

// JSON text as YAML.
std::string ToYaml(const std::string& json);
// YAML or JSON text as JSON. Throws std::invalid_argument.
Json ParseYaml(const std::string& text);

}  // namespace pointsman::e2e
