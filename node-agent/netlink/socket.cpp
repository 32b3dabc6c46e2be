#include "node-agent/netlink/socket.h"

#include <cerrno>
#include <cstring>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <system_error>

#include <fmt/format.h>
#include <unistd.h>

#include "base/throw_errno.h"
#include "node-agent/netlink/counters.h"

namespace pointsman::agent::netlink {
namespace {

// Each refused request costs the receive buffer about 1 KiB (the kernel counts the whole skb), so
// this many refusals at once still fit into `kReceiveBuffer`.
constexpr size_t kRequestsPerSend = 1024;
constexpr size_t kBytesPerSend = size_t{128} << 10;  // below net.core.wmem_default (208 KiB)
constexpr int kReceiveBuffer = 4 << 20;
// The kernel fills at most 32 KiB of a dump at once.
constexpr size_t kReadSize = size_t{64} << 10;
constexpr int kDumpTries = 10;

constexpr size_t Index(Subsystem subsystem) {
  return static_cast<size_t>(subsystem);
}

}  // namespace

Socket::Socket(int bus, std::chrono::milliseconds answer_timeout)
    : bus_(bus), answer_timeout_(answer_timeout), buffer_(kReadSize) {
  fd_.Reset(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, bus));
  if (!fd_) ThrowErrno("netlink socket");
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  if (bind(fd(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0)
    ThrowErrno("netlink bind");
  // FORCE needs CAP_NET_ADMIN, which everything else here needs too; without it the ordinary
  // limit applies and a batch may end in ENOBUFS, which is reported.
  const int size = kReceiveBuffer;
  if (setsockopt(fd(), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0 &&
      setsockopt(fd(), SOL_SOCKET, SO_RCVBUF, &size, sizeof size) < 0)
    ThrowErrno("netlink SO_RCVBUF");
  const auto seconds = std::chrono::floor<std::chrono::seconds>(answer_timeout_);
  const timeval limit{
      seconds.count(),
      std::chrono::duration_cast<std::chrono::microseconds>(answer_timeout_ - seconds).count()};
  if (setsockopt(fd(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0)
    ThrowErrno("netlink SO_RCVTIMEO");
  // An error message then carries only the header of the request it answers.
  const int on = 1;
  if (setsockopt(fd(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on) < 0 && errno != ENOPROTOOPT)
    ThrowErrno("netlink NETLINK_CAP_ACK");
}

bool Socket::EnableStrictCheck() {
  const int on = 1;
  if (setsockopt(fd(), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on) == 0) return true;
  if (errno != ENOPROTOOPT) ThrowErrno("netlink NETLINK_GET_STRICT_CHK");
  return false;
}

void Socket::Join(unsigned group) {
  if (setsockopt(fd(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0)
    ThrowErrno("netlink NETLINK_ADD_MEMBERSHIP");
}

void Socket::EnableExtendedAcks() {
  const int on = 1;
  if (setsockopt(fd(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on) < 0 && errno != ENOPROTOOPT)
    ThrowErrno("netlink NETLINK_EXT_ACK");
}

void Socket::Send(const void* data, size_t size, size_t requests) {
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  ssize_t sent = 0;
  do {
    sent = sendto(fd(), data, size, 0, reinterpret_cast<sockaddr*>(&kernel), sizeof kernel);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) ThrowErrno("netlink send");
  const uint16_t type = static_cast<const nlmsghdr*>(data)->nlmsg_type;
  ProcessCounters().requests[Index(SubsystemOf(bus_, type))] += requests;
}

std::optional<size_t> Socket::Read(int flags, uint16_t type) {
  while (true) {
    sockaddr_nl from{};
    iovec vector{buffer_.data(), buffer_.size()};
    msghdr header{};
    header.msg_name = &from;
    header.msg_namelen = sizeof from;
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    const ssize_t size = recvmsg(fd(), &header, flags);
    if (size < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return std::nullopt;
      if (errno != ENOBUFS) ThrowErrno("netlink receive");
      ++ProcessCounters().overruns[Index(SubsystemOf(bus_, type))];
      // What is left is read: until then the kernel drops all later answers and does not say so
      // again (netlink_overrun, netlink_rcv_wake).
      while (recv(fd(), buffer_.data(), buffer_.size(), MSG_DONTWAIT) >= 0 || errno == EINTR) {
      }
      ThrowErrno("netlink receive: answers were lost", ENOBUFS);
    }
    if (from.nl_pid != 0) continue;  // not from the kernel
    if ((header.msg_flags & MSG_TRUNC) != 0)
      throw std::system_error(EMSGSIZE, std::generic_category(), "netlink receive: truncated");
    return static_cast<size_t>(size);
  }
}

size_t Socket::Receive(const nlmsghdr* request) {
  if (const std::optional<size_t> size = Read(0, request->nlmsg_type)) return *size;
  const Subsystem subsystem = SubsystemOf(bus_, request->nlmsg_type);
  ++ProcessCounters().timeouts[Index(subsystem)];
  throw std::system_error(
      ETIMEDOUT, std::generic_category(),
      fmt::format("netlink: no answer to the {} request {} within {} s", ToString(subsystem),
                  request->nlmsg_type, std::chrono::duration<double>(answer_timeout_).count()));
}

int Socket::Count(uint16_t type, int error) const {
  if (error != 0) {
    ++ProcessCounters()
          .refused[Index(SubsystemOf(bus_, type))][static_cast<size_t>(ClassOf(error))];
  }
  return error;
}

int Socket::ErrorOf(uint16_t type, const nlmsghdr* answer) const {
  return Count(type, -static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(answer))->error);
}

// Only the last request of a send asks for an ACK: the kernel works the requests of one send off in
// order, and a refused one is answered without being asked (netlink_rcv_skb in
// net/netlink/af_netlink.c). When that ACK is here, every refusal before it has been read.
std::vector<Failure> Socket::Execute(Batch& batch) {
  std::vector<Failure> failures;
  size_t first = 0;
  while (first < batch.size()) {
    size_t end = first;
    size_t stop = batch.offsets_[first];
    while (end < batch.size() && end - first < kRequestsPerSend) {
      const size_t next = end + 1 < batch.size() ? batch.offsets_[end + 1] : batch.bytes_.size();
      if (end > first && next - batch.offsets_[first] > kBytesPerSend) break;
      stop = next;
      ++end;
    }
    const uint32_t base = sequence_ + 1;
    sequence_ += static_cast<uint32_t>(end - first);
    for (size_t i = first; i < end; ++i) {
      auto* header = reinterpret_cast<nlmsghdr*>(batch.bytes_.data() + batch.offsets_[i]);
      header->nlmsg_seq = base + static_cast<uint32_t>(i - first);
      if (i + 1 == end) header->nlmsg_flags |= NLM_F_ACK;
    }
    Send(batch.bytes_.data() + batch.offsets_[first], stop - batch.offsets_[first], end - first);

    bool answered = false;
    const auto* last =
        reinterpret_cast<const nlmsghdr*>(batch.bytes_.data() + batch.offsets_[end - 1]);
    while (!answered) {
      int left = static_cast<int>(Receive(last));
      for (const auto* header = reinterpret_cast<const nlmsghdr*>(buffer_.data());
           mnl_nlmsg_ok(header, left); header = mnl_nlmsg_next(header, &left)) {
        const uint32_t offset = header->nlmsg_seq - base;
        if (header->nlmsg_type != NLMSG_ERROR || offset >= end - first) continue;
        const int error = ErrorOf(last->nlmsg_type, header);
        if (error != 0) failures.push_back({first + offset, error});
        if (offset + 1 == end - first) answered = true;
      }
    }
    first = end;
  }
  return failures;
}

int Socket::Execute(Message& message) {
  return Get(message, [](const nlmsghdr*) {});
}

void Socket::ExecuteWhole(std::string_view messages, size_t requests,
                          const std::function<void(const nlmsghdr*, int error)>& each) {
  // FORCE needs CAP_NET_ADMIN in the namespace's user namespace, as everything else here does.
  if (messages.size() > static_cast<size_t>(send_buffer_)) {
    send_buffer_ = static_cast<int>(messages.size() + messages.size() / 2 + (64 << 10));
    if (setsockopt(fd(), SOL_SOCKET, SO_SNDBUFFORCE, &send_buffer_, sizeof send_buffer_) < 0)
      ThrowErrno("netlink SO_SNDBUFFORCE");
  }
  Send(messages.data(), messages.size(), requests);
  const uint16_t type = reinterpret_cast<const nlmsghdr*>(messages.data())->nlmsg_type;
  while (const std::optional<size_t> size = Read(MSG_DONTWAIT, type)) {
    int left = static_cast<int>(*size);
    for (const auto* header = reinterpret_cast<const nlmsghdr*>(buffer_.data());
         mnl_nlmsg_ok(header, left); header = mnl_nlmsg_next(header, &left)) {
      if (header->nlmsg_type == NLMSG_ERROR) each(header, -ErrorOf(type, header));
    }
  }
}

int Socket::Get(Message& message, const std::function<void(const nlmsghdr*)>& each) {
  message.raw()->nlmsg_seq = ++sequence_;
  message.raw()->nlmsg_flags |= NLM_F_ACK;
  Send(message.raw(), message.raw()->nlmsg_len, 1);
  while (true) {
    int left = static_cast<int>(Receive(message.raw()));
    for (const auto* header = reinterpret_cast<const nlmsghdr*>(buffer_.data());
         mnl_nlmsg_ok(header, left); header = mnl_nlmsg_next(header, &left)) {
      if (header->nlmsg_seq != sequence_) continue;
      if (header->nlmsg_type == NLMSG_ERROR) return ErrorOf(message.raw()->nlmsg_type, header);
      each(header);
    }
  }
}

int Socket::DumpOnce(Message& message, bool* interrupted,
                     const std::function<bool(const nlmsghdr*)>& each) {
  message.raw()->nlmsg_seq = ++sequence_;
  message.raw()->nlmsg_flags |= NLM_F_DUMP;
  Send(message.raw(), message.raw()->nlmsg_len, 1);
  while (true) {
    int left = static_cast<int>(Receive(message.raw()));
    for (const auto* header = reinterpret_cast<const nlmsghdr*>(buffer_.data());
         mnl_nlmsg_ok(header, left); header = mnl_nlmsg_next(header, &left)) {
      if (header->nlmsg_seq != sequence_) continue;
      if ((header->nlmsg_flags & NLM_F_DUMP_INTR) != 0) *interrupted = true;
      if (header->nlmsg_type == NLMSG_ERROR) return ErrorOf(message.raw()->nlmsg_type, header);
      if (header->nlmsg_type == NLMSG_DONE) {
        // The payload is the dump's own result.
        int result = 0;
        if (mnl_nlmsg_get_payload_len(header) >= sizeof result)
          std::memcpy(&result, mnl_nlmsg_get_payload(header), sizeof result);
        if (result >= 0) return 0;
        Count(message.raw()->nlmsg_type, -result);
        return -result;
      }
      if (!each(header)) {
        *interrupted = false;  // what is there is enough
        return 0;
      }
    }
  }
}

int Socket::Dump(Message& message, const std::function<void()>& restart,
                 const std::function<void(const nlmsghdr*)>& each) {
  return DumpUntil(message, restart, [&each](const nlmsghdr* header) {
    each(header);
    return true;
  });
}

int Socket::DumpUntil(Message& message, const std::function<void()>& restart,
                      const std::function<bool(const nlmsghdr*)>& each) {
  for (int i = 0;; ++i) {
    bool interrupted = false;
    const int error = DumpOnce(message, &interrupted, each);
    if (error != 0 || !interrupted) return error;
    const size_t index = Index(SubsystemOf(bus_, message.raw()->nlmsg_type));
    if (i + 1 == kDumpTries) {
      ++ProcessCounters().torn_dumps[index];
      return 0;
    }
    ++ProcessCounters().repeated_dumps[index];
    restart();
  }
}

std::string_view ExtendedAck(const nlmsghdr* answer) {
  if ((answer->nlmsg_flags & NLM_F_ACK_TLVS) == 0) return {};
  for (const nlattr* attribute : Attributes(answer, sizeof(nlmsgerr))) {
    if (mnl_attr_get_type(attribute) != NLMSGERR_ATTR_MSG) continue;
    const char* text = mnl_attr_get_str(attribute);
    return {text, strnlen(text, mnl_attr_get_payload_len(attribute))};
  }
  return {};
}

}  // namespace pointsman::agent::netlink
