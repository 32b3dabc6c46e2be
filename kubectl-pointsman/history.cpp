#include "kubectl-pointsman/history.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "kube/pointsman/settings_json.h"
#include "kube/text/json_text.h"
#include "kube/text/text.h"
#include "kubectl-pointsman/exit_code.h"
#include "kubectl-pointsman/terminal.h"

namespace pointsman::plugin {
namespace {

using nlohmann::json;

constexpr size_t kMostOfValue = 120;

std::string Shown(const json& value) {
  if (value.is_string() && !value.get_ref<const std::string&>().empty())
    return text::Shorten(value.get<std::string>(), kMostOfValue);
  return text::Shorten(text::JsonText(value), kMostOfValue);
}

void Collect(const json& before, const json& after, const std::string& path,
             std::vector<SettingChange>& changes) {
  if (before == after) return;
  if (before.is_object() && after.is_object()) {
    const json empty;
    json keys = before;
    keys.update(after);
    for (const auto& [key, ignored] : keys.items()) {
      const auto left = before.find(key);
      const auto right = after.find(key);
      Collect(left == before.end() ? empty : *left, right == after.end() ? empty : *right,
              path.empty() ? key : path + "." + key, changes);
    }
    return;
  }
  changes.push_back(
      {path, before.is_null() ? "" : Shown(before), after.is_null() ? "" : Shown(after)});
}

std::string ChangeWords(const std::vector<SettingChange>& changes) {
  std::string text;
  for (const SettingChange& change : changes) {
    if (!text.empty()) text += "; ";
    text += fmt::format("{}: {} -> {}", change.path, change.before.empty() ? "-" : change.before,
                        change.after.empty() ? "-" : change.after);
  }
  return text;
}

}  // namespace

std::vector<SettingChange> Changes(const json& before, const json& after, const std::string& path) {
  std::vector<SettingChange> changes;
  Collect(before, after, path, changes);
  return changes;
}

std::vector<HistoryEntry> MakeHistory(const kube::ProxyConfiguration& configuration,
                                      const std::vector<StoredRevision>& revisions,
                                      const std::vector<kube::NodeProxy>& proxies) {
  std::vector<HistoryEntry> history;
  const op::Revision* previous = nullptr;
  for (const StoredRevision& stored : revisions) {
    HistoryEntry entry{stored, 0, {}, {}};
    const int64_t number = stored.revision.number;
    entry.nodes = static_cast<size_t>(
        std::count_if(proxies.begin(), proxies.end(), [&](const kube::NodeProxy& proxy) {
          return !proxy.spec.removed && proxy.spec.configuration == configuration.name &&
                 proxy.spec.revision == number;
        }));
    if (number == configuration.status.update_revision) entry.marks.emplace_back("specified");
    if (number == configuration.status.current_revision) entry.marks.emplace_back("last good");
    for (const kube::TrippedGate& tripped : configuration.status.tripped_gates) {
      if (tripped.revision == number)
        entry.marks.push_back(fmt::format("stopped by {} on {}", tripped.gate, tripped.node));
    }
    if (configuration.spec.rollout.rollback_to == number) entry.marks.emplace_back("rollbackTo");
    if (previous != nullptr)
      entry.changes =
          Changes(kube::ToJson(previous->settings), kube::ToJson(stored.revision.settings));
    previous = &stored.revision;
    history.push_back(std::move(entry));
  }
  return history;
}

std::string HistoryText(const std::vector<HistoryEntry>& history) {
  Table table({"REVISION", "CREATED", "MODE", "NODES", "IS", "CHANGES"});
  for (const HistoryEntry& entry : history) {
    const op::Revision& revision = entry.stored.revision;
    table.Add({std::to_string(revision.number), entry.stored.created,
               std::string(kube::ToString(revision.settings.mode)), std::to_string(entry.nodes),
               entry.marks.empty() ? "-" : fmt::format("{}", fmt::join(entry.marks, ", ")),
               ChangeWords(entry.changes)});
  }
  return table.empty() ? "no revision is kept yet\n" : table.Text();
}

json HistoryJson(const std::vector<HistoryEntry>& history) {
  json revisions = json::array();
  for (const HistoryEntry& entry : history) {
    revisions.push_back({{"revision", entry.stored.revision.number},
                         {"created", entry.stored.created},
                         {"nodes", entry.nodes},
                         {"is", entry.marks},
                         {"settings", kube::ToJson(entry.stored.revision.settings)}});
  }
  return {{"revisions", std::move(revisions)}};
}

int64_t RevisionBefore(const kube::ProxyConfiguration& configuration,
                       const std::vector<StoredRevision>& revisions) {
  const kube::ProxyConfigurationStatus& status = configuration.status;
  const auto kept = [&](int64_t number) {
    return std::any_of(revisions.begin(), revisions.end(), [&](const StoredRevision& stored) {
      return stored.revision.number == number;
    });
  };
  if (status.current_revision != status.update_revision && kept(status.current_revision))
    return status.current_revision;
  int64_t before = 0;
  for (const StoredRevision& stored : revisions) {
    const int64_t number = stored.revision.number;
    if (number < status.update_revision) before = std::max(before, number);
  }
  if (before == 0) {
    throw Failure(ExitCode::kNotFound,
                  fmt::format("ProxyConfiguration {} has no revision before {} to go back to: say "
                              "which with --to (`kubectl pointsman history` lists what is kept), "
                              "or apply the mode that you want",
                              configuration.name, status.update_revision));
  }
  return before;
}

}  // namespace pointsman::plugin
