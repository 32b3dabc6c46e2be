// For tests of provider KubeProxy: a cluster with a kube-proxy, and what always holds of it.
#pragma once

#include <algorithm>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "operator/plan/kube_proxy_config.h"
#include "operator/plan/plan_fixture.h"

namespace pointsman::op {

class ProviderTest : public PlanTest {
 protected:
  void MakeCluster(int nodes) {
    for (int i = 1; i <= nodes; ++i)
      AddNodeWithKubeProxy("n" + std::to_string(i));
    world_.AddKubeProxy();
    world_.rolling_updates = true;
    first_text_ = Text();
    world_.after_write = [this] { Check(); };
  }
  void AddNodeWithKubeProxy(const std::string& name) {
    world_.AddNode(name);
    world_.agents.at(name).can_run = {kube::Mode::kIptables, kube::Mode::kIpvs,
                                      kube::Mode::kNftables};
  }
  void Apply(const std::string& spec) {
    nlohmann::json whole = {{"provider", "KubeProxy"},
                            {"mode", "nftables"},
                            {"rollout", {{"canary", {{"nodes", 0}}}, {"minReady", "0s"}}}};
    whole.merge_patch(nlohmann::json::parse(spec));
    world_.Apply("main", whole.dump());
  }
  // What the cluster's own file says.
  std::string Text() const {
    return world_.config_maps.at("kube-proxy")["data"]["config.conf"].get<std::string>();
  }
  // What kube-proxy on that node runs with; "": none runs.
  std::string Runs(const std::string& node) const {
    const auto pod = world_.kube_proxies.find(node);
    const bool up = pod != world_.kube_proxies.end() && pod->second.ready;
    return up ? std::string(kube::ToString(ModeOfKubeProxyFile(pod->second.file))) : "";
  }
  int64_t Running(const std::string& mode) const {
    return std::count_if(world_.nodes.begin(), world_.nodes.end(),
                         [&](const auto& node) { return Runs(node.first) == mode; });
  }
  int64_t Bound() const {
    return std::count_if(world_.nodes.begin(), world_.nodes.end(),
                         [](const auto& node) { return !BoundTo(*node.second).empty(); });
  }
  // At no time.
  void Check() {
    int64_t down = 0;
    for (const auto& [name, node] : world_.nodes)
      down += Runs(name).empty() && !excused_.contains(name);
    ASSERT_LE(down, max_down_);
  }
  // Steps everything until it holds, as time goes by.
  bool Until(const std::function<bool()>& holds) {
    for (int round = 0; round < 500; ++round) {
      if (holds()) return true;
      Round();
      world_.StepKubeProxy();
      Check();
      world_.Advance(std::chrono::seconds(5));
    }
    return false;
  }
  // The cluster's own objects carry what runs, and nothing of Pointsman's is left.
  void ExpectOwn(const std::string& text) const {
    EXPECT_EQ(Text(), text);
    EXPECT_EQ(world_.kube_proxy_set, world_.kube_proxy_set_at_first);
    EXPECT_TRUE(world_.revision_sets.empty());
    EXPECT_EQ(Bound(), 0);
    EXPECT_TRUE(world_.waiting_kube_proxies.empty() ||
                std::all_of(world_.waiting_kube_proxies.begin(), world_.waiting_kube_proxies.end(),
                            [](const auto& node) { return node.second.empty(); }));
  }

  int64_t max_down_ = 1;
  std::set<std::string> excused_;  // nodes that are not counted
  std::string first_text_;
};

}  // namespace pointsman::op
