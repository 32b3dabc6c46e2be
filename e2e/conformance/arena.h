// The cluster that the cases of one mode run in: two nodes with standing pods, an outside client,
// the local control plane, and the real agent on each node, standalone with a
// KubeProxyConfiguration.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "e2e/conformance/case.h"
#include "e2e/scenarios/world.h"

namespace pointsman::e2e {

// Where something runs: a node, the outside client, or a pod's network on its node.
struct Place {
  const Node* node = nullptr;
  std::string netns;  // "" on a node
};

// "10.0.0.1:80", "[fd00::1]:80"
std::string HostPort(const std::string& address, int port);

// Not thread-safe.
class Arena {
 public:
  struct Options {
    kube::Mode mode = kube::Mode::kIptables;
    std::filesystem::path dir;         // kept afterwards
    std::filesystem::path source_dir;  // of crds/ and manifests/
    std::string node_kind;             // see ParseNode; "": the mode's own
  };
  // What the standing pods and nodes listen on.
  static constexpr int kPodPorts[] = {8080, 8081};  // TCP, UDP, and SCTP where the kernel has it
  static constexpr int kPodHttpPort = 8082;
  static constexpr int kNodePorts[] = {2222};  // as an ssh server of the node, on every address
  // What a neighbour publishes on each node, and the pod there that it leads to.
  static constexpr int kHostPort = 80;
  static std::string HostPortPod(const std::string& node) { return "pod-" + node.substr(5) + "b"; }
  // The cluster IP that a neighbour's DNS cache listens on.
  static std::string DnsAddress(net::Family family) {
    return family == net::Family::kIPv4 ? "10.96.200.53" : "fd00:10:96::c853";
  }

  explicit Arena(Options options);
  ~Arena();

  // What the machine lacks for its nodes; "": nothing.
  std::string Missing() const { return MissingForACluster({ParseNode(options_.node_kind)}); }
  void Start();
  // The agents run with the suite's KubeProxyConfiguration and these fields of it changed; those
  // that run with others are ended and started anew.
  void UseConfiguration(const Json& changes);
  // These fields are changed in every configuration that is used from now on.
  void SetStandingChanges(Json changes) { standing_changes_ = std::move(changes); }
  // Ends all agents and takes away what they made; UseConfiguration starts them again.
  void EndAgents();
  // Returns when every agent has compared all of the kernel with what should be in it so often from
  // now on.
  void AwaitFullSyncs(int times);
  // Returns when every node has taken up all changes of Services and EndpointSlices that the API
  // server has. Throws with the agent's log when one does not.
  void AwaitTakenUp();

  World& world() { return *world_; }
  kube::Client& api() { return world_->api(); }
  kube::Mode mode() const { return options_.mode; }
  bool has_sctp() const { return has_sctp_; }
  // The network card of User-Mode Linux loses a packet now and then on a busy machine, in every
  // mode; a TCP connection gets over it, a single datagram does not. No other kernel may lose one.
  bool loses_packets() const { return nodes_are_uml(); }
  bool nodes_are_uml() const { return options_.node_kind.starts_with("uml"); }
  // How many datagrams were answered, and how many of them not the first time that they were sent.
  struct Datagrams {
    int answered = 0;
    int sent_again = 0;
  };
  Datagrams& datagrams() { return datagrams_; }
  // How many connections got no answer since their port was taken (taken_port.h).
  int& ports_taken() { return ports_taken_; }
  // A client's port for a connection that is to stay unanswered. Its SYN leaves an entry in
  // connection tracking for two minutes, without NAT where the address is no Service's, and a later
  // SYN from the same port takes that entry's way (the kernel's nf_conntrack_proto_tcp.c: an entry
  // in SYN_SENT is not renewed). So no kernel gives these out, and none comes twice in that time.
  int PortForSilence() { return 11'000 + ports_for_silence_++ % 8'000; }
  // The name of the nodes' interface to the network between them.
  std::string uplink() const { return options_.node_kind.starts_with("uml") ? "vec0" : "eth0"; }
  const std::filesystem::path& dir() const { return options_.dir; }
  Place At(const std::string& name) const;  // a pod, a node, "outside"
  std::string Address(const std::string& name, net::Family family) const;
  const std::string& LinkOf(const std::string& routed_pod) const { return links_.at(routed_pod); }
  // Every address of a node on its own interfaces.
  std::vector<std::string> NodeAddresses(const std::string& node, net::Family family) const;
  // Whether that connection of a client's got no answer since IPVS has another from its port.
  bool IsPortTaken(const std::string& target, int local_port) const;
  // What the node's kernel has been told, for a person. `words`: only lines with one of them.
  std::string Rules(const std::string& node, const std::vector<std::string>& words) const;
  std::string AgentLog(const std::string& node, size_t bytes) const;

 private:
  void AddPods();
  void AwaitServers(const std::string& pod);
  int FullSyncs(const Node& node) const;
  void StartServer(const std::string& name, const Place& place, const std::vector<int>& ports,
                   bool http);
  void StartAgent(const std::string& node);
  void StopAgents();
  Json Configuration(const std::string& node) const;
  bool AnswersFence(const Node& node, const std::string& address, const std::string& backend) const;
  std::string ServerLog(const std::string& name) const;

  Options options_;
  std::unique_ptr<World> world_;
  bool has_sctp_ = false;
  std::map<std::string, std::string> pod_ips_;  // IPv4
  std::map<std::string, std::string> links_;    // of routed pods
  Json standing_changes_ = Json::object();
  Json changes_;  // null: no agents
  std::map<std::string, pid_t> agents_;
  int fence_ = 0;
  Datagrams datagrams_;
  int ports_taken_ = 0;
  int ports_for_silence_ = 0;
};

}  // namespace pointsman::e2e
