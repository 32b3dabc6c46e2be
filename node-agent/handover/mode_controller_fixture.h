// For the mode controller's tests: a kernel and an environment that write down what they are asked,
// and fail on order.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "node-agent/handover/mode_controller.h"
#include "node-agent/preflight/neighbour_check.h"

namespace pointsman::agent {

using std::chrono_literals::operator""s;

// The kernel as the recorded dataplanes leave it, and the orders for how they behave.
struct World {
  std::vector<std::string> calls;
  std::set<kube::Mode> in_kernel;
  std::set<kube::Mode> cannot_run;
  std::set<kube::Mode> refused;  // beside azure-npm
  bool loaded = false;           // a preflight was to load modules
  std::string kernel_release;    // as preflights say it
  std::set<kube::Mode> cannot_program;
  std::map<kube::Mode, uint64_t> connections;
  std::optional<kube::Mode> probes_fail_in;
  std::optional<kube::Mode> serving;
  std::vector<net::Family> families{net::Family::kIPv4};
  std::chrono::steady_clock::time_point now{1000s};
  std::chrono::steady_clock::time_point full_sync_due =
      std::chrono::steady_clock::time_point::max();
  std::vector<ServiceWarning> warnings;  // of ipvs
  std::vector<ClientBinding> bindings;   // of every mode
  std::string no_bindings;               // why they cannot be read
  std::vector<ClientBinding> bound;      // by the last Bind
  // How many more times a call of that name throws; kForEver: each time.
  std::map<std::string, int> throws;
  std::map<kube::Mode, std::vector<SyncProblem>> problems;  // of each sync
  std::vector<SyncProblem> base_problems;
  std::map<kube::Mode, ServiceRefusals> refusals;  // of each sync
  std::chrono::steady_clock::duration dump{};      // what a look at a drain takes
  uint64_t generation = 1;
  // The rules of a mode are all gone, until they are written whole again.
  bool flushed = false;
  int canary_looks = 0;
  // How often traffic has to be looked at before a step and after it.
  int looks = 0;
  int verdict_looks = 0;
  bool looks_fail = false;
  // What a watch shows of the switch, and of a removal of that mode.
  std::vector<std::string> worse_after_switch;
  std::map<kube::Mode, std::vector<std::string>> worse_after_removal;
  TrafficFigures figures;  // of each step
  // Others that have to know of a mode: what they have not done; whether that is accepted; who has
  // been told, which is not the controller's to remember: it outlives a killed one.
  std::map<kube::Mode, std::string> others_lack;
  bool others_accepted = false;
  std::set<kube::Mode> told;
  std::map<kube::Mode, int> withdrawals;

  static constexpr int kForEver = 1'000'000;
  void MayThrow(const std::string& call) {
    const auto left = throws.find(call);
    if (left == throws.end() || left->second == 0) return;
    --left->second;
    throw std::runtime_error("no buffer space for " + call);
  }
};

class RecordedDataplane final : public Dataplane {
 public:
  RecordedDataplane(kube::Mode mode, World& world) : mode_(mode), world_(world) {}
  kube::Mode mode() const override { return mode_; }
  SyncResult FullSync(const ServiceModel&) override {
    Note("full");
    world_.in_kernel.insert(mode_);
    const bool repairs = std::exchange(world_.flushed, false);
    if (world_.cannot_program.contains(mode_)) return {.problems = {{"10.0.0.1:80", "no room"}}};
    world_.serving = mode_;
    SyncResult result = Done();
    result.repaired = repairs ? 1 : 0;
    return result;
  }
  SyncResult Sync(const ServiceModel&, const ModelDelta&) override {
    Note("sync");
    if (world_.cannot_program.contains(mode_)) return {.problems = {{"10.0.0.1:80", "no room"}}};
    return Done();
  }
  std::chrono::steady_clock::time_point FullSyncDue() const override {
    return world_.full_sync_due;
  }
  VerifyResult Verify(const ServiceModel&) override {
    Note("verify");
    return {};
  }
  DrainStatus Drain(const ServiceModel&) override {
    Note("drain");
    world_.now += world_.dump;
    // As the kernel's modes: connection tracking carries those of iptables mode on.
    const uint64_t left = world_.connections[mode_];
    return {.connections = left, .end_with_it = mode_ == kube::Mode::kIptables ? 0 : left};
  }
  std::vector<ClientBinding> Bindings(const ServiceModel&) override {
    Note("bindings");
    if (!world_.no_bindings.empty()) throw std::runtime_error(world_.no_bindings);
    return world_.bindings;
  }
  SyncResult Bind(const ServiceModel&, const std::vector<ClientBinding>& bindings) override {
    Note("bind");
    world_.bound = bindings;
    return {};
  }
  SyncResult Remove() override {
    Note("remove");
    world_.in_kernel.erase(mode_);
    return {};
  }
  bool Present() override { return world_.in_kernel.contains(mode_); }

