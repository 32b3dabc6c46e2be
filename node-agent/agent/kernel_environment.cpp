#include "node-agent/agent/kernel_environment.h"

#include <charconv>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "kube/process/program_path.h"
#include "kube/process/version.h"
#include "node-agent/dataplane/family_parts.h"
#include "node-agent/dataplane/mode_traits.h"
#include "node-agent/iptables/iptables_dataplane.h"
#include "node-agent/ipvs/ipvs_dataplane.h"
#include "node-agent/modules/kernel_modules.h"
#include "node-agent/nftables/nftables_dataplane.h"
#include "node-agent/preflight/neighbour_check.h"
#include "node-agent/preflight/required_modules.h"
#include "node-agent/userspace/forwarder/address_plan.h"
#include "node-agent/userspace/userspace_dataplane.h"

namespace pointsman::agent {
namespace {

constexpr const char* kForwarder = "pointsman-forwarder";

size_t Index(net::Family family) {
  return family == net::Family::kIPv4 ? 0 : 1;
}

xtables::XtablesVariant VariantOf(const xtables::IptablesTool& tool) {
  return tool.variant() == "legacy" ? xtables::XtablesVariant::kLegacy
                                    : xtables::XtablesVariant::kNft;
}

// "https://10.0.0.1:6443" with an address, not a name: resolving a name may itself need a Service.
std::optional<net::IpPort> AddressOfServer(const std::string& url) {
  const size_t scheme = url.find("://");
  if (scheme == std::string::npos) return std::nullopt;
  std::string host = url.substr(scheme + 3, url.find('/', scheme + 3) - scheme - 3);
  uint16_t port = 443;
  const size_t colon = host.rfind(':');
  if (colon != std::string::npos && host.find(']', colon) == std::string::npos) {
    const char* const end = host.data() + host.size();
    if (std::from_chars(host.data() + colon + 1, end, port).ptr != end) return std::nullopt;
    host.resize(colon);
  }
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  const auto address = net::IpAddress::Parse(host);
  if (!address) return std::nullopt;
  return net::IpPort{*address, port};
}

}  // namespace

KernelEnvironment::KernelEnvironment(std::string modules_root, const std::string& api_server,
                                     std::string forwarder_launcher, std::string log_format,
                                     ClientTraffic::Windows windows)
    : modules_root_(std::move(modules_root)),
      forwarder_launcher_(std::move(forwarder_launcher)),
      log_format_(std::move(log_format)),
      api_server_(AddressOfServer(api_server)),
      probes_(api_server_),
      clients_(windows, [this] { return Now(); }),
      neighbours_(modules_root_) {}

KernelEnvironment::~KernelEnvironment() = default;

xtables::IptablesTool* KernelEnvironment::Tool(net::Family family) {
  std::unique_ptr<xtables::IptablesTool>& tool = tools_[Index(family)];
  std::string& error = tool_errors_[Index(family)];
  if (tool != nullptr) return tool.get();
  try {
    if (family == net::Family::kIPv6) LoadTables();
    tool = std::make_unique<xtables::IptablesTool>(family);
    if (!error.empty()) {
      spdlog::info("the iptables tools of {} work now", net::ToString(family));
      ++generation_;  // dataplanes were made without
      error.clear();
    }
  } catch (const std::exception& thrown) {
    tables_incompatible_[Index(family)] =
        dynamic_cast<const xtables::IncompatibleTable*>(&thrown) != nullptr;
    if (error != thrown.what()) {
      spdlog::warn("{} can only be served by mode nftables on this node: {}", net::ToString(family),
                   thrown.what());
    }
    error = thrown.what();
  }
  return tool.get();
}

std::vector<xtables::IptablesTool*> KernelEnvironment::ToolsThereAre() {
  std::vector<xtables::IptablesTool*> tools;
  for (const net::Family family : Families()) {
    if (xtables::IptablesTool* tool = Tool(family)) tools.push_back(tool);
  }
  return tools;
}

std::vector<xtables::IptablesTool*> KernelEnvironment::Tools() {
  std::vector<xtables::IptablesTool*> tools = ToolsThereAre();
  if (tools.empty()) throw std::runtime_error(tool_errors_[Index(net::Family::kIPv4)]);
  return tools;
}

// Legacy tables that nobody has used yet are in modules.
void KernelEnvironment::LoadTables() const {
  try {
    KernelModules(modules_root_)
        .Load({"ip6_tables", "ip6table_nat", "ip6table_filter", "ip6table_mangle"});
  } catch (const std::exception& error) {
    spdlog::warn("modules of ip6tables: {}", error.what());  // they may be there all the same
  }
}

std::string KernelEnvironment::ServeIpv6() {
  if (ipv6_) return "";
  if (access("/proc/net/if_inet6", F_OK) != 0) return "IPv6 is off in this kernel";
  ipv6_ = true;
  ++generation_;
  return "";
}

std::vector<net::Family> KernelEnvironment::Families() const {
  std::vector<net::Family> families{net::Family::kIPv4};
  if (ipv6_) families.push_back(net::Family::kIPv6);
  return families;
}

std::unique_ptr<Dataplane> KernelEnvironment::MakeDataplane(kube::Mode mode,
                                                            const kube::ProxySettings& settings) {
  switch (mode) {
    case kube::Mode::kIptables:
      return std::make_unique<IptablesDataplane>(settings, Tools());
    case kube::Mode::kIpvs:
      return std::make_unique<IpvsDataplane>(
          settings,
          [this, policy = settings.modules.policy](const std::string& scheduler) {
            return EnsureScheduler(scheduler, policy);
          },
          Tools(), ipvs::Room{}, modules_root_);
    case kube::Mode::kNftables:
      return std::make_unique<NftablesDataplane>(settings, Families(), ToolsThereAre());
    case kube::Mode::kUserspace:
      return std::make_unique<UserspaceDataplane>(
          settings,
          UserspaceDataplane::Options{.forwarder_program = kube::ProgramBesideThis(kForwarder),
                                      .launcher = forwarder_launcher_,
                                      .version = kVersion,
                                      .log_format = log_format_},
          Tools());
  }
  throw std::logic_error(fmt::format("there is no {} dataplane", kube::ToString(mode)));
}

std::string KernelEnvironment::EnsureScheduler(const std::string& scheduler,
                                               kube::ModulePolicy policy) const {
  const std::string module = "ip_vs_" + scheduler;
  try {
    const KernelModules modules(modules_root_);
    const bool load = policy != kube::ModulePolicy::kRequireLoaded;
    const ModuleState state = (load ? modules.Load({module}) : modules.LookUp({module})).front();
    switch (state.kind) {
      case ModuleState::Kind::kBuiltin:
      case ModuleState::Kind::kLoaded:
      case ModuleState::Kind::kLoadedNow:
        return "";
      case ModuleState::Kind::kNotFound:
        return "this node's kernel has no module " + module;
      case ModuleState::Kind::kLoadable:
        return "module " + module + " is not loaded, and modules.policy is RequireLoaded";
      case ModuleState::Kind::kNotPermitted:
      case ModuleState::Kind::kNotLoaded:
      case ModuleState::Kind::kUnknown:
        break;
    }
    return "module " + module + " could not be loaded: " + state.error;
  } catch (const std::exception& error) {
    return "module " + module + ": " + error.what();
  }
}

std::unique_ptr<Dataplane> KernelEnvironment::FindInKernel(kube::Mode mode,
                                                           const kube::ProxySettings& settings) {
  if (TraitsOf(mode).uses_iptables) {
    try {
      Tools();
    } catch (const std::exception& error) {
      spdlog::info("nothing of mode {} can be in this kernel: {}", kube::ToString(mode),
                   error.what());
      return nullptr;
    }
  }
  try {
    auto dataplane = MakeDataplane(mode, settings);
    if (dataplane->Present()) return dataplane;
  } catch (const std::system_error& error) {
    // A kernel without the mechanism has nothing of ours in it.
    if (error.code() != std::errc::no_such_file_or_directory) throw;
  }
  return nullptr;
}

PreflightResult KernelEnvironment::Preflight(kube::Mode mode, const kube::ProxySettings& settings,
                                             bool load) {
  PreflightResult result = RunPreflight(mode, settings, load, modules_root_);
  // Only where something is going to be written: to look at iptables' tables may make them.
  if (load && result.passed && TraitsOf(mode).uses_iptables) {
    // Everything else that a tool lacks is said when it is to write; but this lasts until somebody
    // takes the rules away, and another mode may run meanwhile.
    constexpr net::Family kMain = net::Family::kIPv4;
    if (Tool(kMain) == nullptr && tables_incompatible_[Index(kMain)]) {
      result.passed = false;
      result.reason = "TableIncompatible";
      result.message =
          fmt::format("mode {} cannot run: {}", kube::ToString(mode), tool_errors_[Index(kMain)]);
    }
  }
  if (mode == kube::Mode::kUserspace && result.passed && forwarder_launcher_.empty() &&
      kube::ProgramBesideThis(kForwarder).empty()) {
    result.passed = false;
    result.reason = "ToolMissing";
    result.message =
        "mode userspace cannot run: pointsman-forwarder is not installed in the "
        "directory of pointsman-node-agent";
  }
  neighbours_.Look(Now());
  AddNeighbours(ReportOn(mode, settings, neighbours_.findings()), neighbours_.unread(), mode,
                result);
  // Standalone there is no status to read them in.
  if (load && result.warnings != std::exchange(told_[mode], result.warnings)) {
    for (const std::string& warning : result.warnings)
      spdlog::warn("mode {}: {}", kube::ToString(mode), warning);
  }
  return result;
}

NeighbourView KernelEnvironment::LookAtNeighbours(const kube::ProxySettings& settings,
                                                  std::optional<kube::Mode> active) {
  neighbours_.Look(Now());
  return ViewOf(neighbours_.findings(), settings, active);
}

SyncResult KernelEnvironment::ForEachBase(
    const kube::ProxySettings& settings,
    const std::function<SyncResult(xtables::BaseRules&)>& call) {
  SyncResult sum;
  for (const net::Family family : Families()) {
    AddPartOf(family, "the shared masquerade rules", sum, [&] {
      xtables::IptablesTool* const tool = Tool(family);
      if (tool == nullptr) throw std::runtime_error(tool_errors_[Index(family)]);
      xtables::BaseRules rules(*tool, settings.iptables.masquerade_bit);
      return call(rules);
    });
  }
  // Such a mode has masquerade rules of its own and runs on nodes without iptables.
  if (!TraitsOf(settings.mode).uses_iptables && !sum.ok()) {
    spdlog::debug("no shared masquerade rules, which mode {} does not need: {}",
                  kube::ToString(settings.mode), sum.problems.front().message);
    sum.problems.clear();
  }
  return sum;
}

SyncResult KernelEnvironment::EnsureBase(const kube::ProxySettings& settings) {
  return ForEachBase(settings, [](xtables::BaseRules& rules) { return rules.Ensure(); });
}

SyncResult KernelEnvironment::RemoveBase(const kube::ProxySettings& settings) {
  return ForEachBase(settings, [](xtables::BaseRules& rules) { return rules.Remove(); });
}

Canaries::Names KernelEnvironment::CanariesOf(kube::Mode mode) {
  Canaries::Names names;
  for (const net::Family family : Families()) {
    // Without a tool there is nothing of ours in iptables' tables, and nothing to make any for.
    if (const auto& tool = tools_[Index(family)]; tool != nullptr) {
      std::optional<xtables::KernelJumps>& jumps = jumps_[Index(family)];
      if (!jumps) jumps.emplace(family, VariantOf(*tool));
      AddJumpsOf(mode, family, jumps->Read(), names);
    }
    if (mode == kube::Mode::kNftables) AddNftables(family, names);
  }
  if (mode == kube::Mode::kIpvs) AddIpvs(modules_root_, names);
  return names;
}

uint64_t KernelEnvironment::FailedToolCalls() const {
  uint64_t failures = 0;
  for (const auto& tool : tools_) {
    if (tool != nullptr) failures += tool->restore_failures();
  }
  return failures;
}

bool KernelEnvironment::LooksAfterItsOwn(const net::IpAddress& address) {
  return forwarder::SlotOf(address).has_value();
}

std::optional<net::IpAddress> KernelEnvironment::ApiServerAddress() const {
  if (!api_server_) return std::nullopt;
  return api_server_->ip;
}

}  // namespace pointsman::agent
