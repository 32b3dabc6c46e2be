#include "node-agent/handover/shared_base.h"

#include <spdlog/spdlog.h>

#include "node-agent/dataplane/sync_problems.h"
#include "node-agent/handover/guarded.h"

namespace pointsman::agent {

SyncResult SharedBase::Ensure(const kube::ProxySettings& settings, kube::Mode mode) {
  kube::ProxySettings of_mode = settings;
  of_mode.mode = mode;
  SyncResult result =
      Guarded("the shared masquerade rules", [&] { return environment_.EnsureBase(of_mode); });
  const bool news = result.problems.size() != problems_.size();
  problems_.clear();
  if (result.ok()) return result;
  if (!FailedAsAWhole(result.problems, environment_.Families())) problems_ = result.problems;
  if (news) spdlog::error("the shared rules could not be written: {}", Describe(result.problems));
  return result;
}

}  // namespace pointsman::agent
