// The manifests as they are, on a cluster without kube-proxy: real kubectl installs them, Pods with
// just the rights they ask for move the cluster's traffic, and everything goes again without a
// trace.
#include <fstream>
#include <iterator>
#include <set>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "e2e/scenarios/scenario_fixture.h"
#include "e2e/scenarios/workload.h"

namespace pointsman::e2e {
namespace {

using std::chrono_literals::operator""s;

constexpr char kNamespace[] = "pointsman-system";

std::string Configuration(const std::string& mode, int max_unavailable = 1,
                          const std::string& node = "") {
  return ClusterConfiguration(mode, "3s", max_unavailable, node);
}

class InstallTest : public ScenarioTest {
 protected:
  void TearDown() override {
    if (world_ != nullptr && HasFailure()) SaveLogs();
    ScenarioTest::TearDown();
  }

  void Start(const std::vector<std::string>& nodes) {
    WorldOptions options;
    options.kubelets = true;
    StartWorld(nodes, std::move(options));
  }

  // Servers by a Deployment, their EndpointSlices by the controller.
  void StartWorkload() {
    world_->Apply(WorkloadYaml({8080}) + WebServiceYaml());
    world_->MustKubectl({"rollout", "status", "--timeout=60s", "deployment/web"}, "", 70s);
    world_->MustKubectl({"wait", "--for=condition=Ready", "--timeout=30s", "pod/client"});
  }

  // The agent's Pod on that node; the only one.
  kube::Json AgentPod(const std::string& node) {
    kube::Json found;
    for (kube::Json& pod : Pods(kNamespace, "pointsman-node-agent")) {
      if (pod.at("spec").at("nodeName") == node) found = std::move(pod);
    }
    return found;
  }
  // "node-agent 1, forwarder 0": how often its containers were restarted.
  std::string Restarts(const std::string& node) {
    std::string text;
    for (const kube::Json& container :
         AgentPod(node).value("/status/containerStatuses"_json_pointer, kube::Json::array())) {
      text +=
          fmt::format("{}{} {}", text.empty() ? "" : ", ", container.at("name").get<std::string>(),
                      container.at("restartCount").get<int>());
    }
    return text;
  }

  // The containers' logs are in their node's memory.
  void SaveLogs() {
    for (const Node& node : world_->cluster().nodes()) {
      const ExecResult logs = node.Exec({"sh", "-c", "tail -n 60 /var/log/*.log"});
      std::printf("---- %s\n%s%s\n", node.name().c_str(), logs.out.c_str(), logs.error.c_str());
    }
  }

  std::vector<kube::Json> Pods(const std::string& ns, const std::string& name_prefix) {
    std::vector<kube::Json> pods;
    for (kube::Json& pod : world_->api().List(kube::resources::kPods, ns)) {
      if (pod.at("metadata").at("name").get<std::string>().starts_with(name_prefix))
        pods.push_back(std::move(pod));
    }
    return pods;
  }

  // Process ids of that program on the node, the oldest first.
  static std::vector<int> Processes(const Node& node, const std::string& program) {
    std::istringstream words(node.Exec({"pidof", program}).out);
    std::vector<int> pids{std::istream_iterator<int>(words), {}};
    std::sort(pids.begin(), pids.end());
    return pids;
  }

  // "Name:\tvalue" of /proc/PID/status.
  static std::string StatusOf(const Node& node, int pid, const std::string& field) {
    std::istringstream lines(node.Check({"cat", fmt::format("/proc/{}/status", pid)}));
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with(field + ":\t")) return line.substr(field.size() + 2);
    }
    return "no " + field;
  }
  // The same of the only process of that program on the node.
  static std::string ProcessStatus(const Node& node, const std::string& program,
                                   const std::string& field) {
    const auto pids = Processes(node, program);
    return pids.size() == 1 ? StatusOf(node, pids[0], field)
                            : fmt::format("{} processes of {}", pids.size(), program);
  }

