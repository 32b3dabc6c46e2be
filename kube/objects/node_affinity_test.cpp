#include "kube/objects/node_affinity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kube/objects/daemon_set.h"
#include "kube/objects/pod.h"

namespace pointsman::kube {
namespace {

Node MakeNode(std::map<std::string, std::string> labels, std::vector<Taint> taints = {}) {
  Node node;
  node.name = "n1";
  node.labels = std::move(labels);
  node.taints = std::move(taints);
  return node;
}

NodePlacement Placement(const std::string& pod_spec) {
  return DecodeDaemonSet(R"({"kind":"DaemonSet","metadata":{"name":"d","uid":"u"},
      "spec":{"template":{"spec":)" +
                         pod_spec + "}}}")
      .placement;
}

TEST(NodePlacementTest, ByLabel) {
  const NodePlacement placement = Placement(R"({"nodeSelector":{"kubernetes.io/os":"linux"}})");
  EXPECT_EQ(placement.WhyNot(MakeNode({{"kubernetes.io/os", "linux"}})), "");
  EXPECT_EQ(placement.WhyNot(MakeNode({{"kubernetes.io/os", "windows"}})),
            "kubernetes.io/os=windows");
  EXPECT_EQ(placement.WhyNot(MakeNode({})), "no label kubernetes.io/os");
}

TEST(NodePlacementTest, ByAffinity) {
  const auto with = [](const std::string& terms) {
    return Placement(
        R"({"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms":)" +
        terms + "}}}}");
  };
  const auto expression = [](const std::string& op, const std::string& values) {
    return R"([{"matchExpressions":[{"key":"a","operator":")" + op + R"(","values":)" + values +
           "}]}]";
  };
  struct Case {
    const char* op;
    const char* values;
    bool with_3, with_x, without;
  };
  for (const Case& c :
       {Case{"In", R"(["3","4"])", true, false, false},
        Case{"NotIn", R"(["3"])", false, true, true}, Case{"Exists", "[]", true, true, false},
        Case{"DoesNotExist", "[]", false, false, true}, Case{"Gt", R"(["2"])", true, false, false},
        Case{"Gt", R"(["3"])", false, false, false}, Case{"Lt", R"(["4"])", true, false, false},
        Case{"Lt", R"(["x"])", false, false, false},
        Case{"Near", R"(["3"])", false, false, false}}) {
    const NodePlacement placement = with(expression(c.op, c.values));
    EXPECT_EQ(placement.WhyNot(MakeNode({{"a", "3"}})).empty(), c.with_3) << c.op;
    EXPECT_EQ(placement.WhyNot(MakeNode({{"a", "x"}})).empty(), c.with_x) << c.op;
    EXPECT_EQ(placement.WhyNot(MakeNode({})).empty(), c.without) << c.op;
  }
  EXPECT_EQ(with(expression("NotIn", R"(["3"])")).WhyNot(MakeNode({{"a", "3"}})), "a=3");
  EXPECT_EQ(
      with(R"([{},{"matchFields":[{"key":"metadata.name","operator":"In","values":["n1"]}]}])")
          .WhyNot(MakeNode({})),
      "");
  EXPECT_EQ(with("[]").WhyNot(MakeNode({})), "the node affinity of the agent's Pods");
  EXPECT_EQ(with("[{}]").WhyNot(MakeNode({})), "the node affinity of the agent's Pods");
}

TEST(NodePlacementTest, ByTaint) {
  const Taint virtual_kubelet{"virtual-kubelet.io/provider", "azure", "NoSchedule"};
  const auto why = [](const std::string& tolerations, const Taint& taint, bool host = true) {
    return Placement(R"({"hostNetwork":)" + std::string(host ? "true" : "false") +
                     R"(,"tolerations":)" + tolerations + "}")
        .WhyNot(MakeNode({}, {taint}));
  };
  EXPECT_EQ(why("[]", virtual_kubelet), "taint virtual-kubelet.io/provider=azure:NoSchedule");
  for (const char* tolerations :
       {R"([{"operator":"Exists"}])",
        R"([{"key":"virtual-kubelet.io/provider","operator":"Exists"}])",
        R"([{"key":"virtual-kubelet.io/provider","value":"azure","effect":"NoSchedule"}])"}) {
    EXPECT_EQ(why(tolerations, virtual_kubelet), "") << tolerations;
  }
  for (const char* tolerations :
       {R"([{"operator":"Exists","effect":"NoExecute"}])", R"([{"operator":"Equal"}])",
        R"([{"key":"virtual-kubelet.io/provider","value":"gcp"}])"}) {
    EXPECT_NE(why(tolerations, virtual_kubelet), "") << tolerations;
  }
  // The DaemonSet controller's own.
  for (const char* name :
       {"disk-pressure", "memory-pressure", "unschedulable", "network-unavailable"}) {
    EXPECT_EQ(why("[]", {std::string("node.kubernetes.io/") + name, "", "NoSchedule"}), "") << name;
  }
  EXPECT_NE(why("[]", {"node.kubernetes.io/network-unavailable", "", "NoSchedule"}, false), "");
  EXPECT_EQ(why("[]", {"node.kubernetes.io/unreachable", "", "NoExecute"}), "");
  EXPECT_NE(why("[]", {"dedicated", "gpu", "NoExecute"}), "");
  EXPECT_EQ(why("[]", {"dedicated", "gpu", "PreferNoSchedule"}), "");
}

TEST(DecodePodTest, WhereItIs) {
  const Pod bound = DecodePod(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","uid":"u",
      "resourceVersion":"7"},"spec":{"nodeName":"n1","containers":[{"name":"c"}]},
      "status":{"phase":"Running"}})");
  EXPECT_EQ(bound.name, "p");
  EXPECT_EQ(bound.uid, "u");
  EXPECT_EQ(bound.resource_version, "7");
  EXPECT_EQ(bound.node_name, "n1");
  EXPECT_FALSE(bound.over);
  const Pod pending = DecodePod(
      R"({"metadata":{"name":"p"},"spec":{"affinity":{"nodeAffinity":
          {"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchFields":
          [{"key":"metadata.name","operator":"In","values":["n2"]}]}]}}}},
          "status":{"phase":"Pending"}})");
  EXPECT_EQ(pending.node_name, "n2");
  EXPECT_TRUE(DecodePod(R"({"metadata":{"name":"p"},"status":{"phase":"Failed"}})").over);
  EXPECT_THROW(DecodePod("{}"), std::invalid_argument);
  EXPECT_THROW(DecodeDaemonSet("{}"), std::invalid_argument);
}

}  // namespace
}  // namespace pointsman::kube