 private:
  SyncResult Done() const {
    SyncResult result;
    result.problems = world_.problems[mode_];
    result.refusals = world_.refusals[mode_];
    if (mode_ == kube::Mode::kIpvs) result.warnings = world_.warnings;
    return result;
  }
  void Note(const std::string& what) {
    world_.calls.push_back(std::string(kube::ToString(mode_)) + " " + what);
    world_.MayThrow(world_.calls.back());
  }
  const kube::Mode mode_;
  World& world_;
};

class RecordedTrafficCheck final : public TrafficCheck {
 public:
  explicit RecordedTrafficCheck(World& world) : world_(world) {}
  bool SeenEnough(const ServiceModel&) override {
    if (world_.looks_fail) throw std::runtime_error("no packet socket");
    if (!std::exchange(looking_, true)) left_ = world_.looks;
    return left_-- == 0;
  }
  size_t Before(kube::Mode from, kube::Mode to, const ServiceModel&) override {
    looking_ = false;
    switch_ = from != to;
    if (switch_) Note();
    before_ = world_.in_kernel;
    return 1;
  }
  std::vector<std::string> AfterSwitch() override {
    left_ = world_.verdict_looks;
    if (!switch_) return {};
    Note();
    if (world_.probes_fail_in && world_.serving == world_.probes_fail_in) return {"default/web"};
    return {};
  }
  std::optional<std::vector<std::string>> Verdict(const ServiceModel&) override {
    if (left_-- > 0) return std::nullopt;
    if (switch_) return world_.worse_after_switch;
    for (const kube::Mode mode : before_) {
      if (!world_.in_kernel.contains(mode)) return world_.worse_after_removal[mode];
    }
    return std::vector<std::string>{};
  }
  TrafficFigures Figures() override { return world_.figures; }
  void Stop() override { looking_ = false; }

 private:
  void Note() {
    world_.calls.emplace_back("probe");
    world_.MayThrow("probe");
  }
  World& world_;
  bool looking_ = false;
  bool switch_ = true;
  int left_ = 0;
  std::set<kube::Mode> before_;
};

class RecordedAnnouncer final : public Announcer {
 public:
  explicit RecordedAnnouncer(World& world) : world_(world) {}
  Readiness Announce(kube::Mode mode, const kube::ProxySettings&) override {
    return Tell(mode, "announce");
  }
  Readiness Renew(kube::Mode mode, const kube::ProxySettings&) override {
    return Tell(mode, "renew");
  }
  void Withdraw(kube::Mode mode) override {
    world_.MayThrow(std::string(kube::ToString(mode)) + " withdraw");
    EXPECT_FALSE(world_.in_kernel.contains(mode)) << kube::ToString(mode);
    world_.told.erase(mode);
    ++world_.withdrawals[mode];
  }

