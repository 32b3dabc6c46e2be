// The subresources of Pods that are not parts of the object: eviction and binding.
#include <string>

#include "e2e/control-plane/api/api_server.h"
#include "e2e/control-plane/registry/deletion.h"
#include "e2e/control-plane/registry/json_path.h"

namespace pointsman::e2e {

void ApiServer::Evict(RequestContext& context, const Target& target) {
  DecodeBody(context.request, "Eviction");
  DeleteOptions options;
  options.dry_run = context.dry_run;
  DeleteObject(store_, *target.type, target.ns, target.name, options);
  SendSuccess(context, 201);
}

void ApiServer::BindPod(RequestContext& context, const Target& target) {
  const Json body = DecodeBody(context.request, "Binding");
  const std::string node = StringAt(body, {"target", "name"});
  if (node.empty())
    throw Invalid("", "Binding", target.name,
                  {{"target.name", "FieldValueRequired", "Required value"}});
  const ObjectPtr pod = store_.Modify("pods", target.ns, target.name, [&](Json& object) {
    const std::string present = StringAt(object, {"spec", "nodeName"});
    if (!present.empty()) {
      throw Conflict("", "pods/binding", target.name,
                     "pod " + target.name + " is already assigned to node \"" + present + "\"");
    }
    object["spec"]["nodeName"] = node;
    return true;
  });
  if (!pod) throw NotFound("", "pods", target.name);
  SendSuccess(context, 201);
}

}  // namespace pointsman::e2e
