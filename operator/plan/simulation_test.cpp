// Random histories: operators killed between any two writes, agents and nodes that die and come
// back, specifications that change, configurations that come and go, a kube-proxy that is replaced
// and comes back, and somebody who writes its DaemonSet. Whatever happens, no more than
// maxUnavailable nodes of one configuration are asked to change at a time, no node loses what
// serves it, and when the trouble ends everything arrives at what the specifications say.
#include <random>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "kube/pointsman/settings_json.h"
#include "operator/plan/fake_world.h"

namespace pointsman::op {
namespace {

using kube::NodeProxy;

class Simulation {
 public:
  explicit Simulation(uint32_t seed)
      : two_configurations_(seed % 2 == 0),
        with_kube_proxy_(seed % 4 != 0),
        somebody_reverts_(seed % 8 == 3),
        random_(seed) {
    for (int i = 0; i < 8; ++i)
      AddNode();
    if (with_kube_proxy_) world_.AddKubeProxy();
    Edit("main");
    world_.after_write = [this] { Check(); };
  }

  void Run(int steps) {
    for (int step = 0; step < steps; ++step) {
      Step();
      Check();
    }
  }

  // The end of all trouble.
  void Heal() {
    for (auto& [name, agent] : world_.agents) {
      agent.alive = true;
      agent.fails.clear();
      agent.impacts.clear();
      agent.draining_mode.clear();
      agent.can_run = {kube::Mode::kIptables, kube::Mode::kIpvs};
      world_.SetReady(name, true);
    }
    world_.kube_proxy_breaks = false;
    // Figures of a change are told anew only where the change is made anew.
    world_.StepAgents();
    // An edit is what makes a specification that was rolled back be tried again.
    for (const auto& [name, configuration] : std::map(world_.configurations)) {
      if (!configuration->deleting) Edit(name);
    }
    world_.Settle();
  }

  // At any time.
  bool gate_tripped() const { return gate_tripped_; }

  void ExpectArrived() const {
    for (const auto& [name, configuration] : world_.configurations) {
      EXPECT_FALSE(configuration->deleting) << name;
      EXPECT_EQ(configuration->status.observed_generation, configuration->generation);
      const auto& status = configuration->status;
      EXPECT_EQ(status.nodes.desired, status.nodes.updated) << name;
      EXPECT_EQ(status.nodes.desired, status.nodes.ready) << name;
      const bool governs = status.nodes.desired > 0;
      EXPECT_EQ(status.phase, governs ? "Complete" : "Pending")
          << name << " " << ToJson(status).dump(1);
    }
    for (const auto& [name, proxy] : world_.proxies) {
      ASSERT_TRUE(world_.nodes.contains(name));
      const auto& configuration = *world_.configurations.at(proxy->spec.configuration);
      EXPECT_EQ(proxy->spec.settings, configuration.spec.settings) << name;
      EXPECT_EQ(proxy->status.active_mode, kube::ToString(configuration.spec.settings.mode));
      EXPECT_FALSE(proxy->spec.removed);
    }
    ExpectKubeProxyArrived();
    if (!world_.configurations.empty()) {
      EXPECT_EQ(world_.proxies.size(), world_.nodes.size());
    } else {
      EXPECT_TRUE(world_.proxies.empty());
    }
  }

 private:
  void ExpectKubeProxyArrived() const {
    bool any_out = false;
    for (const auto& [name, node] : world_.nodes) {
      const NodeProxy* const proxy = world_.Proxy(name);
      const bool asked = proxy != nullptr &&
                         world_.configurations.at(proxy->spec.configuration)->spec.kube_proxy ==
                             kube::KubeProxyPolicy::kTakeOver;
      const bool out = with_kube_proxy_ && asked;
      EXPECT_EQ(world_.IsReplaced(name), out) << name;
      const auto said = proxy != nullptr ? proxy->status.kube_proxy : std::nullopt;
      const char* const last = world_.agents.at(name).runs_kube_proxy.empty()
                                   ? kube::kKubeProxyRemoved
                                   : kube::kKubeProxyRunning;
      EXPECT_EQ(said ? said->state : "", asked ? last : "") << name;
      EXPECT_EQ(world_.kube_proxies.contains(name), with_kube_proxy_ && !out) << name;
      any_out = any_out || out;
    }
    if (!any_out && with_kube_proxy_) {
      const bool asked = std::any_of(
          world_.configurations.begin(), world_.configurations.end(), [](const auto& entry) {
            return entry.second->spec.kube_proxy == kube::KubeProxyPolicy::kTakeOver;
          });
      if (!asked) {
        EXPECT_EQ(world_.kube_proxy_set, world_.kube_proxy_set_at_first);
      }
    }
  }

