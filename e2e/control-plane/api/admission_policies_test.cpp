#include "e2e/control-plane/api/admission_policies.h"

#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "e2e/control-plane/api/render.h"

namespace pointsman::e2e {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kAgent = "system:serviceaccount:pointsman-system:pointsman-node-agent";
constexpr const char* kNodeName = "authentication.kubernetes.io/node-name";

// The policies of manifests/kubernetes-1.30, and what they say to a write.
class AdmissionPoliciesTest : public ::testing::Test {
 protected:
  AdmissionPoliciesTest() {
    for (const char* name : {"node-agent-policy.yaml", "operator-policy.yaml"})
      AddFile(name);
    nodes_.version = "v1";
    nodes_.plural = "nodes";
    nodes_.kind = "Node";
    daemon_sets_.group = "apps";
    daemon_sets_.version = "v1";
    daemon_sets_.plural = "daemonsets";
    daemon_sets_.kind = "DaemonSet";
    proxies_.group = "pointsman.io";
    proxies_.version = "v1alpha1";
    proxies_.plural = "nodeproxies";
    proxies_.kind = "NodeProxy";
    events_.version = "v1";
    events_.plural = "events";
    events_.kind = "Event";
  }

  void AddFile(const std::string& name) {
    std::ifstream file(POINTSMAN_SOURCE_DIR "/manifests/kubernetes-1.30/" + name);
    std::string document;
    for (std::string line; std::getline(file, line);) {
      if (line == "---") {
        Add(ParseYaml(document));
        document.clear();
      } else {
        document += line + "\n";
      }
    }
    Add(ParseYaml(document));
  }
  void Add(Json object) {
    const bool policy = object["kind"] == "ValidatingAdmissionPolicy";
    const auto errors = policy ? AdmissionPolicies::ValidatePolicy(object, {35})
                               : AdmissionPolicies::ValidateBinding(object, {35});
    for (const FieldError& error : errors)
      ADD_FAILURE() << error.field << ": " << error.message;
    object["metadata"]["resourceVersion"] = "";
    store_.Create(policy ? "admissionregistration.k8s.io/validatingadmissionpolicies"
                         : "admissionregistration.k8s.io/validatingadmissionpolicybindings",
                  object);
  }

  static UserInfo Agent(const std::string& node) {
    UserInfo user{kAgent, "u", {}, {}};
    if (!node.empty()) user.extra[kNodeName] = {node};
    return user;
  }

  // "": accepted.
  std::string Says(const AdmissionRequest& request) const {
    try {
      AdmissionPolicies(store_).Check(request);
      return "";
    } catch (const StatusError& error) {
      return std::to_string(error.code()) + " " + error.what();
    }
  }
  std::string OnProxy(const UserInfo& user, const std::string& name, const std::string& subresource,
                      const std::string& operation = "UPDATE") const {
    const Json object = {{"metadata", {{"name", name}}}};
    return Says({user, proxies_, "", name, subresource, operation,
                 operation == "DELETE" ? nullptr : &object,
                 operation == "CREATE" ? nullptr : &object, false});
  }
  std::string OnEvent(const UserInfo& user, const Json& object, const Json* old = nullptr) const {
    return Says({user, events_, "default", "e", "", old == nullptr ? "CREATE" : "UPDATE", &object,
                 old, false});
  }

  std::string OnNode(const Json& object, const Json& old, const UserInfo& user = Operator(),
                     const std::string& subresource = "") const {
    return Says({user, nodes_, "", "n1", subresource, "UPDATE", &object, &old, false});
  }
  std::string OnDaemonSet(const std::string& name, const Json& object, const Json& old) const {
    return Says(
        {Operator(), daemon_sets_, "kube-system", name, "", "UPDATE", &object, &old, false});
  }
  static UserInfo Operator() {
    return {"system:serviceaccount:pointsman-system:pointsman-operator", "u", {}, {}};
  }

