// For tests: one mode with what the tests of the dataplanes' contract need beside the dataplane:
// the kernel's state as text, ways to damage it, and where modes may differ.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "kube/pointsman/mode.h"
#include "kube/pointsman/proxy_settings.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent::testing {

// A mode, and with which variant of the iptables tools.
struct Variant {
  std::string name;  // of the tests: "iptables_nft"
  kube::Mode mode{};
  std::string tools;  // "legacy", "nft"; "": as the node decides
};
void PrintTo(const Variant& variant, std::ostream* out);

// Where the contract leaves a mode room, or its kernel's mechanism cannot do what others can.
struct Room {
  // Backends see the address of a client that need not be masqueraded.
  bool keeps_source = true;
  // Node ports answer on 127.0.0.1, and route_localnet is set for that.
  bool loopback_node_ports = true;
  bool needs_route_localnet = true;
  // A client's affinity holds for all addresses of a Service together.
  bool affinity_spans_addresses = true;
  // Affinity ends when its time does, however lately a connection ended.
  bool affinity_ends_in_time = true;
  // A drained datagram may still be lost with the connection table's old entry.
  bool datagrams_move_at_once = true;
  // While it is drained, no new connection comes here even when no other mode takes it.
  bool drained_is_closed = true;
  // Open connections outlive the removal of the mode.
  bool cluster_ip_streams_outlive_removal = true;
  bool node_port_streams_outlive_removal = true;
  // A difference is that of one table, however many of its objects differ.
  bool damage_is_one_difference = false;
  // How often the random model changes, and with how many seeds.
  int random_steps = 60;
  int random_seeds = 1;
};

// Works in the network namespace of the thread that calls.
class ModeUnderTest {
 public:
  struct Damage {
    std::string what;
    std::function<void()> work;
    bool counted = true;  // its repair is in SyncResult::repaired
  };

  // For the calling thread's namespace. Throws std::runtime_error with the reason when this kernel
  // cannot run it.
  static std::unique_ptr<ModeUnderTest> Make(const Variant& variant);
  virtual ~ModeUnderTest() = default;
  ModeUnderTest(const ModeUnderTest&) = delete;
  ModeUnderTest& operator=(const ModeUnderTest&) = delete;

  const Room& room() const { return room_; }
  // A new process: it remembers nothing. Outlived by this.
  virtual std::unique_ptr<Dataplane> MakeDataplane(const kube::ProxySettings& settings,
                                                   const std::vector<net::Family>& families) = 0;
  // The rules that modes share (base_rules.h), as the agent writes them.
  SyncResult EnsureBase(const kube::ProxySettings& settings);
  // What the kernel holds where this mode writes, that of others included.
  virtual std::string Kernel() = 0;
  // The same without what the mode is free to choose each time that it writes from nothing.
  virtual std::string KernelWithoutChoices() { return Kernel(); }
  // Each makes Kernel() another one. A model with a Service "web" in IPv4, and both families, is
  // in the kernel.
  virtual std::vector<Damage> Damages() = 0;
  // Objects of others, in every place where this mode writes.
  virtual void AddForeign() = 0;
  // From now on all that would be written of this family is refused, until Mend. Of a mode that
  // uses iptables' tools: those made after ReplaceTools().
  virtual void Break(net::Family family);
  virtual void Mend(net::Family family);

 protected:
  explicit ModeUnderTest(const Room& room) : room_(room) {}
  // Chosen once, as an agent does. Throws std::runtime_error.
  void MakeTools(const std::string& variant);
  xtables::IptablesTool& Tool(net::Family family) {
    return *tools_[family == net::Family::kIPv4 ? 0 : 1];
  }
  std::vector<xtables::IptablesTool*> Tools(const std::vector<net::Family>& families);
  std::string IptablesRules();
  void AddForeignIptablesRules();

 private:
  const Room room_;
  std::vector<std::unique_ptr<xtables::IptablesTool>> tools_;  // IPv4's, IPv6's
};

// Puts a program of its own before each iptables-restore, for the calling thread and what it
// starts: tools that are made from now on can be broken.
void ReplaceTools();

// "" when they are the same, else the first line that differs.
std::string Difference(const std::string& a, const std::string& b);

}  // namespace pointsman::agent::testing
