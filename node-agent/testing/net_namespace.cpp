#include "node-agent/testing/net_namespace.h"

#include <cerrno>
#include <exception>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include "base/throw_errno.h"
#include "kube/process/child_process.h"

namespace pointsman::agent::testing {
namespace {

void InThread(const std::function<void()>& work) {
  std::exception_ptr error;
  std::thread thread([&] {
    try {
      work();
    } catch (...) {
      error = std::current_exception();  // thrown again in the caller
    }
  });
  thread.join();
  if (error) std::rethrow_exception(error);
}

}  // namespace

NetNamespace::NetNamespace() {
  InThread([this] {
    if (::unshare(CLONE_NEWNET) != 0) ThrowErrno("unshare(CLONE_NEWNET)");
    *this = Current();
    IpTool("link set lo up");
  });
}

NetNamespace::NetNamespace(const std::string& path)
    : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (!fd_) ThrowErrno("open " + path);
}

NetNamespace NetNamespace::Named(const std::string& name) {
  return NetNamespace("/run/netns/" + name);
}

NetNamespace NetNamespace::Current() {
  return NetNamespace("/proc/thread-self/ns/net");
}

void NetNamespace::Run(const std::function<void()>& work) const {
  InThread([&] {
    Enter();
    work();
  });
}

void NetNamespace::Enter() const {
  if (::setns(fd_.get(), CLONE_NEWNET) != 0) ThrowErrno("setns");
}

std::string NetNamespace::path() const {
  return fmt::format("/proc/{}/fd/{}", ::getpid(), fd_.get());
}

void IpTool(const std::string& lines) {
  const std::string_view input[] = {lines};
  const kube::ChildExit exit = kube::RunChild({"/sbin/ip", "-batch", "-"}, input, nullptr);
  if (exit.status != 0) throw std::runtime_error("ip: " + exit.error_output + "of:\n" + lines);
}

}  // namespace pointsman::agent::testing