 private:
  Readiness Tell(kube::Mode mode, const std::string& call) {
    world_.MayThrow(std::string(kube::ToString(mode)) + " " + call);
    world_.told.insert(mode);
    return {.waits_for = world_.others_lack[mode], .required = !world_.others_accepted};
  }
  World& world_;
};

class Environment final : public ModeEnvironment {
 public:
  explicit Environment(World& world) : world_(world), traffic_(world), others_(world) {}
  std::unique_ptr<Dataplane> MakeDataplane(kube::Mode mode, const kube::ProxySettings&) override {
    world_.MayThrow(std::string(kube::ToString(mode)) + " make");
    return std::make_unique<RecordedDataplane>(mode, world_);
  }
  std::unique_ptr<Dataplane> FindInKernel(kube::Mode mode,
                                          const kube::ProxySettings& settings) override {
    world_.MayThrow(std::string(kube::ToString(mode)) + " find");
    return world_.in_kernel.contains(mode) ? MakeDataplane(mode, settings) : nullptr;
  }
  PreflightResult Preflight(kube::Mode mode, const kube::ProxySettings& settings,
                            bool load) override {
    world_.loaded = world_.loaded || load;
    world_.MayThrow(std::string(kube::ToString(mode)) + " preflight");
    if (world_.cannot_run.contains(mode)) {
      return {.passed = false, .reason = "ModuleMissing", .message = "no module"};
    }
    const auto& accept = settings.neighbours.accept;
    if (world_.refused.contains(mode) &&
        std::find(accept.begin(), accept.end(), "azure-npm") == accept.end()) {
      return {.passed = false, .reason = kNeighbourRefused, .message = "refused beside azure-npm"};
    }
    return {.passed = true, .reason = "PreflightPassed", .kernel_release = world_.kernel_release};
  }
  std::vector<net::Family> Families() const override { return world_.families; }
  uint64_t Generation() const override { return world_.generation; }
  SyncResult EnsureBase(const kube::ProxySettings&) override {
    world_.MayThrow("base");
    return {.problems = world_.base_problems};
  }
  SyncResult RemoveBase(const kube::ProxySettings&) override {
    world_.calls.emplace_back("base remove");
    return {};
  }
  TrafficCheck& Traffic() override { return traffic_; }
  Announcer& Others() override { return others_; }
  Canaries::Names CanariesOf(kube::Mode mode) override {
    ++world_.canary_looks;
    world_.MayThrow(std::string(kube::ToString(mode)) + " canaries");
    if (world_.flushed || !world_.in_kernel.contains(mode)) return {};
    return {std::string(kube::ToString(mode)) + " jump"};
  }
  std::chrono::steady_clock::time_point Now() override { return world_.now; }

 private:
  World& world_;
  RecordedTrafficCheck traffic_;
  RecordedAnnouncer others_;
};

class ModeControllerTest : public testing::Test {
 protected:
  static kube::ProxySettings Settings(kube::Mode mode) {
    kube::ProxySettings settings;
    settings.mode = mode;
    return settings;
  }
  std::vector<std::string> Calls() { return std::exchange(world_.calls, {}); }
  // Lets the controller do what it wants to for that long.
  void Pass(std::chrono::milliseconds time) {
    const auto end = world_.now + time;
    while (controller_.NextDeadline() <= end) {
      world_.now = std::max(world_.now, controller_.NextDeadline());
      controller_.Tick(model_);
    }
    world_.now = std::max(world_.now, end);
  }
  ServicePortId AddEntry(const std::string& name, net::Family family = net::Family::kIPv4) {
    ServicePortEntry entry;
    entry.id = {"default", name, "http", Protocol::kTcp, family};
    model_.entries[entry.id] = std::make_shared<const ServicePortEntry>(entry);
    return entry.id;
  }
  ModelDelta ChangeOf(const ServicePortId& id) const {
    ModelDelta delta;
    delta.changes.push_back({model_.entries.at(id), model_.entries.at(id)});
    return delta;
  }

  World world_;
  Environment environment_{world_};
  ModeController controller_{environment_};
  ServiceModel model_;
};

}  // namespace pointsman::agent
