// What the operator reads of an apps/v1 DaemonSet of the node agent: the nodes that it is for.
#pragma once

#include <string>
#include <string_view>

#include "kube/objects/node_affinity.h"

namespace pointsman::kube {

struct DaemonSet {
  std::string name;
  std::string uid;
  std::string resource_version;
  NodePlacement placement;
};

// As DecodeService.
DaemonSet DecodeDaemonSet(std::string_view json);

}  // namespace pointsman::kube
