// pointsman-kmod: looks kernel modules up, or loads them, for the node agent. Whatever libkmod
// makes of damaged files of the node happens to this process, within its limits, and not to the
// agent.
#include <cstdio>
#include <cstring>
#include <exception>
#include <span>
#include <sys/resource.h>

#include <unistd.h>

#include "base/throw_errno.h"
#include "kube/process/version.h"
#include "node-agent/modules/module_loader.h"

namespace pointsman::agent {
namespace {

void Limit(__rlimit_resource resource, rlim_t soft, rlim_t hard) {
  const rlimit limit{.rlim_cur = soft, .rlim_max = hard};
  if (::setrlimit(resource, &limit) != 0) ThrowErrno("setrlimit", errno);
}

// Looking up a whole mode's modules takes milliseconds and the indexes' size; loading a compressed
// one is its size, and seconds for a few of the largest. A virtual machine whose host is busy may
// count what it was not given too: more than a second was seen.
void LimitThisProcess(bool load) {
  const rlim_t seconds = load ? 20 : 5;
  Limit(RLIMIT_CPU, seconds, seconds + 1);  // SIGXCPU, which the agent names, before SIGKILL
  Limit(RLIMIT_CORE, 0, 0);
  ::alarm(load ? 300 : 60);  // the agent, which has limits of its own, may have been killed
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // their shadow is terabytes
  constexpr rlim_t kMemory = rlim_t{256} << 20;
  Limit(RLIMIT_AS, kMemory, kMemory);
#endif
}

// A line of ToLine for each name, as soon as it is known: the agent sees from them at which module
// this process ended.
void Answer(std::span<char*> names, bool load, ModuleLoader& loader) {
  for (const char* name : names) {
    const std::string line = ToLine(load ? loader.Load(name) : loader.LookUp(name));
    if (std::printf("%s\n", line.c_str()) < 0 || std::fflush(stdout) != 0)
      ThrowErrno("write to stdout", errno);
  }
}

int Main(std::span<char*> arguments) {
  if (arguments.size() == 2 && std::strcmp(arguments[1], "--version") == 0) {
    std::printf("pointsman-kmod %s\n", kVersion);
    return 0;
  }
  const bool load = arguments.size() > 3 && std::strcmp(arguments[1], "load") == 0;
  if (arguments.size() < 4 || (!load && std::strcmp(arguments[1], "look-up") != 0)) {
    std::fputs("usage: pointsman-kmod look-up|load ROOT RELEASE MODULE...\n", stderr);
    return 2;
  }
  LimitThisProcess(load);
  ModuleLoader loader(arguments[2], arguments[3]);
  Answer(arguments.subspan(4), load, loader);
  return 0;
}

}  // namespace
}  // namespace pointsman::agent

int main(int argc, char** argv) {
  try {
    return pointsman::agent::Main({argv, static_cast<size_t>(argc)});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
