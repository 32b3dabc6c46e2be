#include "e2e/testbed/node/virtual_machine.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <stdexcept>
#include <sys/stat.h>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

namespace pointsman::e2e {
namespace {

namespace fs = std::filesystem;

constexpr const char* kQemu = "/usr/bin/qemu-system-x86_64";

std::string ReadWhole(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return text.str();
}

// "kernel/net/9p/9pnet_virtio.ko" → "9pnet_virtio"
std::string ModuleName(std::string_view path) {
  std::string name = fs::path(path).stem();
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

// The archive's parts are aligned to four bytes.
void Pad(std::string& archive) {
  archive.append((4 - archive.size() % 4) % 4, '\0');
}

void Append(std::string& archive, const std::string& name, unsigned mode,
            const std::string& content) {
  constexpr unsigned kInode = 0;  // hard links are told by it; there are none
  constexpr unsigned kOwner = 0;
  constexpr unsigned kTime = 0;
  constexpr unsigned kDevice = 0;
  constexpr unsigned kNoChecksum = 0;
  archive += fmt::format("070701{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}", kInode, mode, kOwner,
                         kOwner, 1, kTime, content.size());
  archive += fmt::format("{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}", kDevice, kDevice, kDevice, kDevice,
                         name.size() + 1, kNoChecksum);
  archive += name + '\0';
  Pad(archive);
  archive += content;
  Pad(archive);
}

}  // namespace

VirtualMachineKernel FindVirtualMachineKernel() {
  const char* given = std::getenv("POINTSMAN_VM_KERNEL");  // NOLINT(concurrency-mt-unsafe)
  const fs::path dir = given != nullptr && *given != '\0' ? given : POINTSMAN_VM_KERNEL;
  const fs::path modules = dir / "lib/modules";
  if (fs::is_directory(modules)) {
    for (const auto& entry : fs::directory_iterator(modules)) {
      const std::string release = entry.path().filename();
      fs::path image = dir / "boot" / ("vmlinuz-" + release);
      if (fs::exists(image)) return {std::move(image), modules, release};
    }
  }
  throw std::runtime_error("no kernel in " + dir.string() + " (scripts/setup.sh fetches it)");
}

std::string MissingForVirtualMachines() {
  if (access(kQemu, X_OK) != 0)
    return fmt::format("needs {} (Debian package qemu-system-x86)", kQemu);
  try {
    FindVirtualMachineKernel();
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

std::vector<std::string> LoadOrder(std::string_view modules_dep,
                                   const std::vector<std::string>& modules) {
  struct Module {
    std::string path;
    std::vector<std::string> needs;
  };
  std::map<std::string, Module> known;
  std::istringstream lines{std::string(modules_dep)};
  for (std::string line; std::getline(lines, line);) {
    const auto colon = line.find(':');
    if (colon == std::string::npos) continue;
    Module module{line.substr(0, colon), {}};
    std::istringstream needs(line.substr(colon + 1));
    for (std::string need; needs >> need;)
      module.needs.push_back(ModuleName(need));
    known.emplace(ModuleName(module.path), std::move(module));
  }
  std::vector<std::string> order;
  const std::function<void(const std::string&)> add = [&](const std::string& name) {
    const auto found = known.find(name);
    if (found == known.end()) throw std::invalid_argument("no module " + name);
    if (std::find(order.begin(), order.end(), found->second.path) != order.end()) return;
    for (const auto& need : found->second.needs)
      add(need);
    order.push_back(found->second.path);
  };
  for (const auto& module : modules)
    add(module);
  return order;
}

std::string MakeInitramfs(const VirtualMachineKernel& kernel, const fs::path& init) {
  const fs::path modules = kernel.modules / kernel.release;
  std::string archive;
  Append(archive, "init", S_IFREG | 0755, ReadWhole(init));
  Append(archive, "modules", S_IFDIR | 0755, "");
  int number = 0;
  for (const auto& path : LoadOrder(ReadWhole(modules / "modules.dep"),
                                    {"virtio_pci", "virtio_net", "9pnet_virtio", "9p"})) {
    Append(archive, fmt::format("modules/{:02}-{}", number++, fs::path(path).filename().string()),
           S_IFREG | 0644, ReadWhole(modules / path));
  }
  Append(archive, "TRAILER!!!", 0, "");
  return archive;
}

std::vector<std::string> VirtualMachineCommand(const VirtualMachineKernel& kernel,
                                               const VirtualMachineOptions& options) {
  const auto share = [](const std::string& tag, const std::string& path) {
    return std::vector<std::string>{
        // remap: / is several file systems, whose inode numbers may be the same.
        "-fsdev", "local,security_model=passthrough,multidevs=remap,id=" + tag + ",path=" + path,
        "-device", "virtio-9p-pci,fsdev=" + tag + ",mount_tag=" + tag};
  };
  std::vector<std::string> argv = {
      kQemu,
      "-accel",
      "tcg",
      "-nodefaults",
      "-no-user-config",
      "-no-reboot",  // a panic ends it
      "-display",
      "none",
      "-m",
      std::to_string(options.memory_mb),
      "-serial",
      "stdio",
      "-kernel",
      kernel.image,
      "-initrd",
      options.initramfs,
      // mitigations: an emulated CPU has no such flaws, and pays for the remedies. Behind "--"
      // stands what is init's.
      "-append",
      "console=ttyS0 loglevel=4 panic=-1 mitigations=off POINTSMAN_SHARED=" +
          options.shared.string() + " POINTSMAN_NODE_CONFIG=" + options.config.string() + " -- " +
          options.init.string(),
      "-netdev",
      "tap,id=uplink,script=no,downscript=no,ifname=" + options.tap,
      "-device",
      "virtio-net-pci,netdev=uplink,romfile=,mac=" + options.mac,
  };
  for (const auto& [tag, path] :
       {std::pair<std::string, std::string>{"root", "/"}, {"shared", options.shared.string()}}) {
    const auto arguments = share(tag, path);
    argv.insert(argv.end(), arguments.begin(), arguments.end());
  }
  return argv;
}

}  // namespace pointsman::e2e