  // Everything of Pointsman's in that node's kernel; "" when there is nothing
  // (docs/kernel-names.md).
  static std::string Leftovers(const Node& node) {
    std::string found;
    for (const char* table : {"nat", "filter", "mangle"}) {
      const std::string rules = node.Check({"iptables-legacy-save", "-t", table});
      if (rules.find("POINTSMAN") != std::string::npos ||
          rules.find("pointsman") != std::string::npos)
        found += rules;
    }
    const std::string servers = node.Check({"ipvsadm", "-Sn"});
    const std::string sets = node.Check({"ipset", "list", "-n"});
    if (sets.find("PM-") != std::string::npos) found += sets;
    if (node.Exec({"ip", "link", "show", "kube-ipvs-pm"}).ok()) found += "kube-ipvs-pm\n";
    return found + servers;
  }
};

TEST_F(InstallTest, KubectlInstallsMovesTheTrafficAndTakesEverythingOut) {
  START_OR_RETURN(Start({"uml", "uml", "uml"}));
  world_->Install();

  // A node has at most one operator, and each node an agent: by the scheduler's and the DaemonSet
  // controller's doing.
  const auto operators = Pods(kNamespace, "pointsman-operator");
  ASSERT_EQ(operators.size(), 2U);
  EXPECT_NE(operators[0].at("spec").at("nodeName"), operators[1].at("spec").at("nodeName"));
  EXPECT_EQ(operators[0].at("spec").at("priorityClassName"), "system-cluster-critical");
  const auto installed = Pods(kNamespace, "pointsman-node-agent");
  ASSERT_EQ(installed.size(), 3U);
  EXPECT_EQ(installed[0].at("spec").at("priorityClassName"), "system-node-critical");

  // What the kernel says the processes may do. Agent: NET_ADMIN (bit 12), NET_RAW (13), SYS_MODULE
  // (16); operator: nothing, as a user.
  const Node& first = world_->cluster().node("node-1");
  for (const char* set : {"CapPrm", "CapEff", "CapBnd"})
    EXPECT_EQ(ProcessStatus(first, "pointsman-node-agent", set), "0000000000013000") << set;
  for (const char* set : {"CapInh", "CapAmb"})
    EXPECT_EQ(ProcessStatus(first, "pointsman-node-agent", set), "0000000000000000") << set;
  const Node& with_operator =
      world_->cluster().node(operators[0].at("spec").at("nodeName").get<std::string>());
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"})
    EXPECT_EQ(ProcessStatus(with_operator, "pointsman-operator", set), "0000000000000000") << set;
  EXPECT_EQ(ProcessStatus(with_operator, "pointsman-operator", "Uid"),
            "65532\t65532\t65532\t65532");
  for (const auto& [node, program] : {std::pair(&first, "pointsman-node-agent"),
                                      std::pair(&with_operator, "pointsman-operator")}) {
    EXPECT_EQ(ProcessStatus(*node, program, "NoNewPrivs"), "1") << program;
    EXPECT_EQ(ProcessStatus(*node, program, "Seccomp"), "2") << program;
  }

  StartWorkload();
  world_->Apply(Configuration("iptables"));
  world_->AwaitRollout("cluster", 60s);

  const std::vector<std::string> service = {"10.96.1.1:80"};
  const std::vector<std::string> node_port = {world_->cluster().node("node-2").address() +
                                              ":30080"};
  const World::Load pod = world_->StartLoad(first, "default_client", service, 60, "both", 0);
  const World::Load outside =
      world_->StartLoad(world_->cluster().outside(), "", node_port, 30, "both", 0);
  const World::Load streams = world_->StartLoad(first, "default_client", service, 0, "both", 20);
  for (const auto& load : {pod, outside, streams})
    world_->AwaitLoadRunning(load);
  world_->Apply(Configuration("ipvs"));
  world_->AwaitRollout("cluster", 90s);
  for (const Node& node : world_->cluster().nodes()) {
    world_->AwaitMode(node.name(), "ipvs", 30s);
    EXPECT_NE(node.Check({"ipvsadm", "-Ln"}).find("10.96.1.1:80"), std::string::npos);
  }
  // Its server ends with a Pod, so the streams are counted before one is deleted.
  const LoadReport stream_report = world_->StopLoad(streams);
  EXPECT_EQ(stream_report.Streams(), 20) << stream_report.json.dump(1);
  EXPECT_EQ(stream_report.BrokenStreams(), 0) << stream_report.json.dump(1);

  // A backend goes while new connections come in.
  const auto servers = Pods("default", "web-");
  ASSERT_EQ(servers.size(), 6U);
  world_->MustKubectl(
      {"delete", "pod", servers[0].at("metadata").at("name").get<std::string>(), "--wait"});
  world_->MustKubectl({"rollout", "status", "--timeout=60s", "deployment/web"}, "", 70s);
  EXPECT_EQ(Pods("default", "web-").size(), 6U);
  ExpectClean(world_->StopLoad(pod), "pod on node-1 to the Service");
  ExpectClean(world_->StopLoad(outside), "outside client to the node port");

  // An agent whose account was made anew, so that its old token is worth nothing: it reads the new
  // one from the volume, and the change of mode that follows arrives.
  world_->MustKubectl({"-n", kNamespace, "delete", "serviceaccount", "pointsman-node-agent"});
  world_->MustKubectl({"-n", kNamespace, "create", "serviceaccount", "pointsman-node-agent"});
  world_->kubelet().RenewTokens();
  const auto agents = Pods(kNamespace, "pointsman-node-agent");
  world_->Apply(Configuration("iptables"));
  world_->AwaitRollout("cluster", 90s);
  for (const Node& node : world_->cluster().nodes())
    world_->AwaitMode(node.name(), "iptables", 30s);
  for (const kube::Json& agent : agents) {
    const kube::Json now = world_->api().Get(kube::resources::kPods, kNamespace,
                                             agent.at("metadata").at("name").get<std::string>());
    EXPECT_EQ(now.at("status").at("containerStatuses").at(0).at("restartCount"), 0)
        << "nothing had to be restarted";
  }

  world_->MustKubectl({"delete", "pxc", "--all", "--timeout=60s"}, "", 70s);
  for (const Node& node : world_->cluster().nodes()) {
    world_->Await(
        "Pointsman's rules are gone from the kernel of " + node.name(),
        [&] { return Leftovers(node).empty(); }, 20s, [&] { return Leftovers(node); });
  }
  // The namespace, which is first in the list, takes with it what is still to be deleted.
  world_->MustKubectl({"delete", "-k", std::string(POINTSMAN_SOURCE_DIR) + "/manifests/base",
                       "--ignore-not-found", "--timeout=60s"},
                      "", 70s);
  for (const Node& node : world_->cluster().nodes()) {
    EXPECT_FALSE(node.Exec({"pidof", "pointsman-node-agent", "pointsman-operator"}).ok())
        << node.name();
    EXPECT_EQ(Leftovers(node), "") << node.name();
  }
  EXPECT_TRUE(world_->api().List(kube::resources::kPods, kNamespace).empty());
  EXPECT_NE(world_->cluster().Kubectl({"get", "pxc"}).exit, 0) << "the kind is gone too";
}