  Store store_{Store::Options{}};
  ResourceType nodes_;
  ResourceType daemon_sets_;
  ResourceType proxies_;
  ResourceType events_;
};

TEST_F(AdmissionPoliciesTest, AnAgentWritesTheStatusOfItsOwnNodeOnly) {
  EXPECT_EQ(OnProxy(Agent("n1"), "n1", "status"), "");
  EXPECT_THAT(OnProxy(Agent("n1"), "n2", "status"),
              AllOf(HasSubstr("403 "), HasSubstr("nodeproxies.pointsman.io \"n2\" is forbidden"),
                    HasSubstr("ValidatingAdmissionPolicy 'pointsman-node-agent'"),
                    HasSubstr("its own node's NodeProxy only")));
  EXPECT_THAT(OnProxy(Agent("n1"), "n1", ""), HasSubstr("nothing but the status"));
  for (const char* operation : {"CREATE", "DELETE"})
    EXPECT_THAT(OnProxy(Agent("n1"), "n1", "", operation), HasSubstr("nothing but the status"));
}

TEST_F(AdmissionPoliciesTest, ATokenThatNamesNoNodeIsRefusedWithTheReason) {
  EXPECT_THAT(OnProxy(Agent(""), "n1", "status"),
              AllOf(HasSubstr("403 "), HasSubstr("'pointsman-node-agent'"),
                    HasSubstr("does not say which node")));
  UserInfo bound = Agent("");
  bound.extra["authentication.kubernetes.io/pod-name"] = {"p"};
  EXPECT_THAT(OnProxy(bound, "n1", "status"), HasSubstr("does not say which node"));
}

TEST_F(AdmissionPoliciesTest, OthersAreNotAffected) {
  const UserInfo admin{"kubernetes-admin", "", {"system:masters"}, {}};
  const UserInfo op{"system:serviceaccount:pointsman-system:pointsman-operator", "", {}, {}};
  for (const UserInfo& user : {admin, op}) {
    for (const char* operation : {"CREATE", "UPDATE", "DELETE"})
      EXPECT_EQ(OnProxy(user, "n1", "", operation), "");
    EXPECT_EQ(OnEvent(user, {{"source", {{"component", "x"}}}}), "");
  }
}

TEST_F(AdmissionPoliciesTest, AnAgentsEventsNameItsNode) {
  const Json own = {{"source", {{"component", "pointsman-node-agent"}, {"host", "n1"}}}};
  const Json others = {{"source", {{"component", "pointsman-node-agent"}, {"host", "n2"}}}};
  EXPECT_EQ(OnEvent(Agent("n1"), own), "");
  EXPECT_EQ(OnEvent(Agent("n1"), own, &own), "");
  EXPECT_THAT(OnEvent(Agent("n1"), others), HasSubstr("its own node only"));
  EXPECT_THAT(OnEvent(Agent("n1"), {{"source", {{"component", "kubelet"}, {"host", "n1"}}}}),
              HasSubstr("its own node only"));
  EXPECT_THAT(OnEvent(Agent("n1"), {{"reason", "x"}}), HasSubstr("its own node only"));
  EXPECT_THAT(OnEvent(Agent("n1"), own, &others), HasSubstr("its own Events only"));
}

TEST_F(AdmissionPoliciesTest, TheOperatorChangesItsTwoLabelsOfANodeOnly) {
  const Json node = {{"metadata", {{"name", "n1"}, {"labels", {{"zone", "a"}}}}},
                     {"spec", {{"podCIDR", "10.244.1.0/24"}}}};
  const auto with = [&](const char* pointer, const Json& value) {
    Json changed = node;
    changed[Json::json_pointer(pointer)] = value;
    return changed;
  };
  for (const char* label : {"pointsman.io~1kube-proxy", "pointsman.io~1kube-proxy-revision"}) {
    const Json labelled = with((std::string("/metadata/labels/") + label).c_str(), "7");
    EXPECT_EQ(OnNode(labelled, node), "");
    EXPECT_EQ(OnNode(node, labelled), "");
  }
  Json bare = node;
  bare["metadata"].erase("labels");
  EXPECT_EQ(OnNode(bare, bare), "");
  Json first = bare;
  first["metadata"]["labels"] = {{"pointsman.io/kube-proxy", "replaced"}};
  EXPECT_EQ(OnNode(first, bare), "");
  EXPECT_EQ(OnNode(bare, first), "");

  EXPECT_THAT(OnNode(with("/metadata/labels/zone", "b"), node), HasSubstr("give a Node no labels"));
  EXPECT_THAT(OnNode(with("/metadata/labels/x", "b"), node), HasSubstr("give a Node no labels"));
  EXPECT_THAT(OnNode(bare, node), HasSubstr("take no labels off a Node"));
  EXPECT_THAT(OnNode(with("/spec/unschedulable", true), node),
              AllOf(HasSubstr("403 "), HasSubstr("in the spec of a Node")));
  EXPECT_THAT(OnNode(with("/spec/taints", {{{"key", "x"}, {"effect", "NoExecute"}}}), node),
              HasSubstr("in the spec of a Node"));
  EXPECT_THAT(OnNode(with("/metadata/annotations", {{"a", "b"}}), node),
              HasSubstr("nothing but labels"));
  EXPECT_THAT(OnNode(with("/metadata/finalizers", {"a"}), node), HasSubstr("nothing but labels"));
  EXPECT_THAT(OnNode(node, node, Operator(), "status"), HasSubstr("no status of a Node"));
  const UserInfo admin{"kubernetes-admin", "", {"system:masters"}, {}};
  EXPECT_EQ(OnNode(with("/spec/unschedulable", true), node, admin), "");
}

TEST_F(AdmissionPoliciesTest, TheOperatorChangesTwoFieldsOfKubeProxysDaemonSetOnly) {
  const Json set = Json::parse(R"({"metadata": {"name": "kube-proxy"}, "spec": {
      "selector": {"matchLabels": {"k8s-app": "kube-proxy"}},
      "updateStrategy": {"type": "RollingUpdate"},
      "template": {"metadata": {"labels": {"k8s-app": "kube-proxy"}},
                   "spec": {"hostNetwork": true, "containers": [{"image": "kube-proxy:1"}]}}}})");
  const auto with = [&](const char* pointer, const Json& value) {
    Json changed = set;
    changed[Json::json_pointer(pointer)] = value;
    return changed;
  };
  const Json taken = with("/spec/template/spec/affinity", {{"nodeAffinity", Json::object()}});
  EXPECT_EQ(OnDaemonSet("kube-proxy", taken, set), "");
  EXPECT_EQ(OnDaemonSet("kube-proxy", set, taken), "");
  EXPECT_EQ(OnDaemonSet("kube-proxy", with("/spec/updateStrategy/type", "OnDelete"), set), "");
  EXPECT_EQ(OnDaemonSet("kube-proxy", with("/metadata/annotations", {{"a", "b"}}), set), "");
  for (const auto& [pointer, value] :
       {std::pair<const char*, Json>("/spec/template/spec/containers/0/image", "evil"),
        {"/spec/template/spec/hostPID", true},
        {"/spec/template/spec/initContainers", {{{"image", "evil"}}}},
        {"/spec/template/metadata/labels/x", "y"},
        {"/spec/selector/matchLabels/x", "y"}})
    EXPECT_THAT(OnDaemonSet("kube-proxy", with(pointer, value), set),
                HasSubstr("nothing but affinity and updateStrategy"))
        << pointer;
  Json less = set;
  less["spec"]["template"]["spec"].erase("hostNetwork");
  EXPECT_THAT(OnDaemonSet("kube-proxy", less, set), HasSubstr("nothing but affinity"));
  // Those of revisions follow an upgrade of kube-proxy's own.
  EXPECT_EQ(OnDaemonSet("kube-proxy-pointsman-7",
                        with("/spec/template/spec/containers/0/image", "kube-proxy:2"), set),
            "");
}

