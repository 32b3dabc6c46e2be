// Nodes that cannot run the agent: they are told of, and neither waited for nor counted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "operator/plan/plan_fixture.h"

namespace pointsman::op {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class AgentNodesTest : public PlanTest {
 protected:
  // A node with a kubelet and no agent.
  void AddOther(const std::string& name, std::map<std::string, std::string> labels,
                std::vector<kube::Taint> taints = {}) {
    world_.AddNode(name, std::move(labels));
    auto node = std::make_shared<kube::Node>(*world_.nodes.at(name));
    node->taints = std::move(taints);
    world_.nodes[name] = std::move(node);
    world_.agents[name].alive = false;
  }
  void AddPod(const std::string& node, bool over = false) {
    kube::Pod pod;
    pod.name = "agent-" + node;
    pod.node_name = node;
    pod.over = over;
    world_.agent_pods.push_back(std::make_shared<kube::Pod>(std::move(pod)));
  }
  void AddDaemonSet(const std::string& pod_spec) {
    world_.agent_daemon_sets.push_back(std::make_shared<kube::DaemonSet>(kube::DecodeDaemonSet(
        R"({"metadata":{"name":"agent"},"spec":{"template":{"spec":)" + pod_spec + "}}}")));
  }
  // Completes at once: nothing is waited for.
  void ExpectCompleteWith(int64_t nodes) {
    const kube::TimePoint before = world_.now;
    world_.Settle();
    EXPECT_LT(world_.now - before, minutes(4));
    EXPECT_EQ(Status().phase, "Complete");
    EXPECT_TRUE(True("Available"));
    EXPECT_FALSE(True("Degraded"));
    EXPECT_EQ(Status().nodes.desired, nodes);
    EXPECT_EQ(Status().nodes.updated, nodes);
  }
};

constexpr const char* kManifest = R"({"nodeSelector":{"kubernetes.io/os":"linux"},
    "tolerations":[{"operator":"Exists"}]})";
const std::map<std::string, std::string> kLinux = {{"kubernetes.io/os", "linux"}};

TEST_F(AgentNodesTest, AMixedClusterCompletesWithoutWaiting) {
  for (const char* name : {"n1", "n2"}) {
    world_.AddNode(name, kLinux);
    AddPod(name);
  }
  AddDaemonSet(kManifest);
  AddOther("win-1", {{"kubernetes.io/os", "windows"}});
  AddOther("vk-1", kLinux, {{"virtual-kubelet.io/provider", "azure", "NoSchedule"}});
  AddOther("fargate-1",
           {{"kubernetes.io/os", "linux"}, {"eks.amazonaws.com/compute-type", "fargate"}});
  world_.Apply("main");
  ExpectCompleteWith(2);
  EXPECT_EQ(world_.proxies.size(), 2U);
  EXPECT_TRUE(True("NodesWithoutAgent"));
  EXPECT_THAT(
      Message("NodesWithoutAgent"),
      AllOf(HasSubstr("3 nodes cannot run the node agent"),
            HasSubstr("win-1 (kubernetes.io/os=windows)"),
            HasSubstr("vk-1 (taint virtual-kubelet.io/provider)"),
            HasSubstr("fargate-1 (eks.amazonaws.com/compute-type=fargate)"), Not(HasSubstr("n1"))));
  EXPECT_TRUE(world_.HasEvent("NodesCannotRunAgent"));
  EXPECT_FALSE(world_.MakePlan().wake_up);

  world_.RemoveNode("win-1");
  world_.RemoveNode("vk-1");
  world_.RemoveNode("fargate-1");
  world_.Settle();
  EXPECT_FALSE(True("NodesWithoutAgent"));
}

// Agents as systemd units, and those of test clusters.
TEST_F(AgentNodesTest, WithoutAnyPodAllLinuxNodesCount) {
  world_.AddNode("n1", kLinux);
  world_.AddNode("n2");
  AddOther("win-1", {{"kubernetes.io/os", "windows"}});
  world_.Apply("main");
  ExpectCompleteWith(2);
}

TEST_F(AgentNodesTest, WhereTheDaemonSetPutsAPodItIsWaitedFor) {
  world_.AddNode("n1", kLinux);
  AddPod("n1");
  AddOther("n2", kLinux);  // its Pod is still to come, or cannot start
  AddDaemonSet(kManifest);
  world_.Apply("main", kNoCanary);
  for (int i = 0; i < 4; ++i)
    Round();
  EXPECT_EQ(Reason("PreflightPassed"), "WaitingForAgents");
  world_.Settle();
  EXPECT_EQ(Reason("Degraded"), "AgentsMissing");
  EXPECT_FALSE(True("NodesWithoutAgent"));
}

// An agent on a node that the DaemonSet leaves out, and one whose Pod somebody else made.
TEST_F(AgentNodesTest, ANodeWhoseAgentSpeaksCounts) {
  AddDaemonSet(R"({"nodeSelector":{"pool":"a"}})");
  world_.AddNode("n1", {{"pool", "a"}});
  AddPod("n1");
  world_.AddNode("n2", {{"pool", "b"}});
  world_.Apply("main", kNoCanary);
  ExpectCompleteWith(2);
  // Also when its Pod is gone for a while.
  world_.agent_pods.clear();
  ExpectCompleteWith(2);
  // And where it has no agent it counts from the day that it has one.
  AddOther("n3", {{"pool", "b"}});
  ExpectCompleteWith(2);
  EXPECT_THAT(Message("NodesWithoutAgent"), HasSubstr("n3 (pool=b)"));
  world_.agents["n3"].alive = true;
  ExpectCompleteWith(3);
}

TEST_F(AgentNodesTest, PodsWithoutADaemonSetTellWhichNodesCount) {
  world_.AddNode("n1", kLinux);
  AddPod("n1");
  AddOther("n2", kLinux);
  AddPod("n2", /*over=*/true);  // evicted
  world_.Apply("main", kNoCanary);
  for (int i = 0; i < 4; ++i)
    Round();
  EXPECT_EQ(Reason("PreflightPassed"), "WaitingForAgents") << "its Pod may still come";
  ExpectCompleteWith(1);
  EXPECT_THAT(Message("NodesWithoutAgent"), HasSubstr("n2 (no Pod of the agent)"));
}

// As an older operator left it.
TEST_F(AgentNodesTest, ANodeProxyThatWasMadeForNothingGoes) {
  AddNodes(1);
  AddOther("win-1", {});
  world_.Apply("main", kNoCanary);
  Round();
  Round();
  ASSERT_NE(world_.Proxy("win-1"), nullptr);
  world_.SetLabels("win-1", {{"kubernetes.io/os", "windows"}});
  ExpectCompleteWith(1);
  EXPECT_EQ(world_.Proxy("win-1"), nullptr);
}

TEST_F(AgentNodesTest, ASelectorOfNothingElseIsSaid) {
  AddOther("win-1", {{"kubernetes.io/os", "windows"}});
  world_.Apply("main", kNoCanary);
  world_.Settle();
  EXPECT_EQ(Status().phase, "Pending");
  EXPECT_EQ(Reason("Available"), "NoNodesSelected");
  EXPECT_THAT(Message("Available"), HasSubstr("NodesWithoutAgent"));
}

}  // namespace
}  // namespace pointsman::op
