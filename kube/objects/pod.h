// What the operator reads of a v1 Pod of the node agent: where it is.
#pragma once

#include <string>
#include <string_view>

namespace pointsman::kube {

struct Pod {
  std::string name;
  std::string uid;
  std::string resource_version;
  // The node it is bound to; before that the one that it is made for, as the DaemonSet controller
  // says it (a required affinity to metadata.name); else "".
  std::string node_name;
  bool over = false;  // phase Succeeded or Failed: nothing runs there any more
};

// As DecodeService.
Pod DecodePod(std::string_view json);

}  // namespace pointsman::kube
