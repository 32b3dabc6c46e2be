#include "e2e/testbed/kubelet/seccomp_default.h"

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <system_error>
#include <vector>

namespace pointsman::e2e {
namespace {

struct Gate {
  const char* capability;  // nullptr: none opens it
  std::vector<long> calls;
};

const std::vector<Gate>& Gates() {
  static const std::vector<Gate> gates = {
      {nullptr,
       {SYS_add_key,         SYS_keyctl,         SYS_request_key,     SYS_kexec_load,
        SYS_kexec_file_load, SYS_swapon,         SYS_swapoff,         SYS_pivot_root,
        SYS_userfaultfd,     SYS_io_uring_setup, SYS_io_uring_enter,  SYS_io_uring_register,
        SYS_nfsservctl,      SYS_uselib,         SYS_ustat,           SYS_sysfs,
        SYS__sysctl,         SYS_query_module,   SYS_get_kernel_syms, SYS_create_module}},
      {"SYS_ADMIN",
       {SYS_bpf, SYS_fanotify_init, SYS_fsconfig, SYS_fsmount, SYS_fsopen, SYS_fspick,
        SYS_lookup_dcookie, SYS_mount, SYS_mount_setattr, SYS_move_mount, SYS_open_tree,
        SYS_perf_event_open, SYS_quotactl, SYS_setdomainname, SYS_sethostname, SYS_setns,
        SYS_syslog, SYS_umount2, SYS_unshare}},
      {"SYS_MODULE", {SYS_init_module, SYS_finit_module, SYS_delete_module}},
      {"SYS_BOOT", {SYS_reboot}},
      {"SYS_CHROOT", {SYS_chroot}},
      {"SYS_PACCT", {SYS_acct}},
      {"SYS_RAWIO", {SYS_iopl, SYS_ioperm}},
      {"SYS_TIME", {SYS_settimeofday, SYS_clock_settime}},
      {"SYS_TTY_CONFIG", {SYS_vhangup}},
      {"DAC_READ_SEARCH", {SYS_open_by_handle_at}},
  };
  return gates;
}

}  // namespace

void InstallDefaultSeccompFilter(const std::set<std::string>& capabilities) {
#if !defined(__x86_64__)
#error "system call numbers are x86-64's"
#endif
  constexpr uint32_t kX32 = 0x40000000;
  std::vector<sock_filter> program = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, kX32, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
  };
  const auto refuse = [&](long call, uint32_t error) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call), 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error));
  };
  for (const Gate& gate : Gates()) {
    if (gate.capability != nullptr && capabilities.contains(gate.capability)) continue;
    for (const long call : gate.calls)
      refuse(call, EPERM);
  }
  // Its flags are in memory, which a filter cannot read; the C library falls back to clone.
  if (!capabilities.contains("SYS_ADMIN")) refuse(SYS_clone3, ENOSYS);
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
    throw std::system_error(errno, std::generic_category(), "install the seccomp filter");
}

}  // namespace pointsman::e2e
