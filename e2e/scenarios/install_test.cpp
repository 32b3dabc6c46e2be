// The manifests as they are, on a cluster without kube-proxy: real kubectl installs them, Pods with
// just the rights they ask for move the cluster's traffic, and everything goes again without a
// trace.
#include <gtest/gtest.h>
#include <unistd.h>

#include "e2e/scenarios/world.h"

namespace pointsman::e2e {
namespace {

using std::chrono_literals::operator""s;

constexpr char kNamespace[] = "pointsman-system";

std::string Configuration(const std::string& mode, int max_unavailable = 1) {
  return R"(
apiVersion: pointsman.io/v1alpha1
kind: ProxyConfiguration
metadata:
  name: cluster
spec:
  mode: )" +
         mode + R"(
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

// Servers, a Service of theirs, and a Pod to send from.
constexpr char kWorkload[] = R"(
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 6
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 5
      automountServiceAccountToken: false
      containers:
        - name: web
          image: pointsman.io/traffic:1
          args: [--name=$(NAME), --tcp=8080, --udp=8080, --linger=2s]
          env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
          readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 5}
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
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  nodeName: node-1
  terminationGracePeriodSeconds: 0
  containers:
    - {name: client, image: pointsman.io/traffic:1, command: [sleep, infinity]}
)";

class InstallTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string missing = MissingForACluster(); !missing.empty()) {
      GTEST_SKIP() << missing;
    }
  }
  void TearDown() override {
    if (world_ == nullptr) return;
    if (HasFailure()) SaveLogs();
    const auto dir = world_->cluster().dir();
    world_.reset();
    if (!HasFailure()) std::filesystem::remove_all(dir);
  }

  void Start(const std::vector<std::string>& nodes) {
    WorldOptions options;
    options.dir = std::filesystem::temp_directory_path() /
                  fmt::format("pointsman-{}-{}", getpid(),
                              testing::UnitTest::GetInstance()->current_test_info()->name());
    options.source_dir = POINTSMAN_SOURCE_DIR;
    options.kubelets = true;
    for (const std::string& node : nodes)
      options.nodes.push_back(ParseNode(node));
    world_ = std::make_unique<World>(options);
    world_->Start();
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

  // "Name:\tvalue" of /proc/PID/status of the only process of that program on the node.
  static std::string ProcessStatus(const Node& node, const std::string& program,
                                   const std::string& field) {
    std::string pid = node.Check({"pidof", "-s", program});
    pid.erase(pid.find_last_not_of('\n') + 1);
    std::istringstream lines(node.Check({"cat", "/proc/" + pid + "/status"}));
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with(field + ":\t")) return line.substr(field.size() + 2);
    }
    return "no " + field;
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

  void ExpectClean(const LoadReport& report, const std::string& who) {
    EXPECT_EQ(report.Failed(), 0) << who << ": " << report.json.dump(1);
    EXPECT_EQ(report.BrokenStreams(), 0) << who << ": " << report.json.dump(1);
    EXPECT_GT(report.Attempts(), 0) << who;
    std::printf("%s: %s\n", who.c_str(), report.Summary().c_str());
  }

  std::unique_ptr<World> world_;
};

TEST_F(InstallTest, KubectlInstallsMovesTheTrafficAndTakesEverythingOut) {
  Start({"uml", "uml", "uml"});
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

  // Servers by a Deployment, their EndpointSlices by the controller.
  world_->Apply(kWorkload);
  world_->MustKubectl({"rollout", "status", "--timeout=60s", "deployment/web"}, "", 70s);
  world_->MustKubectl({"wait", "--for=condition=Ready", "--timeout=30s", "pod/client"});
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

// On each node an agent with one capability less than the manifest gives it.
TEST_F(InstallTest, EachCapabilityOfTheAgentIsNeededAndItsLackIsSaid) {
  Start({"uml", "uml", "uml"});
  world_->Install();
  kube::Json agent = kube::Json::parse(world_->MustKubectl(
      {"-n", kNamespace, "get", "daemonset", "pointsman-node-agent", "-o", "json"}));
  world_->MustKubectl({"-n", kNamespace, "delete", "daemonset", "pointsman-node-agent", "--wait"});
  const std::vector<std::string> all =
      agent.at("/spec/template/spec/containers/0/securityContext/capabilities/add"_json_pointer);
  ASSERT_EQ(all.size(), 3U);
  for (size_t i = 0; i < all.size(); ++i) {
    kube::Json less = agent;
    less["metadata"] = {{"name", fmt::format("agent-{}", i)}, {"namespace", kNamespace}};
    less.erase("status");
    less["spec"]["selector"]["matchLabels"] = {{"app", fmt::format("agent-{}", i)}};
    less["spec"]["template"]["metadata"]["labels"] = {{"app", fmt::format("agent-{}", i)}};
    less["spec"]["template"]["spec"]["nodeSelector"] = {
        {"kubernetes.io/hostname", fmt::format("node-{}", i + 1)}};
    std::vector<std::string> others = all;
    others.erase(others.begin() + static_cast<std::ptrdiff_t>(i));
    less["/spec/template/spec/containers/0/securityContext/capabilities/add"_json_pointer] = others;
    world_->Apply(less.dump());
    world_->MustKubectl({"-n", kNamespace, "rollout", "status", "--timeout=60s",
                         fmt::format("daemonset/agent-{}", i)},
                        "", 70s);
  }
  world_->Apply(Configuration("ipvs", 3));
  for (size_t i = 0; i < all.size(); ++i) {
    const std::string name = fmt::format("node-{}", i + 1);
    const auto status = [&]() -> kube::Json {
      const kube::Json proxy = world_->NodeProxy(name);
      return proxy.is_object() ? proxy.value("status", kube::Json::object()) : proxy;
    };
    // In its NodeProxy, or, when it cannot even look at the kernel, in its log.
    const auto words = [&] {
      return status().dump(1) +
             world_->cluster().node(name).Exec({"sh", "-c", "cat /var/log/*_agent-*.log"}).out;
    };
    world_->Await(
        "the agent without " + all[i] + " says what it lacks",
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
  Start({"uml", "netns"});
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
