#include "operator/plan/check_plan.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "kube/pointsman/limits.h"
#include "kube/pointsman/settings_json.h"
#include "operator/plan/fake_world.h"

namespace pointsman::op {
namespace {

using kube::ConditionStatus;
using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

void Require(bool holds, const std::string& promise) {
  if (!holds) throw std::logic_error(promise);
}

// Decisions from the fuzzer's bytes; 0 for ever when they are used up.
class Choices {
 public:
  explicit Choices(std::string_view bytes) : bytes_(bytes) {}
  bool Left() const { return at_ < bytes_.size(); }
  size_t Below(size_t end) {
    const size_t byte = Left() ? static_cast<unsigned char>(bytes_[at_]) : 0;
    ++at_;
    return byte % end;
  }
  template <typename T, size_t N>
  const T& Of(const std::array<T, N>& list) {
    return list[Below(N)];
  }
  void Again() { at_ = 0; }

 private:
  const std::string_view bytes_;
  size_t at_ = 0;
};

class History {
 public:
  explicit History(std::string_view bytes) : choices_(bytes) {
    for (const char* name : kHonest)
      choices_.Below(3) == 0 ? world_.AddBareNode(name) : world_.AddNode(name);
    for (const char* name : kHostile) {
      world_.AddNode(name);
      world_.agents.at(name).alive = false;  // written by hand below
    }
    Edit();
    world_.after_write = [this] { CheckChanging(); };
  }

  void Play() {
    constexpr int kMostSteps = 400;
    for (int step = 0; step < kMostSteps && choices_.Left(); ++step)
      Step();
  }

  // Honest nodes and the operator are well; the hostile ones go on.
  void ArriveAmongHostileNodes() {
    for (const char* name : kHonest) {
      world_.agents.at(name).alive = true;
      world_.agents.at(name).fails.clear();
      world_.SetReady(name, true);
    }
    Edit();
    for (int round = 0; round < 800; ++round) {
      Perform(SIZE_MAX);
      for (const char* name : kHonest)
        world_.StepAgent(name);
      if (!choices_.Left()) choices_.Again();
      if (choices_.Below(2) == 0) BeHostile(kHostile[choices_.Below(kHostile.size())]);
      world_.Advance(seconds(5));
      if (Arrived()) return;
    }
    const auto& status = world_.Configuration("main").status;
    const bool said = kube::IsTrue(status.conditions, "Degraded") ||
                      kube::IsTrue(status.conditions, "RolledBack");
    Require(said, "honest nodes did not arrive and the status does not say why: " + Describe());
    for (const kube::Condition& condition : status.conditions) {
      if (condition.reason != "NodeFailed" && condition.reason != "GateTripped") continue;
      Require(condition.message.find("honest") == std::string::npos,
              "an honest node is blamed: " + Describe());
    }
  }

  void ArriveWithoutThem() {
    for (const char* name : kHostile)
      world_.RemoveNode(name);
    Edit();
    world_.Settle();
    Require(Arrived(),
            "honest nodes did not arrive though the hostile ones are gone: " + Describe());
    Require(world_.Configuration("main").status.phase == "Complete", Describe());
  }

 private:
  static constexpr std::array<const char*, 4> kHonest = {"honest-1", "honest-2", "honest-3",
                                                         "honest-4"};
  static constexpr std::array<const char*, 2> kHostile = {"evil-1", "evil-2"};
  static constexpr int64_t kMaxUnavailable = 1;

  void Edit() {
    static constexpr std::array<const char*, 4> kSchedulers = {"rr", "lc", "sh", "wlc"};
    const nlohmann::json spec = {{"mode", choices_.Below(2) == 0 ? "ipvs" : "iptables"},
                                 {"ipvs", {{"scheduler", choices_.Of(kSchedulers)}}},
                                 {"rollout",
                                  {{"maxUnavailable", kMaxUnavailable},
                                   {"minReady", choices_.Below(2) == 0 ? "0s" : "10s"},
                                   {"onFailure", choices_.Below(2) == 0 ? "Pause" : "Rollback"},
                                   {"canary", {{"nodes", choices_.Below(3)}, {"soak", "30s"}}}}}};
    world_.Apply("main", spec.dump());
  }

  void Step() {
    switch (choices_.Below(12)) {
      case 0:
      case 1:
      case 2:
        Perform(choices_.Below(2) == 0 ? SIZE_MAX : choices_.Below(4));
        break;
      case 3:
      case 4:
        for (const char* name : kHonest) {
          if (choices_.Below(3) != 0) world_.StepAgent(name);
        }
        break;
      case 5:
      case 6:
        BeHostile(choices_.Of(kHostile));
        break;
      case 7:
        world_.Advance(
            seconds(choices_.Below(2) == 0 ? choices_.Below(20) : 10 * choices_.Below(100)));
        break;
      case 8:
        if (choices_.Below(2) == 0) {
          world_.ChangeLeader(Skew());
        } else {
          world_.SetClock(Skew());
        }
        break;
      case 9:
        world_.SetReady(choices_.Of(kHostile), choices_.Below(2) == 0, choices_.Below(2) == 0);
        break;
      case 10:
        if (choices_.Below(4) == 0) Edit();
        break;
      default: {
        const char* const name = choices_.Of(kHonest);
        FakeAgent& agent = world_.agents.at(name);
        agent.clock_ahead = Skew();
        if (choices_.Below(3) == 0) agent.alive = !agent.alive;
        if (choices_.Below(5) == 0) agent.fails = {static_cast<int64_t>(choices_.Below(6))};
        break;
      }
    }
  }

