// kubectl pointsman as people and scripts use it: started by kubectl, on a cluster of real kernels
// of which one has no ip_vs, through a whole move with its pauses, failures and the way back.
#include <array>
#include <fstream>
#include <iterator>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "e2e/control-plane/testing/environment_variable.h"
#include "e2e/scenarios/scenario_fixture.h"

namespace pointsman::e2e {
namespace {

using std::chrono_literals::operator""s;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// docs/kubectl-pointsman.md.
enum Exit {
  kOk,
  kError,
  kNotFinished,
  kFailed,
  kObjections,
  kNotFound,
  kForbidden,
  kUnreachable,
  kDifferences,
  kAborted
};

std::string Configuration(const std::string& mode, const std::string& rollout) {
  return "apiVersion: pointsman.io/v1alpha1\nkind: ProxyConfiguration\n"
         "metadata: {name: cluster}\nspec:\n  mode: " +
         mode +
         "\n  clusterCIDR: 10.244.0.0/16\n  handover: {drainTimeout: 3s}\n  rollout: {minReady: "
         "0s, " +
         rollout + "}\n";
}

class PluginTest : public ScenarioTest {
 protected:
  void Start(const std::vector<std::string>& nodes) {
    START_OR_RETURN(StartWorld(nodes));
    kubeconfig_ = world_->cluster().Kubeconfig();
    world_->StartOperator();
    world_->StartAgents();
    std::filesystem::create_directories(dir_ / "bin");
    const std::string kubectl = EnvironmentVariable("POINTSMAN_KUBECTL");
    if (!kubectl.empty()) std::filesystem::create_symlink(kubectl, dir_ / "bin/kubectl");
  }

  static std::string Kubectl() {
    const std::string kubectl = EnvironmentVariable("POINTSMAN_KUBECTL");
    return kubectl.empty() ? "kubectl" : kubectl;
  }
  // With the plugin, and the kubectl that it calls.
  std::string Path() const {
    return (dir_ / "bin").string() + ":" +
           world_->cluster().Program("kubectl-pointsman").parent_path().string() + ":" +
           EnvironmentVariable("PATH");
  }
  // `kubectl pointsman …`, by the real kubectl.
  RunResult Plugin(const std::vector<std::string>& arguments, const std::string& input = "") const {
    SpawnOptions spawn;
    spawn.argv = {Kubectl(), "pointsman"};
    spawn.argv.insert(spawn.argv.end(), arguments.begin(), arguments.end());
    spawn.env["PATH"] = Path();
    spawn.env["KUBECONFIG"] = kubeconfig_;
    return e2e::Run(spawn, input, 240s);
  }
  std::string Expect(int exit, const std::vector<std::string>& arguments,
                     const std::string& input = "") const {
    const RunResult result = Plugin(arguments, input);
    EXPECT_EQ(result.exit, exit) << testing::PrintToString(arguments) << "\n" << result.out;
    std::printf("$ kubectl pointsman %s   # %d\n%s\n",
                fmt::format("{}", fmt::join(arguments, " ")).c_str(), result.exit,
                result.out.c_str());
    return result.out;
  }

  // A Pod "agent-NODE" as the DaemonSet has it on each node; what runs there is the test's own.
  void CreateAgentPod(const std::string& node) {
    world_->Apply(fmt::format(R"(
apiVersion: v1
kind: Pod
metadata:
  name: agent-{0}
  namespace: pointsman-system
  labels: {{app.kubernetes.io/name: pointsman-node-agent}}
spec:
  nodeName: {0}
  containers: [{{name: node-agent, image: pointsman}}]
)",
                              node));
  }
  // The `kubectl` that the plugin finds. Only what is behind `kubectl exec` is not there (the API
  // server's way to the kubelet, and the container): it is the same program on the same node.
  void PutKubectlIntoPath() {
    const std::filesystem::path script = dir_ / "bin/kubectl";
    std::filesystem::remove(script);
    std::ofstream(script) << fmt::format(
        "#!/bin/sh\n"
        "case \"$*\" in\n"
        "  'exec --namespace=pointsman-system agent-'*' -c node-agent -- pointsman-node-agent "
        "--list'*)\n"
        "    node=${{3#agent-}}; shift 7\n"
        "    exec '{0}' --dir '{1}' exec \"$node\" -- '{2}' \"$@\" ;;\n"
        "esac\n"
        "exec '{3}' \"$@\"\n",
        Program("pointsman-testbed"), world_->cluster().dir().string(),
        Program("pointsman-node-agent"), Kubectl());
    std::filesystem::permissions(script, std::filesystem::perms::owner_all);
  }