// What carries userspace mode's connections is a process, in a container of its own: the agent's
// may be restarted, and when the Pod goes the kernel takes over (docs/userspace.md).
TEST_F(InstallTest, UserspaceModeInPodsLivesThroughRestartsOfTheAgent) {
  START_OR_RETURN(Start({"uml", "netns"}));
  world_->Install();
  StartWorkload();
  world_->Apply(Configuration("userspace", 2));
  world_->AwaitRollout("cluster", 60s);
  const Node& first = world_->cluster().node("node-1");
  for (const Node& node : world_->cluster().nodes()) {
    world_->AwaitMode(node.name(), "userspace", 30s);
    // The launcher and the forwarder. NET_ADMIN (bit 12) and nothing else.
    const auto pids = Processes(node, "pointsman-forwarder");
    ASSERT_EQ(pids.size(), 2U) << node.name();
    for (const int pid : pids) {
      for (const char* set : {"CapPrm", "CapEff", "CapBnd"})
        EXPECT_EQ(StatusOf(node, pid, set), "0000000000001000") << set;
      EXPECT_EQ(StatusOf(node, pid, "NoNewPrivs"), "1");
      EXPECT_EQ(StatusOf(node, pid, "Seccomp"), "2");
    }
  }
  const auto start = [&](int rate, int streams) {
    World::Load load =
        world_->StartLoad(first, "default_client", {"10.96.1.1:80"}, rate, "both", streams);
    world_->AwaitLoadRunning(load);
    return load;
  };
  const auto kill = [&](int pid) { first.Check({"kill", "-9", std::to_string(pid)}); };
  const auto await_restarts = [&](const std::string& restarts) {
    world_->Await(
        "restarts: " + restarts, [&] { return Restarts("node-1") == restarts; }, 30s,
        [&] { return AgentPod("node-1").dump(1); });
    world_->MustKubectl({"-n", kNamespace, "wait", "--for=condition=Ready", "--timeout=30s",
                         "pod/" + AgentPod("node-1").at("metadata").at("name").get<std::string>()});
  };

  // The agent is killed; its container is made again, and the forwarder goes on.
  const auto forwarders = Processes(first, "pointsman-forwarder");
  World::Load load = start(40, 10);
  kill(Processes(first, "pointsman-node-agent").at(0));
  await_restarts("node-agent 1, forwarder 0");
  world_->AwaitMode("node-1", "userspace", 30s);
  EXPECT_EQ(Processes(first, "pointsman-forwarder"), forwarders);
  // A change of endpoints gets to the forwarder that was adopted.
  world_->MustKubectl({"scale", "deployment/web", "--replicas=7"});
  world_->MustKubectl({"rollout", "status", "--timeout=60s", "deployment/web"}, "", 70s);
  LoadReport report = world_->StopLoad(load);
  EXPECT_EQ(report.Streams(), 10);
  ExpectClean(report, "the agent killed");

  // The forwarder's container is killed: its connections end, and new ones are served when it is
  // back, by the same agent.
  load = start(0, 5);
  kill(forwarders.at(0));
  await_restarts("node-agent 1, forwarder 1");
  EXPECT_EQ(world_->StopLoad(load).BrokenStreams(), 5);
  world_->Await(
      "another forwarder serves",
      [&] {
        return first
            .Exec({world_->cluster().Program("pointsman-traffic"), "connect", "10.96.1.1:80",
                   "--timeout", "1s"},
                  {.netns = "default_client"})
            .ok();
      },
      20s);

  // An update of the agents: new connections never fail, and those that there are have 20 s.
  load = start(40, 0);
  const World::Load streams = start(0, 10);
  const std::string before = AgentPod("node-1").at("metadata").at("uid");
  world_->MustKubectl({"-n", kNamespace, "rollout", "restart", "daemonset/pointsman-node-agent"});
  world_->Await(
      "the agent that ends has left new connections to iptables mode",
      [&] {
        const kube::Json proxy = world_->NodeProxy("node-1");
        const kube::Json status = proxy.value("status", kube::Json::object());
        return status.value("activeMode", "") == "iptables" &&
               status.value("drainingMode", "") == "userspace";
      },
      60s, [&] { return world_->NodeProxy("node-1").dump(1); });
  EXPECT_EQ(AgentPod("node-1").at("metadata").at("uid"), before) << "it waits for the streams";
  report = world_->StopLoad(streams);
  EXPECT_EQ(report.Streams(), 10);
  EXPECT_EQ(report.BrokenStreams(), 0) << report.json.dump(1);
  world_->MustKubectl(
      {"-n", kNamespace, "rollout", "status", "--timeout=60s", "daemonset/pointsman-node-agent"},
      "", 70s);
  EXPECT_NE(AgentPod("node-1").at("metadata").at("uid"), before);
  for (const Node& node : world_->cluster().nodes())
    world_->AwaitMode(node.name(), "userspace", 30s);
  ExpectClean(world_->StopLoad(load), "the agents updated");

  // A namespace node has nf_tables: the same Pod moves it there.
  const Node& second = world_->cluster().node("node-2");
  const World::Load from_node = world_->StartLoad(second, "", {"10.96.1.1:80"}, 40, "both", 5);
  world_->AwaitLoadRunning(from_node);
  world_->Apply(Configuration("nftables", 1, "node-2"));
  world_->AwaitRollout("only-node-2", 60s);
  EXPECT_NE(second.Check({"nft", "list", "map", "ip", "pointsman", "services"}).find("10.96.1.1"),
            std::string::npos);
  report = world_->StopLoad(from_node);
  ExpectClean(report, "node-2 to nftables");
  world_->AwaitMode("node-2", "nftables", 30s);
  EXPECT_EQ(Processes(second, "pointsman-forwarder").size(), 1U) << "only the launcher waits";
  world_->AwaitMode("node-1", "userspace", 30s);
}

