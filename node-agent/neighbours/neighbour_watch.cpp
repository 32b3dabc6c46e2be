#include "node-agent/neighbours/neighbour_watch.h"

#include <algorithm>
#include <set>

#include <spdlog/spdlog.h>

#include "node-agent/neighbours/signs_reader.h"

namespace pointsman::agent {
namespace {

std::set<std::string_view> NamesOf(const std::vector<Finding>& findings) {
  std::set<std::string_view> names;
  for (const Finding& finding : findings)
    names.insert(finding.neighbour->name);
  return names;
}

}  // namespace

void NeighbourWatch::Look(TimePoint now) {
  if (now < next_look_) return;
  const TimePoint begin = std::chrono::steady_clock::now();
  Signs signs = ReadSigns(patterns_, modules_root_);
  const auto took = std::chrono::steady_clock::now() - begin;
  next_look_ = now + std::max<TimePoint::duration>(kFresh, kShare * took);
  if (signs == signs_) return;
  const auto known = NamesOf(findings_);
  signs_ = std::move(signs);
  findings_ = Survey(signs_, Neighbours());
  for (const Finding& finding : findings_) {
    if (!known.contains(finding.neighbour->name))
      spdlog::info("found on this node: {} ({}), by {}", finding.neighbour->name,
                   finding.neighbour->title, Describe(finding));
  }
}

}  // namespace pointsman::agent
