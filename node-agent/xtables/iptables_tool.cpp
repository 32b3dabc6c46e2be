#include "node-agent/xtables/iptables_tool.h"

#include <cstdio>
#include <cstdlib>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "kube/process/child_process.h"
#include "kube/text/text.h"
#include "node-agent/netlink/nft_probe.h"
#include "node-agent/xtables/hint_chains.h"
#include "node-agent/xtables/save_reader.h"

namespace pointsman::agent::xtables {
namespace {

// How long a tool waits for the xtables lock, as kube-proxy (pkg/util/iptables WaitSecondsValue).
// Who waits holds up all other changes of this node: a lock that is held longer is a problem of
// that sync, which is tried again.
constexpr char kLockWaitSeconds[] = "5";

std::string FindProgram(const std::string& name) {
  for (const char* directory : {"/usr/local/sbin/", "/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/"}) {
    std::string path = directory + name;
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return "";
}

// Of what a tool said and of the line that it said it of, in bytes: it goes into conditions, and a
// line may be a tenant's.
constexpr size_t kMostOfError = 1024;
constexpr size_t kMostOfLine = 512;

std::string Shown(std::string_view error_output) {
  return text::Message(text::TrimSpace(error_output), kMostOfError);
}

// iptables-restore names a line as "line 7 failed", "line: 7" or "line 7: …". 0: none.
size_t NamedLine(std::string_view message) {
  for (size_t at = message.find("line"); at != std::string_view::npos;
       at = message.find("line", at + 1)) {
    size_t digit = at + 4;
    while (digit < message.size() && (message[digit] == ' ' || message[digit] == ':'))
      ++digit;
    size_t number = 0;
    while (digit < message.size() && message[digit] >= '0' && message[digit] <= '9' &&
           number < 100'000'000) {
      number = number * 10 + static_cast<size_t>(message[digit++] - '0');
    }
    if (number > 0) return number;
  }
  return 0;
}

// Pieces end with whole lines.
std::string_view LineOf(std::span<const std::string_view> pieces, size_t number) {
  size_t line = 0;
  for (std::string_view piece : pieces) {
    while (!piece.empty()) {
      const size_t end = std::min(piece.find('\n'), piece.size());
      if (++line == number) return piece.substr(0, end);
      piece.remove_prefix(std::min(end + 1, piece.size()));
    }
  }
  return {};
}

struct Variant {
  std::string name;
  std::string restore;
  std::string save;
  bool usable = false;
  bool has_hint = false;
  size_t rules = 0;
  std::string error;          // why it is not usable
  bool incompatible = false;  // `error` is an IncompatibleTable's
};

void Lines(const std::string& path, std::string_view table,
           const std::function<void(std::string_view)>& on_line) {
  std::vector<std::string> argv{path};
  if (!table.empty()) argv.insert(argv.end(), {"-t", std::string(table)});
  SaveReader reader(fmt::format("{}", fmt::join(argv, " ")), on_line);
  const kube::ChildExit exit =
      kube::RunChild(argv, {}, [&](std::string_view piece) { reader.Add(piece); });
  if (exit.status != 0) {
    throw std::runtime_error(fmt::format("{} ended with status {}: {}", fmt::join(argv, " "),
                                         exit.status, Shown(exit.error_output)));
  }
}

// Looks whether the variant can do nat here and how many rules it holds.
void Look(Variant& variant, net::Family family) {
  const std::string prefix = family == net::Family::kIPv4 ? "iptables-" : "ip6tables-";
  variant.restore = FindProgram(prefix + variant.name + "-restore");
  variant.save = FindProgram(prefix + variant.name + "-save");
  if (variant.restore.empty() || variant.save.empty()) return;
  if (variant.name == "nft" && !netlink::KernelHasNftNat(family)) return;
  bool kubelet = false;
  auto count = [&](std::string_view line) {
    if (line.starts_with("-A")) ++variant.rules;
    variant.has_hint = variant.has_hint || line.starts_with(":KUBE-IPTABLES-HINT ");
    kubelet = kubelet || line.starts_with(":KUBE-KUBELET-CANARY ");
    // An agent's own word would bind the next agent to it for good.
    const SavedLine parsed = ParseSavedLine(line);
    if (parsed.name == HintChains::kIptablesHint && HintChains::SaysOurs(parsed))
      variant.has_hint = false;
  };
  try {
    Lines(variant.save, "nat", count);
    Lines(variant.save, "filter", count);
    variant.usable = true;
    Lines(variant.save, "mangle", count);  // the kubelet's hint chain is here
  } catch (const IncompatibleTable& error) {
    variant.incompatible = !variant.usable;
    if (variant.incompatible) variant.error = error.what();
  } catch (const std::runtime_error& error) {
    // Legacy: this kernel has no such table. Without mangle there just is no hint.
    if (!variant.usable) variant.error = error.what();
    spdlog::debug("iptables variant {}: {}", variant.name, error.what());
  }
  variant.has_hint = variant.has_hint || kubelet;
}

// `asked`: by whom, for messages.
Variant Named(net::Family family, std::string_view name, const std::string& asked) {
  Variant variant{.name = std::string(name)};
  Look(variant, family);
  if (variant.restore.empty() || variant.save.empty()) {
    throw std::runtime_error(
        fmt::format("{}, but its iptables-restore or iptables-save is not installed", asked));
  }
  if (variant.incompatible) throw IncompatibleTable(variant.error);
  if (!variant.usable) {
    throw std::runtime_error(fmt::format("{}, but this kernel does not do {} nat that way", asked,
                                         net::ToString(family)));
  }
  return variant;
}

Variant Choose(net::Family family) {
  // nft first: looking at legacy makes its tables.
  Variant nft{.name = "nft"};
  Look(nft, family);
  if (nft.usable && nft.has_hint) return nft;
  Variant legacy{.name = "legacy"};
  Look(legacy, family);
  // Our own rules may be among those that cannot be read.
  if (nft.incompatible && !(legacy.usable && legacy.has_hint)) throw IncompatibleTable(nft.error);
  if (legacy.usable && nft.usable)
    return legacy.has_hint || legacy.rules >= nft.rules ? legacy : nft;
  if (legacy.usable) return legacy;
  if (nft.usable) return nft;
  throw std::runtime_error(fmt::format(
      "neither legacy nor nft iptables can do {} nat here: {}", net::ToString(family),
      legacy.restore.empty() && nft.restore.empty()
          ? "iptables-restore and iptables-save are not installed"
      : legacy.error.empty()
          ? "the kernel has no nat table (modules iptable_nat or nft_chain_nat)"
          : "the kernel has no nat table (modules iptable_nat or nft_chain_nat), or the "
            "agent may not look at it (CAP_NET_ADMIN, CAP_NET_RAW): " +
                legacy.error));
}

std::string Wish() {
  // Read once by the agent's first thread, before anything could change the environment.
  const char* wish = std::getenv("POINTSMAN_IPTABLES");  // NOLINT(concurrency-mt-unsafe)
  std::string name = wish == nullptr ? "" : wish;
  if (!name.empty() && name != "legacy" && name != "nft") {
    throw std::invalid_argument(
        fmt::format("POINTSMAN_IPTABLES is '{}'; it takes legacy or nft", name));
  }
  return name;
}

// MASQUERADE --random-fully came with iptables 1.6.2 and kernel 3.13.
bool HasRandomFully(const std::string& restore_path) {
  std::string version;
  kube::RunChild({restore_path, "--version"}, {}, [&](std::string_view piece) {
    if (version.size() < 4096) version.append(piece);
  });
  unsigned major = 0;
  unsigned minor = 0;
  unsigned patch = 0;
  const size_t at = version.find(" v");
  return at != std::string::npos &&
         std::sscanf(version.c_str() + at, " v%u.%u.%u", &major, &minor, &patch) == 3 &&
         std::tie(major, minor, patch) >= std::make_tuple(1U, 6U, 2U);
}

}  // namespace

IptablesTool::IptablesTool(net::Family family) : IptablesTool(family, "") {}

IptablesTool::IptablesTool(net::Family family, std::string_view variant) : family_(family) {
  const std::string wish = variant.empty() ? Wish() : "";
  const Variant chosen = !variant.empty()
                             ? Named(family, variant, fmt::format("rules of iptables-{}", variant))
                         : !wish.empty() ? Named(family, wish, "POINTSMAN_IPTABLES=" + wish)
                                         : Choose(family);
  variant_ = chosen.name;
  restore_path_ = chosen.restore;
  save_path_ = chosen.save;
  random_fully_ = HasRandomFully(restore_path_);
}

bool IptablesTool::KernelHasMatch(std::string_view name) const {
  return KernelHasXtMatch(
      family_, variant_ == "legacy" ? XtablesVariant::kLegacy : XtablesVariant::kNft, name);
}

void IptablesTool::Restore(std::string_view input) {
  Restore(std::span<const std::string_view>(&input, 1));
}

void IptablesTool::Restore(std::span<const std::string_view> pieces) {
  ++restore_failures_;  // unless it is seen to succeed: it may also throw
  kube::ChildExit exit =
      kube::RunChild({restore_path_, "--noflush", "-w", kLockWaitSeconds}, pieces, nullptr);
  if (exit.status == 0) {
    --restore_failures_;
    return;
  }
  std::string message = fmt::format("{} ended with status {}: {}", restore_path_, exit.status,
                                    Shown(exit.error_output));
  if (std::string_view line = LineOf(pieces, NamedLine(exit.error_output)); !line.empty()) {
    message += fmt::format(" [{}]", text::Message(line, kMostOfLine));
  }
  throw std::runtime_error(message);
}

void IptablesTool::SaveLines(std::string_view table,
                             const std::function<void(std::string_view)>& on_line) {
  Lines(save_path_, table, on_line);
}

std::string IptablesTool::Save(std::string_view table) {
  std::string text;
  SaveLines(table, [&](std::string_view line) {
    text.append(line);
    text.push_back('\n');
  });
  return text;
}

}  // namespace pointsman::agent::xtables
