// The subresources of Pods that are not parts of the object: eviction and binding.
#include <string>

#include "e2e/control-plane/api/api_server.h"
#include "e2e/control-plane/registry/deletion.h"
#include "e2e/control-plane/registry/json_path.h"

namespace pointsman::e2e {

void ApiServer::evict(RequestContext& context, const Target& target) {
  decodeBody(context.request, "Eviction");
  DeleteOptions options;
  options.dryRun = context.dryRun;
  deleteObject(store_, *target.type, target.ns, target.name, options);
  sendSuccess(context, 201);
}

void ApiServer::bindPod(RequestContext& context, const Target& target) {
  const Json body = decodeBody(context.request, "Binding");
  const std::string node = stringAt(body, {"target", "name"});
  if (node.empty())
    throw invalid("", "Binding", target.name,
                  {{"target.name", "FieldValueRequired", "Required value"}});
  const ObjectPtr pod = store_.modify("pods", target.ns, target.name, [&](Json& object) {
    const std::string present = stringAt(object, {"spec", "nodeName"});
    if (!present.empty()) {
      throw conflict("", "pods/binding", target.name,
                     "pod " + target.name + " is already assigned to node \"" + present + "\"");
    }
    object["spec"]["nodeName"] = node;
    return true;
  });
  if (!pod) throw notFound("", "pods", target.name);
  sendSuccess(context, 201);
}

}  // namespace pointsman::e2e
