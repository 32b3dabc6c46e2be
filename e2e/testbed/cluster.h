// A cluster of real kernels on one machine: nodes are User-Mode Linux processes, virtual machines
// or network namespaces, all inside namespaces of their own that vanish with the process that made
// them. Root is needed.
//
//   underlay   192.168.50.0/24   .1 control plane, .2 an outside client that is no node, .11… nodes
//              fd00:50::/64      ::1, ::2 and ::11… in the same way
//   pods       10.244.<i>.0/24   of the i-th node (1…), routed between nodes over the underlay
//              fd00:10:244:<i>::/64
//
// The control plane and the outside client have no route to pods or Services: they reach node
// addresses only.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "e2e/testbed/node/node_client.h"
#include "e2e/testbed/process.h"
#include "e2e/testbed/real_control_plane.h"

namespace pointsman::e2e {

enum class NodeKind {
  kUml,           // a kernel of its own with loadable modules: ip_vs, ipset, …; legacy xtables
  kUmlNoModules,  // the same kernel with nothing to load: not even iptables works there
  kVm,            // Debian's stock kernel in QEMU: ip_vs and all of nf_tables; a slow CPU
  kNetns,         // the machine's own kernel in namespaces
};

struct NodeOptions {
  std::string name;  // default: node-<i>
  NodeKind kind = NodeKind::kUml;
  // Modules this node's kernel does not have, e.g. {"ip_vs", "ip_vs_*"}; '*' at the end matches any
  // rest. kUml and kVm only.
  std::vector<std::string> without_modules;
  int memory_mb = 512;  // not kNetns: a bound, taken from the machine only as it is touched
  std::string zone = "zone-a";
  // The machine's CPU that a kUml stays on; -1: any. On a machine with nothing else to do its
  // processes wake one another up on CPUs that sleep, and it takes three times as long for all.
  int host_cpu = -1;
};

struct ClusterOptions {
  // Logs, state and configuration; made if missing, kept afterwards. Not below /run; an absolute
  // path.
  std::filesystem::path dir;
  std::vector<NodeOptions> nodes;
  // Where pointsman-node-init and the other programs are. Default: $POINTSMAN_BIN_DIR or the
  // build's.
  std::filesystem::path bin_dir;
  // A kernel that ends instead is noticed at once; an emulated one on shared cores is slow.
  std::chrono::seconds boot_timeout{180};
  std::vector<std::string> control_plane_args;  // further flags, e.g. {"--emulate-version", "1.20"}
  // Programs of a stock control plane (real_control_plane.h), which then takes the place of ours;
  // control_plane_args have no meaning for it. "": ours.
  std::filesystem::path real_control_plane;
};

// "uml", "uml-no-modules", "vm", "netns"; with "!module+…" behind uml or vm: "uml!ip_vs*". Throws
// std::invalid_argument.
NodeOptions ParseNode(std::string_view text);

// What the machine lacks for a cluster of such nodes; "": nothing.
std::string MissingForACluster(const std::vector<NodeOptions>& nodes);

// A node as others see it; also the outside client.
class Node {
 public:
  struct Addresses {
    std::string address;
    std::string pod_cidr;   // "" for the outside client
    std::string address6;   // "": its kernel has no IPv6 (uml-no-modules)
    std::string pod_cidr6;  // "": as both of the above
  };
  Node(std::string name, Addresses addresses, NodeClient client)
      : name_(std::move(name)), addresses_(std::move(addresses)), client_(std::move(client)) {}

  const std::string& name() const { return name_; }
  const std::string& address() const { return addresses_.address; }
  const std::string& pod_cidr() const { return addresses_.pod_cidr; }
  const std::string& address6() const { return addresses_.address6; }
  const std::string& pod_cidr6() const { return addresses_.pod_cidr6; }
  const NodeClient& client() const { return client_; }

  ExecResult Exec(const std::vector<std::string>& argv, const ExecOptions& options = {}) const {
    return client_.Exec(argv, options);
  }
  std::string Check(const std::vector<std::string>& argv, const ExecOptions& options = {}) const {
    return client_.Check(argv, options);
  }