// Of kube-proxy only its Pods are looked at here.
constexpr const char* kKubeProxy = R"(
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: kube-proxy, namespace: kube-system}
spec:
  selector: {matchLabels: {k8s-app: kube-proxy}}
  template:
    metadata: {labels: {k8s-app: kube-proxy}}
    spec:
      hostNetwork: true
      terminationGracePeriodSeconds: 1
      tolerations: [{operator: Exists}]
      containers: [{name: kube-proxy, image: kube-proxy, command: [/bin/sleep, infinity]}]
)";

// What of the rights in manifests/ the programs have asked for in a whole life: all of them, and
// nothing else.
TEST_F(InstallTest, TheRightsAreThoseThatAreUsed) {
  WorldOptions options;
  options.kubelets = true;
  const std::filesystem::path log =
      std::filesystem::temp_directory_path() / fmt::format("pointsman-{}-access.log", getpid());
  options.control_plane_args = {"--access-log", log.string()};
  START_OR_RETURN(StartWorld({"uml", "netns"}, std::move(options)));
  world_->Install();
  const auto configure = [&](const std::string& mode) {
    world_->Apply(Configuration(mode, 2));
    world_->AwaitRollout("cluster", 60s);
  };
  // The operator's Events come again, and an old revision is deleted.
  configure("userspace");
  configure("iptables");
  configure("userspace");
  configure("iptables");
  world_->MustKubectl({"patch", "pxc", "cluster", "--type=merge", "-p",
                       R"({"spec":{"rollout":{"revisionHistoryLimit":0}}})"});
  configure("userspace");
  // A Service that ipvs mode cannot serve as it is written, and again.
  world_->Apply(Configuration("ipvs", 1, "node-1"));
  world_->AwaitRollout("only-node-1", 60s);
  const auto schedule = [&](const std::string& scheduler) {
    world_->Apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: odd, annotations: "
        "{pointsman.io/ipvs-scheduler: " +
        scheduler + "}}\nspec: {clusterIP: 10.96.1.2, ports: [{port: 80}]}\n");
  };
  const auto told = [&](int times) {
    world_->Await(
        "the agent has told of the Service " + std::to_string(times) + " times",
        [&] {
          const auto events = world_->api().List(kube::resources::kEvents, "default");
          return std::any_of(events.begin(), events.end(), [&](const kube::Json& event) {
            return event.value("reason", "") == "NotServedAsSpecified" &&
                   event.value("count", 0) >= times;
          });
        },
        30s);
  };
  schedule("fastest");
  told(1);
  schedule("rr");
  world_->Await(
      "the Service is served as specified",
      [&] {
        const kube::Json conditions = world_->NodeProxy("node-1").at("status").at("conditions");
        return std::any_of(conditions.begin(), conditions.end(), [](const kube::Json& condition) {
          return condition.at("type") == "ServicesAccepted" && condition.at("status") == "True";
        });
      },
      30s, [&] { return world_->NodeProxy("node-1").dump(1); });
  schedule("fastest");
  told(2);
  // A node leaves kube-proxy's DaemonSet, and comes back into it with the deletion.
  world_->Apply(kKubeProxy);
  world_->MustKubectl({"patch", "pxc", "cluster", "--type=merge", "-p",
                       R"({"spec":{"kubeProxy":{"policy":"TakeOver"}}})"});
  world_->MustKubectl({"wait", "pxc/cluster", "--for=condition=KubeProxyReplaced", "--timeout=90s"},
                      "", 100s);
  world_->MustKubectl({"delete", "pxc", "--all", "--timeout=120s"}, "", 130s);
  world_->MustKubectl(
      {"-n", "kube-system", "rollout", "status", "--timeout=90s", "daemonset/kube-proxy"}, "",
      100s);

  using Right = std::tuple<std::string, std::string, std::string, std::string>;
  for (const char* account : {"pointsman-operator", "pointsman-node-agent"}) {
    std::set<Right> used;  // group, resource, verb, namespace
    std::set<std::string> denied;
    std::ifstream lines(log);
    for (std::string line; std::getline(lines, line);) {
      const kube::Json access = kube::Json::parse(line);
      if (access.at("user") != "system:serviceaccount:pointsman-system:" + std::string(account))
        continue;
      const auto text = [&](const char* field) { return access.at(field).get<std::string>(); };
      used.insert(Right(text("group"), text("resource"), text("verb"), text("namespace")));
      if (!access.at("allowed").get<bool>()) denied.insert(line);
    }
    EXPECT_THAT(denied, testing::IsEmpty()) << account;
    for (const char* kind : {"clusterroles", "roles"}) {
      const kube::Json roles =
          kube::Json::parse(world_->MustKubectl({"get", kind, "-A", "-o", "json"}));
      for (const kube::Json& role : roles.at("items")) {
        const std::string name = role.at("metadata").at("name");
        if (!name.starts_with(account)) continue;
        const std::string ns = role.at("metadata").value("namespace", "");
        for (const kube::Json& rule : role.at("rules")) {
          for (const std::string group : rule.at("apiGroups")) {
            for (const std::string resource : rule.at("resources")) {
              for (const std::string verb : rule.at("verbs")) {
                EXPECT_TRUE(std::any_of(used.begin(), used.end(),
                                        [&](const Right& right) {
                                          return std::get<0>(right) == group &&
                                                 std::get<1>(right) == resource &&
                                                 std::get<2>(right) == verb &&
                                                 (ns.empty() || std::get<3>(right) == ns);
                                        }))
                    << kind << " " << name << ": " << verb << " " << resource << " is not used";
              }
            }
          }
        }
        // What is only ever used in one namespace is not given in all.
        if (!ns.empty()) continue;
        for (const kube::Json& rule : role.at("rules")) {
          for (const std::string resource : rule.at("resources")) {
            for (const auto& [group, of, verb, in] : used)
              EXPECT_TRUE(of != resource || in != kNamespace)
                  << name << ": " << resource << " in " << in;
          }
        }
      }
    }
  }
  std::filesystem::remove(log);
}

