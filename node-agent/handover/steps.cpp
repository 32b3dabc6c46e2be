#include "node-agent/handover/steps.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace pointsman::agent {
namespace {

std::string NameOf(std::string_view kind, std::string_view object) {
  return object.empty() ? std::string(kind) : fmt::format("{} {}", kind, object);
}

}  // namespace

void Steps::Failed(std::string_view kind, std::string_view object, const std::string& message) {
  const std::string name = NameOf(kind, object);
  spdlog::error("{} failed, will try again: {}", name, message);
  failing_.insert_or_assign(name, message);
  ++failures_[std::string(kind)];
}

void Steps::Succeeded(std::string_view kind, std::string_view object) {
  if (failing_.empty()) return;
  const auto failed = failing_.find(NameOf(kind, object));
  if (failed == failing_.end()) return;
  spdlog::info("{} succeeds again", failed->first);
  failing_.erase(failed);
}

}  // namespace pointsman::agent
