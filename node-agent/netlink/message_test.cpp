#include "node-agent/netlink/message.h"

#include <cstring>
#include <linux/rtnetlink.h>
#include <stdexcept>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pointsman::agent::netlink {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<int> TypesIn(const Message& message) {
  std::vector<int> types;
  for (const nlattr* attribute : Attributes(message.raw(), sizeof(rtmsg)))
    types.push_back(mnl_attr_get_type(attribute));
  return types;
}

TEST(NetlinkMessageTest, WhatIsPutIsFound) {
  Message message(RTM_NEWROUTE, NLM_F_CREATE, sizeof(rtmsg));
  EXPECT_EQ(message.raw()->nlmsg_type, RTM_NEWROUTE);
  EXPECT_EQ(message.raw()->nlmsg_flags, NLM_F_REQUEST | NLM_F_CREATE);
  EXPECT_THAT(TypesIn(message), IsEmpty());
  message.PutU8(1, 7);
  message.PutString(2, "lo");
  nlattr* const nest = message.BeginNested(3);
  message.PutAddress(4, *net::IpAddress::Parse("fd00::1"));
  message.PutU32(5, 0x01020304);
  message.EndNested(nest);
  message.PutU16(6, 9);
  EXPECT_THAT(TypesIn(message), ElementsAre(1, 2, 3, 6));
  for (const nlattr* attribute : Attributes(message.raw(), sizeof(rtmsg))) {
    if (mnl_attr_get_type(attribute) == 2) {
      EXPECT_STREQ(mnl_attr_get_str(attribute), "lo");
    }
    if (mnl_attr_get_type(attribute) != 3) continue;
    std::vector<int> nested;
    for (const nlattr* inner : Attributes(attribute)) {
      nested.push_back(mnl_attr_get_type(inner));
      if (mnl_attr_get_type(inner) == 4) {
        EXPECT_EQ(AttributeAddress(inner).ToString(), "fd00::1");
      }
    }
    EXPECT_THAT(nested, ElementsAre(4, 5));
  }
}

TEST(NetlinkMessageTest, MoreThanARequestHoldsIsRefused) {
  Message message(RTM_NEWROUTE, 0, sizeof(rtmsg));
  const std::string most(Message::kCapacity, 'x');
  EXPECT_THROW(message.PutString(1, most), std::length_error);
  EXPECT_THROW(message.Put(1, most.data(), most.size()), std::length_error);
  EXPECT_THAT(TypesIn(message), IsEmpty());
  EXPECT_THROW(
      {
        for (size_t i = 0; i < Message::kCapacity; ++i)
          message.PutU32(1, 0);
      },
      std::length_error);
  EXPECT_LE(message.raw()->nlmsg_len, Message::kCapacity);
}

// What a kernel, or a bug in one, could send: the reader stops instead of leaving the message.
TEST(NetlinkMessageTest, AttributesEndAtTheFirstThatDoesNotFit) {
  for (const uint16_t length : {uint16_t{0}, uint16_t{3}, uint16_t{9}, uint16_t{0xffff}}) {
    Message message(RTM_NEWROUTE, 0, sizeof(rtmsg));
    message.PutU32(1, 1);
    message.PutU32(2, 2);
    for (const nlattr* attribute : Attributes(message.raw(), sizeof(rtmsg))) {
      if (mnl_attr_get_type(attribute) == 2)
        std::memcpy(const_cast<nlattr*>(attribute), &length, sizeof length);  // nla_len
    }
    EXPECT_THAT(TypesIn(message), ElementsAre(1)) << length;
  }
}

}  // namespace
}  // namespace pointsman::agent::netlink
