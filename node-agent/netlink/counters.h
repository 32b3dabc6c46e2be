// What this process has asked of the kernel over netlink, and what went wrong: for metrics.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace pointsman::agent::netlink {

// To whom in the kernel a request goes.
enum class Subsystem : uint8_t { kRoute, kGeneric, kConntrack, kIpset, kNftables, kOther };
inline constexpr size_t kSubsystems = 6;
// "rtnetlink", "genetlink", "conntrack", "ipset", "nftables", "netlink".
std::string_view ToString(Subsystem subsystem);
// `bus`: NETLINK_ROUTE, …; `type`: a request's nlmsg_type.
Subsystem SubsystemOf(int bus, uint16_t type);

// Errors that mean the same to whoever looks for a cause.
enum class ErrorClass : uint8_t {
  kNotFound,     // ENOENT, ESRCH, ENODEV
  kExists,       // EEXIST
  kBusy,         // EBUSY, EAGAIN, EINTR, and ipset's IPSET_ERR_BUSY
  kDenied,       // EPERM, EACCES
  kNoSpace,      // ENOMEM, ENOBUFS, ENOSPC, ENFILE, and ipset's "the set is full"
  kInvalid,      // EINVAL, ERANGE, EMSGSIZE
  kUnsupported,  // EOPNOTSUPP, EPROTONOSUPPORT, EAFNOSUPPORT
  kOther,
};
inline constexpr size_t kErrorClasses = 8;
std::string_view ToString(ErrorClass error);  // "not found", …
// `error`: as Failure::error.
ErrorClass ClassOf(int error);

// Grow only. Thread-safe: each is counted for itself.
struct Counters {
  template <size_t size>
  using Each = std::array<std::atomic<uint64_t>, size>;

  Each<kSubsystems> requests{};                            // messages sent
  std::array<Each<kErrorClasses>, kSubsystems> refused{};  // … that were answered by an error
  Each<kSubsystems> repeated_dumps{};                      // the table changed meanwhile
  Each<kSubsystems> torn_dumps{};  // … each time, and what the last one gave was taken
  Each<kSubsystems> overruns{};    // answers that were lost (ENOBUFS)
  Each<kSubsystems> timeouts{};    // no answer within Socket's time
};

// All sockets' of this process.
Counters& ProcessCounters();

}  // namespace pointsman::agent::netlink
