// pointsman-container: runs one container on a test node, as runc does for a kubelet. Its argument
// is a JSON file (see ContainerSpec in pod_spec.h for what it means). It makes the namespaces and
// mounts, drops what the container may not have, executes its program as their first process, ends
// when that ends, and ends the same way.
//
// There are no images: a container sees /usr and /etc of the machine, always read-only as they are
// the machine's own, the project's programs in /usr/local/bin, and empty directories of its own for
// the rest. Nothing of the node's file system is there that no volume mounts. Not emulated: cgroups
// (resource limits), user namespaces, AppArmor and SELinux.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "e2e/testbed/kubelet/capabilities.h"
#include "e2e/testbed/kubelet/seccomp_default.h"

namespace pointsman::e2e {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kRoot = "/run/container-root";

// containerd, oci/spec.go: what a container that is not privileged may not read or write.
constexpr const char* kMasked[] = {"/proc/acpi",
                                   "/proc/asound",
                                   "/proc/kcore",
                                   "/proc/keys",
                                   "/proc/latency_stats",
                                   "/proc/timer_list",
                                   "/proc/timer_stats",
                                   "/proc/sched_debug",
                                   "/proc/scsi",
                                   "/sys/firmware",
                                   "/sys/devices/virtual/powercap"};
constexpr const char* kReadOnly[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                     "/proc/sysrq-trigger"};

[[noreturn]] void Throw(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

void Mount(const std::string& source, const std::string& target, const char* type,
           unsigned long flags, const char* data = nullptr) {
  if (mount(source.c_str(), target.c_str(), type, flags, data) != 0)
    Throw("mount " + source + " on " + target);
}

void RemountReadOnly(const std::string& target) {
  Mount("none", target, nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY);
}

void Touch(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  if (!fd) Throw("create " + path);
}

// Volumes see what is mounted below them on the node, and not what is mounted there later.
void Bind(const std::string& source, const std::string& target, bool read_only,
          bool recursive = true) {
  struct stat status {};
  if (stat(source.c_str(), &status) != 0) Throw("look at " + source);
  if (S_ISDIR(status.st_mode)) {
    fs::create_directories(target);
  } else if (!fs::exists(target)) {
    fs::create_directories(fs::path(target).parent_path());
    Touch(target);
  }
  Mount(source, target, nullptr, MS_BIND | (recursive ? MS_REC : 0));
  if (read_only) RemountReadOnly(target);
}

// The stand-in for the image.
void MakeRoot(const json& spec) {
  const std::string root = kRoot;
  fs::create_directories(root);
  Mount("container", root, "tmpfs", 0, "mode=755");
  Bind("/usr", root + "/usr", true, false);
  Bind("/etc", root + "/etc", true, false);
  for (const char* name : {"bin", "sbin", "lib", "lib32", "lib64", "libx32"}) {
    const fs::path machines = fs::path("/") / name;
    if (fs::is_symlink(machines)) {
      fs::create_symlink(fs::read_symlink(machines), fs::path(root) / name);
    } else if (fs::is_directory(machines)) {
      Bind(machines, root + "/" + name, true, false);
    }
  }
  Bind(spec.at("programs"), root + "/usr/local/bin", true, false);
  for (const char* name :
       {"dev", "proc", "sys", "run", "tmp", "root", "home", "var/lib", "var/log", "var/tmp"})
    fs::create_directories(root + "/" + name);
  for (const char* name : {"tmp", "var/tmp"})
    fs::permissions(root + "/" + name, fs::perms::all | fs::perms::sticky_bit);
  fs::create_symlink("../run", root + "/var/run");
}

void MakeDevices() {
  const std::string dev = std::string(kRoot) + "/dev";
  Mount("tmpfs", dev, "tmpfs", MS_NOSUID, "mode=755,size=65536k");
  for (const char* name : {"null", "zero", "full", "random", "urandom", "tty"})
    Bind("/dev/" + std::string(name), dev + "/" + name, false, false);
  fs::create_directories(dev + "/shm");
  Mount("shm", dev + "/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=65536k");
  fs::create_symlink("/proc/self/fd", dev + "/fd");
  fs::create_symlink("/proc/self/fd/0", dev + "/stdin");
  fs::create_symlink("/proc/self/fd/1", dev + "/stdout");
  fs::create_symlink("/proc/self/fd/2", dev + "/stderr");
}

void MakeKernelFilesystems() {
  const std::string root = kRoot;
  Mount("proc", root + "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC);
  Mount("sysfs", root + "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY);
  for (const char* path : kReadOnly) {
    const std::string target = root + path;
    if (!fs::exists(target)) continue;
    Mount(target, target, nullptr, MS_BIND | MS_REC);
    Mount("none", target, nullptr,
          MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC);
  }
  for (const char* path : kMasked) {
    const std::string target = root + path;
    if (!fs::exists(target)) continue;
    if (fs::is_directory(target)) {
      Mount("tmpfs", target, "tmpfs", MS_RDONLY);
    } else {
      Mount("/dev/null", target, nullptr, MS_BIND);
    }
  }
}

void EnterRoot(bool read_only) {
  if (chdir(kRoot) != 0) Throw("chdir to the container's root");
  // The old root is stacked on the new one and comes off (pivot_root(2), "." with ".").
  if (syscall(SYS_pivot_root, ".", ".") != 0) Throw("pivot_root");
  if (umount2(".", MNT_DETACH) != 0) Throw("let go of the node's file system");
  if (chdir("/") != 0) Throw("chdir /");
  if (read_only) RemountReadOnly("/");
}

[[noreturn]] void RunContainer(const json& spec) {
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) Throw("make / private");
  MakeRoot(spec);
  MakeDevices();
  MakeKernelFilesystems();
  for (const json& volume : spec.at("mounts"))
    Bind(volume.at("source"), kRoot + volume.at("target").get<std::string>(),
         volume.at("readOnly"));
  if (const std::string name = spec.value("hostname", ""); !name.empty()) {
    if (sethostname(name.c_str(), name.size()) != 0) Throw("sethostname");
  }
  EnterRoot(spec.at("readOnlyRoot"));

  std::vector<std::string> arguments = spec.at("args");
  std::vector<std::string> environment;
  for (const auto& [name, value] : spec.at("env").items()) {
    environment.push_back(name + "=" + value.get<std::string>());
    // execvpe looks in this process' PATH.
    // NOLINTNEXTLINE(concurrency-mt-unsafe): a program of one thread.
    if (name == "PATH") setenv("PATH", value.get<std::string>().c_str(), 1);
  }
  std::vector<char*> argv;
  std::vector<char*> envp;
  argv.reserve(arguments.size() + 1);
  envp.reserve(environment.size() + 1);
  for (std::string& item : arguments)
    argv.push_back(item.data());
  for (std::string& item : environment)
    envp.push_back(item.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  const std::string directory = spec.value("cwd", "/");
  if (chdir(directory.c_str()) != 0) Throw("workingDir " + directory);

  const std::set<std::string> capabilities = spec.at("capabilities");
  if (spec.at("noNewPrivileges") && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    Throw("no_new_privs");
  if (spec.at("seccomp")) InstallDefaultSeccompFilter(capabilities);
  BecomeUserWithCapabilities(spec.at("uid"), spec.at("gid"),
                             spec.at("groups").get<std::set<unsigned>>(), capabilities);
  // Only now: a change of user clears it.
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) Throw("prctl");
  umask(022);
  close_range(3, ~0U, 0);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGPIPE})
    ::signal(signal, SIG_DFL);
  execvpe(argv[0], argv.data(), envp.data());
  Throw(std::string("execute ") + argv[0]);
}

int Main(const char* file) {
  std::ifstream stream(file);
  if (!stream) Throw(std::string("open ") + file);
  const json spec = json::parse(stream);
  int namespaces = CLONE_NEWNS;
  if (!spec.value("hostPID", false)) namespaces |= CLONE_NEWPID;
  if (!spec.value("hostIPC", false)) namespaces |= CLONE_NEWIPC;
  if (spec.contains("hostname")) namespaces |= CLONE_NEWUTS;
  if (unshare(namespaces) != 0) Throw("unshare");
  // A signal to the process group is the container's to act on.
  for (const int signal : {SIGTERM, SIGINT, SIGHUP})
    ::signal(signal, SIG_IGN);
  const pid_t pid = fork();
  if (pid < 0) Throw("fork");
  if (pid == 0) RunContainer(spec);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) Throw("waitpid");
  }
  if (!WIFSIGNALED(status)) return WEXITSTATUS(status);
  ::signal(WTERMSIG(status), SIG_DFL);
  raise(WTERMSIG(status));
  return 128 + WTERMSIG(status);
}

}  // namespace
}  // namespace pointsman::e2e

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: pointsman-container SPEC.json\n");
    return 2;
  }
  try {
    return pointsman::e2e::Main(argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "pointsman-container: %s\n", error.what());
    // Also in the child: the parent hands it on.
    _exit(128);
  }
}
