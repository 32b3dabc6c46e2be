#include "e2e/testbed/kubelet/capabilities.h"

#include <array>
#include <cerrno>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <system_error>
#include <vector>

#include <grp.h>
#include <unistd.h>

namespace pointsman::e2e {
namespace {

constexpr std::array<const char*, 41> kNames = {"CHOWN",
                                                "DAC_OVERRIDE",
                                                "DAC_READ_SEARCH",
                                                "FOWNER",
                                                "FSETID",
                                                "KILL",
                                                "SETGID",
                                                "SETUID",
                                                "SETPCAP",
                                                "LINUX_IMMUTABLE",
                                                "NET_BIND_SERVICE",
                                                "NET_BROADCAST",
                                                "NET_ADMIN",
                                                "NET_RAW",
                                                "IPC_LOCK",
                                                "IPC_OWNER",
                                                "SYS_MODULE",
                                                "SYS_RAWIO",
                                                "SYS_CHROOT",
                                                "SYS_PTRACE",
                                                "SYS_PACCT",
                                                "SYS_ADMIN",
                                                "SYS_BOOT",
                                                "SYS_NICE",
                                                "SYS_RESOURCE",
                                                "SYS_TIME",
                                                "SYS_TTY_CONFIG",
                                                "MKNOD",
                                                "LEASE",
                                                "AUDIT_WRITE",
                                                "AUDIT_CONTROL",
                                                "SETFCAP",
                                                "MAC_OVERRIDE",
                                                "MAC_ADMIN",
                                                "SYSLOG",
                                                "WAKE_ALARM",
                                                "BLOCK_SUSPEND",
                                                "AUDIT_READ",
                                                "PERFMON",
                                                "BPF",
                                                "CHECKPOINT_RESTORE"};
static_assert(kNames.size() == CAP_LAST_CAP + 1);

void Require(bool done, const char* what) {
  if (!done) throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace

std::optional<int> CapabilityNumber(const std::string& name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (name == kNames[i]) return static_cast<int>(i);
  }
  return std::nullopt;
}

const std::set<std::string>& DefaultCapabilities() {
  static const std::set<std::string> names = {
      "CHOWN",   "DAC_OVERRIDE", "FSETID",           "FOWNER",
      "MKNOD",   "NET_RAW",      "SETGID",           "SETUID",
      "SETFCAP", "SETPCAP",      "NET_BIND_SERVICE", "SYS_CHROOT",
      "KILL",    "AUDIT_WRITE"};
  return names;
}

std::set<std::string> AllCapabilities() {
  return {kNames.begin(), kNames.end()};
}

void BecomeUserWithCapabilities(unsigned uid, unsigned gid, const std::set<unsigned>& groups,
                                const std::set<std::string>& names) {
  std::array<__user_cap_data_struct, 2> sets{};
  for (const std::string& name : names) {
    const auto number = static_cast<unsigned>(CapabilityNumber(name).value());
    sets.at(number / 32).permitted |= 1U << (number % 32);
  }
  // The kernel may know more of them than this file, or fewer.
  for (unsigned long number = 0; prctl(PR_CAPBSET_READ, number) >= 0; ++number) {
    const bool wanted =
        number < kNames.size() && (sets.at(number / 32).permitted >> (number % 32) & 1) != 0;
    if (!wanted) Require(prctl(PR_CAPBSET_DROP, number) == 0, "drop a capability");
  }
  Require(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == 0, "clear ambient set");
  std::vector<gid_t> list(groups.begin(), groups.end());
  Require(setgroups(list.size(), list.data()) == 0, "setgroups");
  Require(setresgid(gid, gid, gid) == 0, "setresgid");
  Require(prctl(PR_SET_KEEPCAPS, 1) == 0, "keep capabilities");
  Require(setresuid(uid, uid, uid) == 0, "setresuid");
  Require(prctl(PR_SET_KEEPCAPS, 0) == 0, "keep capabilities no longer");
  for (auto& set : sets)
    set.effective = set.permitted;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  Require(syscall(SYS_capset, &header, sets.data()) == 0, "capset");
}

}  // namespace pointsman::e2e
