// Random histories of a stock kube-proxy that is configured: operators killed between any two
// writes, nodes that join, die and come back, modes in which kube-proxy does not start,
// specifications that change, are rolled back, paused and deleted, and people who edit the file,
// put the DaemonSet back or delete what belongs to a revision. Whatever happens, no more than
// maxUnavailable nodes are without a kube-proxy for the rollout's sake, the cluster's own file is
// never what no revision and no person has written, and when the trouble ends everything arrives.
#include <random>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "operator/plan/provider_fixture.h"

namespace pointsman::op {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

class ProviderSimulation : public ProviderTest, public ::testing::WithParamInterface<uint32_t> {
 protected:
  void Begin(uint32_t seed) {
    world_ = FakeWorld();
    random_.seed(seed);
    meddles_ = seed % 4 == 1;
    breaks_ = seed % 4 == 2;
    serial_ = 0;
    begun_.clear();
    for (int i = 0; i < 6; ++i)
      AddNodeWithKubeProxy("n" + std::to_string(++serial_));
    world_.AddKubeProxy();
    world_.rolling_updates = true;
    first_text_ = Text();
    texts_ = {first_text_};
    Edit();
    world_.after_write = [this] { CheckAll(); };
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

  void Edit(bool heal = false) {
    static constexpr std::array<const char*, 3> kModes = {"nftables", "ipvs", "iptables"};
    static constexpr std::array<const char*, 3> kSchedulers = {"rr", "lc", "sh"};
    nlohmann::json spec = {{"provider", "KubeProxy"},
                           {"mode", kModes[Below(3)]},
                           {"ipvs", {{"scheduler", kSchedulers[Below(3)]}}},
                           {"rollout",
                            {{"maxUnavailable", kMaxUnavailable},
                             {"minReady", Chance(50) ? "0s" : "10s"},
                             {"onFailure", Chance(50) ? "Pause" : "Rollback"},
                             {"paused", !heal && Chance(10)},
                             {"canary", {{"nodes", Below(3)}, {"soak", "30s"}}}}}};
    if (!heal && Chance(15)) spec["rollout"]["rollbackTo"] = 1 + Below(6);
    world_.Apply("main", spec.dump());
  }

  void Step() {
    switch (Below(16)) {
      case 0:
        world_.agents.at(AnyNode()).alive ^= true;
        break;
      case 1:
        if (world_.nodes.size() < 9) AddNodeWithKubeProxy("n" + std::to_string(++serial_));
        break;
      case 2:
        if (world_.nodes.size() > 4) world_.RemoveNode(AnyNode());
        break;
      case 3:
        if (Chance(20)) Edit();
        break;
      case 4:
        if (Chance(5) && world_.configurations.contains("main")) world_.Delete("main");
        if (Chance(30) && !world_.configurations.contains("main")) Edit();
        break;
      case 5:
        world_.Advance(seconds(Below(Chance(10) ? 900 : 20)));
        break;
      case 6:
        if (Chance(30)) world_.ChangeLeader(seconds(Below(40000)) - std::chrono::hours(5));
        break;
      case 7: {
        const std::string node = AnyNode();
        world_.SetReady(node, !world_.nodes.at(node)->ready, Chance(50));
        break;
      }
      case 8:
        if (breaks_ && Chance(30)) {
          world_.broken_modes.empty() ? (void)world_.broken_modes.insert("nftables")
                                      : world_.broken_modes.clear();
        }
        break;
      case 9:
        Meddle();
        break;
      case 10:
      case 11:
        world_.Perform(world_.MakePlan(), Chance(50) ? Below(4) : SIZE_MAX);
        break;
      case 12:
        for (int i = 0; i < 4; ++i)
          world_.StepAgent(AnyNode());
        break;
      default:
        for (int i = 0; i < 6; ++i)
          world_.StepKubeProxy(AnyNode());
        break;
    }
    CheckAll();
  }

  void Meddle() {
    if (!meddles_ || !Chance(20)) return;
    switch (Below(4)) {
      case 0:
        world_.PutKubeProxyBack(Chance(50));
        break;
      case 1:
        world_.config_maps["kube-proxy"]["data"]["config.conf"] =
            Text() + "# by hand " + std::to_string(Below(100)) + "\n";
        texts_.insert(Text());
        break;
      case 2:
        if (!world_.revision_sets.empty()) DeleteSet(world_.revision_sets.begin()->first);
        break;
      default:
        if (world_.config_maps.size() > 1) world_.config_maps.erase(--world_.config_maps.end());
        if (!world_.config_maps.contains("kube-proxy")) FAIL() << "the test's own mistake";
        break;
    }
  }
  void DeleteSet(const std::string& name) {
    const std::string uid = world_.revision_sets.at(name)["metadata"]["uid"];
    world_.revision_sets.erase(name);
    for (auto& [node, pod] : world_.kube_proxies)
      pod.ends = pod.ends || pod.owner == uid;
  }

  void CheckAll() {
    int64_t down = 0;
    for (const auto& [name, node] : world_.nodes) {
      const bool up = !Runs(name).empty();
      if (up) begun_.insert(name);
      // One that never was up, and one that does not come up: that is no rollout's doing.
      const bool counts =
          !up && begun_.contains(name) && node->ready && world_.agents.at(name).alive;
      const Instant since = counts ? down_.try_emplace(name, world_.instant).first->second
                                   : (down_.erase(name), world_.instant);
      down += counts && world_.instant - since < minutes(10);
    }
    // The DaemonSet's own RollingUpdate goes by its own bound of one.
    if (!meddles_) {
      ASSERT_LE(down, kMaxUnavailable + 1);
    }
    for (const auto& [name, revision] : world_.revisions)
      texts_.insert(revision.file);
    const std::string text = Text();
    ASSERT_TRUE(texts_.contains(text) || meddles_) << text;
  }

  void Heal() {
    for (auto& [name, agent] : world_.agents) {
      agent.alive = true;
      world_.SetReady(name, true);
    }
    world_.broken_modes.clear();
    if (world_.configurations.contains("main") && world_.Configuration("main").deleting)
      world_.Settle();
    Edit(/*heal=*/true);
    world_.Settle();
  }

  void ExpectArrived() {
    const auto& configuration = world_.Configuration("main");
    const std::string mode(kube::ToString(configuration.spec.settings.mode));
    ASSERT_EQ(Status().phase, "Complete") << ToJson(Status()).dump(1);
    EXPECT_EQ(Running(mode), static_cast<int64_t>(world_.nodes.size()));
    EXPECT_EQ(std::string(kube::ToString(ModeOfKubeProxyFile(Text()))), mode);
    EXPECT_EQ(world_.kube_proxy_set, world_.kube_proxy_set_at_first);
    EXPECT_EQ(Bound(), 0);
    EXPECT_TRUE(world_.revision_sets.empty());
    const std::string scheduler = configuration.spec.settings.ipvs.scheduler;
    for (const auto& [node, pod] : world_.kube_proxies) {
      const bool says = pod.file.find("scheduler: \"" + scheduler + "\"") != std::string::npos;
      const bool usual = scheduler == "rr" && pod.file.find("scheduler: \"\"") != std::string::npos;
      EXPECT_TRUE(says || usual) << node << ": " << scheduler << "\n" << pod.file;
    }
  }

  static constexpr int64_t kMaxUnavailable = 2;
  std::mt19937 random_;
  bool meddles_ = false;
  bool breaks_ = false;
  int serial_ = 0;
  std::set<std::string> begun_;  // nodes whose kube-proxy has been up
  std::map<std::string, Instant> down_;
  std::set<std::string> texts_;  // of which the cluster's file may be
};

TEST_P(ProviderSimulation, NeverTooManyAtOnceAndConverges) {
  for (uint32_t seed = GetParam() * 20; seed < GetParam() * 20 + 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Begin(seed);
    for (int step = 0; step < 250 && !HasFailure(); ++step)
      Step();
    if (HasFailure()) return;
    Heal();
    ExpectArrived();
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, ProviderSimulation, ::testing::Range<uint32_t>(0, 5));

}  // namespace
}  // namespace pointsman::op
