#include <string>
#include <vector>

#include "e2e/control-plane/registry/field_checks.h"
#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"
#include "kube/text/ascii.h"

namespace pointsman::e2e {
namespace {

// As kubectl prints it: kind.group/name.
std::string ControllerOf(const Json& o) {
  std::string controller = "<none>";
  if (const Json* owners = At(o, {"metadata", "ownerReferences"}); owners != nullptr) {
    for (const Json& owner : *owners) {
      if (!owner.value("controller", false)) continue;
      const std::string version = owner.value("apiVersion", "");
      const std::size_t slash = version.find('/');
      controller = text::ToLowerAscii(owner.value("kind", "")) +
                   (slash == std::string::npos ? "" : "." + version.substr(0, slash)) + "/" +
                   owner.value("name", "");
    }
  }
  return controller;
}

}  // namespace

ResourceType MakeControllerRevisionType(const TypeBuilder& build) {
  ResourceType revisions =
      build.Make("apps", "v1", "controllerrevisions", "ControllerRevision", true);
  revisions.columns = {kName, Column("Controller"), Column("Revision", "integer"), kAge};
  revisions.cells = [](const Json& o, Clock::time_point now) -> Cells {
    const Json* revision = At(o, {"revision"});
    return {NameOf(o), ControllerOf(o), revision != nullptr ? *revision : Json(0), Age(o, now)};
  };
  revisions.validate = [](const Json& o, const Json* old, const RequestInfo&) {
    std::vector<FieldError> errors;
    if (const Json* number = At(o, {"revision"}); number != nullptr && *number < 0) {
      errors.push_back(InvalidValue("revision", *number, "must be greater than or equal to 0"));
    }
    if (old != nullptr && At(*old, {"data"}) != nullptr &&
        (At(o, {"data"}) == nullptr || *At(o, {"data"}) != *At(*old, {"data"}))) {
      errors.push_back(InvalidValue("data", "", "field is immutable"));
    }
    return errors;
  };
  return revisions;
}

}  // namespace pointsman::e2e
