#include "node-agent/netlink/counters.h"

#include <cerrno>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/ipset/ip_set_hash.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pointsman::agent::netlink {
namespace {

TEST(NetlinkCountersTest, ARequestsSubsystemIsThatOfItsBusAndType) {
  const auto netfilter = [](int subsystem, int type) {
    return SubsystemOf(NETLINK_NETFILTER, static_cast<uint16_t>((subsystem << 8) | type));
  };
  EXPECT_EQ(SubsystemOf(NETLINK_ROUTE, RTM_NEWROUTE), Subsystem::kRoute);
  EXPECT_EQ(SubsystemOf(NETLINK_GENERIC, 31), Subsystem::kGeneric);
  EXPECT_EQ(netfilter(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE), Subsystem::kConntrack);
  EXPECT_EQ(netfilter(NFNL_SUBSYS_IPSET, IPSET_CMD_ADD), Subsystem::kIpset);
  EXPECT_EQ(netfilter(NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWRULE), Subsystem::kNftables);
  EXPECT_EQ(SubsystemOf(NETLINK_NETFILTER, NFNL_MSG_BATCH_BEGIN), Subsystem::kNftables);
  EXPECT_EQ(netfilter(NFNL_SUBSYS_QUEUE, 0), Subsystem::kOther);
  EXPECT_EQ(SubsystemOf(NETLINK_SOCK_DIAG, 20), Subsystem::kOther);
}

TEST(NetlinkCountersTest, ErrorsThatMeanTheSameAreOneClass) {
  for (const int error : {ENOENT, ESRCH, ENODEV})
    EXPECT_EQ(ClassOf(error), ErrorClass::kNotFound) << error;
  for (const int error : {int{EEXIST}, int{IPSET_ERR_EXIST_SETNAME2}})
    EXPECT_EQ(ClassOf(error), ErrorClass::kExists) << error;
  for (const int error : {int{EBUSY}, int{IPSET_ERR_BUSY}})
    EXPECT_EQ(ClassOf(error), ErrorClass::kBusy) << error;
  for (const int error : {int{ENOBUFS}, int{ENOMEM}, int{IPSET_ERR_HASH_FULL}})
    EXPECT_EQ(ClassOf(error), ErrorClass::kNoSpace) << error;
  EXPECT_EQ(ClassOf(EPERM), ErrorClass::kDenied);
  EXPECT_EQ(ClassOf(EINVAL), ErrorClass::kInvalid);
  EXPECT_EQ(ClassOf(EOPNOTSUPP), ErrorClass::kUnsupported);
  EXPECT_EQ(ClassOf(ELOOP), ErrorClass::kOther);
}

TEST(NetlinkCountersTest, NamesDiffer) {
  std::set<std::string_view> subsystems;
  for (size_t i = 0; i < kSubsystems; ++i)
    subsystems.insert(ToString(static_cast<Subsystem>(i)));
  EXPECT_EQ(subsystems.size(), kSubsystems);
  std::set<std::string_view> errors;
  for (size_t i = 0; i < kErrorClasses; ++i)
    errors.insert(ToString(static_cast<ErrorClass>(i)));
  EXPECT_EQ(errors.size(), kErrorClasses);
}

}  // namespace
}  // namespace pointsman::agent::netlink