  // A pod's network: a namespace `pod` on this node with eth0 at `ip` (within pod_cidr) and, where
  // the node has IPv6, at PodAddress6(ip). Commands run in it with ExecOptions::netns = pod.
  void AddPodNetwork(const std::string& pod, const std::string& ip) const;
  // The same, but not behind the node's bridge: with a link of its own on the node, as Calico's or
  // AWS' pods have, and a route to it there. Returns the link's name.
  static constexpr const char* kRoutedLinkPrefix = "cali";
  std::string AddRoutedPodNetwork(const std::string& pod, const std::string& ip) const;
  void RemovePodNetwork(const std::string& pod) const;
  // The IPv6 address of the pod at `ip`: pod_cidr6 with the same last part. "": none.
  std::string PodAddress6(const std::string& ip) const;

 private:
  std::string name_;
  Addresses addresses_;
  NodeClient client_;
};

class Cluster {
 public:
  static constexpr const char* kControlPlaneAddress = "192.168.50.1";
  static constexpr const char* kOutsideAddress = "192.168.50.2";
  static constexpr const char* kControlPlaneAddress6 = "fd00:50::1";
  static constexpr const char* kOutsideAddress6 = "fd00:50::2";

  explicit Cluster(ClusterOptions options);
  ~Cluster();  // ends everything

  // Boots all nodes at once and returns when each answers commands. Throws with the node's console
  // when one does not.
  void Start();
  void Stop();

  // The API server pointsman-control-plane, or the real one of the options: in the cluster at
  // kControlPlaneAddress:kApiPort, and for this machine's own clients (kubectl) at a free port of
  // 127.0.0.1. Its data stays in dir() over a kill and a restart.
  static constexpr std::uint16_t kApiPort = 6443;
  void StartControlPlane();  // returns when it is ready; throws with its log when it is not
  void KillControlPlane();   // SIGKILL
  std::filesystem::path Kubeconfig() const {
    return options_.dir / "kubeconfig";
  }  // for this machine
  RunResult Kubectl(std::vector<std::string> args, const std::string& input = "",
                    std::chrono::milliseconds timeout = std::chrono::seconds(60)) const;

  const std::vector<NodeOptions>& node_options() const { return options_.nodes; }
  const std::filesystem::path& dir() const { return options_.dir; }
  Sandbox& sandbox() { return *sandbox_; }
  const Node& node(std::string_view name) const;
  const std::vector<Node>& nodes() const { return nodes_; }
  const Node& outside() const { return *outside_; }
  std::filesystem::path Program(const std::string& name) const { return options_.bin_dir / name; }

  // Like pulling the plug: its kernel and all of its processes end at once. BootNode starts it
  // anew, with nothing in its kernel.
  void KillNode(std::string_view name);
  void BootNode(std::string_view name);
  bool NodeRunning(std::string_view name);
  std::string Console(std::string_view name) const;  // what its kernel and init printed

 private:
  struct Machine {
    NodeOptions options;
    Node::Addresses addresses;
    std::string uplink;  // its interface's name on the underlay's bridge
    std::filesystem::path dir;
    Process process;
  };

  void SetUpUnderlay();
  void Boot(Machine& machine);
  void AwaitNetworkNamespace(Machine& machine) const;
  void AwaitBoot(Machine& machine, const NodeClient& client);
  void BootVm(Machine& machine, SpawnOptions spawn, const std::filesystem::path& config) const;
  nlohmann::json NodeConfig(const Machine& machine) const;
  Machine& FindMachine(std::string_view name);
  void RunIp(const std::string& batch) const;
  void WriteState() const;
  void StartRealControlPlane();
  void WriteKubeconfig() const;

  ClusterOptions options_;
  std::string token_;
  std::shared_ptr<UniqueFd> net_ns_;
  std::vector<std::unique_ptr<Machine>> machines_;  // the last is the outside client
  std::vector<Node> nodes_;
  std::unique_ptr<Node> outside_;
  std::unique_ptr<Sandbox> sandbox_;
  Process control_plane_;
  std::unique_ptr<RealControlPlane> real_control_plane_;
  std::uint16_t api_port_ = 0;
};

// A running cluster of another process, found by its directory.
class AttachedCluster {
 public:
  // Throws std::runtime_error when none runs there.
  explicit AttachedCluster(const std::filesystem::path& dir);
  const Node& node(std::string_view name) const;  // also "outside"
  const std::vector<Node>& nodes() const { return nodes_; }
  pid_t owner() const { return owner_; }
  int net_ns() const { return net_ns_->get(); }

 private:
  std::shared_ptr<UniqueFd> net_ns_;
  std::vector<Node> nodes_;
  pid_t owner_ = -1;
};

}  // namespace pointsman::e2e
