// The rules that several modes share and that outlive each dataplane: base rules of the
// environment.
#pragma once

#include <vector>

#include "kube/pointsman/mode.h"
#include "kube/pointsman/proxy_settings.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/handover/mode_environment.h"

namespace pointsman::agent {

// The sync thread's.
class SharedBase {
 public:
  // `environment` outlives this.
  explicit SharedBase(ModeEnvironment& environment) : environment_(environment) {}

  // As `mode` needs them. A problem of one family alone stays in problems(); others are in the
  // result too, and then that mode cannot serve.
  SyncResult Ensure(const kube::ProxySettings& settings, kube::Mode mode);
  // Of one family, as the last Ensure found them.
  const std::vector<SyncProblem>& problems() const { return problems_; }
  void ForgetProblems() { problems_.clear(); }

 private:
  ModeEnvironment& environment_;
  std::vector<SyncProblem> problems_;
};

}  // namespace pointsman::agent
