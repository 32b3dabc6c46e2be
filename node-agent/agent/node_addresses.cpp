#include "node-agent/agent/node_addresses.h"

#include <cerrno>
#include <linux/netlink.h>
#include <sys/eventfd.h>
#include <system_error>

#include <poll.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "base/throw_errno.h"

namespace pointsman::agent {
namespace {

constexpr int kPauseMs = 1000;

}  // namespace

NodeAddresses::NodeAddresses(std::function<void()> changed)
    : changed_(std::move(changed)), socket_(NETLINK_ROUTE), wake_fd_(eventfd(0, EFD_CLOEXEC)) {
  if (!wake_fd_) ThrowErrno("eventfd");
  thread_ = std::jthread([this](std::stop_token stop) { Watch(stop); });
}

NodeAddresses::~NodeAddresses() {
  thread_.request_stop();
  thread_.join();
}

void NodeAddresses::Watch(std::stop_token stop) {
  const std::stop_callback wake(stop, [this] {
    const uint64_t one = 1;
    if (write(wake_fd_.get(), &one, sizeof(one)) != sizeof(one)) std::abort();  // always has room
  });
  pollfd polls[] = {{monitor_.fd(), POLLIN, 0}, {wake_fd_.get(), POLLIN, 0}};
  while (!stop.stop_requested()) {
    if (poll(polls, 2, -1) < 0) {
      if (errno == EINTR) continue;
      spdlog::error("this node's addresses are no longer watched: poll: {}",
                    std::generic_category().message(errno));
      return;
    }
    if (polls[0].revents == 0) continue;
    try {
      if (monitor_.Drain()) changed_();
    } catch (const std::exception& error) {
      // Whatever it was, addresses may have changed meanwhile; and not at once again.
      spdlog::error("this node's addresses: {}", error.what());
      changed_();
      poll(polls + 1, 1, kPauseMs);
    }
  }
}

std::vector<HostAddress> NodeAddresses::Read() {
  std::vector<HostAddress> addresses;
  for (const netlink::InterfaceAddress& address : netlink::InterfaceAddresses(socket_)) {
    addresses.push_back({address.address, address.prefix_length, address.interface_name});
  }
  return addresses;
}

}  // namespace pointsman::agent
