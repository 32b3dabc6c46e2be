#include "node-agent/handover/combined_check.h"

#include <iterator>
#include <utility>

namespace pointsman::agent {

bool CombinedCheck::SeenEnough(const ServiceModel& model) {
  bool enough = true;
  // All of them: each looks at the same time.
  for (TrafficCheck* check : checks_)
    enough = check->SeenEnough(model) && enough;
  return enough;
}

size_t CombinedCheck::Before(kube::Mode from, kube::Mode to, const ServiceModel& model) {
  size_t compared = 0;
  for (TrafficCheck* check : checks_)
    compared += check->Before(from, to, model);
  return compared;
}

std::vector<std::string> CombinedCheck::AfterSwitch() {
  std::vector<std::string> worse;
  for (TrafficCheck* check : checks_) {
    std::vector<std::string> of_it = check->AfterSwitch();
    std::move(of_it.begin(), of_it.end(), std::back_inserter(worse));
  }
  undecided_ = checks_;
  return worse;
}

// As soon as one finds the traffic worse that is the verdict; what the others find would come
// later.
std::optional<std::vector<std::string>> CombinedCheck::Verdict(const ServiceModel& model) {
  std::vector<std::string> worse;
  std::erase_if(undecided_, [&](TrafficCheck* check) {
    auto verdict = check->Verdict(model);
    if (!verdict) return false;
    std::move(verdict->begin(), verdict->end(), std::back_inserter(worse));
    return true;
  });
  if (worse.empty() && !undecided_.empty()) return std::nullopt;
  return worse;
}

TrafficFigures CombinedCheck::Figures() {
  TrafficFigures sum;
  for (TrafficCheck* check : checks_)
    sum.Add(check->Figures());
  return sum;
}

void CombinedCheck::Stop() {
  for (TrafficCheck* check : checks_)
    check->Stop();
  undecided_.clear();
}

}  // namespace pointsman::agent
