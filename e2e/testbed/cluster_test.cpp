// Boots real kernels, sends traffic between them and looks for anything left behind.
#include "e2e/testbed/cluster.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <stdexcept>
#include <sys/wait.h>

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "e2e/testbed/node/virtual_machine.h"

namespace pointsman::e2e {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// What a cluster could leave on the machine.
std::string Footprint() {
  SpawnOptions links;
  links.argv = {"ip", "-o", "link"};
  std::string print = Run(links).out;
  std::ifstream mounts("/proc/self/mountinfo");
  print.append(std::istreambuf_iterator<char>(mounts), {});
  if (fs::exists("/run/netns")) {
    for (const auto& entry : fs::directory_iterator("/run/netns"))
      print += entry.path().string() + "\n";
  }
  return print;
}

// Processes that mention `text` in their command line, except this one.
std::string ProcessesWith(const std::string& text) {
  std::string found;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string pid = entry.path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos || pid == std::to_string(getpid()))
      continue;
    std::ifstream file(entry.path() / "cmdline");
    const std::string line((std::istreambuf_iterator<char>(file)), {});
    if (line.find(text) != std::string::npos)
      found.append(pid).append(": ").append(line).append("\n");
  }
  return found;
}

class ClusterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "pointsman-testbed-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override {
    if (!dir_.empty()) fs::remove_all(dir_);
  }

  ClusterOptions Options(std::initializer_list<const char*> nodes) const {
    ClusterOptions options;
    options.dir = dir_;
    for (const auto* node : nodes)
      options.nodes.push_back(ParseNode(node));
    return options;
  }

  fs::path dir_;
};

#define SKIP_UNLESS_THEY_BOOT(...)                                                  \
  if (const std::string missing = MissingForACluster(Options({__VA_ARGS__}).nodes); \
      !missing.empty())                                                             \
  GTEST_SKIP() << missing

nlohmann::json Connect(const Node& node, const std::string& traffic, const std::string& target,
                       const std::string& netns = "") {
  ExecOptions options;
  options.netns = netns;
  const ExecResult result = node.Exec({traffic, "connect", target, "--timeout", "3s"}, options);
  const auto parsed = nlohmann::json::parse(result.out, nullptr, false);
  return parsed.is_discarded() ? nlohmann::json{{"error", result.out + result.error}} : parsed;
}