  std::string ActiveMode(const std::string& node) {
    const kube::Json proxy = world_->NodeProxy(node);
    return proxy.is_null() ? "" : proxy.value("/status/activeMode"_json_pointer, "");
  }
  void AwaitPhase(const std::string& phase) {
    world_->Await(
        "phase " + phase,
        [&] {
          const kube::Json object = world_->ProxyConfiguration("cluster");
          const kube::Json status = object.value("status", kube::Json::object());
          return status.value("phase", "") == phase &&
                 status.value("observedGeneration", 0) == object["metadata"]["generation"];
        },
        60s, [&] { return world_->RolloutEvidence(); });
  }

  // A kubeconfig for the same server.
  std::filesystem::path WriteKubeconfig(const std::string& name, const std::string& from,
                                        const std::string& server) const {
    std::ifstream file(from);
    std::string text(std::istreambuf_iterator<char>(file), {});
    const size_t at = text.find("https://");
    const size_t end = text.find_first_of("\"'\n ,}", at);
    text.replace(at, end - at, server);
    std::ofstream(dir_ / name) << text;
    return dir_ / name;
  }
  std::string Server() const {
    std::ifstream file(world_->cluster().Kubeconfig());
    const std::string text(std::istreambuf_iterator<char>(file), {});
    const size_t at = text.find("https://");
    return text.substr(at, text.find_first_of("\"'\n ,}", at) - at);
  }

  // Of TCP and UDP, at a cluster IP and a node port, with one endpoint.
  World::ServiceSpec CreateService() {
    World::ServiceSpec web;
    web.name = "web";
    web.cluster_ip = "10.96.1.1";
    web.node_port = 30080;
    web.target_port = 8080;
    web.endpoints = {world_->AddServerPod("node-1", "server", {8080})};
    web.endpoint_nodes = {{web.endpoints[0], "node-1"}};
    world_->CreateServices({web});
    return web;
  }
  // `pointsman-node-agent --list` on the node itself.
  std::string List(const std::string& node) const {
    std::string out =
        world_->cluster().node(node).Check({Program("pointsman-node-agent"), "--list"});
    std::printf("%s# pointsman-node-agent --list\n%s\n", node.c_str(), out.c_str());
    return out;
  }
  static auto HasWeb(const std::string& name, const World::ServiceSpec& web) {
    return AllOf(testing::ContainsRegex("TCP +10[.]96[.]1[.]1:80 +" + name),
                 testing::ContainsRegex("[*]:30080 +" + name + "  node port"),
                 HasSubstr("  ->  " + web.endpoints[0] + ":8080"));
  }
  std::string Program(const std::string& name) const { return world_->cluster().Program(name); }

  // Streams through ipvs on the canary, which the move to iptables cuts when their time is over.
  void ExpectAGateStopsTheRollout() {
    constexpr int kStreams = 5;
    EXPECT_EQ(ActiveMode("node-1"), "ipvs");
    world_->AddClientPod("node-1", "client");
    const World::Load load = world_->StartLoad(world_->cluster().node("node-1"), "client",
                                               {"10.96.1.1:80"}, 20, "tcp", kStreams);
    world_->AwaitLoadRunning(load);
    world_->Apply(Configuration("iptables",
                                "canary: {nodes: 1, soak: 0s}, maxUnavailable: 2, gates: "
                                "{cutConnections: 0}"));
    EXPECT_THAT(Expect(kFailed, {"status", "--watch", "--timeout=5m"}), HasSubstr("RolledBack"));
    const LoadReport report = world_->StopLoad(load);
    // Connection tracking takes them up again in the next mode (nf_conntrack_tcp_loose), which has
    // this one endpoint to send them to. Of more it would be another one for some.
    EXPECT_EQ(report.Streams(), kStreams) << report.json.dump(1);
    EXPECT_THAT(Expect(kFailed, {"status"}),
                AllOf(HasSubstr("RolledBack  GateTripped: revision"),
                      HasSubstr("failed on node-1 (gate cutConnections: 5 connections were cut at "
                                "the end of handover.drainTimeout; the bound is 0)")));
    EXPECT_THAT(Expect(kOk, {"history"}), HasSubstr("stopped by cutConnections on node-1"));
    EXPECT_EQ(world_->MustKubectl(
                  {"get", "pxc/cluster", "-o", "jsonpath={.status.trippedGates[*].node}"}),
              "node-1");
    EXPECT_THAT(world_->MustKubectl({"describe", "pxc", "cluster"}), HasSubstr("GateTripped"));
    for (const char* node : {"node-1", "node-2"})
      EXPECT_EQ(ActiveMode(node), "ipvs") << node;
  }

