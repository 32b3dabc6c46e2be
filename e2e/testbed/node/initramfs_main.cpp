// pointsman-initramfs-init: the first process of a virtual machine's initramfs (virtual_machine.h).
// It loads the modules that the root file system needs, makes this machine's root file system its
// own (9p), and becomes the program named by its arguments. Linked statically: nothing else is
// there yet.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <system_error>

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

namespace {

// Ending is a panic, and the console, which the testbed shows, has the reason.
[[noreturn]] void Fail(const std::string& what) {
  const std::string why = std::generic_category().message(errno);
  std::fprintf(stderr, "pointsman-initramfs-init: %s: %s\n", what.c_str(), why.c_str());
  _exit(1);
}

// In the order of their names, which is the order of their dependencies.
void LoadModules() {
  dirent** entries = nullptr;
  const int count = scandir(
      "/modules", &entries, [](const dirent* entry) { return entry->d_name[0] == '.' ? 0 : 1; },
      alphasort);
  if (count < 0) Fail("list /modules");
  for (int i = 0; i < count; ++i) {
    const std::string path = std::string("/modules/") + entries[i]->d_name;
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) Fail("open " + path);
    if (syscall(SYS_finit_module, file, "", 0) != 0) Fail("load " + path);
    close(file);
    unlink(path.c_str());  // an initramfs is memory
    std::free(entries[i]);
  }
  std::free(entries);
}

void MountShare(const char* tag, const std::string& target, const char* caching) {
  // 512000: the largest message that the kernel's virtio transport carries.
  const std::string options = std::string("trans=virtio,version=9p2000.L,msize=512000,") + caching;
  if (mount(tag, target.c_str(), "9p", 0, options.c_str()) != 0) Fail("mount " + target);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    errno = EINVAL;
    Fail("no program to become");
  }
  LoadModules();
  if (mkdir("/machine", 0755) != 0) Fail("mkdir /machine");
  // The machine's programs do not change while a node runs: without the cache each page of each
  // would come through an emulated device again.
  MountShare("root", "/machine", "cache=loose");
  // Both sides write and read here.
  const char* shared = std::getenv("POINTSMAN_SHARED");  // NOLINT(concurrency-mt-unsafe)
  if (shared != nullptr) MountShare("shared", std::string("/machine") + shared, "cache=none");
  if (mount("devtmpfs", "/machine/dev", "devtmpfs", 0, nullptr) != 0) Fail("mount devtmpfs");
  if (chdir("/machine") != 0 || mount(".", "/", nullptr, MS_MOVE, nullptr) != 0 ||
      chroot(".") != 0 || chdir("/") != 0)
    Fail("change the root");
  execv(argv[1], argv + 1);
  Fail(std::string("start ") + argv[1]);
}
