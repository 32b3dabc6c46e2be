// The manifests as they are, on a cluster without kube-proxy: real kubectl installs them, Pods with
// just the rights they ask for move the cluster's traffic, and everything goes again without a
// trace.
#include <iterator>

#include <gtest/gtest.h>
#include <unistd.h>

#include "e2e/scenarios/scenario_fixture.h"
#include "e2e/scenarios/workload.h"

namespace pointsman::e2e {
namespace {

using std::chrono_literals::operator""s;

constexpr char kNamespace[] = "pointsman-system";

// `node`: "": all nodes; else this one, before what another says of all.
std::string Configuration(const std::string& mode, int max_unavailable = 1,
                          const std::string& node = "") {
  return R"(
apiVersion: pointsman.io/v1alpha1
kind: ProxyConfiguration
metadata:
  name: )" +
         (node.empty() ? std::string("cluster") : "only-" + node) + "\nspec:\n" +
         (node.empty() ? std::string()
                       : "  priority: 1\n  nodeSelector: {matchLabels: {kubernetes.io/hostname: " +
                             node + "}}\n") +
         "  mode: " + mode + R"(
  clusterCIDR: 10.244.0.0/16
  rollout:
    canary: {nodes: 0}
    minReady: 0s
    maxUnavailable: )" +
         std::to_string(max_unavailable) + R"(
  handover:
    drainTimeout: 3s
)";
}

constexpr char kService[] = R"(
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  clusterIP: 10.96.1.1
  selector: {app: web}
  ports:
    - {name: tcp, protocol: TCP, port: 80, targetPort: 8080, nodePort: 30080}
    - {name: udp, protocol: UDP, port: 80, targetPort: 8080, nodePort: 30080}
)";

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
    world_->Apply(WorkloadYaml({8080}) + kService);
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
  EXPECT_EQ(operators[0].at("spec").at("priority"), 1000000000);
  ASSERT_EQ(Pods(kNamespace, "pointsman-node-agent").size(), 3U);

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
        "nothing of Pointsman's is in the kernel of " + node.name(),
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
