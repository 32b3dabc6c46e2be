// Deployments, ReplicaSets, DaemonSets and the scheduler together, on the store, with the API's
// types; a few lines stand for the kubelets.
#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "e2e/control-plane/controllers/controller.h"
#include "e2e/control-plane/controllers/pods.h"
#include "e2e/control-plane/registry/builtin_types.h"
#include "e2e/control-plane/registry/deletion.h"
#include "e2e/control-plane/schema/provider.h"

namespace pointsman::e2e {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class Workloads : public testing::Test {
 protected:
  Workloads() : schemas_(MakeSchemaProvider(Emulation{})) {
    RegisterBuiltinTypes(registry_, store_, *schemas_, Emulation{}, [](ResourceType&) {});
    controllers_.push_back(MakeDeploymentController(store_, registry_));
    controllers_.push_back(MakeReplicaSetController(store_, registry_));
    controllers_.push_back(MakeDaemonSetController(store_, registry_));
    controllers_.push_back(MakeScheduler(store_));
    controllers_.push_back(MakeGarbageCollector(store_, registry_));
    store_.Create("serviceaccounts", {{"metadata", {{"name", "default"}, {"namespace", "d"}}}});
    for (const char* resource :
         {"nodes", "pods", "apps/deployments", "apps/replicasets", "apps/daemonsets"}) {
      Snapshot nothing;
      watched_[resource] = store_.ListAndWatch(resource, nothing);
    }
  }

  // One round of everybody. Whether something was written.
  bool Round() {
    const uint64_t before = store_.ResourceVersion();
    for (auto& [resource, subscription] : watched_) {
      while (auto event = subscription->TryNext()) {
        for (auto& controller : controllers_) {
          if (controller->Watches(resource))
            controller->OnEvent(resource, event->previous,
                                event->type == EventType::kDeleted ? nullptr : event->object);
        }
      }
    }
    for (auto& controller : controllers_)
      controller->Work();
    return store_.ResourceVersion() != before;
  }
  // Bound Pods become ready, terminating ones end; `starts` says which.
  void Kubelets(const std::function<bool(const Json&)>& starts = [](const Json&) { return true; }) {
    for (const Json& pod : All("pods")) {
      if (IsTerminating(pod)) {
        DeleteOptions now;
        now.grace_period_seconds = 0;
        DeleteObject(store_, *registry_.Find("", "v1", "pods"), "d", Name(pod), now);
      } else if (!NodeOf(pod).empty() && !IsReady(pod) && starts(pod)) {
        store_.Modify("pods", "d", Name(pod), [](Json& object) {
          object["status"]["phase"] = "Running";
          return SetCondition(object, "Ready", "True", "", "");
        });
      }
    }
  }
  void Settle(const std::function<bool(const Json&)>& starts = [](const Json&) { return true; }) {
    for (int i = 0; i < 100; ++i) {
      const uint64_t before = store_.ResourceVersion();
      Round();
      Kubelets(starts);
      if (!Round() && store_.ResourceVersion() == before) return;
      fewest_ready_ = std::min(fewest_ready_, Ready());
      most_pods_ = std::max(most_pods_, static_cast<int64_t>(All("pods").size()));
    }
    FAIL() << "does not settle";
  }

  void AddNode(const std::string& name, const Json& taints = Json::array()) {
    store_.Create("nodes",
                  {{"metadata", {{"name", name}, {"labels", {{"kubernetes.io/hostname", name}}}}},
                   {"spec", {{"taints", taints}}}});
  }
  void Create(const char* kind, const char* plural, const std::string& name, int replicas,
              const Json& pod_spec, const Json& more = Json::object()) {
    Json object = {
        {"apiVersion", "apps/v1"},
        {"kind", kind},
        {"metadata", {{"name", name}, {"namespace", "d"}, {"generation", 1}}},
        {"spec",
         {{"selector", {{"matchLabels", {{"app", name}}}}},
          {"template", {{"metadata", {{"labels", {{"app", name}}}}}, {"spec", pod_spec}}}}}};
    if (replicas >= 0) object["spec"]["replicas"] = replicas;
    object["spec"].update(more);
    const ResourceTypePtr type = registry_.Find("apps", "v1", plural);
    type->apply_defaults(object);
    ASSERT_TRUE(type->validate(object, nullptr, {}).empty());
    store_.Create(std::string("apps/") + plural, object);
  }
  void Change(const std::string& deployment, const std::function<void(Json& spec)>& change) {
    store_.Modify("apps/deployments", "d", deployment, [&](Json& object) {
      change(object["spec"]);
      object["metadata"]["generation"] = object["metadata"]["generation"].get<int>() + 1;
      return true;
    });
  }

