#include "node-agent/dataplane/sync_problems.h"

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>

#include "kube/text/text.h"

namespace pointsman::agent {
namespace {

// Of each problem, in bytes: five of them find room in a condition (limits::kMaxConditionMessage).
constexpr size_t kMostOfObject = 160;
constexpr size_t kMostOfMessage = 600;

bool Contains(const std::vector<net::Family>& families, net::Family family) {
  return std::find(families.begin(), families.end(), family) != families.end();
}

}  // namespace

std::string Describe(const std::vector<SyncProblem>& problems, size_t most) {
  std::string text;
  for (size_t i = 0; i < problems.size() && i < most; ++i) {
    if (i > 0) text += "; ";
    text += text::Shorten(problems[i].object, kMostOfObject) + ": " +
            text::Shorten(problems[i].message, kMostOfMessage);
  }
  if (problems.size() > most) text += fmt::format("; and {} more", problems.size() - most);
  return text;
}

std::vector<net::Family> FamiliesOf(const std::vector<SyncProblem>& problems) {
  std::vector<net::Family> families;
  for (const SyncProblem& problem : problems) {
    if (problem.family && !Contains(families, *problem.family)) families.push_back(*problem.family);
  }
  return families;
}

bool FailedAsAWhole(const std::vector<SyncProblem>& problems,
                    const std::vector<net::Family>& served) {
  if (!WentThroughInPart(problems)) return true;
  const std::vector<net::Family> failed = FamiliesOf(problems);
  return !failed.empty() && std::all_of(served.begin(), served.end(), [&](net::Family family) {
    return Contains(failed, family);
  });
}

}  // namespace pointsman::agent