  seconds Skew() {
    static constexpr std::array<seconds, 7> kSkews = {
        seconds(0),     seconds(30),     minutes(9),         hours(-7),
        hours(24 * 90), hours(-24 * 90), hours(24 * 365 * 3)};
    // The operator's clock stays within what a certificate lets it talk with.
    const seconds skew = choices_.Of(kSkews);
    const auto year = [](kube::TimePoint time) {
      return static_cast<int>(
          std::chrono::year_month_day(std::chrono::floor<std::chrono::days>(time)).year());
    };
    const int then = year(world_.now + skew);
    return then > 2000 && then < 2200 ? skew : seconds(0);
  }

  int64_t Number() {
    const kube::NodeProxy* proxy = world_.Proxy(kHostile[0]);
    const std::array<int64_t, 11> numbers = {0,
                                             1,
                                             2,
                                             -1,
                                             proxy != nullptr ? proxy->spec.revision : 3,
                                             proxy != nullptr ? proxy->generation : 4,
                                             kube::limits::kMaxRevision,
                                             kube::limits::kMaxRevision + 1,
                                             INT64_MAX - 1,
                                             INT64_MAX,
                                             INT64_MIN};
    return choices_.Of(numbers);
  }

  std::string Time() {
    const std::array<std::string, 8> times = {kube::FormatTime(world_.now),
                                              kube::FormatTime(world_.now + hours(2)),
                                              kube::FormatTime(world_.now - hours(2)),
                                              "2099-01-01T00:00:00Z",
                                              "9999-12-31T23:59:60Z",
                                              "0000-01-01T00:00:00+23:59",
                                              "soon",
                                              ""};
    return choices_.Of(times);
  }

