#include "node-agent/agent/node_sysctls.h"

#include <algorithm>
#include <charconv>

#include "node-agent/sysctl/sysctl.h"

namespace pointsman::agent {
namespace {

std::optional<int64_t> ReadNumber(const std::string& name) {
  const auto text = ReadSysctl(name);
  int64_t value = 0;
  if (!text ||
      std::from_chars(text->data(), text->data() + text->size(), value).ec != std::errc()) {
    return std::nullopt;
  }
  return value;
}

struct Wanted {
  const char* name = nullptr;
  int64_t value = 0;
  bool at_least = false;  // a greater one stays
};

// A setting of 0 asks for nothing.
std::vector<Wanted> WantedSysctls(const kube::ProxySettings& settings) {
  const kube::ConntrackSettings& conntrack = settings.conntrack;
  std::vector<Wanted> wanted;
  if (conntrack.max_per_core.value_or(0) > 0) {
    const int64_t cores = std::max(1U, std::thread::hardware_concurrency());
    wanted.push_back({"net.netfilter.nf_conntrack_max",
                      std::max<int64_t>(*conntrack.max_per_core * cores, conntrack.min.value_or(0)),
                      /*at_least=*/true});
  }
  const auto seconds = [&wanted](const char* name, kube::Duration duration) {
    const auto value = std::chrono::duration_cast<std::chrono::seconds>(duration).count();
    if (value > 0) wanted.push_back({name, value});
  };
  seconds("net.netfilter.nf_conntrack_tcp_timeout_established", conntrack.tcp_established_timeout);
  seconds("net.netfilter.nf_conntrack_tcp_timeout_close_wait", conntrack.tcp_close_wait_timeout);
  seconds("net.netfilter.nf_conntrack_udp_timeout", conntrack.udp_timeout);
  seconds("net.netfilter.nf_conntrack_udp_timeout_stream", conntrack.udp_stream_timeout);
  if (conntrack.tcp_be_liberal) wanted.push_back({"net.netfilter.nf_conntrack_tcp_be_liberal", 1});
  return wanted;
}

}  // namespace

void ApplyNodeSysctls(const kube::ProxySettings& settings) {
  for (const Wanted& wanted : WantedSysctls(settings)) {
    if (wanted.at_least) {
      const auto now = ReadNumber(wanted.name);
      if (now && *now >= wanted.value) continue;
    }
    const SysctlResult result = WriteSysctl(wanted.name, std::to_string(wanted.value));
    if (!result.ok()) spdlog::warn("{}", result.error);
  }
}

std::vector<std::string> NodeSysctlNames(const kube::ProxySettings& settings) {
  std::vector<std::string> names;
  for (const Wanted& wanted : WantedSysctls(settings))
    names.emplace_back(wanted.name);
  return names;
}

}  // namespace pointsman::agent
