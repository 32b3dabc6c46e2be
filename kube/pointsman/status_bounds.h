// A status is written whole or not at all: one text that is too long for the schema, and the API
// server refuses everything that a node or the operator has to say. So what goes out keeps to the
// bounds of the CRDs (crds/), whatever comes in from kernels, tools, objects and other writers.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "kube/pointsman/condition.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/pointsman/proxy_configuration.h"

namespace pointsman::kube {

// Thread-safe, and idempotent: what has been kept to the schema once stays as it is, so that a
// status can be compared with the one that the server gives back. Texts are shortened at a
// character's border, times that are none left out, lists cut, names that are there twice dropped.
// ToJson does it too.
void KeepToSchema(NodeProxyStatus& status);
void KeepToSchema(ProxyConfigurationStatus& status);

// Others may set conditions of their own beside ours, but not so many that ours find no room: drops
// the last of those that are not in `own`.
void KeepRoomFor(std::span<const std::string_view> own, std::vector<Condition>& conditions);

// For a server that refuses the status nevertheless (an older CRD, an admission policy): the same
// without free text, so that modes, revisions and conditions arrive. In their place stands
// `instead`.
NodeProxyStatus WithoutMessages(NodeProxyStatus status, std::string_view instead);

}  // namespace pointsman::kube