// manifests/kubernetes-1.30: what an agent's token is worth in other hands.
TEST_F(InstallTest, AnAgentsTokenIsForItsOwnNodesStatus) {
  START_OR_RETURN(Start({"netns", "netns"}));
  world_->Install("kubernetes-1.30");
  world_->Apply(Configuration("nftables", 2));
  world_->AwaitRollout("cluster", 60s);  // so each agent reports on its own node

  const auto with_token = [&](const std::string& token) {
    const kube::Config admin = kube::LoadKubeconfig(world_->cluster().Kubeconfig());
    kube::Config config;
    config.server = admin.server;
    config.ca_pem = admin.ca_pem;
    config.token = token;
    return kube::Client(kube::MakeTransport(config));
  };
  const auto report = [](kube::Client& client, const std::string& node) -> std::string {
    try {
      client.Patch(kube::resources::kNodeProxies, "", node, kube::PatchType::kMerge,
                   {{"status", {{"agentVersion", "0.0.1"}}}}, "status");
      return "accepted";
    } catch (const kube::ApiError& error) {
      return error.what();
    }
  };
  // What the agent's container reads, from the volume that only it has.
  const std::string uid = AgentPod("node-1").at("metadata").at("uid");
  const std::string volume = "/run/pods/" + uid + "/volumes/api-access";
  const std::string token = world_->cluster().node("node-1").Check({"cat", volume + "/token"});
  kube::Client thief = with_token(token);
  EXPECT_EQ(report(thief, "node-1"), "accepted");
  EXPECT_THAT(report(thief, "node-2"),
              testing::AllOf(testing::HasSubstr("ValidatingAdmissionPolicy 'pointsman-node-agent'"),
                             testing::HasSubstr("its own node's NodeProxy only")));
  EXPECT_THROW(thief.Patch(kube::resources::kNodeProxies, "", "node-1", kube::PatchType::kMerge,
                           {{"spec", {{"mode", "iptables"}}}}),
               kube::ApiError);
  // Made by hand: it names no Pod, and so no node.
  std::string by_hand =
      world_->MustKubectl({"-n", kNamespace, "create", "token", "pointsman-node-agent"});
  by_hand.erase(by_hand.find_last_not_of(" \n") + 1);
  kube::Client unbound = with_token(by_hand);
  EXPECT_THAT(report(unbound, "node-1"), testing::HasSubstr("does not say which node"));
  // A cluster's administrator still may.
  EXPECT_EQ(report(world_->api(), "node-2"), "accepted");

  // The forwarder's container has no token at all.
  const int forwarder = Processes(world_->cluster().node("node-1"), "pointsman-forwarder").at(0);
  EXPECT_FALSE(world_->cluster()
                   .node("node-1")
                   .Exec({"test", "-e",
                          fmt::format("/proc/{}/root/var/run/secrets/kubernetes.io", forwarder)})
                   .ok());
  // The agent's has the node's own modprobe.d, not the image's.
  const int agent = Processes(world_->cluster().node("node-1"), "pointsman-node-agent").at(0);
  world_->cluster().node("node-1").Check(
      {"sh", "-c", "echo 'blacklist sctp' >/run/modprobe.d/no.conf"});
  EXPECT_EQ(world_->cluster().node("node-1").Check(
                {"cat", fmt::format("/proc/{}/root/run/modprobe.d/no.conf", agent)}),
            "blacklist sctp\n");
  // A token is worth nothing once its Pod is gone.
  world_->MustKubectl({"-n", kNamespace, "delete", "pod",
                       AgentPod("node-1").at("metadata").at("name").get<std::string>(), "--wait"},
                      "", 70s);
  // A real API server remembers for ten seconds whom it has let in.
  world_->Await(
      "the token is refused",
      [&] { return report(thief, "node-1").find("Unauthorized") != std::string::npos; }, 60s);
}