TEST_F(ClusterTest, PodsReachEachOtherOnAllKindsOfNodesAndNothingIsLeft) {
  SKIP_UNLESS_THEY_BOOT("uml", "netns");
  const std::string before = Footprint();
  const auto start = Clock::now();
  {
    Cluster cluster(Options({"uml", "uml!ip_vs*", "netns"}));
    cluster.Start();
    RecordProperty("boot_ms",
                   static_cast<int>((Clock::now() - start) / std::chrono::milliseconds(1)));
    std::printf("booted in %.1f s\n", std::chrono::duration<double>(Clock::now() - start).count());
    const std::string traffic = cluster.Program("pointsman-traffic");
    for (const auto& node : cluster.nodes()) {
      const std::string prefix = node.pod_cidr().substr(0, node.pod_cidr().rfind('.'));
      node.AddPodNetwork("pod-a", prefix + ".2");
      ExecOptions in_pod;
      in_pod.netns = "pod-a";
      node.client().Start(
          {traffic, "serve", "--name", node.name(), "--bind", "::", "--tcp", "80", "--udp", "80"},
          "/run/pod-a.log", in_pod);
    }
    // The server needs a moment to listen: until then a connection is refused.
    const auto connect = [&](const Node& from, const std::string& target,
                             const std::string& netns) {
      const auto deadline = Clock::now() + std::chrono::seconds(10);
      nlohmann::json result;
      do
        result = Connect(from, traffic, target, netns);
      while (result["error"] == "refused" && Clock::now() < deadline);
      return result;
    };
    for (const auto& from : cluster.nodes()) {
      for (const auto& to : cluster.nodes()) {
        const std::string target = to.pod_cidr().substr(0, to.pod_cidr().rfind('.')) + ".2:80";
        const auto from_pod = connect(from, target, "pod-a");
        EXPECT_EQ(from_pod["backend"], to.name()) << from.name() << " -> " << target << from_pod;
        // Pod to pod is routed, never translated.
        EXPECT_TRUE(from_pod["seen_source"].get<std::string>().starts_with(
            from.pod_cidr().substr(0, from.pod_cidr().rfind('.')) + ".2:"))
            << from_pod;
        EXPECT_EQ(connect(from, target, "")["backend"], to.name());
        const std::string target6 =
            "[" + to.PodAddress6(target.substr(0, target.rfind(':'))) + "]:80";
        const auto by_ipv6 = connect(from, target6, "pod-a");
        EXPECT_EQ(by_ipv6["backend"], to.name()) << from.name() << " -> " << target6 << by_ipv6;
        EXPECT_EQ(by_ipv6["seen_source"].get<std::string>().rfind(
                      "[" + from.PodAddress6("0.2") + "]:", 0),
                  0)
            << by_ipv6;
        EXPECT_EQ(connect(from, target6, "")["backend"], to.name());
      }
    }
    // The outside client reaches nodes but has no way to pods.
    const auto& first = cluster.nodes().front();
    first.client().Start({traffic, "serve", "--name", "host", "--tcp", "8080"}, "/run/host.log");
    EXPECT_EQ(connect(cluster.outside(), first.address() + ":8080", "")["backend"], "host");
    first.client().Start({traffic, "serve", "--name", "host6", "--bind", "::", "--tcp", "8081"},
                         "/run/host6.log");
    EXPECT_EQ(connect(cluster.outside(), "[" + first.address6() + "]:8081", "")["backend"],
              "host6");
    EXPECT_EQ(Connect(cluster.outside(), traffic, "10.244.1.2:80")["error"], "unreachable");

    EXPECT_TRUE(cluster.node("node-1").Exec({"modprobe", "ip_vs_rr"}).ok());
    const ExecResult missing = cluster.node("node-2").Exec({"modprobe", "ip_vs"});
    EXPECT_FALSE(missing.ok());
    EXPECT_NE(missing.error.find("not found"), std::string::npos) << missing.error;
    EXPECT_TRUE(cluster.node("node-2").Exec({"iptables-legacy", "-t", "nat", "-L", "-n"}).ok());
    EXPECT_TRUE(cluster.node("node-3").Exec({"iptables-legacy", "-t", "nat", "-L", "-n"}).ok());

    const auto exec_start = Clock::now();
    for (int i = 0; i < 10; ++i)
      cluster.node("node-1").Check({"true"});
    std::printf("a command takes %.1f ms\n",
                std::chrono::duration<double, std::milli>(Clock::now() - exec_start).count() / 10);

    ExecOptions in_pod;
    in_pod.netns = "pod-a";
    const ExecResult load = cluster.node("node-1").Exec(
        {traffic, "load", "--targets", "10.244.2.2:80,10.244.3.2:80", "--protocol", "both",
         "--new-per-second", "300", "--streams", "20", "--duration", "5s"},
        in_pod);
    const auto report = nlohmann::json::parse(load.out);
    EXPECT_EQ(load.exit, 0) << load.out;
    EXPECT_GE(report["connections"]["succeeded"].get<int>(), 1450) << load.out;
    std::printf("latency of new connections under load: %s\n",
                report["connections"]["latencyMs"].dump().c_str());
  }
  EXPECT_EQ(Footprint(), before);
  EXPECT_EQ(ProcessesWith(dir_.string()), "");
}

TEST_F(ClusterTest, ANodeThatIsKilledBootsAnew) {
  SKIP_UNLESS_THEY_BOOT("uml");
  Cluster cluster(Options({"uml"}));
  cluster.Start();
  const Node& node = cluster.node("node-1");
  node.client().Put("/run/mark", "there");
  EXPECT_EQ(node.client().Get("/run/mark"), "there");
  cluster.KillNode("node-1");
  EXPECT_FALSE(cluster.NodeRunning("node-1"));
  cluster.BootNode("node-1");
  EXPECT_FALSE(node.Exec({"cat", "/run/mark"}).ok());
}

TEST_F(ClusterTest, CommandsCarryInputOutputAndStatus) {
  SKIP_UNLESS_THEY_BOOT("netns");
  Cluster cluster(Options({"netns"}));
  cluster.Start();
  const Node& node = cluster.node("node-1");
  ExecOptions options;
  options.input = std::string(3'000'000, 'x') + "y";
  EXPECT_EQ(node.Exec({"cat"}, options).out, options.input);
  EXPECT_EQ(node.Exec({"sh", "-c", "echo e >&2; exit 7"}).exit, 7);
  EXPECT_EQ(node.Exec({"sh", "-c", "echo e >&2; exit 7"}).error, "e\n");
  EXPECT_EQ(node.Exec({"sh", "-c", "kill -9 $$"}).signal, 9);
  EXPECT_EQ(node.Exec({"no-such-program"}).exit, 127);
  ExecOptions surroundings;
  surroundings.env = {{"FIRST", "1"}, {"SECOND", "2 3"}};
  surroundings.cwd = "/run";
  node.client().Put("/run/private/file", "content");
  surroundings.mounts["/run/seen"] = "/run/private";
  EXPECT_EQ(node.Exec({"sh", "-c", "echo $FIRST $SECOND; pwd; cat seen/file"}, surroundings).out,
            "1 2 3\n/run\ncontent");
  EXPECT_FALSE(node.Exec({"cat", "/run/seen/file"}).ok());
  const pid_t pid = node.client().Start({"sleep", "1000"}, "/run/sleep.log");
  EXPECT_TRUE(node.client().Status(pid).running);
  node.client().Signal(pid, SIGTERM);
  const auto deadline = Clock::now() + std::chrono::seconds(5);
  while (node.client().Status(pid).running)
    ASSERT_LT(Clock::now(), deadline);
  EXPECT_EQ(node.client().Status(pid).signal, SIGTERM);
  const NodeClient stranger(std::make_shared<UniqueFd>(dup(cluster.sandbox().net_ns())),
                            node.address(), "wrong");
  EXPECT_THROW(stranger.Exec({"true"}), std::runtime_error);
}

