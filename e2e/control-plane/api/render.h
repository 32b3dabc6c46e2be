#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "e2e/control-plane/http/message.h"
#include "e2e/control-plane/registry/resource_type.h"

namespace pointsman::e2e {

/// What the client wants an object to look like.
struct Rendering {
  enum class Form { kObject, kTable, kPartial } form = Form::kObject;
  bool yaml = false;
  std::string tableVersion = "v1";  ///< of meta.k8s.io
  std::string includeObject = "Metadata";

  std::string contentType() const { return yaml ? "application/yaml" : "application/json"; }
};

/// Reads Accept (and includeObject). Throws StatusError 406.
Rendering negotiate(const HttpRequest& request);

/// The stored text with the apiVersion of `type`.
std::string objectText(const ResourceType& type, const StoredObject& object);

/// One object as asked for.
std::string renderObject(const ResourceType& type, const StoredObject& object,
                         const Rendering& rendering);
/// The object of a watch event; the first table of a watch has column definitions.
std::string renderEventObject(const ResourceType& type, const StoredObject& object,
                              const Rendering& rendering, bool first);
struct ListMeta {
  std::uint64_t resourceVersion = 0;
  std::string continueToken;
  std::optional<std::size_t> remaining;
};
std::string renderList(const ResourceType& type, const std::vector<ObjectPtr>& objects,
                       const ListMeta& meta, const Rendering& rendering);

/// Columns and cells of a custom resource, from additionalPrinterColumns.
void setCustomColumns(ResourceType& type, const Json& additionalPrinterColumns);

/// JSON text as YAML.
std::string toYaml(const std::string& json);
/// YAML or JSON text as JSON. Throws std::invalid_argument.
Json parseYaml(const std::string& text);

}  // namespace pointsman::e2e