  static Json PodSpec(const std::string& image = "server:1") {
    return {{"containers", {{{"name", "c"}, {"image", image}}}}};
  }
  static std::string Name(const Json& object) { return object["metadata"]["name"]; }
  static std::string NodeOf(const Json& pod) { return pod["spec"].value("nodeName", ""); }
  std::vector<Json> All(const char* resource) const {
    std::vector<Json> result;
    for (const ObjectPtr& object : store_.List(resource).objects)
      result.push_back(object->Parse());
    return result;
  }
  int64_t Ready() const {
    const auto pods = All("pods");
    return std::count_if(pods.begin(), pods.end(),
                         [](const Json& pod) { return IsReady(pod) && !IsTerminating(pod); });
  }
  std::map<std::string, int> PerNode() const {
    std::map<std::string, int> result;
    for (const Json& pod : All("pods"))
      ++result[NodeOf(pod)];
    return result;
  }
  Json Status(const std::string& deployment) const {
    return store_.Get("apps/deployments", "d", deployment)->Parse()["status"];
  }
  static Json ConditionOf(const Json& status, const std::string& type) {
    for (const Json& condition : status.value("conditions", Json::array())) {
      if (condition["type"] == type) return condition;
    }
    return nullptr;
  }

  std::unique_ptr<SchemaProvider> schemas_;
  Store store_{Store::Options{}};
  Registry registry_;
  std::vector<std::unique_ptr<Controller>> controllers_;
  std::map<std::string, std::unique_ptr<Subscription>> watched_;
  int64_t fewest_ready_ = 1000;
  int64_t most_pods_ = 0;
};

TEST_F(Workloads, ADeploymentIsSpreadOverTheNodesAndComplete) {
  for (const char* node : {"n1", "n2", "n3"})
    AddNode(node);
  Create("Deployment", "deployments", "web", 6, PodSpec());
  Settle();
  EXPECT_EQ(PerNode(), (std::map<std::string, int>{{"n1", 2}, {"n2", 2}, {"n3", 2}}));
  const Json status = Status("web");
  for (const char* field : {"replicas", "updatedReplicas", "readyReplicas", "availableReplicas"})
    EXPECT_EQ(status[field], 6) << field;
  EXPECT_EQ(ConditionOf(status, "Progressing")["reason"], "NewReplicaSetAvailable");
  EXPECT_EQ(ConditionOf(status, "Available")["status"], "True");
  const uint64_t version = store_.ResourceVersion();
  Settle();
  EXPECT_EQ(store_.ResourceVersion(), version) << "nothing changed, so nothing is written";

  Change("web", [](Json& spec) { spec["replicas"] = 2; });
  Settle();
  EXPECT_EQ(All("pods").size(), 2U);
  EXPECT_EQ(Status("web")["observedGeneration"], 2);

  const std::string gone = Name(All("pods")[0]);
  DeletePod(store_, registry_, All("pods")[0]);
  Settle();
  EXPECT_EQ(Ready(), 2) << "another takes its place";
  EXPECT_EQ(store_.Get("pods", "d", gone), nullptr);
}

TEST_F(Workloads, ARollingUpdateKeepsItsPromiseAndComesBack) {
  AddNode("n1");
  Create("Deployment", "deployments", "web", 4, PodSpec());
  Settle();
  fewest_ready_ = 4;
  most_pods_ = 0;
  Change("web", [](Json& spec) { spec["template"]["spec"] = PodSpec("server:2"); });
  Settle();
  EXPECT_EQ(Status("web")["updatedReplicas"], 4);
  EXPECT_EQ(Status("web")["replicas"], 4);
  EXPECT_GE(fewest_ready_, 3) << "maxUnavailable is 25% of 4";
  EXPECT_LE(most_pods_, 6) << "maxSurge is 25% of 4, and one may be on its way out";
  for (const Json& pod : All("pods"))
    EXPECT_EQ(pod["spec"]["containers"][0]["image"], "server:2");
  EXPECT_EQ(All("apps/replicasets").size(), 2U);

  // One that never becomes ready stops the roll-out, and the rest goes on serving.
  Change("web", [](Json& spec) { spec["template"]["spec"] = PodSpec("broken"); });
  Settle([](const Json& pod) { return pod["spec"]["containers"][0]["image"] != "broken"; });
  EXPECT_EQ(Ready(), 3);
  EXPECT_EQ(ConditionOf(Status("web"), "Progressing")["reason"], "ReplicaSetUpdated");
  EXPECT_EQ(ConditionOf(Status("web"), "Available")["status"], "True");

  // Back to a template it had: the same ReplicaSet, with the newest revision.
  Change("web", [](Json& spec) { spec["template"]["spec"] = PodSpec("server:2"); });
  Settle();
  EXPECT_EQ(All("apps/replicasets").size(), 3U);
  EXPECT_EQ(store_.Get("apps/deployments", "d", "web")
                ->Parse()["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
            "4");
  EXPECT_EQ(Ready(), 4);
}

TEST_F(Workloads, RecreateWaitsForTheOldToBeGone) {
  AddNode("n1");
  Create("Deployment", "deployments", "web", 2, PodSpec(), {{"strategy", {{"type", "Recreate"}}}});
  Settle();
  most_pods_ = 0;
  Change("web", [](Json& spec) { spec["template"]["spec"] = PodSpec("server:2"); });
  Settle();
  EXPECT_LE(most_pods_, 2);
  for (const Json& pod : All("pods"))
    EXPECT_EQ(pod["spec"]["containers"][0]["image"], "server:2");
}

TEST_F(Workloads, TheSchedulerKeepsApartAndHonoursTaints) {
  AddNode("n1");
  AddNode("n2");
  AddNode("master", {{{"key", "node-role.kubernetes.io/control-plane"}, {"effect", "NoSchedule"}}});
  Json spec = PodSpec();
  spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = {
      {{"topologyKey", "kubernetes.io/hostname"},
       {"labelSelector", {{"matchLabels", {{"app", "op"}}}}}}};
  Create("Deployment", "deployments", "op", 3, spec);
  Settle();
  EXPECT_EQ(PerNode(), (std::map<std::string, int>{{"", 1}, {"n1", 1}, {"n2", 1}}));
  for (const Json& pod : All("pods")) {
    if (!NodeOf(pod).empty()) continue;
    const Json condition = ConditionOf(pod["status"], "PodScheduled");
    EXPECT_EQ(condition["reason"], "Unschedulable");
    EXPECT_THAT(condition["message"].get<std::string>(), HasSubstr("0/3 nodes are available"));
    EXPECT_THAT(condition["message"].get<std::string>(),
                HasSubstr("2 node(s) didn't match pod anti-affinity rules"));
    EXPECT_THAT(
        condition["message"].get<std::string>(),
        HasSubstr("1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }"));
  }
  AddNode("n3");
  Settle();
  EXPECT_EQ(Ready(), 3) << "a new node is what it waited for";
}

TEST_F(Workloads, APortOfANodeIsGivenOnce) {
  AddNode("n1");
  AddNode("n2");
  Json spec = PodSpec();
  spec["hostNetwork"] = true;
  spec["containers"][0]["ports"] = {{{"containerPort", 10350}}};
  Create("Deployment", "deployments", "op", 3, spec);
  Settle();
  EXPECT_EQ(PerNode(), (std::map<std::string, int>{{"", 1}, {"n1", 1}, {"n2", 1}}));
}

TEST_F(Workloads, AdmissionSetsThePriorityAndAsksForTheAccount) {
  AddNode("n1");
  store_.Create("scheduling.k8s.io/priorityclasses",
                {{"metadata", {{"name", "high"}}}, {"value", 1000}});
  Json spec = PodSpec();
  spec["priorityClassName"] = "high";
  Create("Deployment", "deployments", "web", 1, spec);
  Settle();
  EXPECT_EQ(All("pods")[0]["spec"]["priority"], 1000);
  EXPECT_EQ(All("pods")[0]["spec"]["serviceAccountName"], "default");
  const auto refusal = [&](const char* field) {
    Json pod = {{"metadata", {{"name", "p"}, {"namespace", "d"}}}, {"spec", PodSpec()}};
    pod["spec"][field] = "none";
    try {
      CreatePod(store_, registry_, pod);
    } catch (const StatusError& error) {
      return std::string(error.what());
    }
    return std::string("created");
  };
  EXPECT_THAT(refusal("priorityClassName"), HasSubstr("no PriorityClass with name none was found"));
  EXPECT_THAT(refusal("serviceAccountName"), HasSubstr("serviceaccount \"none\" not found"));
}

TEST_F(Workloads, ADaemonSetIsOnEveryNodeItTolerates) {
  AddNode("n1");
  AddNode("master", {{{"key", "node-role.kubernetes.io/control-plane"}, {"effect", "NoSchedule"}}});
  Create("DaemonSet", "daemonsets", "agent", -1, PodSpec());
  Settle();
  EXPECT_EQ(PerNode(), (std::map<std::string, int>{{"n1", 1}}));
  Json spec = PodSpec();
  spec["tolerations"] = {{{"operator", "Exists"}}};
  Create("DaemonSet", "daemonsets", "everywhere", -1, spec);
  Settle();
  EXPECT_EQ(PerNode(), (std::map<std::string, int>{{"n1", 2}, {"master", 1}}));
}

// Two DaemonSets whose Pods one selector takes, each for the nodes without and with a label.
class TwoDaemonSets : public Workloads {
 protected:
  void SetUp() override {
    AddNode("n1");
    AddNode("n2");
    MakeFirst(SpecForNodes("DoesNotExist"));
    Settle();
    Json second = SpecForNodes("Exists");
    second["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = {
        {{"topologyKey", "kubernetes.io/hostname"},
         {"labelSelector", {{"matchLabels", {{"app", "proxy"}}}}}}};
    Create(
        "DaemonSet", "daemonsets", "second", -1, {},
        {{"selector", {{"matchLabels", {{"revision", "7"}}}}},
         {"updateStrategy", {{"type", "OnDelete"}}},
         {"template",
          {{"metadata", {{"labels", {{"app", "proxy"}, {"revision", "7"}}}}}, {"spec", second}}}});
    Settle();
  }
  void MakeFirst(const Json& pod_spec) { Create("DaemonSet", "daemonsets", "proxy", -1, pod_spec); }
  static Json SpecForNodes(const char* op) {
    Json spec = PodSpec();
    spec["hostNetwork"] = true;
    spec["tolerations"] = {{{"operator", "Exists"}}};
    spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = {
        {"nodeSelectorTerms", {{{"matchExpressions", {{{"key", "moved"}, {"operator", op}}}}}}}};
    return spec;
  }
  void Move(const std::string& node) {
    store_.Modify("nodes", "", node, [](Json& object) {
      object["metadata"]["labels"]["moved"] = "yes";
      return true;
    });
  }
  void ChangeSet(const std::string& name, const std::function<void(Json& spec)>& change) {
    store_.Modify("apps/daemonsets", "d", name, [&](Json& object) {
      change(object["spec"]);
      object["metadata"]["generation"] = object["metadata"]["generation"].get<int>() + 1;
      return true;
    });
  }
  // Names of the Pods that run on it, and of those that wait for it.
  std::vector<std::string> On(const std::string& node) const {
    std::vector<std::string> names;
    for (const Json& pod : All("pods")) {
      if (NodeOf(pod) == node) names.push_back(Name(pod));
    }
    return names;
  }
  std::vector<Json> Waiting() const {
    std::vector<Json> pods;
    for (const Json& pod : All("pods")) {
      if (NodeOf(pod).empty()) pods.push_back(pod);
    }
    return pods;
  }
  static std::string WhyItWaits(const Json& pod) {
    return ConditionOf(pod["status"], "PodScheduled")["message"];
  }
  Json PodNamed(const std::string& name) const { return store_.Get("pods", "d", name)->Parse(); }
  static Json OwnerOf(const Json& pod) {
    return pod["metadata"].value("ownerReferences", Json::array());
  }
};

TEST_F(TwoDaemonSets, APodWaitsUntilTheOtherHasLeftItsNode) {
  EXPECT_EQ(PerNode(), (std::map<std::string, int>{{"n1", 1}, {"n2", 1}}));
  const std::string before = On("n1").at(0);
  EXPECT_THAT(before, StartsWith("proxy-"));
  Move("n1");
  while (Round()) {  // and no kubelet has ended it yet
  }
  EXPECT_THAT(On("n1"), ElementsAre(before));
  EXPECT_TRUE(IsTerminating(PodNamed(before))) << "the DaemonSet is not for that node any more";
  ASSERT_EQ(Waiting().size(), 1U);
  EXPECT_THAT(Name(Waiting()[0]), StartsWith("second-"));
  EXPECT_THAT(WhyItWaits(Waiting()[0]),
              HasSubstr("1 node(s) didn't match Pod's node affinity/selector, "
                        "1 node(s) didn't match pod anti-affinity rules"));
  Settle();
  EXPECT_TRUE(Waiting().empty());
  ASSERT_EQ(On("n1").size(), 1U);
  EXPECT_THAT(On("n1")[0], StartsWith("second-"));
  EXPECT_EQ(Ready(), 2);
}

TEST_F(TwoDaemonSets, PodsChangeHandsWithoutARestart) {
  ChangeSet("proxy", [](Json& spec) { spec["updateStrategy"] = {{"type", "OnDelete"}}; });
  Move("n1");
  Move("n2");
  Settle();
  const std::vector<std::string> serving{On("n1").at(0), On("n2").at(0)};
  ChangeSet("proxy", [](Json& spec) {
    spec["template"]["spec"].erase("affinity");
    spec["updateStrategy"] = {{"type", "RollingUpdate"},
                              {"rollingUpdate", {{"maxUnavailable", 1}}}};
  });
  Settle();
  ASSERT_EQ(Waiting().size(), 2U) << "one for each node";
  for (const Json& pod : Waiting())
    EXPECT_THAT(WhyItWaits(pod),
                HasSubstr("1 node(s) didn't satisfy existing pods anti-affinity rules"));

  const std::string hash = Waiting()[0]["metadata"]["labels"]["controller-revision-hash"];
  for (const std::string& name : serving) {
    store_.Modify("pods", "d", name, [&](Json& pod) {
      EXPECT_NE(pod["metadata"]["labels"]["controller-revision-hash"], hash);
      pod["metadata"]["labels"]["controller-revision-hash"] = hash;
      return true;
    });
  }
  const Json first = store_.Get("apps/daemonsets", "d", "proxy")->Parse()["metadata"]["uid"];
  const Json second = store_.Get("apps/daemonsets", "d", "second")->Parse()["metadata"]["uid"];
  Settle();
  EXPECT_EQ(OwnerOf(PodNamed(serving[0])).at(0)["uid"], second) << "no other may take it";
  DeleteOptions orphan;
  orphan.propagation_policy = "Orphan";
  DeleteObject(store_, *registry_.Find("apps", "v1", "daemonsets"), "d", "second", orphan);
  Settle();
  EXPECT_EQ(store_.Get("apps/daemonsets", "d", "second"), nullptr);
  EXPECT_EQ(On("n1"), std::vector<std::string>{serving[0]});
  EXPECT_EQ(On("n2"), std::vector<std::string>{serving[1]});
  EXPECT_TRUE(Waiting().empty()) << "the one that is bound stays";
  for (const std::string& name : serving) {
    const Json owners = OwnerOf(PodNamed(name));
    ASSERT_EQ(owners.size(), 1U);
    EXPECT_EQ(owners[0]["uid"], first);
    EXPECT_EQ(owners[0]["controller"], true);
  }
  const Json status = store_.Get("apps/daemonsets", "d", "proxy")->Parse()["status"];
  for (const char* count :
       {"desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable", "numberReady"})
    EXPECT_EQ(status[count], 2) << count;
}

TEST_F(TwoDaemonSets, AnOutdatedPodThatIsAdoptedIsReplaced) {
  const std::string foreign = "foreign";
  const auto add = [&](const char* hash) {
    Json pod = {{"metadata",
                 {{"name", foreign},
                  {"namespace", "d"},
                  {"creationTimestamp", "2020-01-01T00:00:00Z"},
                  {"labels", {{"app", "proxy"}, {"controller-revision-hash", hash}}}}},
                {"spec", {{"nodeName", "n1"}, {"containers", PodSpec()["containers"]}}}};
    CreatePod(store_, registry_, pod);
  };
  ChangeSet("proxy", [](Json& spec) { spec["updateStrategy"] = {{"type", "OnDelete"}}; });
  const std::string own = On("n1").at(0);
  add("older");
  Settle();
  EXPECT_EQ(On("n1"), std::vector<std::string>{foreign}) << "of two that are bound the oldest";
  EXPECT_EQ(store_.Get("pods", "d", own), nullptr);
  ChangeSet("proxy", [](Json& spec) {
    spec["updateStrategy"] = {{"type", "RollingUpdate"},
                              {"rollingUpdate", {{"maxUnavailable", 1}}}};
  });
  Settle();
  ASSERT_EQ(On("n1").size(), 1U);
  EXPECT_THAT(On("n1")[0], StartsWith("proxy-"));
  EXPECT_EQ(Ready(), 2);
}

TEST_F(TwoDaemonSets, APodThatIsNotSelectedAnyMoreIsLetGo) {
  const std::string name = On("n1").at(0);
  store_.Modify("pods", "d", name, [](Json& pod) {
    pod["metadata"]["labels"]["app"] = "debug";
    return true;
  });
  Settle();
  EXPECT_TRUE(OwnerOf(PodNamed(name)).empty());
  EXPECT_EQ(On("n1").size(), 2U) << "it runs on, and another has its place";
}

TEST_F(Workloads, APodHasItsGracePeriod) {
  AddNode("n1");
  Create("Deployment", "deployments", "web", 1, PodSpec());
  Settle();
  const Json pod = All("pods")[0];
  const ResourceTypePtr type = registry_.Find("", "v1", "pods");
  EXPECT_FALSE(DeleteObject(store_, *type, "d", Name(pod)).removed);
  EXPECT_EQ(store_.Get("pods", "d", Name(pod))->Parse()["metadata"]["deletionGracePeriodSeconds"],
            30);
  EXPECT_FALSE(DeleteObject(store_, *type, "d", Name(pod)).removed) << "still the same";
  DeleteOptions sooner;
  sooner.grace_period_seconds = 5;
  EXPECT_FALSE(DeleteObject(store_, *type, "d", Name(pod), sooner).removed);
  EXPECT_EQ(store_.Get("pods", "d", Name(pod))->Parse()["metadata"]["deletionGracePeriodSeconds"],
            5);
  sooner.grace_period_seconds = 0;
  EXPECT_TRUE(DeleteObject(store_, *type, "d", Name(pod), sooner).removed);
}

}  // namespace
}  // namespace pointsman::e2e
