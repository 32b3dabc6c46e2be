// For tests: objects of the API as their text.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "kube/pointsman/node_proxy.h"
#include "kube/pointsman/proxy_configuration.h"
#include "kube/time/rfc3339.h"

namespace pointsman::plugin {

// What a hostile node or tenant would like a terminal to do: clear it, retitle it, color all that
// follows, reorder text, in both of the forms that control sequences have.
inline const std::string kHostile =
    "\x1b[2J\x1b]0;owned\x07\xc2\x9b"
    "31mred\r\n\xe2\x80\xae"
    "backwards\x7f\xff";
// What of it must not come out.
inline bool IsHarmless(const std::string& text) {
  for (const char* bad : {"\x1b", "\x07", "\xc2\x9b", "\r", "\xe2\x80\xae", "\x7f", "\xff"}) {
    if (text.find(bad) != std::string::npos) return false;
  }
  return true;
}

inline kube::TimePoint At(const std::string& text) {
  return kube::ParseTime(text).value();
}

// `more` is merged into the whole object.
inline kube::ProxyConfiguration Configuration(const std::string& more = "{}") {
  nlohmann::json object = nlohmann::json::parse(R"({
    "apiVersion": "pointsman.io/v1alpha1", "kind": "ProxyConfiguration",
    "metadata": {"name": "cluster", "uid": "u1", "generation": 2, "resourceVersion": "7",
                 "creationTimestamp": "2026-01-01T00:00:00Z"},
    "spec": {"mode": "ipvs", "clusterCIDR": "10.244.0.0/16",
             "rollout": {"canary": {"nodes": 1}, "minReady": "10s"}},
    "status": {"observedGeneration": 2, "phase": "RollingOut", "currentRevision": 1,
               "updateRevision": 2, "nodes": {"desired": 3, "updated": 1, "ready": 3},
               "conditions": [
                 {"type": "Accepted", "status": "True", "reason": "Valid", "message": "",
                  "lastTransitionTime": "2026-01-01T00:00:00Z"},
                 {"type": "Progressing", "status": "True", "reason": "RollingOut",
                  "message": "1 of 3 nodes ready", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})");
  object.merge_patch(nlohmann::json::parse(more));
  return kube::ProxyConfigurationFromJson(object);
}

inline nlohmann::json ConditionJson(const std::string& type, const std::string& status,
                                    const std::string& reason, const std::string& message) {
  return {{"type", type},
          {"status", status},
          {"reason", reason},
          {"message", message},
          {"lastTransitionTime", "2026-01-01T00:00:00Z"}};
}

// A node that runs `mode` at `revision` since 12:00 and serves.
inline nlohmann::json ProxyJson(const std::string& name, const std::string& mode,
                                int64_t revision) {
  return {{"metadata",
           {{"name", name},
            {"uid", "uid-" + name},
            {"generation", 5},
            {"annotations", {{"pointsman.io/updated-at", "2026-01-01T12:00:00Z"}}}}},
          {"spec", {{"configuration", "cluster"}, {"revision", revision}, {"mode", mode}}},
          {"status",
           {{"observedGeneration", 5},
            {"observedRevision", revision},
            {"activeMode", mode},
            {"agentVersion", "0.1.0"},
            {"kernel", {{"release", "6.1.0"}}},
            {"services", 21},
            {"endpoints", 241},
            {"conditions",
             {ConditionJson("Ready", "True", "Serving", "serves"),
              ConditionJson("Degraded", "False", "DesiredModeActive", "")}}}}};
}
inline kube::NodeProxy Proxy(const std::string& name, const std::string& mode, int64_t revision,
                             const std::string& more = "{}") {
  nlohmann::json object = ProxyJson(name, mode, revision);
  object.merge_patch(nlohmann::json::parse(more));
  return kube::NodeProxyFromJson(object);
}

}  // namespace pointsman::plugin