// On each node a Pod with one capability less than the manifest gives it.
TEST_F(InstallTest, EachCapabilityOfTheAgentIsNeededAndItsLackIsSaid) {
  START_OR_RETURN(Start({"uml", "uml", "uml", "netns"}));
  world_->Install();
  const kube::Json agent = kube::Json::parse(world_->MustKubectl(
      {"-n", kNamespace, "get", "daemonset", "pointsman-node-agent", "-o", "json"}));
  world_->MustKubectl({"-n", kNamespace, "delete", "daemonset", "pointsman-node-agent", "--wait"});
  const auto capabilities = "/securityContext/capabilities/add"_json_pointer;
  const kube::Json& containers = agent.at("/spec/template/spec/containers"_json_pointer);
  std::vector<std::pair<size_t, std::string>> all;  // container, capability
  for (size_t i = 0; i < containers.size(); ++i) {
    for (const std::string capability : containers[i].at(capabilities))
      all.emplace_back(i, capability);
  }
  ASSERT_EQ(all.size(), world_->cluster().nodes().size());
  for (size_t i = 0; i < all.size(); ++i) {
    const auto& [container, capability] = all[i];
    const std::string name = fmt::format("agent-{}", i);
    kube::Json less = agent;
    less["metadata"] = {{"name", name}, {"namespace", kNamespace}};
    less.erase("status");
    less["spec"]["selector"]["matchLabels"] = {{"app", name}};
    less["spec"]["template"]["metadata"]["labels"] = {{"app", name}};
    less["spec"]["template"]["spec"]["nodeSelector"] = {
        {"kubernetes.io/hostname", fmt::format("node-{}", i + 1)}};
    kube::Json& others = less["spec"]["template"]["spec"]["containers"][container][capabilities];
    others.erase(std::find(others.begin(), others.end(), capability));
    world_->Apply(less.dump());
  }
  for (size_t i = 0; i < all.size(); ++i) {
    world_->MustKubectl({"-n", kNamespace, "rollout", "status", "--timeout=60s",
                         fmt::format("daemonset/agent-{}", i)},
                        "", 70s);
  }
  // The last one's is the forwarder's.
  EXPECT_EQ(all.back().first, 1U);
  world_->Apply(Configuration("userspace", 1, "node-4"));
  world_->Apply(Configuration("ipvs", 3));
  for (size_t i = 0; i < all.size(); ++i) {
    const std::string name = fmt::format("node-{}", i + 1);
    const auto status = [&]() -> kube::Json {
      const kube::Json proxy = world_->NodeProxy(name);
      return proxy.is_object() ? proxy.value("status", kube::Json::object()) : proxy;
    };
    // In its NodeProxy, or, when it cannot even look at the kernel, in its log.
    const auto words = [&] {
      return status().dump(1) + world_->cluster()
                                    .node(name)
                                    .Exec({"sh", "-c", "cat /var/log/*_agent-*_node-agent.log"})
                                    .out;
    };
    world_->Await(
        "the agent without " + all[i].second + " says what it lacks",
        [&] {
          const std::string text = words();
          return text.find("not permitted") != std::string::npos ||
                 text.find("Permission denied") != std::string::npos;
        },
        30s, words);
    EXPECT_EQ(status().value("activeMode", ""), "");
  }
}

