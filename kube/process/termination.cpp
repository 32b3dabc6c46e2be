#include "kube/process/termination.h"

#include <cerrno>
#include <csignal>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <system_error>

#include <poll.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

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

Termination::Termination() : signal_fd_(-1), wake_fd_(eventfd(0, EFD_CLOEXEC)) {
  const sigset_t signals = Signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  // A peer that closes its connection is an error of that connection, not the end of the program.
  std::signal(SIGPIPE, SIG_IGN);
  signal_fd_ = signalfd(-1, &signals, SFD_CLOEXEC);
  if (signal_fd_ < 0 || wake_fd_ < 0) {
    throw std::system_error(errno, std::generic_category(), "signalfd");
  }
  thread_ = std::thread([this] { Wait(); });
}

Termination::~Termination() {
  const uint64_t one = 1;
  if (write(wake_fd_, &one, sizeof(one)) != sizeof(one)) std::abort();  // an eventfd takes 8 bytes
  thread_.join();
  close(signal_fd_);
  close(wake_fd_);
}

void Termination::Wait() {
  pollfd polls[] = {{signal_fd_, POLLIN, 0}, {wake_fd_, POLLIN, 0}};
  while (poll(polls, 2, -1) < 0 && errno == EINTR) {
  }
  if ((polls[0].revents & POLLIN) == 0) return;
  signalfd_siginfo info{};
  if (read(signal_fd_, &info, sizeof(info)) == sizeof(info)) {
    spdlog::info("{} received, stopping", info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
  }
  // This thread takes the next one unblocked, by the default action.
  const sigset_t signals = Signals();
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  stop_.request_stop();
  poll(polls + 1, 1, -1);
}

}  // namespace pointsman::kube
