// Chains of kube-proxy's and of the kubelet's that others look for or jump to, for nodes on which
// neither makes them:
//
// * KUBE-MARK-MASQ in nat: hostPorts of CRI-O before 1.27 (cri-o#6772) and of CNI's portmap with
//   externalSetMarkChain jump to it; a Pod does not start without it (cilium#30666). Kubelets up to
//   1.26 made it too (KEP-3178);
// * KUBE-PROXY-CANARY in mangle: Cilium with waitForKubeProxy waits for it (cilium#20517);
// * KUBE-IPTABLES-HINT in mangle, the kubelet's: whether iptables' rules are legacy or nft (Calico,
//   Azure NPM, images with iptables-wrappers).
//
// That a chain is ours is seen by a rule in it that says so; in the last two, to which nobody
// jumps, it does nothing else. A chain with a rule of somebody else is theirs, and so is an empty
// one of the last two. kube-proxy and the kubelet take a chain that is there for their own
// (EnsureChain): once there is a sign that they run, our rule goes and the chain stays.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "node-agent/xtables/save_reader.h"

namespace pointsman::agent::xtables {

// Of one family and variant. Holds what was read; to look again is to make a new one.
class HintChains {
 public:
  static constexpr std::string_view kIptablesHint = "KUBE-IPTABLES-HINT";

  // `masquerade_bit` 0..31: of the mark that KUBE-MARK-MASQ sets.
  explicit HintChains(int masquerade_bit);

  // A line of iptables-save of `table`, "nat" or "mangle"; nat is read first.
  void AddLine(std::string_view table, const SavedLine& line);

  // Lines for iptables-restore that make, or take away, what is missing, or ours, in that table.
  // Adds how many of them there are to `writes`.
  std::string ToEnsure(std::string_view table, uint64_t& writes) const;
  std::string ToRemove(std::string_view table, uint64_t& writes) const;

  static bool IsHintChain(std::string_view name);
  // Does the line say that this hint chain was made by Pointsman?
  static bool SaysOurs(const SavedLine& line);

 private:
  static constexpr size_t kChains = 3;

  struct Found {
    bool exists = false;
    std::vector<std::string> ours;  // rules of ours, without "-A CHAIN "
    bool has_others = false;        // rules of somebody else
    bool jumped_to = false;
  };

  bool OwnerRuns(size_t chain) const;
  bool IsTheirs(size_t chain) const;

  std::array<std::string, kChains> wanted_;
  std::array<Found, kChains> found_;
  bool kube_proxy_ = false;
  bool kubelet_ = false;
};

}  // namespace pointsman::agent::xtables
