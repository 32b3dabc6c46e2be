#include <string>
#include <vector>

#include "e2e/control-plane/registry/field_checks.h"
#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {
namespace {

// As kubectl prints it: kind.group/name.
std::string controllerOf(const Json& o) {
  std::string controller = "<none>";
  if (const Json* owners = at(o, {"metadata", "ownerReferences"}); owners != nullptr) {
    for (const Json& owner : *owners) {
      if (!owner.value("controller", false)) continue;
      const std::string version = owner.value("apiVersion", "");
      const std::size_t slash = version.find('/');
      controller = lowerCase(owner.value("kind", "")) +
                   (slash == std::string::npos ? "" : "." + version.substr(0, slash)) + "/" +
                   owner.value("name", "");
    }
  }
  return controller;
}

}  // namespace

ResourceType makeControllerRevisionType(const TypeBuilder& build) {
  ResourceType revisions =
      build.make("apps", "v1", "controllerrevisions", "ControllerRevision", true);
  revisions.columns = {kName, column("Controller"), column("Revision", "integer"), kAge};
  revisions.cells = [](const Json& o, Clock::time_point now) -> Cells {
    const Json* revision = at(o, {"revision"});
    return {nameOf(o), controllerOf(o), revision != nullptr ? *revision : Json(0), age(o, now)};
  };
  revisions.validate = [](const Json& o, const Json* old, const RequestInfo&) {
    std::vector<FieldError> errors;
    if (const Json* number = at(o, {"revision"}); number != nullptr && *number < 0) {
      errors.push_back(invalidValue("revision", *number, "must be greater than or equal to 0"));
    }
    if (old != nullptr && at(*old, {"data"}) != nullptr &&
        (at(o, {"data"}) == nullptr || *at(o, {"data"}) != *at(*old, {"data"}))) {
      errors.push_back(invalidValue("data", "", "field is immutable"));
    }
    return errors;
  };
  return revisions;
}

}  // namespace pointsman::e2e
