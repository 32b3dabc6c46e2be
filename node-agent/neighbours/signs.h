// What other programs of a node have left in its kernel, as far as it tells who they are.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pointsman::agent {

enum class SignKind : uint8_t {
  kLink,               // a network interface's name
  kLinkKind,           // … its kind, as `ip -d link` shows it: "vrf"
  kLinkAddress,        // … that has an address beside link-local ones; `where` is that address
  kChain,              // a chain of iptables, of either variant; `where` begins with its table
  kNftTable,           // a table of nf_tables, of any family
  kIpset,              // a set's name
  kForwardPolicyDrop,  // the name of a chain that drops what no rule of it lets be forwarded, and
                       // in which no mode accepts: not FORWARD of iptables' table filter
  kRuleIif,            // a routing rule that asks for the interface of that name
  kUnfilteredBridge,   // a bridge's name whose frames iptables does not see
  kIpvsByMark,         // a virtual server that is found by a packet's mark; the mark
};

struct Sign {
  SignKind kind = SignKind::kLink;
  std::string name;
  std::string where;  // for a person, "" where the name says it all
  auto operator<=>(const Sign&) const = default;
};

struct Signs {
  std::vector<Sign> found;          // sorted, each once
  std::vector<std::string> unread;  // what could not be looked at, and why; for a person
  bool operator==(const Signs&) const = default;
};

// Of which signs there are, those that say something.
struct SignPattern {
  SignKind kind = SignKind::kLink;
  std::string_view name;        // exactly, or a beginning: "vlan.eth*"
  std::string_view table = {};  // kChain: in that table only
};

bool MatchesName(const SignPattern& pattern, SignKind kind, std::string_view name);
bool Matches(const SignPattern& pattern, const Sign& sign);

// Keeps the first in order of name of what matches each pattern, and nothing of all the rest: there
// may be a hundred thousand chains. Not thread-safe.
class SignCollector {
 public:
  explicit SignCollector(const std::vector<SignPattern>& patterns);

  // Is there a pattern of that kind? Else nothing of it need be looked for.
  bool Wants(SignKind kind) const;
  // … and, `where` aside, one that matches that name?
  bool Wants(SignKind kind, std::string_view name) const;
  void Offer(SignKind kind, std::string_view name, std::string_view where = {});
  void Unread(std::string what) { unread_.push_back(std::move(what)); }
  // Only what was offered since the last call.
  Signs Take();
  // Forgets what was offered of that kind: its list is read again from the beginning.
  void Forget(SignKind kind);

 private:
  struct Slot {
    SignPattern pattern;
    bool filled = false;
    Sign first;
  };
  std::vector<Slot> slots_;
  std::vector<std::string> unread_;
};

}  // namespace pointsman::agent