  std::string Text() {
    static const std::array<std::string, 12> kTexts = {"",
                                                       "ipvs",
                                                       "iptables",
                                                       "nftables",
                                                       "userspace",
                                                       "ebpf",
                                                       "IPVS",
                                                       "a b",
                                                       "\x1b[2J\n\u202e",
                                                       std::string(32'768, 'x'),
                                                       "x" +
                                                           [] {
                                                             std::string text;
                                                             for (int i = 0; i < 16'000; ++i)
                                                               text += "é";
                                                             return text;
                                                           }(),
                                                       "no memory"};
    return choices_.Of(kTexts);
  }

  kube::Condition AnyCondition() {
    static constexpr std::array<const char*, 5> kTypes = {"Ready", "Degraded", "PreflightPassed",
                                                          "RulesSynced", "Odd"};
    static constexpr std::array<const char*, 7> kReasons = {
        "HandoverReverted", "NoModeCanRun", "Fallback", "SyncFailed", "Odd", "", "not a reason"};
    return {choices_.Of(kTypes),
            static_cast<ConditionStatus>(choices_.Below(3)),
            choices_.Of(kReasons),
            Text(),
            Time(),
            Number()};
  }

  // What the API server would let a node write, and more.
  void BeHostile(const std::string& name) {
    const kube::NodeProxy* before = world_.Proxy(name);
    if (before == nullptr) return;
    auto proxy = std::make_shared<kube::NodeProxy>(*before);
    kube::NodeProxyStatus& status = proxy->status;
    status.observed_generation = choices_.Below(3) == 0 ? Number() : proxy->generation;
    status.observed_revision = choices_.Below(3) == 0 ? Number() : proxy->spec.revision;
    status.prepared_revision = choices_.Below(3) == 0 ? Number() : proxy->spec.revision;
    status.active_mode = Text();
    status.draining_mode = Text();
    status.draining_connections = Number();
    status.services = Number();
    status.last_sync = Time();
    status.candidate.reset();
    if (choices_.Below(4) != 0) {
      const int64_t asked = proxy->spec.candidate ? proxy->spec.candidate->revision : Number();
      status.candidate = kube::CandidateStatus{choices_.Below(3) == 0 ? Number() : asked, Text(),
                                               choices_.Below(2) == 0, Text()};
    }
    status.impact.reset();
    if (choices_.Below(3) != 0) {
      status.impact.emplace().revision = choices_.Below(3) == 0 ? Number() : proxy->spec.revision;
      for (const auto& [figure, member] : kube::kImpactFigures) {
        if (choices_.Below(3) != 0) (*status.impact).*member = Number();
      }
    }
    status.conditions.clear();
    for (size_t left = choices_.Below(6); left > 0; --left)
      status.conditions.push_back(AnyCondition());
    world_.proxies[name] = std::move(proxy);
  }

  void Perform(size_t writes) {
    const Plan plan = world_.MakePlan();
    Check(plan);
    world_.Perform(plan, writes);
  }

  void Check(const Plan& plan) {
    if (plan.wake_up) {
      Require(*plan.wake_up > world_.now, "wakes up in the past");
      Require(*plan.wake_up - world_.now <= hours(24 * 14), "wakes up too late");
    }
    for (const ConfigurationPlan& part : plan.configurations) {
      if (part.create_revision) {
        const int64_t number = part.create_revision->number;
        Require(number > 0 && number <= kube::limits::kMaxRevision, "a number out of bounds");
        for (const auto& [name, revision] : world_.revisions)
          Require(revision.number != number, "a number given twice");
      }
      for (const NodeProxyChange& change : part.changes) {
        const int64_t number = change.spec.revision;
        const bool known =
            std::any_of(world_.revisions.begin(), world_.revisions.end(),
                        [&](const auto& item) { return item.second.number == number; });
        Require(number == 0 || known, "a node is asked to run what there is not");
      }
      CheckStatus(part.status);
      for (const PlannedEvent& event : part.events)
        Require(!event.reason.empty(), "an Event without a reason");
    }
  }

  // As the schema says it (crds/pointsman.io_proxyconfigurations.yaml).
  static void CheckStatus(const kube::ProxyConfigurationStatus& status) {
    const nlohmann::json json = ToJson(status);
    (void)json.dump();  // throws when a text was cut within a character
    for (const auto& [mode, count] : status.modes) {
      Require(kube::ParseMode(mode).has_value(), "a mode that there is not");
      Require(count >= 0 && count <= 6, "too many nodes");
    }
    for (const auto& [name, count] : json.at("nodes").items()) {
      Require(count >= 0 && count <= static_cast<int64_t>(kHonest.size() + kHostile.size()),
              "too many nodes are " + name);
    }
    Require(status.current_revision >= 0 && status.current_revision <= kube::limits::kMaxRevision &&
                status.update_revision >= 0 && status.update_revision <= kube::limits::kMaxRevision,
            "a number out of bounds");
    Require(status.conditions.size() <= 16, "too many conditions");
    Require(status.tripped_gates.size() <= kube::limits::kMaxTrippedGates, "too many gates");
    for (const kube::TrippedGate& tripped : status.tripped_gates)
      Require(std::string_view(tripped.node).starts_with("evil"), "an honest node is blamed");
    Require(json.dump().size() < 100'000, "a status that grows with what nodes write");
    for (const kube::Condition& condition : status.conditions) {
      Require(condition.message.size() <= 32'768, "a message that is too long");
      Require(!condition.reason.empty(), "a condition without a reason");
      Require(kube::ParseTime(condition.last_transition_time).has_value(), "a time that is none");
    }
  }

  // Dead nodes are no longer waited for after the deadline, nor are those whose first programming
  // takes nothing away.
  void CheckChanging() {
    int64_t changing = 0;
    for (const char* name : kHonest) {
      const kube::NodeProxy* proxy = world_.Proxy(name);
      if (proxy == nullptr || !world_.agents.at(name).alive) continue;
      const bool moving = proxy->spec.revision > 0 && !proxy->status.active_mode.empty() &&
                          proxy->status.observed_revision != proxy->spec.revision;
      if (moving && world_.instant - world_.changed_at[name] < minutes(10)) ++changing;
    }
    Require(changing <= kMaxUnavailable,
            std::to_string(changing) + " honest nodes are changing: " + Describe());
  }

  bool Arrived() const {
    const auto& configuration = world_.Configuration("main");
    return std::all_of(kHonest.begin(), kHonest.end(), [&](const char* name) {
      const kube::NodeProxy* proxy = world_.Proxy(name);
      return proxy != nullptr && proxy->spec.settings == configuration.spec.settings &&
             proxy->spec.revision > 0 && proxy->status.observed_revision == proxy->spec.revision &&
             proxy->status.active_mode == kube::ToString(configuration.spec.settings.mode);
    });
  }

  std::string Describe() const {
    std::string text = ToJson(world_.Configuration("main").status).dump(1).substr(0, 6000);
    for (const auto& [name, proxy] : world_.proxies) {
      text += fmt::format("\n{}: revision {}, observed {}, mode {:.20}", name, proxy->spec.revision,
                          proxy->status.observed_revision, proxy->status.active_mode);
    }
    return text;
  }

  Choices choices_;
  FakeWorld world_;
};

}  // namespace

void CheckPlan(std::string_view bytes) {
  History history(bytes);
  history.Play();
  history.ArriveAmongHostileNodes();
  history.ArriveWithoutThem();
}

}  // namespace pointsman::op
