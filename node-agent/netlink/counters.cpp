#include "node-agent/netlink/counters.h"

#include <cerrno>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/ipset/ip_set_hash.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

namespace pointsman::agent::netlink {

std::string_view ToString(Subsystem subsystem) {
  switch (subsystem) {
    case Subsystem::kRoute:
      return "rtnetlink";
    case Subsystem::kGeneric:
      return "genetlink";
    case Subsystem::kConntrack:
      return "conntrack";
    case Subsystem::kIpset:
      return "ipset";
    case Subsystem::kNftables:
      return "nftables";
    case Subsystem::kOther:
      break;
  }
  return "netlink";
}

Subsystem SubsystemOf(int bus, uint16_t type) {
  if (bus == NETLINK_ROUTE) return Subsystem::kRoute;
  if (bus == NETLINK_GENERIC) return Subsystem::kGeneric;
  if (bus != NETLINK_NETFILTER) return Subsystem::kOther;
  // A transaction of nf_tables begins with a message that is of no subsystem.
  if (type == NFNL_MSG_BATCH_BEGIN) return Subsystem::kNftables;
  switch (NFNL_SUBSYS_ID(type)) {
    case NFNL_SUBSYS_CTNETLINK:
      return Subsystem::kConntrack;
    case NFNL_SUBSYS_IPSET:
      return Subsystem::kIpset;
    case NFNL_SUBSYS_NFTABLES:
      return Subsystem::kNftables;
    default:
      return Subsystem::kOther;
  }
}

std::string_view ToString(ErrorClass error) {
  switch (error) {
    case ErrorClass::kNotFound:
      return "not found";
    case ErrorClass::kExists:
      return "exists";
    case ErrorClass::kBusy:
      return "busy";
    case ErrorClass::kDenied:
      return "denied";
    case ErrorClass::kNoSpace:
      return "no space";
    case ErrorClass::kInvalid:
      return "invalid";
    case ErrorClass::kUnsupported:
      return "unsupported";
    case ErrorClass::kOther:
      break;
  }
  return "other";
}

ErrorClass ClassOf(int error) {
  switch (error) {
    case ENOENT:
    case ESRCH:
    case ENODEV:
      return ErrorClass::kNotFound;
    case EEXIST:
    case IPSET_ERR_EXIST_SETNAME2:
      return ErrorClass::kExists;
    case EBUSY:
    case EAGAIN:
    case EINTR:
    case IPSET_ERR_BUSY:
      return ErrorClass::kBusy;
    case EPERM:
    case EACCES:
      return ErrorClass::kDenied;
    case ENOMEM:
    case ENOBUFS:
    case ENOSPC:
    case ENFILE:
    case IPSET_ERR_MAX_SETS:
    case IPSET_ERR_HASH_FULL:
      return ErrorClass::kNoSpace;
    case EINVAL:
    case ERANGE:
    case EMSGSIZE:
      return ErrorClass::kInvalid;
    case EOPNOTSUPP:
    case EPROTONOSUPPORT:
    case EAFNOSUPPORT:
    case IPSET_ERR_FIND_TYPE:
      return ErrorClass::kUnsupported;
    default:
      return ErrorClass::kOther;
  }
}

Counters& ProcessCounters() {
  static Counters counters;
  return counters;
}

}  // namespace pointsman::agent::netlink
