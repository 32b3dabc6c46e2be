// Families that are not served since their last try failed. While one is broken, a change must not
// try it again: a try reads and writes all of the family, and would come with every change, which
// the other family's Services have to wait for. The full syncs that the agent schedules try it,
// ever more seldom.
#pragma once

#include <algorithm>
#include <iterator>
#include <string_view>
#include <utility>
#include <vector>

#include "node-agent/dataplane/family_parts.h"

namespace pointsman::agent {

// Not thread-safe.
class FamilyProblems {
 public:
  // Calls `call`, as AddPartOf does, and remembers whether the family went through: in a full sync.
  template <typename Call>
  void Try(net::Family family, std::string_view what, SyncResult& sum, const Call& call) {
    SyncResult part;
    AddPartOf(family, what, part, call);
    std::erase_if(problems_,
                  [family](const SyncProblem& problem) { return problem.family == family; });
    problems_.insert(problems_.end(), part.problems.begin(), part.problems.end());
    sum.Add(std::move(part));
  }

  // The same for a change. Of a broken family the problems are said again and nothing is done.
  template <typename Call>
  void TryChange(net::Family family, std::string_view what, SyncResult& sum, const Call& call) {
    const size_t before = sum.problems.size();
    std::copy_if(problems_.begin(), problems_.end(), std::back_inserter(sum.problems),
                 [family](const SyncProblem& problem) { return problem.family == family; });
    if (sum.problems.size() == before) Try(family, what, sum, call);
  }

 private:
  std::vector<SyncProblem> problems_;  // each names its family
};

}  // namespace pointsman::agent
