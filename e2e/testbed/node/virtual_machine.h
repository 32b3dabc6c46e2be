// What it takes to boot a node as a virtual machine (QEMU, emulating the CPU: KVM is not needed)
// with Debian's stock kernel, which has both ip_vs and the whole of nf_tables. Its root file system
// is this machine's, as that of a User-Mode Linux node.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace pointsman::e2e {

// scripts/setup.sh unpacks Debian's package so, without installing it.
struct VirtualMachineKernel {
  std::filesystem::path image;
  std::filesystem::path modules;  // to be mounted on /lib/modules
  std::string release;
};

// In the directory $POINTSMAN_VM_KERNEL or the build's tools/vm-kernel. Throws std::runtime_error
// that names the directory when there is none.
VirtualMachineKernel FindVirtualMachineKernel();

// What the machine lacks for such a node; "": nothing.
std::string MissingForVirtualMachines();

// Files of modules.dep's directory in the order in which they have to be loaded: each of `modules`
// behind what it depends on, none twice. `modules_dep` is the text of modules.dep(5). Throws
// std::invalid_argument naming a module that is not in it.
std::vector<std::string> LoadOrder(std::string_view modules_dep,
                                   const std::vector<std::string>& modules);

// A cpio archive (newc: Documentation/driver-api/early-userspace/buffer-format.rst) with `init` as
// /init and the modules that a virtual machine needs to get at its root file system and its network
// as /modules/NN-NAME. Throws std::system_error, std::runtime_error naming what cannot be read.
std::string MakeInitramfs(const VirtualMachineKernel& kernel, const std::filesystem::path& init);

struct VirtualMachineOptions {
  std::string tap;  // opened by name, in the network namespace that QEMU is started in
  std::string mac;
  int memory_mb = 0;
  std::filesystem::path initramfs;
  std::filesystem::path shared;  // a directory that both sides write to; absolute
  std::filesystem::path init;    // the node's first process
  std::filesystem::path config;  // its $POINTSMAN_NODE_CONFIG
};

// The command line of QEMU; the node's console is its stdout.
std::vector<std::string> VirtualMachineCommand(const VirtualMachineKernel& kernel,
                                               const VirtualMachineOptions& options);

}  // namespace pointsman::e2e
