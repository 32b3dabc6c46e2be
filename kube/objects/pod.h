// What the operator reads of a v1 Pod of a proxy, its own or kube-proxy: where it is, and whose.
#pragma once

#include <map>
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
  bool over = false;      // phase Succeeded or Failed: nothing runs there any more
  bool ready = false;     // condition Ready is True
  bool deleting = false;  // deletionTimestamp set: its processes may run yet
  // The kubelet's image of a static Pod (annotation kubernetes.io/config.mirror): the API cannot
  // take that off its node.
  bool mirror = false;
  std::string controller_uid;  // of the object that made it, "" if none
  std::map<std::string, std::string> labels;
};

// As DecodeService.
Pod DecodePod(std::string_view json);

}  // namespace pointsman::kube
