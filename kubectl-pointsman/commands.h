// The commands: what each asks of the cluster, and what it prints.
#pragma once

#include <ostream>
#include <stop_token>

#include "kubectl-pointsman/api.h"
#include "kubectl-pointsman/exit_code.h"
#include "kubectl-pointsman/options.h"

namespace pointsman::plugin {

// What a command works with; all of it outlives the command.
struct Session {
  const Options& options;
  Api& api;
  std::ostream& out;
  std::stop_token stop;
};

// Throws what EndingOfCurrentException knows.
ExitCode RunCommand(Session& session);

ExitCode RunStatus(Session& session);
ExitCode RunPreflight(Session& session);
ExitCode RunExplain(Session& session);
ExitCode RunHistory(Session& session);
ExitCode RunDiff(Session& session);
ExitCode RunServices(Session& session);
// migrate.cpp.
ExitCode RunMigrate(Session& session);
// pause, resume and rollback (steer.cpp).
ExitCode RunPause(Session& session, bool pause);
ExitCode RunRollback(Session& session);

// Of -o json or -o yaml; false: neither was asked for.
bool PrintDocument(Session& session, const nlohmann::json& document);

}  // namespace pointsman::plugin
