#include "e2e/conformance/runner.h"

#include <fstream>
#include <regex>
#include <thread>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include "e2e/conformance/wait.h"

namespace pointsman::e2e {
namespace {

// ^ and $ are the ends of lines.
std::regex Pattern(const std::string& text) {
  return std::regex(text, std::regex::ECMAScript | std::regex::multiline);
}

}  // namespace

CaseRunner::CaseRunner(Arena& arena, const Case& one, net::Family family, int number,
                       NeighbourSession* session)
    : arena_(arena),
      case_(one),
      namespace_(fmt::format("{}-{}", one.name, number)),
      session_(session),
      objects_(arena, family, namespace_),
      words_(arena, objects_, family, namespace_),
      packets_(arena, objects_, words_, family, undo_,
               arena.dir() / fmt::format("{}-{}", namespace_, FamilyName(family)),
               [this](const std::string& failure) { Fail(failure); }) {}

CaseRunner::~CaseRunner() {
  try {
    CleanUp();
  } catch (const std::exception& error) {
    spdlog::error("after case {}: {}", case_.name, error.what());
  }
}

std::vector<std::string> CaseRunner::Run() {
  try {
    step_ = "proxy";
    arena_.UseConfiguration(words_.ExpandAll(case_.proxy));
    objects_.MakeNamespace();
    for (const Step& step : case_.steps) {
      step_ = fmt::format("{}:{}: {}", case_.file.filename().string(), step.line, step.text);
      Do(step);
    }
  } catch (const std::exception& error) {
    Fail(error.what());
  }
  step_ = "at its end";
  try {
    EndPolicies();
  } catch (const std::exception& error) {
    Fail(error.what());
  }
  std::vector<std::string> failures = failures_;
  if (!failures.empty()) failures.push_back(Report());
  try {
    CleanUp();
  } catch (const std::exception& error) {
    failures.push_back(std::string("cleaning up: ") + error.what());
  }
  return failures;
}

void CaseRunner::Fail(const std::string& failure) {
  failures_.push_back(fmt::format("{}: {}", step_, failure));
}

// Writes what the nodes' kernels have to files, and returns what of it has to do with the case.
std::string CaseRunner::Report() const {
  std::vector<std::string> words = objects_.cluster_ips();
  words.push_back(namespace_);
  std::string rules;
  for (const std::string& node : StandingNodes()) {
    rules += arena_.Rules(node, words);
    const auto file = arena_.dir() / fmt::format("{}-{}-rules.txt", namespace_, node);
    std::ofstream(file) << arena_.Rules(node, {}) << "\nagent:\n" << arena_.AgentLog(node, 20'000);
  }
  if (rules.size() > 12'000) rules = rules.substr(0, 12'000) + "…\n";
  return fmt::format("rules that have to do with it (all are in {}/{}-*-rules.txt):\n{}",
                     arena_.dir().string(), namespace_, rules);
}

void CaseRunner::Do(const Step& step) {
  const bool writes = std::holds_alternative<ApplyStep>(step.action) ||
                      std::holds_alternative<EndpointsStep>(step.action) ||
                      std::holds_alternative<PatchStep>(step.action) ||
                      std::holds_alternative<DeleteStep>(step.action);
  if (!writes && changed_) {
    arena_.AwaitTakenUp();
    changed_ = false;
  }
  changed_ |= writes;
  std::visit(
      [this](const auto& action) {
        using T = std::decay_t<decltype(action)>;
        if constexpr (std::is_same_v<T, ApplyStep>) {
          for (const Json& object : action.objects)
            objects_.Put(words_.ExpandAll(object));
        } else if constexpr (std::is_same_v<T, EndpointsStep>) {
          for (const auto& [service, list] : action.services)
            objects_.SetEndpoints(service, words_.ExpandAll(list));
        } else if constexpr (std::is_same_v<T, PatchStep>) {
          for (const auto& [object, patch] : action.patches)
            objects_.Patch(object, words_.ExpandAll(patch));
        } else if constexpr (std::is_same_v<T, DeleteStep>) {
          for (const std::string& object : action.objects)
            objects_.Delete(object);
        } else if constexpr (std::is_same_v<T, ProbeStep>) {
          packets_.Probe(action);
        } else if constexpr (std::is_same_v<T, OpenStep>) {
          packets_.Open(action);
        } else if constexpr (std::is_same_v<T, StreamStep>) {
          packets_.Check(action);
        } else if constexpr (std::is_same_v<T, RunStep>) {
          RunCommand(action);
        } else if constexpr (std::is_same_v<T, EventStep>) {
          EventStep expanded = action;
          expanded.message = words_.Expand(action.message);
          const std::string wrong =
              Eventually(action.eventually, [&] { return objects_.LookForEvent(expanded); });
          if (!wrong.empty()) Fail(wrong);
        } else if constexpr (std::is_same_v<T, PoliciesStep>) {
          SetPolicies(action);
        } else if constexpr (std::is_same_v<T, ReloadStep>) {
          session_->Reload();
        } else {
          static_assert(std::is_same_v<T, PassTimeStep>);
          std::this_thread::sleep_for(action.time);
        }
      },
      step.action);
}

void CaseRunner::SetPolicies(const PoliciesStep& step) {
  const auto addresses = [&](const std::optional<std::vector<std::string>>& names) {
    std::optional<std::vector<std::string>> out;
    if (!names) return out;
    out.emplace();
    for (const std::string& name : *names)
      out->push_back(words_.Lookup(name));
    return out;
  };
  NeighbourSession::Policies policies;
  for (const auto& [pod, policy] : step.pods)
    policies[words_.Lookup(pod)] = {addresses(policy.ingress_from), addresses(policy.egress_to)};
  policies_set_ = true;
  session_->SetPolicies(policies);
}

// Whatever the case did, the neighbour has now what it had at the beginning.
void CaseRunner::EndPolicies() {
  if (session_ == nullptr) return;
  if (policies_set_) session_->SetPolicies({});
  policies_set_ = false;
  const std::string disturbed = session_->Disturbed();
  if (!disturbed.empty()) Fail(disturbed);
}

void CaseRunner::RunCommand(const RunStep& step) {
  const Place place = arena_.At(step.on);
  const std::vector<std::string> argv = words_.ExpandEach(step.argv);
  if (!step.undo.empty()) undo_.Add(place, words_.ExpandEach(step.undo));
  const std::string wrong = Eventually(step.eventually, [&] { return RunOnce(step, place, argv); });
  if (!wrong.empty()) Fail(fmt::format("on {}: {}\n{}", step.on, fmt::join(argv, " "), wrong));
}

std::string CaseRunner::RunOnce(const RunStep& step, const Place& place,
                                const std::vector<std::string>& argv) const {
  const auto start = std::chrono::steady_clock::now();
  const ExecResult result = place.node->Exec(argv, {.netns = place.netns});
  const auto took =
      std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - start);
  std::string wrong;
  if (step.exit && (result.exit != *step.exit || result.signal != 0))
    wrong += fmt::format("expected: exit status {}\n     seen: {}\n", *step.exit, result.exit);
  if (!step.output.empty()) {
    const std::string pattern = words_.Expand(step.output);
    if (!std::regex_search(result.out, Pattern(pattern)))
      wrong += fmt::format("expected: output that matches {}\n", pattern);
  }
  if (!step.not_output.empty()) {
    const std::string pattern = words_.Expand(step.not_output);
    if (std::regex_search(result.out, Pattern(pattern)))
      wrong += fmt::format("expected: output that does not match {}\n", pattern);
  }
  if (step.within.count() > 0 && took > step.within)
    wrong += fmt::format("expected: within {} ms\n     seen: {} ms\n", step.within.count(),
                         took.count());
  if (wrong.empty()) return "";
  return fmt::format("{}its output:\n{}{}", wrong, result.out, result.error);
}

void CaseRunner::CleanUp() {
  packets_.CloseStreams();
  undo_.Run();
  objects_.CleanUp();
}

}  // namespace pointsman::e2e
