#include "kube/process/termination.h"

#include <cerrno>
#include <csignal>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

#include <poll.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "base/throw_errno.h"

namespace pointsman::kube {
namespace {

sigset_t Signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

}  // namespace

Termination::Termination() : wake_(eventfd(0, EFD_CLOEXEC)) {
  const sigset_t signals = Signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  // A peer that closes its connection is an error of that connection, not the end of the program.
  std::signal(SIGPIPE, SIG_IGN);
  signals_.Reset(signalfd(-1, &signals, SFD_CLOEXEC));
  if (!signals_ || !wake_) ThrowErrno("signalfd");
  thread_ = std::thread([this] { Wait(); });
}

Termination::~Termination() {
  const uint64_t one = 1;
  if (write(wake_.get(), &one, sizeof(one)) != sizeof(one))
    std::abort();  // an eventfd takes 8 bytes
  thread_.join();
}

void Termination::Wait() {
  pollfd polls[] = {{signals_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
  while (poll(polls, 2, -1) < 0 && errno == EINTR) {
  }
  if ((polls[0].revents & POLLIN) == 0) return;
  signalfd_siginfo info{};
  if (read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
    spdlog::info("{} received, stopping", info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
  }
  // This thread takes the next one unblocked, by the default action.
  const sigset_t signals = Signals();
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  stop_.request_stop();
  poll(polls + 1, 1, -1);
}

}  // namespace pointsman::kube
