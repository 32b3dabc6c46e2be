// A whole cluster for a scenario: nodes that are kernels of their own, the local control plane, the
// operator and the agents as real processes, pods with real servers, and load that counts failures.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "e2e/scenarios/stall_watch.h"
#include "e2e/testbed/cluster.h"
#include "e2e/testbed/kubelet/kubelet.h"
#include "e2e/testbed/process.h"
#include "kube/client/client.h"

namespace pointsman::e2e {

// Of the repository, which this program was built from.
std::filesystem::path SourceDirectory();

struct WorldOptions {
  std::filesystem::path dir;  // logs and state; kept afterwards
  std::vector<NodeOptions> nodes;
  std::string kubernetes_version = "1.35";      // what the control plane emulates
  std::filesystem::path source_dir;             // of crds/ and manifests/
  std::vector<std::string> control_plane_args;  // further flags
  // false: a cluster that knows nothing of Pointsman: no CRDs, no service accounts, no roles of
  // ours.
  bool pointsman = true;
  // Nodes with kubelets, to which everything is installed with kubectl as on a real cluster: Start
  // applies nothing, and StartOperator, StartAgent(s) and AddServerPod have no place.
  bool kubelets = false;
  KubeletOptions kubelet;  // of these
  // The Nodes have IPv6 addresses and pod CIDRs too, and Services can have both families.
  bool dual_stack = false;
};

// The report of `pointsman-traffic load`.
struct LoadReport {
  kube::Json json;
  int64_t Attempts() const;  // new connections, TCP and UDP
  int64_t Failed() const;    // of these
  int64_t Succeeded() const;
  int64_t BrokenStreams() const;
  int64_t Streams() const;
  std::string Summary() const;  // one line for a person
};

// Not thread-safe.
class World {
 public:
  explicit World(WorldOptions options);
  ~World();

  // Boots nodes and control plane, applies CRDs and RBAC, registers the Nodes.
  void Start();
  // Only with kubelets. `kubectl apply -k manifests/…` and what a cluster without kube-proxy
  // needs before it (README): where the API server is. Returns when both rollouts are done.
  void Install(const std::string& manifests = "base");

  Cluster& cluster() { return *cluster_; }
  Kubelet& kubelet() { return *kubelet_; }
  bool has_kubelets() const { return options_.kubelets; }
  kube::Client& api() { return *api_; }

  // Real kubectl against the control plane that must succeed: throws with what it printed. Returns
  // what it printed.
  std::string MustKubectl(std::vector<std::string> args, const std::string& input = "",
                          std::chrono::milliseconds timeout = std::chrono::seconds(60));
  void Apply(const std::string& yaml);  // kubectl apply -f -

  void StartOperator();
  static std::string OperatorMetrics();  // address:port in the cluster's network
  void KillOperator();                   // -9
  void StartAgent(const std::string& node);
  void StartAgents();
  void KillAgent(const std::string& node, int signal);

  // A kubeconfig with a client certificate of this user, who has the rights that RBAC gives it.
  void MintKubeconfig(const std::string& user, const std::vector<std::string>& groups,
                      const std::filesystem::path& file);

  // A program on the control plane's address in the cluster's network; it ends with the cluster at
  // the latest and must not outlive this object.
  Process SpawnInCluster(std::vector<std::string> argv, const std::string& log);

  // A pod with servers: TCP on each of `ports` and UDP on the same. Returns its address. `routed`:
  // with a link of its own on the node, as Calico's pods have (Node::AddRoutedPodNetwork).
  std::string AddServerPod(const std::string& node, const std::string& pod,
                           const std::vector<uint16_t>& ports, bool routed = false);
  // A pod to send from. Returns its address.
  std::string AddClientPod(const std::string& node, const std::string& pod);

  struct ServiceSpec {
    std::string name;
    std::string cluster_ip;
    uint16_t port = 80;
    uint16_t node_port = 0;  // 0: type ClusterIP
    std::string external_ip;
    uint16_t target_port = 0;
    bool client_ip_affinity = false;
    std::vector<std::string> endpoints;                 // pod addresses
    std::map<std::string, std::string> endpoint_nodes;  // address -> node
  };
  // Services (TCP and UDP on the same port) with their EndpointSlices.
  void CreateServices(const std::vector<ServiceSpec>& services);
  void SetEndpoints(const ServiceSpec& service);  // replaces the slice's endpoints

  // Load from a node ("" netns) or from a pod on it, until StopLoad.
  struct Load {
    std::string node;
    pid_t pid = -1;
    std::string report_path;
    std::string log_path;
  };
  Load StartLoad(const Node& node, const std::string& netns,
                 const std::vector<std::string>& targets, int new_per_second,
                 const std::string& protocol, int streams, const std::string& timeout = "3s");
  // The newest line that it has said of itself; no object before the first.
  static kube::Json LoadProgress(const Load& load);
  LoadReport StopLoad(const Load& load);
  // All at once: each ends with the last of its connections, which its timeout bounds.
  std::vector<LoadReport> StopLoads(const std::vector<Load>& loads);
  // Waits until the load has had answers on new connections and, one each on average, on its
  // streams.
  void AwaitLoadRunning(const Load& load);

  // Waits for a condition; when the deadline passes throws with `what` and what `last` says.
  void Await(const std::string& what, const std::function<bool()>& holds,
             std::chrono::seconds timeout, const std::function<std::string()>& last = {});
  kube::Json NodeProxy(const std::string& node);  // null when there is none
  kube::Json ProxyConfiguration(const std::string& name);
  // Waits for as long as something moves; throws when nothing has for `patience`, with `what` and
  // what `last` says.
  void AwaitProgress(const std::string& what, const std::function<Progress()>& look,
                     std::chrono::seconds patience, const std::function<std::string()>& last = {});
  // Of the ProxyConfiguration's rollout of its newest generation, with the modes that each node
  // serves and drains.
  Progress RolloutProgress(const std::string& name);
  // Of "deployment/web" or "daemonset/agent": how many of its pods are available, and the
  // phases of all.
  Progress WorkloadProgress(const std::string& ns, const std::string& workload);
  // What to look at when a rollout stands still: the objects' status, the ends of the logs and
  // where these are.
  std::string RolloutEvidence();
  // Waits until the ProxyConfiguration's rollout of its newest generation is complete. `patience`:
  // of AwaitProgress.
  void AwaitRollout(const std::string& name, std::chrono::seconds patience);
  // Waits until that node's NodeProxy says it serves in `mode` and drains nothing.
  void AwaitMode(const std::string& node, const std::string& mode, std::chrono::seconds timeout);

 private:
  std::string NextPodAddress(const Node& node);
  void InstallPointsman();
  void MintAccount(const std::string& account, const std::filesystem::path& file);
  void RegisterNodes();

  WorldOptions options_;
  std::unique_ptr<Cluster> cluster_;
  std::shared_ptr<kube::Client> api_;
  std::unique_ptr<Kubelet> kubelet_;
  Process operator_;
  std::map<std::string, pid_t> agents_;
  std::map<std::string, int> next_pod_;  // per node: the last part of the next pod's address
  int loads_ = 0;
};

}  // namespace pointsman::e2e
