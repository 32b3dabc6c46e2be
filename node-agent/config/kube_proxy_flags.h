// kube-proxy's command line flags, so that a DaemonSet or unit file written for kube-proxy works
// with this agent: each sets the field of KubeProxyConfiguration that it stands for.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "node-agent/config/kube_proxy_configuration.h"

namespace pointsman::agent {

struct KubeProxyFlag {
  enum class Kind {
    kText,
    kNumber,
    kBool,
    kList,     // separated by commas
    kIgnored,  // of kube-proxy's logging and no longer used ones: accepted, changes nothing
    kRefused,  // what it asks for is not there
  };
  std::string_view name;  // "--proxy-mode"
  Kind kind;
  // The fields it sets, "ipvs.scheduler"; for kIgnored and kRefused why.
  std::vector<std::string_view> fields;
  bool stands_alone = false;  // "--logtostderr"; always so for kBool
};

// Those of kube-proxy v1.20 to v1.36 that the agent does not have under the same name (--config,
// --cleanup, --kubeconfig, --master, --hostname-override, --v, the bind addresses).
const std::vector<KubeProxyFlag>& KubeProxyFlags();

// Flag name -> value as given; a flag that stands alone has the value "true".
using KubeProxyFlagValues = std::map<std::string, std::string>;

// What such a command line configures. Throws std::invalid_argument with every error:
// "--ipvs-scheduler: ipvs.scheduler: \"fast\" is not one of rr, …". Refused flags are errors,
// ignored ones become notes.
KubeProxyConfiguration ConfigurationFromFlags(const KubeProxyFlagValues& values);

// With --config, kube-proxy ignores these flags: a note for each, and the refused ones are errors
// all the same (std::invalid_argument).
std::vector<std::string> NotesOnIgnoredFlags(const KubeProxyFlagValues& values);

}  // namespace pointsman::agent
