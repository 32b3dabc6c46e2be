#include "node-agent/xtables/forward_accept.h"

#include <algorithm>
#include <arpa/inet.h>  // netinet/in.h, which has to come before linux/in.h
#include <iterator>
#include <linux/netfilter.h>
#include <stdexcept>
#include <system_error>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/unique_fd.h"
#include "node-agent/netlink/nft_chain.h"
#include "node-agent/netlink/socket.h"
#include "node-agent/xtables/chain_names.h"
#include "node-agent/xtables/legacy_table.h"

namespace pointsman::agent::xtables {
namespace {

constexpr std::string_view kFilterTable = "filter";
constexpr std::string_view kForwardBuiltin = "FORWARD";

struct ForwardSeen {
  bool drops = false;   // its policy is not to accept
  size_t others = 0;    // rules that do not lead to a chain of ours
  bool jumped = false;  // one leads to ForwardAccept's
  bool chain = false;   // that is there
};

template <typename Types>
ForwardSeen ReadForward(int fd) {
  ForwardSeen found;
  const LegacyTable<Types> table =
      ReadLegacyTable<Types>(fd, std::string(kFilterTable), [](const auto&) {
        return true;
      }).value();
  const auto& info = table.info();
  const auto* policy = table.At(info.underflow[NF_INET_FORWARD]);
  found.drops = policy != nullptr && !table.Accepts(*policy);
  for (size_t at = info.hook_entry[NF_INET_FORWARD]; at < info.underflow[NF_INET_FORWARD];) {
    const auto* rule = table.At(at);
    if (rule == nullptr) break;
    const std::string_view target = table.TargetChain(*rule);
    found.jumped = found.jumped || target == ForwardAccept::kChain;
    if (!target.starts_with(kOurs)) ++found.others;
    at += rule->next_offset;
  }
  for (size_t at = 0; const auto* entry = table.At(at); at += entry->next_offset)
    found.chain = found.chain || table.ChainBegunBy(*entry) == ForwardAccept::kChain;
  return found;
}

ForwardSeen ReadLegacyForward(net::Family family) {
  if (!LegacyTablesInUse(family).contains(std::string(kFilterTable))) return {};
  try {
    const UniqueFd socket = LegacyTableSocket(family);
    return family == net::Family::kIPv4 ? ReadForward<LegacyIpv4>(socket.get())
                                        : ReadForward<LegacyIpv6>(socket.get());
  } catch (const std::system_error& error) {
    // An agent without CAP_NET_RAW could not write there either; the survey of neighbours says what
    // could not be looked at.
    if (error.code() == std::errc::operation_not_permitted) return {};
    throw;
  }
}

ForwardSeen ReadNftChains(net::Family family) {
  netlink::Socket socket(NETLINK_NETFILTER);
  const netlink::NftChain chain =
      netlink::ReadNftChain(socket, family, kFilterTable, kForwardBuiltin);
  const auto ours = std::count_if(chain.targets.begin(), chain.targets.end(),
                                  [](const auto& to) { return to.starts_with(kOurs); });
  const auto policy = netlink::NftChainPolicy(socket, family, kFilterTable, kForwardBuiltin);
  return {.drops = policy.has_value() && *policy != NF_ACCEPT,
          .others = chain.rules - std::min(chain.rules, static_cast<size_t>(ours)),
          .jumped = std::find(chain.targets.begin(), chain.targets.end(), ForwardAccept::kChain) !=
                    chain.targets.end(),
          .chain = netlink::HasNftChain(socket, family, kFilterTable, ForwardAccept::kChain)};
}

ForwardSeen ReadNftForward(net::Family family) {
  try {
    return ReadNftChains(family);
  } catch (const std::system_error& error) {
    if (error.code() == std::errc::protocol_not_supported) return {};  // no netfilter's netlink
    throw;
  }
}

}  // namespace

void RenderForwardRules(std::string_view chain, int masquerade_bit, std::string& text) {
  const std::string mark = fmt::format("{:#x}", 1U << static_cast<unsigned>(masquerade_bit));
  fmt::format_to(std::back_inserter(text),
                 "-A {0} -m mark --mark {1}/{1} -j ACCEPT\n"
                 "-A {0} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n",
                 chain, mark);
}

Jump ForwardJump(std::string_view chain) {
  return {.rule = fmt::format("-m comment --comment \"pointsman: forward\" -j {}", chain),
          .place = JumpPlace::kBehindPolicies};
}

ForwardAccept::ForwardAccept(net::Family family, XtablesVariant variant, int masquerade_bit,
                             const std::vector<IptablesTool*>& tools)
    : family_(family), variant_(variant) {
  RenderForwardRules(kChain, masquerade_bit, rules_);
  const auto tool = std::find_if(tools.begin(), tools.end(), [&](const IptablesTool* each) {
    return each->family() == family && each->Is(variant);
  });
  if (tool == tools.end()) return;
  tool_ = *tool;
  keepers_ = LastKeepers(tool_->last_keepers());
}

IptablesTool& ForwardAccept::Tool() {
  if (tool_ == nullptr) {
    own_tool_ = std::make_unique<IptablesTool>(
        family_, variant_ == XtablesVariant::kLegacy ? "legacy" : "nft");
    tool_ = own_tool_.get();
  }
  return *tool_;
}

ForwardAccept::Seen ForwardAccept::Look() const {
  const ForwardSeen found =
      variant_ == XtablesVariant::kLegacy ? ReadLegacyForward(family_) : ReadNftForward(family_);
  return {.drops = found.drops,
          .needed = found.drops || found.others > 0,
          .ours = found.jumped || found.chain};
}

std::optional<KernelRules> ForwardAccept::Read(const Seen& seen) {
  const auto left_alone = [&](const std::runtime_error& error) {
    if (seen.drops || seen.ours) throw;
    // Its rules may refuse Services' traffic, and most do not.
    if (unread_ != error.what()) {
      unread_ = error.what();
      spdlog::warn("nothing is accepted in {} chain FORWARD of table filter: {}",
                   net::ToString(family_), unread_);
    }
    return std::nullopt;
  };
  try {
    Tool();
  } catch (const std::runtime_error& error) {  // it is not installed
    return left_alone(error);
  }
  try {
    return ReadKernelRules(Tool(), kFilterTable, kPrefix);
  } catch (const IncompatibleTable& error) {
    return left_alone(error);
  }
}

ForwardAccept::Change ForwardAccept::Compare(const KernelRules& kernel, bool wanted, bool teach) {
  const std::string chain(kChain);
  std::vector<Jump> jumps;
  if (wanted) {
    jumps.push_back(ForwardJump(kChain));
    jumps.back().late = true;
  }
  if (wanted && teach) kernel.builtin.Teach(kForwardBuiltin, jumps, keepers_);

  Change change;
  std::string declared;
  std::string rules;
  std::string deleted;
  const auto declare = [&declared](std::string_view name) {
    fmt::format_to(std::back_inserter(declared), ":{} - [0:0]\n", name);
  };
  RuleHash hash;
  hash.AddText(rules_);
  const auto is = kernel.chains.find(chain);
  if (wanted && (is == kernel.chains.end() || is->second != hash)) {
    change.rules = true;
    declare(kChain);
    rules = rules_;
    change.writes += hash.rules() + 1;
  }
  for (const auto& [name, unused] : kernel.chains) {
    if (wanted && name == kChain) continue;
    change.extra = true;
    declare(name);  // emptied: the kernel refuses to delete a chain with rules
    deleted += fmt::format("-X {}\n", name);
    ++change.writes;
  }
  // In each builtin chain: somebody may have put one elsewhere.
  auto place = [&](std::string_view builtin, const std::vector<Jump>& of) {
    const JumpChanges changes = kernel.builtin.Place(builtin, of, keepers_);
    if (changes.empty()) return;
    (of.empty() ? change.extra : change.jump) = true;
    changes.Render(builtin, rules);
    change.writes += changes.writes();
  };
  for (const auto& [builtin, unused] : kernel.builtin.OurJumps()) {
    if (builtin != kForwardBuiltin) place(builtin, {});
  }
  place(kForwardBuiltin, jumps);
  if (change.writes > 0)
    change.text = fmt::format("*{}\n{}{}{}COMMIT\n", kFilterTable, declared, rules, deleted);
  return change;
}

SyncResult ForwardAccept::Write(const Change& change) {
  SyncResult result;
  if (change.writes == 0) return result;
  Tool().Restore(change.text);
  result.kernel_writes = change.writes;
  return result;
}

SyncResult ForwardAccept::Ensure() {
  const Seen seen = Look();
  if (!seen.needed && !seen.ours) return {};
  const std::optional<KernelRules> kernel = Read(seen);
  if (!kernel) return {};
  const Change change = Compare(*kernel, seen.needed, /*teach=*/true);
  SyncResult result = Write(change);
  // What was never there, or is not needed any more, was not damaged.
  if (seen.needed && seen.ours)
    result.repaired = static_cast<uint64_t>(change.rules) + static_cast<uint64_t>(change.jump) +
                      static_cast<uint64_t>(change.extra);
  return result;
}

VerifyResult ForwardAccept::Verify() {
  VerifyResult result;
  const Seen seen = Look();
  if (!seen.needed && !seen.ours) return result;
  const std::optional<KernelRules> kernel = Read(seen);
  if (!kernel) return result;
  const Change change = Compare(*kernel, seen.needed, /*teach=*/false);
  result.objects_checked += 2;  // the chain and its jump
  const auto differ = [&](std::string_view object, std::string_view what) {
    result.Differ(fmt::format("{} {} in table {}", net::ToString(family_), object, kFilterTable),
                  std::string(what));
  };
  const std::string chain = fmt::format("chain {}", kChain);
  if (change.rules) differ(chain, "is missing or has other rules than were written");
  if (change.jump)
    differ("chain FORWARD", "has a jump to our chain that is missing, or not where it was put");
  if (change.extra) {
    differ(seen.needed ? "a chain or jump" : chain, "is ours by its name, but nothing asks for it");
  }
  return result;
}

SyncResult ForwardAccept::Remove() {
  const Seen seen = Look();
  if (!seen.ours) return {};
  const std::optional<KernelRules> kernel = Read(seen);
  return Write(Compare(kernel.value(), /*wanted=*/false, /*teach=*/false));
}

}  // namespace pointsman::agent::xtables
