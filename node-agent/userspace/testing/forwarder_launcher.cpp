#include "node-agent/userspace/testing/forwarder_launcher.h"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <sys/prctl.h>
#include <system_error>

#include <gtest/gtest.h>
#include <unistd.h>

#include "kube/process/child_wait.h"

namespace pointsman::agent::testing {

ForwarderLauncher::ForwarderLauncher(const std::string& program, const std::string& socket)
    : pid_(fork()) {
  if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "start " + program);
  if (pid_ > 0) return;
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  execl(program.c_str(), program.c_str(), "--launcher", socket.c_str(), nullptr);
  _exit(127);
}

ForwarderLauncher::~ForwarderLauncher() {
  constexpr std::chrono::seconds kPatience{10};
  kill(pid_, SIGTERM);
  // It waits for the forwarders that it has started.
  if (!kube::WaitForChild(pid_, kPatience)) {
    ADD_FAILURE() << "a forwarder goes on";
    kube::KillChild(pid_, /*group=*/false, kPatience);
  }
}

}  // namespace pointsman::agent::testing
