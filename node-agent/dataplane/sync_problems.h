// What a list of SyncProblems means, and how it is said.
#pragma once

#include <string>
#include <vector>

#include "node-agent/dataplane/dataplane.h"

namespace pointsman::agent {

// "default/web:http/TCP/IPv4: no room; ipset PM-IPVS-VIP4: …; and 7 more": the first `most` of
// them, each cut where it is long.
std::string Describe(const std::vector<SyncProblem>& problems, size_t most = 3);

// The families that problems name, each once.
std::vector<net::Family> FamiliesOf(const std::vector<SyncProblem>& problems);

// Is there a problem that no family is exempt from, or one of each family in `served`?
bool FailedAsAWhole(const std::vector<SyncProblem>& problems,
                    const std::vector<net::Family>& served);

}  // namespace pointsman::agent
