// Where our jumps stand among the rules of others in iptables' builtin chains.
//
// Others put theirs there too: policy engines and firewalls keep themselves at the top, or at the
// end, whenever they look. So ours claim no place that another one wants: each only asks for what
// it needs, and is moved only when it does not have that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "node-agent/xtables/save_reader.h"

namespace pointsman::agent::xtables {

enum class JumpPlace : uint8_t {
  // For what sends Services' connections on, in table nat, where the first rule that translates a
  // connection decides. In front of kube-proxy's jumps, and of those that take whatever is
  // addressed to the node ("--dst-type LOCAL"; in ipvs mode a cluster IP is). What others put in
  // front of it stays there; a new one also leaves them their place when they see every packet.
  kBeforeProxies,
  // For what only refuses or drops, or must be there and no more: first when it is made, then
  // wherever others push it.
  kStays,
  // For what accepts, which ends a packet's way through the table. Behind all chains of others but
  // kube-proxy's, since one of them may refuse it: a NetworkPolicy, a firewall. In front of the
  // first rule that refuses everything, as kube-proxy's is. Never in front of one of ours that
  // refuses.
  kBehindPolicies,
};

// A rule of ours in a builtin chain.
struct Jump {
  std::string rule;  // without "-A CHAIN ", as iptables-save prints it
  JumpPlace place;
  // kBeforeProxies: a new one comes behind the jumps of our other modes.
  bool yields = false;
  // kBehindPolicies: a new one comes as late as it may, behind what others refuse there for some
  // packets only. Not where one of our other modes accepts already, beside which it comes: a
  // handover changes nothing of what is refused.
  bool late = false;
};

// What to write so that a builtin chain has its jumps, in this order.
struct JumpChanges {
  std::vector<std::string> removed;                      // "-D CHAIN <it>"
  std::vector<std::pair<size_t, std::string>> inserted;  // "-I CHAIN <first> <second>"
  bool had_none = false;                                 // none of ours was there

  bool empty() const { return removed.empty() && inserted.empty(); }
  size_t writes() const { return removed.size() + inserted.size(); }
  void Render(std::string_view builtin, std::string& text) const;
};

// Chains of others whose agent puts its jump to the end whenever it is not there (Calico's with
// ChainInsertMode Append): what stood in front of a jump of ours that accepts, and is found behind
// it later. To move ours behind such a chain at each look would have both agents move theirs for
// ever, and packets past it in between. So where nothing refuses everything after it, and ours
// would be of no use, it is taken away instead.
//
// One handover after the other makes dataplanes, and each has to know what one before has learnt:
// whoever does not leaves packets past such a chain until its agent and ours have looked again. And
// an agent does alike in all builtin chains: if cali-FORWARD is kept last, so is cali-INPUT.
class KnownKeepers {
 public:
  void Add(std::string_view builtin, const std::string& chain);
  bool Has(std::string_view builtin, std::string_view chain) const;

 private:
  std::set<std::pair<std::string, std::string>> keepers_;  // builtin chain, chain
  std::set<std::string> stems_;  // "cali-" of "cali-FORWARD", where that is in FORWARD
};

class LastKeepers {
 public:
  LastKeepers() : LastKeepers(std::make_shared<KnownKeepers>()) {}
  explicit LastKeepers(std::shared_ptr<KnownKeepers> known) : known_(std::move(known)) {}

  // Chains of others: that will be `in_front` of a jump of ours that accepts, and that were found
  // `behind` it.
  void Learn(std::string_view builtin, const std::vector<std::string>& in_front,
             const std::vector<std::string>& behind);
  bool Has(std::string_view builtin, const std::string& chain) const {
    return known_->Has(builtin, chain);
  }

