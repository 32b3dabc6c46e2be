#include "node-agent/preflight/preflight.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <sys/stat.h>
#include <system_error>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "kube/process/kernel_release.h"
#include "node-agent/dataplane/mode_traits.h"
#include "node-agent/modules/kernel_modules.h"
#include "node-agent/nftables/kernel_support.h"
#include "node-agent/preflight/kernel_probes.h"
#include "node-agent/preflight/required_modules.h"

namespace pointsman::agent {
namespace {

bool Exists(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0;
}

bool HasTools(const std::string& variant) {
  for (const char* directory : {"/usr/local/sbin/", "/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/"}) {
    const std::string prefix = directory + ("iptables-" + variant);
    if (::access((prefix + "-restore").c_str(), X_OK) == 0 &&
        ::access((prefix + "-save").c_str(), X_OK) == 0) {
      return true;
    }
  }
  return false;
}

// What a preflight says of a module.
struct Outcome {
  kube::ModuleStatus status;
  bool ok = true;
  std::string reason;   // if not ok
  std::string problem;  // if not ok: "module is blacklisted", "" for plainly missing
};

bool AllOk(const std::vector<Outcome>& outcomes) {
  return std::all_of(outcomes.begin(), outcomes.end(), [](const Outcome& one) { return one.ok; });
}

class Preflight {
 public:
  Preflight(const kube::ProxySettings& settings, bool load, const std::string& root)
      : load_(load), policy_(settings.modules.policy), modules_(root) {}

  // Of each module, in the same order.
  std::vector<Outcome> Need(const std::vector<std::string>& names) const {
    const bool load = load_ && policy_ != kube::ModulePolicy::kRequireLoaded;
    const std::vector<ModuleState> states = load ? modules_.Load(names) : modules_.LookUp(names);
    std::vector<Outcome> outcomes;
    outcomes.reserve(names.size());
    for (size_t i = 0; i < names.size(); ++i)
      outcomes.push_back(Judge(names[i], states[i]));
    return outcomes;
  }

  // Of one variant's tables. Either will do; what is reported as missing is legacy's unless only
  // nft's tools are here.
  std::vector<Outcome> NeedTables(KernelVersion version) const {
    std::vector<Outcome> legacy;
    if (HasTools("legacy")) {
      legacy = Need(LegacyTableModules());
      if (AllOk(legacy)) return legacy;
    }
    if (!HasTools("nft")) return legacy;
    std::vector<Outcome> nft = Need(NftTableModules(version));
    return AllOk(nft) || legacy.empty() ? nft : legacy;
  }

  // What a person needs to know to get the missing modules.
  std::string WhereToGetThem() const {
    if (!Exists("/proc/modules")) {
      return "this kernel was built without loadable modules (CONFIG_MODULES): boot another one, "
             "or choose a mode it can do";
    }
    if (!Exists(modules_.directory())) {
      return fmt::format(
          "{} does not exist: mount the host's /lib/modules, or install the modules of this kernel",
          modules_.directory());
    }
    return fmt::format(
        "neither built in, nor loaded, nor in {}: install the package with this kernel's further "
        "modules (linux-modules-extra, kernel-modules-extra), or choose another mode",
        modules_.directory());
  }

 private:
  Outcome Judge(const std::string& name, const ModuleState& state) const {
    switch (state.kind) {
      case ModuleState::Kind::kBuiltin:
        return {.status = {name, "Builtin"}};
      case ModuleState::Kind::kLoaded:
        return {.status = {name, "Loaded"}};
      case ModuleState::Kind::kLoadedNow:
        return {.status = {name, "LoadedNow"}};
      case ModuleState::Kind::kNotFound:
        return AskKernel(name);
      case ModuleState::Kind::kLoadable:
        if (policy_ != kube::ModulePolicy::kRequireLoaded) return {.status = {name, "Loadable"}};
        return Fail(name, "Loadable", "ModuleNotLoaded",
                    "is not loaded, and modules.policy is RequireLoaded: load it (modprobe " +
                        name + ", /etc/modules-load.d) or set the policy Load");
      case ModuleState::Kind::kNotPermitted:
        return Fail(name, "Missing", "NotPermitted", "could not be loaded: " + state.error);
      case ModuleState::Kind::kNotLoaded:
      case ModuleState::Kind::kUnknown:
        break;
    }
    return Fail(name, "Missing", "ModuleNotLoaded", "could not be loaded: " + state.error);
  }

  static Outcome Fail(const std::string& name, std::string state, std::string reason,
                      std::string problem) {
    return {.status = {name, std::move(state)},
            .ok = false,
            .reason = std::move(reason),
            .problem = std::move(problem)};
  }

  static Outcome AskKernel(const std::string& name) {
    try {
      if (KernelHasFacility(name)) return {.status = {name, "Builtin"}};
    } catch (const std::system_error& error) {
      return Fail(
          name, "Missing", error.code().value() == EPERM ? "NotPermitted" : "ModuleMissing",
          fmt::format("is not known to modprobe, and the kernel did not answer: {}", error.what()));
    }
    return Fail(name, "Missing", "ModuleMissing", "");
  }

