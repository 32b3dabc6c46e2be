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

// Returns whether it has the value now.
bool Write(const std::string& name, int64_t value) {
  const SysctlResult result = WriteSysctl(name, std::to_string(value));
  if (!result.ok()) {
    spdlog::warn("{}", result.error);
  } else if (result.changed) {
    spdlog::info("sysctl {}: {} (was {})", name, value, result.old_value);
  }
  return result.ok();
}

// The table's size and its hash buckets, a quarter as many as kube-proxy has it: the kernel chooses
// them for its own size when the module is loaded, and with a larger one its chains grow long.
void RaiseTableSize(int64_t asked) {
  constexpr const char* kMax = "net.netfilter.nf_conntrack_max";
  constexpr const char* kBuckets = "net.netfilter.nf_conntrack_buckets";
  const auto max = ReadNumber(kMax);
  // Both are the first network namespace's alone: where the one cannot be written, nor can the
  // other.
  if ((!max || *max < asked) && !Write(kMax, asked)) return;
  const auto buckets = ReadNumber(kBuckets);
  if (buckets && *buckets < asked / 4) Write(kBuckets, asked / 4);
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
  if (conntrack.max_per_core.value_or(0) > 0) RaiseTableSize(asked);
  WriteSeconds("net.netfilter.nf_conntrack_tcp_timeout_established",
               conntrack.tcp_established_timeout);
  WriteSeconds("net.netfilter.nf_conntrack_tcp_timeout_close_wait",
               conntrack.tcp_close_wait_timeout);
  WriteSeconds("net.netfilter.nf_conntrack_udp_timeout", conntrack.udp_timeout);
  WriteSeconds("net.netfilter.nf_conntrack_udp_timeout_stream", conntrack.udp_stream_timeout);
  if (conntrack.tcp_be_liberal) Write("net.netfilter.nf_conntrack_tcp_be_liberal", 1);
}

}  // namespace pointsman::agent
