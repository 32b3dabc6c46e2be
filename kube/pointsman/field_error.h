// What is wrong with which field of an object, as Kubernetes' validation says it.
#pragma once

#include <string>
#include <vector>

namespace pointsman::kube {

struct FieldError {
  std::string path;     // "spec.ipvs.scheduler", "spec.nodePortAddresses[1]"
  std::string message;  // "\"fast\" is not one of rr, wrr, …"
  bool operator==(const FieldError&) const = default;
};

// "spec.mode: …; spec.ipvs.scheduler: …", at most `limit` of them, then "and N more".
std::string Summarize(const std::vector<FieldError>& errors, size_t limit = 10);

}  // namespace pointsman::kube
