// A netlink socket for requests: batches of changes and dumps.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "node-agent/netlink/message.h"

namespace pointsman::agent::netlink {

// One request of a batch that the kernel refused.
struct Failure {
  size_t index = 0;  // as Batch::Add returned it
  int error = 0;     // positive errno (ipset: also its private numbers from 4096)
};

// Not thread-safe; one per thread that needs it. Blocking: the kernel answers while it takes the
// request, so an answer that is not there within kAnswerTimeout does not come (std::system_error
// that names the request). What no limit holds for is the taking: a lock that somebody holds in the
// kernel. What is sent, refused, lost and repeated is counted (counters.h).
class Socket {
 public:
  static constexpr std::chrono::milliseconds kAnswerTimeout{30'000};

  // `bus`: NETLINK_ROUTE, NETLINK_GENERIC, NETLINK_NETFILTER. Throws std::system_error.
  explicit Socket(int bus, std::chrono::milliseconds answer_timeout = kAnswerTimeout);

  // Sends every request, in order and in as few sendmsg calls as fit, and returns those that were
  // refused; one refusal does not stop the ones after it. Throws std::system_error when the socket
  // itself fails, after which it is not known which requests were carried out.
  std::vector<Failure> Execute(Batch& batch);
  // One request; 0 or a positive errno.
  int Execute(Message& message);

  // `requests` requests that the kernel takes only whole, and works off before the send returns: a
  // transaction of nf_tables (nfnetlink_rcv_batch in net/netfilter/nfnetlink.c). `each` gets every
  // answer that is there then and says how a request went: the error is 0 or negative. Throws
  // std::system_error as Execute does.
  void ExecuteWhole(std::string_view messages, size_t requests,
                    const std::function<void(const nlmsghdr*, int error)>& each);

  // A request that is answered by one message (and perhaps an ACK), given to `each`. Returns 0 or
  // the errno.
  int Get(Message& message, const std::function<void(const nlmsghdr*)>& each);

  // A dump. When the kernel says that the table changed under the dump (NLM_F_DUMP_INTR) `restart`
  // is called, which must forget what `each` collected, and the dump is repeated; after 10 times
  // what the last pass gave is taken (a table that changes all the time is never seen whole).
  // Returns 0 or a positive errno.
  int Dump(Message& message, const std::function<void()>& restart,
           const std::function<void(const nlmsghdr*)>& each);
  // The same until `each` returns false: then 0. The kernel has only begun on that dump and takes
  // no other one from this socket (EBUSY), so use the socket for nothing else.
  int DumpUntil(Message& message, const std::function<void()>& restart,
                const std::function<bool(const nlmsghdr*)>& each);

  // NETLINK_GET_STRICT_CHK: the kernel applies the filter in a dump's header (Linux 4.20). False:
  // this kernel does not know it.
  bool EnableStrictCheck();

  // NETLINK_EXT_ACK: errors come with the kernel's own words where it has any (ExtendedAck). Older
  // kernels than Linux 4.12 have none.
  void EnableExtendedAcks();

  // Subscribes to a multicast group (RTNLGRP_…).
  void Join(unsigned group);
  int fd() const { return fd_.get(); }

 private:
  // `requests`: how many messages these are, the first of which tells where they go.
  void Send(const void* data, size_t size, size_t requests);
  // What the kernel sends next, into buffer_; nullopt: nothing, with `flags` MSG_DONTWAIT, or not
  // in time.
  std::optional<size_t> Read(int flags, uint16_t type);
  // `request`: whose answer is waited for.
  size_t Receive(const nlmsghdr* request);
  // Both return a positive errno, or 0, of a request of `type`, and count it. `answer`: an
  // NLMSG_ERROR.
  int Count(uint16_t type, int error) const;
  int ErrorOf(uint16_t type, const nlmsghdr* answer) const;
  int DumpOnce(Message& message, bool* interrupted,
               const std::function<bool(const nlmsghdr*)>& each);

  const int bus_;
  const std::chrono::milliseconds answer_timeout_;
  UniqueFd fd_;
  int send_buffer_ = 0;  // 0: the kernel's default
  uint32_t sequence_ = 0;
  std::vector<char> buffer_;
};

// What the kernel says of the error in `answer`, an NLMSG_ERROR; "": nothing.
std::string_view ExtendedAck(const nlmsghdr* answer);

}  // namespace pointsman::agent::netlink
