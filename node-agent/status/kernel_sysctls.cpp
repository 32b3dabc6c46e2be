#include "node-agent/status/kernel_sysctls.h"

#include <map>

#include "kube/pointsman/limits.h"
#include "node-agent/sysctl/sysctl.h"

namespace pointsman::agent {

std::vector<kube::SysctlStatus> ReadSysctls(const std::vector<std::string>& names) {
  std::map<std::string, std::string> values;
  for (const std::string& name : names) {
    if (values.size() == kube::limits::kMaxSysctls) break;
    if (name.size() > kube::limits::kMaxSysctlText || values.contains(name)) continue;
    auto value = ReadSysctl(name);
    if (value && value->size() <= kube::limits::kMaxSysctlText)
      values.emplace(name, std::move(*value));
  }
  std::vector<kube::SysctlStatus> status;
  status.reserve(values.size());
  for (auto& [name, value] : values)
    status.push_back({name, std::move(value)});
  return status;
}

}  // namespace pointsman::agent
