// What is made in kube-proxy's namespace for a revision of its file: an immutable ConfigMap with
// the file, and a DaemonSet whose Pods run with it on the nodes that are bound to the revision.
// Pure functions of the cluster's own objects.
//
// Two Pods of kube-proxy on a node would fight for its ports, so theirs have an anti-affinity to
// all of the cluster's DaemonSet. The scheduler holds it in both directions: it keeps the Pod of a
// revision waiting until the other is gone, and the other until that of the revision is.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "operator/plan/kube_proxy_config.h"
#include "operator/plan/kube_proxy_daemon_set.h"

namespace pointsman::op {

struct KubeProxyConfigMap {
  std::string name;
  std::string uid;
  std::string resource_version;
  bool deleting = false;
  bool immutable = false;
  std::map<std::string, std::string> data;
  nlohmann::json binary_data;  // null: none
  std::string revision;        // the label's value; "": it was made for none
};

// As DecodeService.
KubeProxyConfigMap DecodeKubeProxyConfigMap(std::string_view json);

// "kube-proxy-pointsman-7", of both. `set_name`: of the cluster's DaemonSet.
std::string RevisionObjectName(const std::string& set_name, int64_t revision);

// `own`: the cluster's ConfigMap; `text`: what its file says in this revision.
nlohmann::json RevisionConfigMap(const KubeProxyConfigMap& own, const KubeProxyFile& file,
                                 const std::string& set_name, int64_t revision,
                                 const std::string& text);
// Whether what is there can be used for it: nobody else has made it, and it cannot change.
bool IsRevisionConfigMap(const KubeProxyConfigMap& there, const KubeProxyFile& file,
                         int64_t revision, const std::string& text);

// On Pods of such a DaemonSet: DerivedFrom when they were made.
inline constexpr const char* kDerivedLabel = kDerivedAnnotation;
// A hash of the template that the DaemonSet would have now.
std::string DerivedFrom(const KubeProxyDaemonSet& own, const KubeProxyFile& file, int64_t revision);

// `own`: the cluster's DaemonSet, changed or not.
nlohmann::json RevisionDaemonSet(const KubeProxyDaemonSet& own, const KubeProxyFile& file,
                                 int64_t revision);
// What brings the one that is there to what it would be now, as a merge patch; empty: nothing. Its
// Pods stay (OnDelete).
nlohmann::json PatchToDerive(const KubeProxyDaemonSet& there, const KubeProxyDaemonSet& own,
                             const KubeProxyFile& file, int64_t revision);

// Why the cluster's DaemonSet cannot be handled so, with a remedy; "": it can.
std::string WhyNotByRevision(const KubeProxyDaemonSet& own);

}  // namespace pointsman::op