// The rights above prove nothing unless containers are really held to them.
TEST_F(InstallTest, AContainerIsHeldToItsSecurityContext) {
  START_OR_RETURN(Start({"uml", "netns"}));
  for (const Node& node : world_->cluster().nodes()) {
    world_->Apply(R"(
apiVersion: v1
kind: Pod
metadata: {name: look-)" +
                  node.name() + R"(}
spec:
  nodeName: )" + node.name() +
                  R"(
  securityContext: {runAsUser: 1000, runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: look
      image: none
      command:
        - sh
        - -c
        - >-
          id -u; grep -E "CapEff|NoNewPrivs" /proc/self/status;
          touch /x; touch /usr/x; echo 1 >/proc/sys/net/ipv4/ip_forward; unshare -m true;
          ls -d /run/netns; echo data >/data/f && cat /data/f;
          test -r /run/secrets/kubernetes.io/serviceaccount/token && echo token; echo end;
          sleep infinity
      volumeMounts: [{name: data, mountPath: /data}]
      securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false}
  volumes: [{name: data, emptyDir: {}}]
)");
    std::string log;
    world_->Await(
        "the container on " + node.name() + " has looked around",
        [&] {
          log = node.Exec({"sh", "-c", "cat /var/log/default_look-*_look.log"}).out;
          return log.find("\nend\n") != std::string::npos;
        },
        20s,
        [&] {
          return log + world_->MustKubectl({"get", "pods", "-o", "yaml"});
        });
    for (const char* said : {"1000\n", "CapEff:\t0000000000000000\n", "NoNewPrivs:\t1\n",
                             "cannot touch '/x': Read-only file system",
                             "cannot touch '/usr/x': Read-only file system",
                             "/proc/sys/net/ipv4/ip_forward: Read-only file system",
                             "unshare failed: Operation not permitted",
                             "'/run/netns': No such file", "data\n", "token\n"}) {
      EXPECT_NE(log.find(said), std::string::npos) << said << " is not in:\n" << log;
    }
  }
  world_->Apply(R"(
apiVersion: v1
kind: Pod
metadata: {name: refused}
spec:
  nodeName: node-1
  containers: [{name: c, image: none, command: [sh], securityContext: {privileged: true}}]
)");
  world_->Await(
      "what cannot be had is said",
      [&] {
        const kube::Json pod = world_->api().Get(kube::resources::kPods, "default", "refused");
        return pod.value("/status/containerStatuses/0/state/waiting/message"_json_pointer, "") ==
               "securityContext.privileged: not supported here";
      },
      20s);
}

}  // namespace
}  // namespace pointsman::e2e