  uint32_t Below(uint32_t limit) {
    return std::uniform_int_distribution<uint32_t>(0, limit - 1)(random_);
  }
  bool Chance(uint32_t percent) { return Below(100) < percent; }

  std::string AnyNode() {
    auto node = world_.nodes.begin();
    std::advance(node, Below(static_cast<uint32_t>(world_.nodes.size())));
    return node->first;
  }

  void AddNode() {
    const std::string name = "n" + std::to_string(++node_serial_);
    if (Chance(30)) {
      world_.AddBareNode(name);
    } else {
      world_.AddNode(name);
    }
    world_.agents.at(name).clock_ahead = std::chrono::hours(Below(20)) - std::chrono::hours(10);
    // As k3s has it: nothing of it is in the API.
    if (!with_kube_proxy_ && Chance(20)) world_.agents.at(name).runs_kube_proxy = "a port";
  }

  nlohmann::json Gates() {
    if (Chance(50)) return nlohmann::json::object();
    const auto bound = [this](uint32_t limit) {
      return Chance(50) ? nlohmann::json("Unlimited") : nlohmann::json(Below(limit));
    };
    return {{"cutConnections", bound(500)}, {"refusedServices", bound(2)}};
  }

  void Edit(const std::string& name) {
    static constexpr std::array<const char*, 3> kSchedulers = {"rr", "lc", "sh"};
    const nlohmann::json spec = {{"mode", Chance(50) ? "ipvs" : "iptables"},
                                 {"priority", name == "main" ? 0 : 1},
                                 {"kubeProxy", {{"policy", Chance(70) ? "TakeOver" : "Leave"}}},
                                 {"ipvs", {{"scheduler", kSchedulers[Below(3)]}}},
                                 {"rollout",
                                  {{"maxUnavailable", kMaxUnavailable},
                                   {"minReady", Chance(50) ? "0s" : "10s"},
                                   {"onFailure", Chance(50) ? "Pause" : "Rollback"},
                                   {"gates", Gates()},
                                   {"canary", {{"nodes", Below(3)}, {"soak", "30s"}}}}}};
    world_.Apply(name, spec.dump());
  }

  void Step() {
    switch (Below(17)) {
      case 0:
        world_.agents.at(AnyNode()).alive ^= true;
        break;
      case 1: {
        const std::string node = AnyNode();
        world_.SetReady(node, !world_.nodes.at(node)->ready, /*silent=*/Chance(50));
        break;
      }
      case 2:
        if (world_.nodes.size() < 12) AddNode();
        if (Chance(20))
          world_.ChangeLeader(std::chrono::seconds(Below(40000)) - std::chrono::hours(5));
        break;
      case 3:
        if (world_.nodes.size() > 4) world_.RemoveNode(AnyNode());
        break;
      case 4:
        if (Chance(30)) Edit("main");
        break;
      case 5:
        if (!two_configurations_) {
          break;
        }
        if (!world_.configurations.contains("other")) {
          if (Chance(30)) Edit("other");
        } else if (Chance(30)) {
          world_.Delete("other");
        }
        break;
      case 6:
        world_.agents.at(AnyNode()).fails = {static_cast<int64_t>(Below(12))};
        break;
      case 7:
        world_.Advance(std::chrono::seconds(Below(Chance(10) ? 900 : 20)));
        break;
      case 8: {
        FakeAgent& agent = world_.agents.at(AnyNode());
        agent.can_run = Chance(70) ? std::set{kube::Mode::kIptables, kube::Mode::kIpvs}
                                   : std::set{kube::Mode::kIptables};
        break;
      }
      case 9: {
        FakeAgent& agent = world_.agents.at(AnyNode());
        agent.reports_impact = Chance(80);
        agent.impacts[Below(12)] = {
            .cut_connections = Below(2000), .refused_before = Below(2), .refused_after = Below(3)};
        agent.draining_mode = Chance(50) ? "ipvs" : "";
        agent.draining_connections = Below(3000);
        break;
      }
      case 10:
        StepKubeProxy();
        break;
      case 11:
      case 12:
      case 13:
        // Killed after some of the writes, or not at all.
        world_.Perform(world_.MakePlan(), Chance(50) ? Below(4) : SIZE_MAX);
        break;
      default:
        for (int i = 0; i < 4; ++i)
          world_.StepAgent(AnyNode());
        break;
    }
  }

  void StepKubeProxy() {
    if (!with_kube_proxy_) return;
    if (somebody_reverts_ && Chance(5)) world_.PutKubeProxyBack(Chance(50));
    if (Chance(5)) world_.kube_proxy_breaks ^= true;
    for (int i = 0; i < 6; ++i)
      world_.StepKubeProxy(AnyNode());
  }

