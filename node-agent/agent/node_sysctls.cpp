#include "node-agent/agent/node_sysctls.h"

#include <algorithm>
#include <charconv>

#include <spdlog/spdlog.h>

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

// How long connection tracking knows an SCTP association that is not open yet. The kernel's 3 s are
// just as long as an SCTP client waits before it repeats a chunk (net.sctp.rto_initial): a COOKIE
// ECHO that comes again finds nothing, is not translated, and the node itself aborts the
// association. IPVS's own 10 s (net/netfilter/ipvs/ip_vs_proto_sctp.c) let two in a row be lost.
constexpr int64_t kSctpHandshakeSeconds = 10;

struct Wanted {
  enum class Kind : uint8_t {
    kExact,
    kTableSize,  // of conntrack's table: a greater one stays
    kAtLeast,    // a greater one stays, and a kernel that has none goes without
  };
  const char* name = nullptr;
  int64_t value = 0;
  Kind kind = Kind::kExact;
};

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

// A setting of 0 asks for nothing.
std::vector<Wanted> WantedSysctls(const kube::ProxySettings& settings) {
  const kube::ConntrackSettings& conntrack = settings.conntrack;
  std::vector<Wanted> wanted;
  if (conntrack.max_per_core.value_or(0) > 0) {
    const int64_t cores = std::max(1U, std::thread::hardware_concurrency());
    const int64_t most =
        std::max<int64_t>(*conntrack.max_per_core * cores, conntrack.min.value_or(0));
    wanted.push_back({"net.netfilter.nf_conntrack_max", most, Wanted::Kind::kTableSize});
    // Hash buckets, a quarter as many as kube-proxy has it: the kernel chooses them for its own
    // size when the module is loaded, and with a larger one its chains grow long.
    wanted.push_back({"net.netfilter.nf_conntrack_buckets", most / 4, Wanted::Kind::kTableSize});
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
  for (const char* name : {"net.netfilter.nf_conntrack_sctp_timeout_cookie_wait",
                           "net.netfilter.nf_conntrack_sctp_timeout_cookie_echoed"})
    wanted.push_back({name, kSctpHandshakeSeconds, Wanted::Kind::kAtLeast});
  return wanted;
}

}  // namespace

void ApplyNodeSysctls(const kube::ProxySettings& settings) {
  // The table's size is the first network namespace's alone: where the one cannot be written, nor
  // can the other.
  bool resizable = true;
  for (const Wanted& wanted : WantedSysctls(settings)) {
    const auto now = ReadNumber(wanted.name);
    switch (wanted.kind) {
      case Wanted::Kind::kExact:
        Write(wanted.name, wanted.value);
        break;
      case Wanted::Kind::kTableSize:
        if (resizable && (!now || *now < wanted.value))
          resizable = Write(wanted.name, wanted.value);
        break;
      case Wanted::Kind::kAtLeast:
        if (now && *now < wanted.value) Write(wanted.name, wanted.value);
        break;
    }
  }
}

std::vector<std::string> NodeSysctlNames(const kube::ProxySettings& settings) {
  std::vector<std::string> names;
  for (const Wanted& wanted : WantedSysctls(settings))
    names.emplace_back(wanted.name);
  return names;
}

}  // namespace pointsman::agent