  std::string kubeconfig_;
};

// Nothing of Pointsman's is in that node's kernel.
bool IsUntouched(const Node& node) {
  std::string all = node.Exec({"ipset", "list", "-n"}).out;
  for (const char* table : {"nat", "filter", "mangle"})
    all += node.Exec({"iptables-legacy-save", "-t", table}).out;
  return all.find("POINTSMAN") == std::string::npos && all.find("PM-") == std::string::npos;
}

TEST_F(PluginTest, TakesAClusterThroughAMoveAndBack) {
  START_OR_RETURN(Start({"uml", "uml", "uml!ip_vs*"}));

  const World::ServiceSpec web = CreateService();
  // Before anything is applied: the nodes are asked, and nothing else is done.
  EXPECT_THAT(Expect(kNotFound, {"status"}), HasSubstr("there is no ProxyConfiguration"));
  EXPECT_THAT(Expect(kNotFinished, {"preflight", "--mode", "ipvs"}), HasSubstr("--ask"));
  EXPECT_THAT(
      Expect(kObjections, {"preflight", "--mode", "ipvs", "--ask"}),
      AllOf(HasSubstr("2 of 3 nodes could run ipvs\n"), HasSubstr("can      node-1, node-2"),
            HasSubstr("cannot   node-3"), HasSubstr("has no ip_vs")));
  EXPECT_THAT(world_->MustKubectl({"get", "pxc,npx"}), HasSubstr("No resources found"));
  for (const Node& node : world_->cluster().nodes())
    EXPECT_TRUE(IsUntouched(node)) << node.name();

  world_->Apply(Configuration("iptables", "canary: {nodes: 0}, maxUnavailable: 3"));
  EXPECT_THAT(Expect(kOk, {"status", "--watch", "--timeout=3m"}), HasSubstr("cluster Complete"));
  const std::string status = Expect(kOk, {"status"});
  EXPECT_THAT(status, AllOf(HasSubstr("ProxyConfiguration cluster: mode iptables, revision"),
                            HasSubstr("[####################]  3/3"), Not(HasSubstr("\x1b"))));

  // Each agent has said of every mode what it would do.
  EXPECT_THAT(Expect(kObjections, {"preflight", "--mode=ipvs"}), HasSubstr("cannot   node-3"));
  EXPECT_THAT(Expect(kOk, {"preflight", "--mode=ipvs", "--nodes=node-1,node-2"}),
              HasSubstr("2 of 2 nodes"));
  const kube::Json report =
      kube::Json::parse(Expect(kObjections, {"preflight", "--mode=ipvs", "-o", "json"}));
  EXPECT_EQ(report["can"], 2);
  EXPECT_EQ(report["nodes"][2]["verdict"], "cannot");

  const std::string move = Configuration("ipvs", "canary: {nodes: 1, soak: 1h}, maxUnavailable: 2");
  EXPECT_THAT(Expect(kDifferences, {"diff", "-f", "-"}, move),
              AllOf(HasSubstr("spec.mode"), HasSubstr("3 nodes: iptables -> ipvs"),
                    HasSubstr("1 node cannot run ipvs")));
  EXPECT_THAT(Expect(kError, {"diff", "-f", "-"},
                     Configuration("ipvs", "canary: {nodes: 1}, maxUnavailible: 2")),
              HasSubstr("spec.rollout.maxUnavailible: unknown field"));

  // The canary moves and soaks; the pause comes meanwhile.
  world_->Apply(move);
  EXPECT_THAT(Expect(kOk, {"diff", "-f", "-"}, move), HasSubstr("no change"));
  world_->AwaitMode("node-1", "ipvs", 60s);
  const std::string canary = Expect(kNotFinished, {"status"});
  EXPECT_THAT(canary, AllOf(HasSubstr("Canary"), HasSubstr("1/1   then 1h0m0s of soak"),
                            HasSubstr("0/2   2 at a time")));
  EXPECT_THAT(Expect(kOk, {"pause"}), HasSubstr("is paused"));
  EXPECT_THAT(Expect(kOk, {"pause"}), HasSubstr("paused already"));
  const kube::Json paused = world_->ProxyConfiguration("cluster");
  EXPECT_EQ(paused["spec"]["rollout"]["paused"], true);
  EXPECT_EQ(paused["spec"]["rollout"]["canary"]["soak"], "1h") << "nothing else was written";
  bool managed = false;
  for (const kube::Json& manager : paused["metadata"]["managedFields"])
    managed = managed || manager["manager"] == "kubectl-pointsman";
  EXPECT_TRUE(managed) << paused["metadata"]["managedFields"].dump(1);
  // Without a soak the others would follow now.
  world_->MustKubectl({"patch", "pxc/cluster", "--type=merge", "-p",
                       R"({"spec": {"rollout": {"canary": {"soak": "0s"}}}})"});
  AwaitPhase("Paused");
  EXPECT_THAT(Expect(kNotFinished, {"status"}), HasSubstr("spec.rollout.paused is set"));
  EXPECT_EQ(ActiveMode("node-2"), "iptables");
  EXPECT_THAT(Expect(kNotFinished, {"explain", "node-2"}), HasSubstr("kubectl pointsman resume"));

  EXPECT_THAT(Expect(kOk, {"resume"}), HasSubstr("goes on"));
  Expect(kOk, {"status", "--watch", "--timeout=3m"});
  EXPECT_EQ(ActiveMode("node-2"), "ipvs");
  EXPECT_EQ(ActiveMode("node-3"), "iptables");
  EXPECT_THAT(Expect(kOk, {"status", "-o", "wide"}),
              AllOf(HasSubstr("NODE"), HasSubstr("node-3   ipvs      iptables")));
  EXPECT_THAT(Expect(kObjections, {"explain", "node-3"}),
              AllOf(HasSubstr("should run ipvs"), HasSubstr("Degraded (Fallback)"),
                    HasSubstr("has no ip_vs"), HasSubstr("What to do:"), HasSubstr("Events")));
  EXPECT_THAT(Expect(kOk, {"explain", "node-1"}), HasSubstr("and runs ipvs."));

  // The same from the kernels. ipvs mode leaves no names there.
  EXPECT_THAT(List("node-1"), AllOf(HasSubstr("ipvs mode\n"), HasWeb("-", web), HasSubstr("  rr\n"),
                                    HasSubstr("weight 1  active 0")));
  EXPECT_THAT(List("node-3"), AllOf(HasSubstr("iptables mode\n"), HasWeb("default/web:tcp", web)));
  const ExecResult unprivileged = world_->cluster().node("node-1").Exec(
      {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
       Program("pointsman-node-agent"), "--list"});
  EXPECT_FALSE(unprivileged.ok());
  // And from here: ipvs mode's have their names from the API.
  PutKubectlIntoPath();
  CreateAgentPod("node-1");
  CreateAgentPod("node-3");
  EXPECT_THAT(Expect(kOk, {"services"}), testing::ContainsRegex("node-1 +ipvs +[1-9]"));
  EXPECT_THAT(Expect(kNotFound, {"services", "node-2"}), HasSubstr("no Pod of the node agent"));
  EXPECT_THAT(
      Expect(kOk, {"services", "node-1"}),
      AllOf(HasSubstr("ipvs mode\n"), HasWeb("default/web:tcp", web), HasSubstr("weight 1")));
  EXPECT_THAT(Expect(kOk, {"services", "node-1", "web"}),
              AllOf(HasWeb("default/web:tcp", web), Not(HasSubstr("10.96.0.1:443"))));
  EXPECT_THAT(
      Expect(kOk, {"services", "node-3", "default/web:udp"}),
      AllOf(HasSubstr("iptables mode\n"), HasSubstr("UDP   10.96.1.1:80"), Not(HasSubstr("TCP "))));
  const kube::Json listed =
      kube::Json::parse(Expect(kOk, {"services", "node-1", "default/web:tcp", "-o", "json"}));
  ASSERT_EQ(listed["services"].size(), 2U) << "cluster IP and node port";
  EXPECT_EQ(listed["services"][0]["mode"], "ipvs");
  EXPECT_EQ(listed["services"][0]["service"], "default/web:tcp") << "from the API";
  EXPECT_EQ(listed["services"][0]["address"], web.cluster_ip);
  EXPECT_EQ(listed["services"][0]["endpoints"][0]["address"], web.endpoints[0]);
  EXPECT_EQ(listed["services"][0]["endpoints"][0]["weight"], 1);
  EXPECT_EQ(listed["services"][1]["address"], nullptr) << "a node port";
  const kube::Json untouched = kube::Json::parse(Expect(kOk, {"services", "node-3", "-o", "json"}));
  EXPECT_EQ(untouched["services"][0]["mode"], "iptables");
  EXPECT_FALSE(untouched["services"][0]["service"].is_null()) << "from the kernel";
  EXPECT_THAT(Expect(kNotFound, {"services", "node-1", "nothing"}),
              HasSubstr("has nothing of \"nothing\""));
  EXPECT_THAT(unprivileged.out + unprivileged.error, HasSubstr("CAP_NET_ADMIN"));

  // And back.
  EXPECT_THAT(Expect(kOk, {"history"}), HasSubstr("mode: iptables -> ipvs"));
  EXPECT_THAT(Expect(kNotFound, {"rollback", "--to", "77"}), HasSubstr("has no revision 77"));
  EXPECT_THAT(Expect(kOk, {"rollback"}), HasSubstr("(mode iptables)"));
  Expect(kOk, {"status", "--watch", "--timeout=3m"});
  for (const char* node : {"node-1", "node-2", "node-3"})
    EXPECT_EQ(ActiveMode(node), "iptables") << node;
  const kube::Json history = kube::Json::parse(Expect(kOk, {"history", "-o", "json"}));
  EXPECT_EQ(history["revisions"][0]["nodes"], 3);
  EXPECT_THAT(Expect(kOk, {"rollback", "--undo"}), HasSubstr("its own settings count again"));
  EXPECT_FALSE(world_->ProxyConfiguration("cluster")["spec"]["rollout"].contains("rollbackTo"));
  Expect(kOk, {"status", "--watch", "--timeout=3m"});
  ExpectAGateStopsTheRollout();
}

// The whole way with one command, by a person who says no at first.
TEST_F(PluginTest, MigratesStepByStep) {
  START_OR_RETURN(Start({"netns"}));
  const World::ServiceSpec web = CreateService();
  EXPECT_THAT(Expect(kOk, {"migrate", "--to", "iptables", "--yes", "--timeout=3m"}),
              AllOf(HasSubstr("1 of 1 node could run iptables"), HasSubstr("is new: all nodes"),
                    HasSubstr("cluster Complete"), HasSubstr("Done.")));
  EXPECT_EQ(ActiveMode("node-1"), "iptables");
  EXPECT_THAT(world_->MustKubectl({"get", "pxc"}), Not(HasSubstr("pointsman-preflight")));

  EXPECT_THAT(
      Expect(kAborted, {"migrate", "--to", "nftables"}, "n\n"),
      AllOf(HasSubstr("spec.mode: iptables -> nftables"), HasSubstr("nothing was changed")));
  EXPECT_THAT(Expect(kAborted, {"migrate", "--to", "nftables"}), HasSubstr("nothing was changed"));
  EXPECT_EQ(world_->ProxyConfiguration("cluster")["spec"]["mode"], "iptables");
  // Written, and the watching ended: the same command goes on.
  EXPECT_THAT(Expect(kNotFinished, {"migrate", "--to", "nftables", "--timeout=1ms"}, "y\n"),
              HasSubstr("The same command again goes on"));
  EXPECT_EQ(world_->ProxyConfiguration("cluster")["spec"]["mode"], "nftables");
  EXPECT_THAT(Expect(kOk, {"migrate", "--to", "nftables", "--timeout=3m"}),
              AllOf(HasSubstr("says nftables already"), HasSubstr("Done.")));
  EXPECT_EQ(ActiveMode("node-1"), "nftables");

  // Without an API server: what the kernel has.
  EXPECT_THAT(List("node-1"), AllOf(HasSubstr("nftables mode\n"), HasWeb("default/web:tcp", web)));
  world_->MustKubectl(
      {"patch", "pxc/cluster", "--type=merge", "-p", R"({"spec": {"mode": "userspace"}})"});
  world_->AwaitMode("node-1", "userspace", 60s);
  EXPECT_THAT(List("node-1"), AllOf(HasSubstr("userspace mode\n"), HasWeb("default/web:tcp", web)));

  // A shell's completion, and kubectl's own.
  const auto run = [&](const std::vector<std::string>& argv) {
    SpawnOptions spawn;
    spawn.argv = {"/usr/bin/env"};  // which looks in that PATH
    spawn.argv.insert(spawn.argv.end(), argv.begin(), argv.end());
    spawn.env["PATH"] = Path() + ":" + dir_.string();
    spawn.env["KUBECONFIG"] = kubeconfig_;
    spawn.env["TERM"] = "xterm";
    return e2e::Run(spawn).out;
  };
  // On a terminal, which script(1) makes: colors, and the terminal is left as it was.
  const std::string live = run({"script", "-qec", "kubectl-pointsman status", "/dev/null"});
  EXPECT_THAT(live, AllOf(HasSubstr("\x1b[?7l"), HasSubstr("\x1b[32mComplete\x1b[0m"),
                          testing::EndsWith("\x1b[?7h")));
  EXPECT_EQ(run({"bash", "-c",
                 "source <(kubectl-pointsman completion bash)\n"
                 "COMP_WORDS=(kubectl-pointsman explain no) COMP_CWORD=2\n"
                 "_kubectl_pointsman; echo \"${COMPREPLY[@]}\""}),
            "node-1\n");
  const std::filesystem::path shim = dir_ / "kubectl_complete-pointsman";
  std::ofstream(shim) << run({"kubectl-pointsman", "completion", "kubectl"});
  std::filesystem::permissions(shim, std::filesystem::perms::owner_all);
  EXPECT_THAT(run({Kubectl(), "__complete", "pointsman", "preflight", "--mode", "ip"}),
              HasSubstr("iptables\nipvs\n:4"));
}

TEST_F(PluginTest, SaysWhatIsWrongAndWhatToDo) {
  START_OR_RETURN(Start({"uml", "uml"}));
  world_->Apply(Configuration("iptables", "canary: {nodes: 0}, maxUnavailable: 2"));
  world_->AwaitRollout("cluster", 60s);

  EXPECT_THAT(Expect(kNotFound, {"explain", "node-9"}), HasSubstr("no node of this name"));
  EXPECT_THAT(Expect(kNotFound, {"preflight", "--mode=ipvs", "--nodes=node-9"}),
              HasSubstr("no node \"node-9\""));
  EXPECT_THAT(Expect(kNotFound, {"status", "--name=other"}), HasSubstr("there are: cluster"));
  EXPECT_THAT(Expect(kError, {"preflight", "--mode=ebpf"}), HasSubstr("is not one of iptables"));
  EXPECT_THAT(Expect(kError, {"status", "--context=nowhere"}), HasSubstr("nowhere"));

  // Nobody's rights.
  const std::filesystem::path minted = dir_ / "nobody-in-cluster.kubeconfig";
  world_->MintKubeconfig("nobody", {}, minted);
  const std::string nobody = WriteKubeconfig("nobody.kubeconfig", minted, Server());
  EXPECT_THAT(Expect(kForbidden, {"status", "--kubeconfig", nobody}),
              AllOf(HasSubstr("nobody"), HasSubstr("docs/kubectl-pointsman.md")));
  // Who may see Pods and not run anything in them: asked for by the real kubectl.
  CreateAgentPod("node-1");
  world_->Apply(R"(
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: see-pods, namespace: pointsman-system}
rules: [{apiGroups: [""], resources: [pods], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: see-pods, namespace: pointsman-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: see-pods}
subjects: [{kind: User, name: nobody, apiGroup: rbac.authorization.k8s.io}]
)");
  EXPECT_THAT(Expect(kForbidden, {"services", "node-1", "--kubeconfig", nobody}),
              AllOf(HasSubstr("pods/exec"), HasSubstr("pointsman-node-agent --list")));
  EXPECT_THAT(Expect(kError, {"services", "node-1"}), HasSubstr("Does the Pod run"));
  // Nobody there.
  const std::string closed =
      WriteKubeconfig("closed.kubeconfig", world_->cluster().Kubeconfig(), "https://127.0.0.1:1");
  EXPECT_THAT(Expect(kUnreachable, {"status", "--kubeconfig", closed}),
              HasSubstr("cannot be reached"));

  // A node whose agent has died stops the rollout.
  world_->KillAgent("node-2", SIGKILL);
  world_->Apply(Configuration(
      "ipvs", "canary: {nodes: 0}, maxUnavailable: 2, progressDeadline: 20s, onFailure: Pause"));
  EXPECT_THAT(Expect(kFailed, {"status", "--watch", "--timeout=3m"}), HasSubstr("Degraded"));
  EXPECT_THAT(Expect(kFailed, {"status"}), AllOf(HasSubstr("AgentsMissing"), HasSubstr("node-2")));
  EXPECT_THAT(Expect(kNotFinished, {"explain", "node-2"}),
              AllOf(HasSubstr("has not seen the present order"), HasSubstr("does its Pod run")));

  // What broke into a node can write that node's status, and people read it on terminals.
  const std::string hostile =
      "\x1b[2J\x1b]0;owned\x07 red \xc2\x9b"
      "31m\r\xe2\x80\xae";
  kube::Json conditions = kube::Json::array();
  for (const auto& [type, value] : {std::pair("Ready", "False"), std::pair("Degraded", "True")}) {
    conditions.push_back({{"type", type},
                          {"status", value},
                          {"reason", "SyncFailed"},
                          {"message", hostile},
                          {"lastTransitionTime", "2026-01-01T00:00:00Z"}});
  }
  world_->api().Patch(
      kube::resources::kNodeProxies, "", "node-2", kube::PatchType::kMerge,
      {{"status",
        {{"conditions", conditions},
         {"activeMode", hostile.substr(0, 20)},
         {"drainingMode", hostile.substr(0, 20)},
         {"kernel", {{"release", hostile}}},
         {"agentVersion", hostile},
         {"neighbours",
          {{{"name", "x"},
            {"kind", hostile},
            {"modes", {{"ipvs", "Refused"}}},
            {"message", hostile}}}},
         {"preflights", {{{"mode", "ipvs"}, {"passed", false}, {"message", hostile}}}}}}},
      "status");
  const std::array<std::vector<std::string>, 6> commands = {
      {{"status", "--nodes"},
       {"status", "-o", "yaml"},
       {"explain", "node-2"},
       {"explain", "node-2", "-o", "json"},
       {"preflight", "--mode=ipvs"},
       {"preflight", "--mode=ipvs", "-o", "wide"}}};
  for (const std::vector<std::string>& command : commands) {
    const std::string out = Plugin(command).out;
    EXPECT_THAT(out, HasSubstr("owned")) << testing::PrintToString(command);
    for (const char* bad : {"\x1b", "\x07", "\xc2\x9b", "\r", "\xe2\x80\xae"})
      EXPECT_EQ(out.find(bad), std::string::npos) << testing::PrintToString(command) << out;
  }
}

}  // namespace
}  // namespace pointsman::e2e
