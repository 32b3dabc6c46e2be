#include "node-agent/agent/kernel_environment.h"

#include <charconv>

#include "node-agent/agent/version.h"
#include "node-agent/iptables/base_rules.h"
#include "node-agent/iptables/iptables_dataplane.h"
#include "node-agent/ipvs/ipvs_dataplane.h"
#include "node-agent/userspace/userspace_dataplane.h"

namespace pointsman::agent {
namespace {

// Enough to notice that Services do not answer, few enough to take no time.
constexpr size_t kServiceProbes = 5;
constexpr std::chrono::milliseconds kProbeTimeout{1000};

// "https://10.0.0.1:6443" with an address, not a name: resolving a name may itself need a Service.
std::optional<Probe> ProbeOfServer(const std::string& url) {
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
  return Probe{fmt::format("the API server at {}", url.substr(scheme + 3)), *address, port};
}

}  // namespace

KernelEnvironment::KernelEnvironment(std::string modules_root, const std::string& api_server)
    : modules_root_(std::move(modules_root)), api_server_(ProbeOfServer(api_server)) {}

KernelEnvironment::~KernelEnvironment() = default;

IptablesTool& KernelEnvironment::Tool() {
  if (tool_ == nullptr) tool_ = std::make_unique<IptablesTool>(net::Family::kIPv4);
  return *tool_;
}

bool KernelEnvironment::Supports(kube::Mode mode) const {
  return mode == kube::Mode::kIptables || mode == kube::Mode::kIpvs ||
         mode == kube::Mode::kUserspace;
}

std::unique_ptr<Dataplane> KernelEnvironment::MakeDataplane(kube::Mode mode,
                                                            const kube::ProxySettings& settings) {
  switch (mode) {
    case kube::Mode::kIptables:
      return std::make_unique<IptablesDataplane>(settings, Tool());
    case kube::Mode::kIpvs:
      return std::make_unique<IpvsDataplane>(settings, Tool());
    case kube::Mode::kUserspace:
      return std::make_unique<UserspaceDataplane>(
          settings,
          UserspaceDataplane::Options{.forwarder_program = ForwarderBesideThisProgram(),
                                      .version = kVersion},
          std::vector<IptablesTool*>{&Tool()});
    case kube::Mode::kNftables:
      break;
  }
  throw std::logic_error(fmt::format("there is no {} dataplane", kube::ToString(mode)));
}

std::unique_ptr<Dataplane> KernelEnvironment::FindInKernel(kube::Mode mode,
                                                           const kube::ProxySettings& settings) {
  if (!Supports(mode)) return nullptr;
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
  if (mode == kube::Mode::kUserspace && result.passed && ForwarderBesideThisProgram().empty()) {
    result.passed = false;
    result.reason = "ToolMissing";
    result.message =
        "mode userspace cannot run: pointsman-forwarder is not installed in the "
        "directory of pointsman-node-agent";
  }
  return result;
}

SyncResult KernelEnvironment::EnsureBase(const kube::ProxySettings& settings) {
  try {
    return BaseRules(Tool(), settings.iptables.masquerade_bit).Ensure();
  } catch (const std::exception& error) {
    return {.problems = {{"the shared masquerade rules", error.what()}}};
  }
}

SyncResult KernelEnvironment::RemoveBase(const kube::ProxySettings& settings) {
  try {
    return BaseRules(Tool(), settings.iptables.masquerade_bit).Remove();
  } catch (const std::exception& error) {
    return {.problems = {{"the shared masquerade rules", error.what()}}};
  }
}

std::optional<net::IpAddress> KernelEnvironment::ApiServerAddress() const {
  if (!api_server_) return std::nullopt;
  return api_server_->address;
}

std::vector<std::string> KernelEnvironment::PassingProbes(const ServiceModel& model) {
  std::vector<Probe> probes;
  if (api_server_) probes.push_back(*api_server_);
  for (const auto& [id, entry] : model.entries) {
    if (probes.size() > kServiceProbes) break;
    if (id.protocol != Protocol::kTcp || entry->internal.backends.empty()) continue;
    probes.push_back(
        {fmt::format("{} at {}:{}", id.ToString(), entry->cluster_ip.ToString(), entry->port),
         entry->cluster_ip, entry->port});
  }
  return PassingTcpProbes(probes, kProbeTimeout);
}

}  // namespace pointsman::agent