TEST_F(ClusterTest, AnOwnerKilledWithSigkillLeavesNothing) {
  SKIP_UNLESS_THEY_BOOT("uml", "netns");
  const std::string before = Footprint();
  const pid_t owner = fork();
  ASSERT_GE(owner, 0);
  if (owner == 0) {
    Cluster cluster(Options({"uml", "netns"}));
    cluster.Start();
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(owner, &status, 0), owner);
  ASSERT_TRUE(WIFSIGNALED(status)) << "the cluster did not start";
  const auto deadline = Clock::now() + std::chrono::seconds(10);
  while (!ProcessesWith(dir_.string()).empty() || Footprint() != before)
    ASSERT_LT(Clock::now(), deadline) << ProcessesWith(dir_.string()) << Footprint();
  EXPECT_THROW(AttachedCluster{dir_}, std::runtime_error);
}

TEST_F(ClusterTest, AVirtualMachineHasBothIpvsAndNatInNftables) {
  SKIP_UNLESS_THEY_BOOT("vm", "netns");
  const std::string before = Footprint();
  {
    Cluster cluster(Options({"vm!ip_vs_sed+ip_vs_nq", "netns"}));
    cluster.Start();
    const Node& node = cluster.node("node-1");
    EXPECT_EQ(node.Check({"uname", "-r"}), FindVirtualMachineKernel().release + "\n");
    EXPECT_TRUE(node.Exec({"modprobe", "ip_vs_wlc"}).ok());
    const ExecResult missing = node.Exec({"modprobe", "ip_vs_sed"});
    EXPECT_NE(missing.error.find("not found"), std::string::npos) << missing.error;
    ExecOptions rules;
    rules.input =
        "table ip test {\n  chain c {\n    type nat hook output priority -100;\n"
        "    ip daddr 10.9.9.9 tcp dport 80 dnat to 10.244.2.2:80\n  }\n}\n";
    node.Check({"nft", "-f", "-"}, rules);
    // Through the rule to a pod on the other node, over the tap.
    const Node& other = cluster.node("node-2");
    other.AddPodNetwork("pod-a", "10.244.2.2");
    const std::string traffic = cluster.Program("pointsman-traffic");
    ExecOptions in_pod;
    in_pod.netns = "pod-a";
    other.client().Start({traffic, "serve", "--name", "node-2", "--tcp", "80"}, "/run/pod-a.log",
                         in_pod);
    const auto deadline = Clock::now() + std::chrono::seconds(20);
    nlohmann::json result;
    do
      result = Connect(node, traffic, "10.9.9.9:80");
    while (result["error"] == "refused" && Clock::now() < deadline);
    EXPECT_EQ(result["backend"], "node-2") << result;
    // What it writes into the cluster's directory is there for this side, and the other way round.
    node.Check({"sh", "-c", "echo one > " + (dir_ / "both").string()});
    std::ofstream(dir_ / "both", std::ios::app) << "two\n";
    EXPECT_EQ(node.Check({"cat", dir_ / "both"}), "one\ntwo\n");
    cluster.KillNode("node-1");
    EXPECT_FALSE(cluster.NodeRunning("node-1"));
    cluster.BootNode("node-1");
    EXPECT_EQ(node.Check({"nft", "list", "tables"}), "");
  }
  EXPECT_EQ(Footprint(), before);
  EXPECT_EQ(ProcessesWith(dir_.string()), "");
}

TEST(ParseNodeTest, NamesKindAndMissingModules) {
  EXPECT_EQ(ParseNode("netns").kind, NodeKind::kNetns);
  EXPECT_EQ(ParseNode("uml-no-modules").kind, NodeKind::kUmlNoModules);
  EXPECT_EQ(ParseNode("uml!ip_vs*+dummy").without_modules,
            (std::vector<std::string>{"ip_vs*", "dummy"}));
  EXPECT_EQ(ParseNode("vm").kind, NodeKind::kVm);
  EXPECT_EQ(ParseNode("vm!dummy").without_modules, std::vector<std::string>{"dummy"});
  EXPECT_THROW(ParseNode("qemu"), std::invalid_argument);
  EXPECT_THROW(ParseNode("netns!ip_vs"), std::invalid_argument);
}

}  // namespace
}  // namespace pointsman::e2e