  const bool load_;
  const kube::ModulePolicy policy_;
  const KernelModules modules_;
};

// In the order of what a person has to solve first.
std::string_view Worse(std::string_view a, std::string_view b) {
  for (std::string_view reason : {"NotPermitted", "ModuleMissing", "ModuleNotLoaded"}) {
    if (a == reason || b == reason) return reason;
  }
  return a;
}

// What the kernel can do with the modules that it has.
void CheckFeatures(kube::Mode mode, bool ipv6, const std::string& modules_root,
                   PreflightResult& result, std::vector<std::string>& problems) {
  if (mode == kube::Mode::kNftables) {
    for (const std::string& refused : nft::MissingFeatures(net::Family::kIPv4)) {
      result.reason = "FeatureMissing";
      problems.push_back(
          fmt::format("kernel {}'s nf_tables refuses {}", result.kernel_release, refused));
    }
    if (ipv6) {
      for (const std::string& refused : nft::MissingFeatures(net::Family::kIPv6)) {
        result.warnings.push_back(
            fmt::format("IPv6 Services cannot be served: kernel {}'s nf_tables refuses {}",
                        result.kernel_release, refused));
      }
    }
  }
  if (mode == kube::Mode::kIpvs &&
      IpvsHasSctp({"/proc/config.gz", modules_root + "/boot/config-" + result.kernel_release,
                   modules_root + "/lib/modules/" + result.kernel_release + "/config"}) == false) {
    result.warnings.push_back(
        fmt::format("Services with protocol SCTP cannot be served: kernel {}'s IPVS was built "
                    "without it (CONFIG_IP_VS_PROTO_SCTP)",
                    result.kernel_release));
  }
}

}  // namespace

PreflightResult RunPreflight(kube::Mode mode, const kube::ProxySettings& settings, bool load,
                             const std::string& modules_root) {
  PreflightResult result;
  result.kernel_release = kube::KernelRelease();
  const KernelVersion version = ParseKernelVersion(result.kernel_release);
  const KernelVersion oldest = OldestKernel(mode);
  if (version < oldest) {
    result.reason = "KernelTooOld";
    result.message =
        fmt::format("kernel {} is too old for mode {}: it needs {}.{}", result.kernel_release,
                    kube::ToString(mode), oldest.major, oldest.minor);
    return result;
  }
  if (TraitsOf(mode).uses_iptables && !HasTools("legacy") && !HasTools("nft")) {
    result.reason = "ToolMissing";
    result.message = "iptables-restore and iptables-save are not installed (package iptables)";
    return result;
  }

  const Preflight preflight(settings, load, modules_root);
  std::vector<Outcome> tables;
  if (TraitsOf(mode).uses_iptables) tables = preflight.NeedTables(version);
  // What gives the mode its name comes first, and is all looked up at once.
  std::vector<std::string> names = RequiredModules(mode, settings, version);
  const size_t required = names.size();
  const bool ipv6 = Exists("/proc/net/if_inet6");
  const std::vector<OptionalModule> optional = OptionalModules(mode, ipv6);
  for (const OptionalModule& module : optional)
    names.push_back(module.name);
  names.insert(names.end(), settings.modules.extra.begin(), settings.modules.extra.end());
  std::vector<Outcome> outcomes = preflight.Need(names);
  const std::vector<Outcome> others(outcomes.begin() + static_cast<std::ptrdiff_t>(required),
                                    outcomes.end());
  outcomes.resize(required);
  outcomes.insert(outcomes.end(), tables.begin(), tables.end());

  std::vector<std::string> missing;
  std::vector<std::string> problems;
  for (const Outcome& outcome : outcomes) {
    result.modules.push_back(outcome.status);
    if (outcome.ok) continue;
    result.reason = result.reason.empty() ? outcome.reason : Worse(result.reason, outcome.reason);
    if (outcome.problem.empty()) {
      missing.push_back(outcome.status.name);
    } else {
      problems.push_back("module " + outcome.status.name + " " + outcome.problem);
    }
  }
  for (size_t i = 0; i < others.size(); ++i) {
    const Outcome& outcome = others[i];
    result.modules.push_back(outcome.status);
    if (outcome.ok) continue;
    const std::string what = outcome.problem.empty() ? "not found" : outcome.problem;
    result.warnings.push_back(
        i < optional.size()
            ? fmt::format("module {} {}: {}", outcome.status.name, what, optional[i].without)
            : fmt::format("module {} (modules.extra) {}", outcome.status.name, what));
  }
  // Not before its modules are there: to ask would load them.
  const bool loaded =
      std::none_of(result.modules.begin(), result.modules.end(),
                   [](const kube::ModuleStatus& module) { return module.state == "Loadable"; });
  if (result.reason.empty() && loaded) CheckFeatures(mode, ipv6, modules_root, result, problems);
  result.passed = result.reason.empty();
  if (result.passed) {
    result.reason = "PreflightPassed";
    result.message = fmt::format("kernel {} has what mode {} needs", result.kernel_release,
                                 kube::ToString(mode));
    if (!result.warnings.empty())
      result.message += fmt::format("; but: {}", fmt::join(result.warnings, "; "));
    return result;
  }
  if (!missing.empty()) {
    problems.insert(problems.begin(),
                    fmt::format("kernel {} has no {} ({})", result.kernel_release,
                                fmt::join(missing, ", "), preflight.WhereToGetThem()));
  }
  result.message =
      fmt::format("mode {} cannot run: {}", kube::ToString(mode), fmt::join(problems, "; "));
  return result;
}

}  // namespace pointsman::agent
