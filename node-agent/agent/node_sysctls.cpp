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

void Write(const std::string& name, int64_t value) {
  const SysctlResult result = WriteSysctl(name, std::to_string(value));
  if (!result.ok()) spdlog::warn("{}", result.error);
}

// 0: the kernel's value stays.
void WriteSeconds(const std::string& name, kube::Duration value) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(value).count();
  if (seconds > 0) Write(name, seconds);
}

}  // namespace

void ApplyNodeSysctls(const kube::ProxySettings& settings) {
  const kube::ConntrackSettings& conntrack = settings.conntrack;
  const int64_t cores = std::max(1U, std::thread::hardware_concurrency());
  const int64_t asked =
      std::max<int64_t>(conntrack.max_per_core.value_or(0) * cores, conntrack.min.value_or(0));
  if (conntrack.max_per_core.value_or(0) > 0) {
    const auto now = ReadNumber("net.netfilter.nf_conntrack_max");
    if (!now || *now < asked) Write("net.netfilter.nf_conntrack_max", asked);
  }
  WriteSeconds("net.netfilter.nf_conntrack_tcp_timeout_established",
               conntrack.tcp_established_timeout);
  WriteSeconds("net.netfilter.nf_conntrack_tcp_timeout_close_wait",
               conntrack.tcp_close_wait_timeout);
  WriteSeconds("net.netfilter.nf_conntrack_udp_timeout", conntrack.udp_timeout);
  WriteSeconds("net.netfilter.nf_conntrack_udp_timeout_stream", conntrack.udp_stream_timeout);
  if (conntrack.tcp_be_liberal) Write("net.netfilter.nf_conntrack_tcp_be_liberal", 1);
}

}  // namespace pointsman::agent