  // What served a node goes on until something else does. On one that was not Ready when ours was
  // told to go, nothing could be waited for.
  void CheckServed() {
    for (const auto& [name, node] : world_.nodes) {
      const NodeProxy* const proxy = world_.Proxy(name);
      if (proxy == nullptr || !proxy->spec.removed) {
        told_unready_.erase(name);
      } else if (!node->ready && !told_.contains(name)) {
        told_unready_.insert(name);
      }
      proxy != nullptr && proxy->spec.removed ? (void)told_.insert(name) : (void)told_.erase(name);
      const bool serves = world_.Serves(name);
      if (with_kube_proxy_ && served_.contains(name) && !told_unready_.contains(name)) {
        ASSERT_TRUE(serves) << name;
      }
      serves ? (void)served_.insert(name) : (void)served_.erase(name);
    }
  }

  // Nodes whose kube-proxy ends or comes back, by configuration.
  void FindExchanges(std::map<std::string, std::set<std::string>>& changing) {
    for (const auto& [name, node] : world_.nodes) {
      const auto pod = world_.kube_proxies.find(name);
      const bool replaced = world_.IsReplaced(name);
      const bool back = pod != world_.kube_proxies.end() && pod->second.ready && !pod->second.ends;
      if (replaced) was_out_.insert(name);
      if (!replaced && back) was_out_.erase(name);
      const bool exchanging = replaced ? pod != world_.kube_proxies.end() : was_out_.contains(name);
      if (!exchanging) {
        exchanging_since_.erase(name);
        continue;
      }
      const Instant since = exchanging_since_.try_emplace(name, world_.instant).first->second;
      const NodeProxy* const proxy = world_.Proxy(name);
      const bool counts = node->ready && proxy != nullptr && !somebody_reverts_ &&
                          world_.instant - since < std::chrono::minutes(10);
      if (counts) changing[proxy->spec.configuration].insert(name);
    }
  }

  // Counts only nodes that serve or served: the first programming of a new node takes nothing away
  // and is not bounded once the revision has been good elsewhere. Dead nodes are no longer waited
  // for after the deadline.
  void Check() {
    for (const auto& [name, configuration] : world_.configurations)
      gate_tripped_ = gate_tripped_ || !configuration->status.tripped_gates.empty();
    CheckServed();
    std::map<std::string, std::set<std::string>> changing;
    FindExchanges(changing);
    for (const auto& [name, proxy] : world_.proxies) {
      const auto node = world_.nodes.find(name);
      if (node == world_.nodes.end() || node->second->silent || !world_.agents.at(name).alive)
        continue;
      const bool moving = proxy->spec.removed
                              ? !proxy->status.active_mode.empty()
                              : proxy->spec.revision > 0 && !proxy->status.active_mode.empty() &&
                                    proxy->status.observed_revision != proxy->spec.revision;
      if (moving && world_.instant - world_.changed_at[name] < std::chrono::minutes(10)) {
        changing[proxy->spec.configuration].insert(name);
      }
    }
    for (const auto& [name, nodes] : changing) {
      // A node that a configuration has just won comes with the change that the loser had begun.
      const int64_t bound = kMaxUnavailable * (two_configurations_ ? 2 : 1);
      ASSERT_LE(static_cast<int64_t>(nodes.size()), bound)
          << name << ": " << ::testing::PrintToString(nodes);
    }
  }

  static constexpr int64_t kMaxUnavailable = 2;
  const bool two_configurations_;
  const bool with_kube_proxy_;
  const bool somebody_reverts_;
  std::set<std::string> served_;        // nodes
  std::set<std::string> told_;          // whose agent was told to take ours away
  std::set<std::string> told_unready_;  // while the node was not Ready
  std::set<std::string> was_out_;  // of kube-proxy's DaemonSet, and it does not serve there yet
  std::map<std::string, Instant> exchanging_since_;
  FakeWorld world_;
  std::mt19937 random_;
  int node_serial_ = 0;
  bool gate_tripped_ = false;
};

class SimulationTest : public ::testing::TestWithParam<uint32_t> {};

TEST_P(SimulationTest, NeverTooManyAtOnceAndConverges) {
  int with_a_gate = 0;
  for (uint32_t seed = GetParam() * 100; seed < GetParam() * 100 + 100; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Simulation simulation(seed);
    simulation.Run(300);
    simulation.Heal();
    simulation.ExpectArrived();
    if (HasFailure()) return;
    with_a_gate += simulation.gate_tripped() ? 1 : 0;
  }
  EXPECT_GE(with_a_gate, 1) << "gates take part";
}

INSTANTIATE_TEST_SUITE_P(Seeds, SimulationTest, ::testing::Range<uint32_t>(0, 5));

}  // namespace
}  // namespace pointsman::op
