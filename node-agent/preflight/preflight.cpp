#include "node-agent/preflight/preflight.h"

#include <cerrno>
#include <sys/stat.h>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "kube/process/kernel_release.h"
#include "node-agent/dataplane/mode_traits.h"
#include "node-agent/nftables/kernel_support.h"
#include "node-agent/preflight/kernel_probes.h"
#include "node-agent/preflight/module_loader.h"
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

class Preflight {
 public:
  Preflight(const kube::ProxySettings& settings, bool load, const std::string& root,
            const std::string& release)
      : load_(load),
        policy_(settings.modules.policy),
        loader_(root, release),
        directory_(root + "/lib/modules/" + release),
        release_(release) {}

  struct Outcome {
    kube::ModuleStatus status;
    bool ok = true;
    std::string reason;   // if not ok
    std::string problem;  // if not ok: "module is blacklisted", "" for plainly missing
  };

  Outcome Need(const std::string& name) {
    Outcome outcome{.status = {name, "Missing"}, .ok = true};
    switch (loader_.Look(name)) {
      case ModuleLoader::State::kBuiltin:
        outcome.status.state = "Builtin";
        return outcome;
      case ModuleLoader::State::kLoaded:
        outcome.status.state = "Loaded";
        return outcome;
      case ModuleLoader::State::kLoadable:
        break;
      case ModuleLoader::State::kNotFound:
        return Ask(name);
    }
    if (policy_ == kube::ModulePolicy::kRequireLoaded) {
      return Fail(name, "Loadable", "ModuleNotLoaded",
                  "is not loaded, and modules.policy is RequireLoaded: load it (modprobe " + name +
                      ", /etc/modules-load.d) or set the policy Load");
    }
    if (!load_) {
      outcome.status.state = "Loadable";
      return outcome;
    }
    const ModuleLoader::LoadResult loaded = loader_.Load(name);
    if (!loaded.ok) {
      return Fail(name, "Missing", loaded.not_permitted ? "NotPermitted" : "ModuleNotLoaded",
                  "could not be loaded: " + loaded.error);
    }
    outcome.status.state = "LoadedNow";
    return outcome;
  }

  // What a person needs to know to get the missing modules.
  std::string WhereToGetThem() const {
    if (!Exists("/proc/modules")) {
      return "this kernel was built without loadable modules (CONFIG_MODULES): boot another one, "
             "or choose a mode it can do";
    }
    if (!Exists(directory_)) {
      return fmt::format(
          "{} does not exist: mount the host's /lib/modules, or install the modules of this kernel",
          directory_);
    }
    return fmt::format(
        "neither built in, nor loaded, nor in {}: install the package with this kernel's further "
        "modules (linux-modules-extra, kernel-modules-extra), or choose another mode",
        directory_);
  }

 private:
  static Outcome Fail(const std::string& name, std::string state, std::string reason,
                      std::string problem) {
    return {.status = {name, std::move(state)},
            .ok = false,
            .reason = std::move(reason),
            .problem = std::move(problem)};
  }

  static Outcome Ask(const std::string& name) {
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
  ModuleLoader loader_;
  const std::string directory_;
  const std::string release_;
};

// In the order of what a person has to solve first.
std::string_view Worse(std::string_view a, std::string_view b) {
  for (std::string_view reason : {"NotPermitted", "ModuleMissing", "ModuleNotLoaded"}) {
    if (a == reason || b == reason) return reason;
  }
  return a;
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

  Preflight preflight(settings, load, modules_root, result.kernel_release);
  std::vector<Preflight::Outcome> outcomes;
  auto need = [&](const std::vector<std::string>& modules, std::vector<Preflight::Outcome>& into) {
    bool ok = true;
    for (const std::string& module : modules) {
      into.push_back(preflight.Need(module));
      ok = ok && into.back().ok;
    }
    return ok;
  };
  if (TraitsOf(mode).uses_iptables) {
    // Either variant will do; what is reported as missing is legacy's unless only nft's tools are
    // here.
    std::vector<Preflight::Outcome> legacy;
    std::vector<Preflight::Outcome> nft;
    const bool legacy_ok = HasTools("legacy") && need(LegacyTableModules(), legacy);
    const bool nft_ok = !legacy_ok && HasTools("nft") && need(NftTableModules(version), nft);
    outcomes = nft_ok || legacy.empty() ? std::move(nft) : std::move(legacy);
  }
  std::vector<Preflight::Outcome> own;
  need(RequiredModules(mode, settings, version), own);
  // What gives the mode its name comes first.
  outcomes.insert(outcomes.begin(), own.begin(), own.end());

  std::vector<std::string> missing;
  std::vector<std::string> problems;
  for (const Preflight::Outcome& outcome : outcomes) {
    result.modules.push_back(outcome.status);
    if (outcome.ok) continue;
    result.reason = result.reason.empty() ? outcome.reason : Worse(result.reason, outcome.reason);
    if (outcome.problem.empty()) {
      missing.push_back(outcome.status.name);
    } else {
      problems.push_back("module " + outcome.status.name + " " + outcome.problem);
    }
  }
  const bool ipv6 = Exists("/proc/net/if_inet6");
  for (const OptionalModule& module : OptionalModules(mode, ipv6)) {
    Preflight::Outcome outcome = preflight.Need(module.name);
    result.modules.push_back(outcome.status);
    if (!outcome.ok) {
      result.warnings.push_back(fmt::format("module {} {}: {}", module.name,
                                            outcome.problem.empty() ? "not found" : outcome.problem,
                                            module.without));
    }
  }
  for (const std::string& module : settings.modules.extra) {
    Preflight::Outcome outcome = preflight.Need(module);
    result.modules.push_back(outcome.status);
    if (!outcome.ok) {
      result.warnings.push_back(
          fmt::format("module {} (modules.extra) {}", module,
                      outcome.problem.empty() ? "not found" : outcome.problem));
    }
  }
  // Not before its modules are there: to ask would load them.
  const bool loaded =
      std::none_of(result.modules.begin(), result.modules.end(),
                   [](const kube::ModuleStatus& module) { return module.state == "Loadable"; });
  if (mode == kube::Mode::kNftables && result.reason.empty() && loaded) {
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
  if (mode == kube::Mode::kIpvs && result.reason.empty() && loaded &&
      IpvsHasSctp({"/proc/config.gz", modules_root + "/boot/config-" + result.kernel_release,
                   modules_root + "/lib/modules/" + result.kernel_release + "/config"}) == false) {
    result.warnings.push_back(
        fmt::format("Services with protocol SCTP cannot be served: kernel {}'s IPVS was built "
                    "without it (CONFIG_IP_VS_PROTO_SCTP)",
                    result.kernel_release));
  }
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
