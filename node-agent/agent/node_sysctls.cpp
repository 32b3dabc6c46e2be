#include "node-agent/agent/node_sysctls.h"

#include <algorithm>
#include <charconv>

#include "node-agent/sysctl/sysctl.h"

namespace pointsman::agent {
namespace {

class Writer {
 public:
  explicit Writer(const std::filesystem::path& proc_sys) : proc_sys_(proc_sys) {}

  std::optional<int64_t> Read(const std::string& name) const {
    const auto text = ReadSysctl(name, proc_sys_);
    int64_t value = 0;
    if (!text ||
        std::from_chars(text->data(), text->data() + text->size(), value).ec != std::errc()) {
      return std::nullopt;
    }
    return value;
  }

  void Write(const std::string& name, int64_t value) const {
    const auto problem = WriteSysctl(name, std::to_string(value), proc_sys_);
    if (problem) spdlog::warn("{}", *problem);
  }

  // 0: the kernel's value stays.
  void WriteSeconds(const std::string& name, kube::Duration value) const {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(value).count();
    if (seconds > 0) Write(name, seconds);
  }

 private:
  const std::filesystem::path proc_sys_;
};

}  // namespace

void ApplyNodeSysctls(const kube::ProxySettings& settings, const std::filesystem::path& proc_sys) {
  const Writer writer(proc_sys);
  const kube::ConntrackSettings& conntrack = settings.conntrack;
  const int64_t cores = std::max(1U, std::thread::hardware_concurrency());
  const int64_t asked =
      std::max<int64_t>(conntrack.max_per_core.value_or(0) * cores, conntrack.min.value_or(0));
  if (conntrack.max_per_core.value_or(0) > 0) {
    const auto now = writer.Read("net.netfilter.nf_conntrack_max");
    if (!now || *now < asked) writer.Write("net.netfilter.nf_conntrack_max", asked);
  }
  writer.WriteSeconds("net.netfilter.nf_conntrack_tcp_timeout_established",
                      conntrack.tcp_established_timeout);
  writer.WriteSeconds("net.netfilter.nf_conntrack_tcp_timeout_close_wait",
                      conntrack.tcp_close_wait_timeout);
  writer.WriteSeconds("net.netfilter.nf_conntrack_udp_timeout", conntrack.udp_timeout);
  writer.WriteSeconds("net.netfilter.nf_conntrack_udp_timeout_stream",
                      conntrack.udp_stream_timeout);
  if (conntrack.tcp_be_liberal) writer.Write("net.netfilter.nf_conntrack_tcp_be_liberal", 1);
}

}  // namespace pointsman::agent