TEST_F(AdmissionPoliciesTest, WhatIsNotKnownHereIsRefusedAndNotIgnored) {
  const auto refused = [](const char* spec) {
    std::string text;
    for (const FieldError& error :
         AdmissionPolicies::ValidatePolicy({{"spec", Json::parse(spec)}}, {35}))
      text += error.field + ": " + error.message + "\n";
    return text;
  };
  const std::string rules =
      R"("matchConstraints":{"resourceRules":[{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE"],"resources":["pods"]}]})";
  const auto validation = [&](const std::string& expression) {
    return "{" + rules + R"(,"validations":[{"expression":")" + expression + R"("}]})";
  };
  EXPECT_EQ(refused(validation("object.x == 1").c_str()), "");
  EXPECT_THAT(refused(validation("request.user == 1").c_str()),
              HasSubstr("undefined field 'user'"));
  EXPECT_THAT(refused(validation("authorizer.group('')").c_str()),
              HasSubstr("undeclared reference"));
  EXPECT_THAT(refused(validation("variables.x").c_str()), HasSubstr("undeclared reference"));
  EXPECT_THAT(refused(validation("object.?x").c_str()),
              HasSubstr("spec.validations[0].expression"));
  EXPECT_THAT(refused(validation("self == 1").c_str()),
              HasSubstr("undeclared reference to 'self'"));
  EXPECT_THAT(refused(R"({"paramKind":{"kind":"X"},"validations":[{"expression":"true"}]})"),
              AllOf(HasSubstr("spec.paramKind: Forbidden"),
                    HasSubstr("spec.matchConstraints.resourceRules: Required")));
  // An error while it is evaluated denies, unless the policy says otherwise.
  Json policy = {{"metadata", {{"name", "p"}}},
                 {"kind", "ValidatingAdmissionPolicy"},
                 {"spec", Json::parse(validation("object.missing == 1"))}};
  policy["spec"]["matchConstraints"]["resourceRules"][0]["resources"] = {"events"};
  Add(policy);
  Add({{"metadata", {{"name", "b"}}},
       {"kind", "Binding"},
       {"spec", {{"policyName", "p"}, {"validationActions", {"Deny"}}}}});
  const UserInfo admin{"kubernetes-admin", "", {"system:masters"}, {}};
  EXPECT_THAT(OnEvent(admin, Json::object()), HasSubstr("no such key: missing"));
}

}  // namespace
}  // namespace pointsman::e2e