 private:
  std::shared_ptr<KnownKeepers> known_;
  std::map<std::string, std::set<std::string>, std::less<>> in_front_;  // after the last look
};

// One table, as far as the place of our jumps depends on it. About 100 bytes for a rule in a
// builtin chain, and the names of others' chains.
class BuiltinChains {
 public:
  // `prefix`: of the chains that are ours, "POINTSMAN-IPT-"; it outlives this.
  explicit BuiltinChains(std::string_view prefix) : prefix_(prefix) {}

  // Each line of the table, in the order of iptables-save, "*filter" too.
  void Add(const SavedLine& line);

  // Builtin chain → the rules that jump to our chains, in their order.
  std::map<std::string, std::vector<std::string>, std::less<>> OurJumps() const;
  // Does one of our other modes have a jump in that builtin chain?
  bool HasJumpOfOtherMode(std::string_view builtin) const;
  // `wanted`: all of ours that `builtin` is to have, in the order of those of a place.
  JumpChanges Place(std::string_view builtin, std::vector<Jump> wanted,
                    const LastKeepers& keepers = {}) const;
  // What this look says of who keeps itself last. Before Place.
  void Teach(std::string_view builtin, const std::vector<Jump>& wanted, LastKeepers& keepers) const;

 private:
  struct Rule {
    enum class Kind : uint8_t {
      kOurs,
      kOtherMode,  // leads to a chain of another of our modes
      kProxy,      // to one of kube-proxy's
      kChain,      // to another one
      kRefuse,     // DROP, REJECT
      kReturn,
      kOther,
    } kind = Kind::kOther;
    bool every = false;       // for each packet
    bool goes = false;        // "-g"
    bool to_local = false;    // for what is addressed to the node
    bool policy_end = false;  // refuses what a chain of others, for the same packets, let by
    bool accepts = false;     // kOtherMode: leads to what accepts
    std::string text;         // kOurs: the rule; kChain: the chain
  };
  struct Builtin {
    std::vector<Rule> rules;
    bool policy_drops = false;
    std::set<std::string> matches;  // of the kChain among `rules`
  };
  // What decides in a chain of others.
  struct Step {
    enum class Kind : uint8_t { kAccept, kRefuse, kReturn, kChain } kind;
    bool every;
    bool goes;
    std::string chain;
  };
  // What the packets of a chain come to that none of its rules before its last has decided about.
  enum class Outcome : uint8_t { kReturned, kAccepted, kRefused };
  using Outcomes = std::map<std::string, Outcome, std::less<>>;
  // How many of others' rules may stand before a jump, and how many do before a new one.
  struct Window {
    size_t least;
    size_t most;
    size_t best;
  };
  using Others = std::vector<const Rule*>;
  // Rules of a builtin chain while their order is made: a wanted jump by its index, or kOther.
  using Order = std::vector<size_t>;
  static constexpr size_t kOther = static_cast<size_t>(-1);

  Rule Classify(std::string_view rule, Builtin& builtin) const;
  void AddStep(const SavedLine& line);
  Outcome OutcomeOf(const std::string& chain, Outcomes& known, size_t depth = 0) const;
  bool RefusesEverything(const Rule& rule, bool policy_drops, Outcomes& known) const;
  Window WindowOf(const Jump& jump, const Builtin& builtin, const Others& others) const;
  // Would accepting there change nothing, and be in the way of one that keeps itself last?
  bool IsOfNoUse(std::string_view name, const Window& window, const Others& others,
                 const LastKeepers& keepers) const;
  static bool IsRight(const std::vector<Window>& windows, const Order& order);
  static void InsertMissing(const std::vector<Window>& windows, Order& order);

  const std::string_view prefix_;
  bool is_filter_ = false;                  // only there something accepts
  std::unordered_set<std::string> chains_;  // of others
  std::map<std::string, Builtin, std::less<>> builtins_;
  std::map<std::string, std::vector<Step>, std::less<>> steps_;
};

// Is that chain one of kube-proxy's, in any of its modes? Others have chains called KUBE-… too.
bool IsKubeProxyChain(std::string_view chain);

}  // namespace pointsman::agent::xtables
