// Kernel parameters through /proc/sys, of the calling thread's network namespace.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace pointsman::agent {

// Where they are written and read: "/proc/sys" unless set. A container's own is read-only, so the
// node's is mounted elsewhere. Call before threads are started.
void SetSysctlRoot(std::string root);

struct SysctlResult {
  std::string name;       // as given
  std::string old_value;  // before the write; "" if it could not be read
  bool changed = false;
  // Empty: it has the value now. Else "sysctl net.ipv4.ip_forward: write 1: Permission denied".
  std::string error;
  bool ok() const { return error.empty(); }
};

// `name` is spelled as sysctl(8) does: dots between the parts; a slash stands for a dot inside a
// part ("net.ipv4.conf.eth0/100.arp_ignore"). nullopt and `error` (if given) when it cannot be
// read. Trailing white space is removed.
std::optional<std::string> ReadSysctl(std::string_view name, std::string* error = nullptr);

// Writes only when the value is another one. Remembers nothing.
SysctlResult WriteSysctl(std::string_view name, std::string_view value);

}  // namespace pointsman::agent
