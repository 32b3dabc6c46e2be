// What Pointsman reads of a v1 Node.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "kube/net/ip_address.h"
#include "kube/time/rfc3339.h"

namespace pointsman::kube {

struct Taint {
  std::string key;
  std::string value;
  std::string effect;  // NoSchedule, PreferNoSchedule, NoExecute
  bool operator==(const Taint&) const = default;
};

struct Node {
  std::string name;
  std::string uid;
  std::string resource_version;
  TimePoint created{};
  std::map<std::string, std::string> labels;
  std::vector<net::IpAddress> internal_ips;
  std::vector<net::IpAddress> external_ips;
  std::vector<net::IpPrefix> pod_cidrs;
  bool ready = false;  // condition Ready is True
  // Condition Ready is Unknown: the kubelet has stopped reporting (node lifecycle controller).
  bool silent = false;
  // Not Ready, and by its own condition it has not been Ready since it was registered: whatever
  // needs a Service's address there never had it. A guess by two clocks, so nothing may depend on
  // it but how soon the node is served.
  bool never_ready = false;
  bool deleting = false;  // deletionTimestamp set
  std::vector<Taint> taints;
  std::string kubelet_version;  // "v1.32.1+k3s1"; "" if not reported
  // Taint ToBeDeletedByClusterAutoscaler: the node leaves (KEP-3836).
  bool to_be_deleted = false;

  // As Service::problems.
  std::vector<std::string> problems;

  const std::string& Zone() const;  // label topology.kubernetes.io/zone, "" if none
};

// As DecodeService.
Node DecodeNode(std::string_view json);

}  // namespace pointsman::kube
