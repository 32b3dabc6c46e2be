#include "node-agent/nf_tables/rule.h"

#include <arpa/inet.h>  // netinet/in.h, which has to come before linux/in.h
#include <cstring>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/xt_set.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdexcept>

#include "node-agent/netlink/message.h"

namespace pointsman::agent::nft {
namespace {

constexpr uint32_t kIcmpPortUnreachable = 3;
constexpr uint32_t kIcmp6PortUnreachable = 4;

// As the kernel dumps them: the first of four small registers by the name of the large one
// (nft_dump_register).
uint32_t RegisterNumber(unsigned reg) {
  if (reg > 15) throw std::logic_error("nf_tables has 16 registers");
  return reg % 4 == 0 ? NFT_REG_1 + reg / 4 : NFT_REG32_00 + reg;
}

// Every attribute of `wanted` is in `found`; the order does not matter.
bool Contains(netlink::Attributes found, netlink::Attributes wanted) {
  for (const nlattr* want : wanted) {
    bool same = false;
    for (const nlattr* have : found) {
      if (mnl_attr_get_type(have) != mnl_attr_get_type(want)) continue;
      if ((want->nla_type & NLA_F_NESTED) != 0) {
        same = Contains(netlink::Attributes(have), netlink::Attributes(want));
      } else {
        same = mnl_attr_get_payload_len(have) == mnl_attr_get_payload_len(want) &&
               std::memcmp(mnl_attr_get_payload(have), mnl_attr_get_payload(want),
                           mnl_attr_get_payload_len(want)) == 0;
      }
      break;
    }
    if (!same) return false;
  }
  return true;
}

}  // namespace

bool SameExpressions(std::string_view wanted, const nlattr* list) {
  const char* at = wanted.data();
  const char* const end = at + wanted.size();
  if (list != nullptr) {
    for (const nlattr* have : netlink::Attributes(list)) {
      const auto* want = reinterpret_cast<const nlattr*>(at);
      if (at == end || !Contains(netlink::Attributes(have), netlink::Attributes(want))) {
        return false;
      }
      at += NLA_ALIGN(want->nla_len);
    }
  }
  return at == end;
}

class RuleBuilder::Expression {
 public:
  Expression(AttributeWriter& out, std::string_view name)
      : out_(out), element_(out.Begin(NFTA_LIST_ELEM)) {
    out_.PutString(NFTA_EXPR_NAME, name);
    data_ = out_.Begin(NFTA_EXPR_DATA);
  }
  ~Expression() noexcept(false) {
    out_.End(data_);
    out_.End(element_);
  }
  Expression(const Expression&) = delete;
  Expression& operator=(const Expression&) = delete;

  Expression& Register(uint16_t type, unsigned reg) { return Number(type, RegisterNumber(reg)); }
  Expression& Number(uint16_t type, uint32_t value) {
    out_.PutU32(type, value);
    return *this;
  }
  Expression& Text(uint16_t type, std::string_view value) {
    out_.PutString(type, value);
    return *this;
  }
  Expression& Value(uint16_t type, const void* value, size_t size) {
    const size_t nest = out_.Begin(type);
    out_.Put(NFTA_DATA_VALUE, value, size);
    out_.End(nest);
    return *this;
  }

 private:
  AttributeWriter& out_;
  const size_t element_;
  size_t data_;
};

RuleBuilder& RuleBuilder::Payload(uint32_t base, uint32_t offset, uint32_t length, unsigned to) {
  Expression(out_, "payload")
      .Register(NFTA_PAYLOAD_DREG, to)
      .Number(NFTA_PAYLOAD_BASE, base)
      .Number(NFTA_PAYLOAD_OFFSET, offset)
      .Number(NFTA_PAYLOAD_LEN, length);
  return *this;
}

RuleBuilder& RuleBuilder::Meta(uint32_t key, unsigned to) {
  Expression(out_, "meta").Number(NFTA_META_KEY, key).Register(NFTA_META_DREG, to);
  return *this;
}

RuleBuilder& RuleBuilder::LoadProtocol(unsigned to) {
  return Meta(NFT_META_L4PROTO, to);
}

RuleBuilder& RuleBuilder::LoadSource(unsigned to) {
  return family_ == net::Family::kIPv4 ? Payload(NFT_PAYLOAD_NETWORK_HEADER, 12, 4, to)
                                       : Payload(NFT_PAYLOAD_NETWORK_HEADER, 8, 16, to);
}

RuleBuilder& RuleBuilder::LoadDestination(unsigned to) {
  return family_ == net::Family::kIPv4 ? Payload(NFT_PAYLOAD_NETWORK_HEADER, 16, 4, to)
                                       : Payload(NFT_PAYLOAD_NETWORK_HEADER, 24, 16, to);
}

RuleBuilder& RuleBuilder::LoadDestinationPort(unsigned to) {
  return Payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, to);
}

RuleBuilder& RuleBuilder::LoadSourcePort(unsigned to) {
  return Payload(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2, to);
}

RuleBuilder& RuleBuilder::LoadSourceBlock(unsigned bits) {
  return LoadSource(0).KeepBits(bits);
}

RuleBuilder& RuleBuilder::LoadRandom(uint32_t modulus, unsigned to) {
  Expression(out_, "numgen")
      .Register(NFTA_NG_DREG, to)
      .Number(NFTA_NG_MODULUS, modulus)
      .Number(NFTA_NG_TYPE, NFT_NG_RANDOM)
      .Number(NFTA_NG_OFFSET, 0);
  return *this;
}

RuleBuilder& RuleBuilder::LookUp(std::string_view set, unsigned key, uint32_t flags) {
  Expression(out_, "lookup")
      .Text(NFTA_LOOKUP_SET, set)
      .Register(NFTA_LOOKUP_SREG, key)
      .Number(NFTA_LOOKUP_FLAGS, flags);
  return *this;
}

RuleBuilder& RuleBuilder::InSet(std::string_view set, unsigned key) {
  return LookUp(set, key, 0);
}

RuleBuilder& RuleBuilder::NotInSet(std::string_view set, unsigned key) {
  return LookUp(set, key, NFT_LOOKUP_F_INV);
}

RuleBuilder& RuleBuilder::Map(std::string_view map, unsigned key, unsigned to) {
  Expression(out_, "lookup")
      .Text(NFTA_LOOKUP_SET, map)
      .Register(NFTA_LOOKUP_SREG, key)
      .Register(NFTA_LOOKUP_DREG, to)
      .Number(NFTA_LOOKUP_FLAGS, 0);
  return *this;
}

RuleBuilder& RuleBuilder::VerdictMap(std::string_view map, unsigned key) {
  Expression(out_, "lookup")
      .Text(NFTA_LOOKUP_SET, map)
      .Register(NFTA_LOOKUP_SREG, key)
      .Number(NFTA_LOOKUP_DREG, NFT_REG_VERDICT)
      .Number(NFTA_LOOKUP_FLAGS, 0);
  return *this;
}

RuleBuilder& RuleBuilder::Compare(unsigned reg, Match match, const void* value, size_t size) {
  Expression(out_, "cmp")
      .Register(NFTA_CMP_SREG, reg)
      .Number(NFTA_CMP_OP, match == Match::kEqual ? NFT_CMP_EQ : NFT_CMP_NEQ)
      .Value(NFTA_CMP_DATA, value, size);
  return *this;
}

// reg = (reg & mask) ^ toggle
RuleBuilder& RuleBuilder::And(unsigned reg, const void* mask, const void* toggle, size_t size) {
  Expression(out_, "bitwise")
      .Register(NFTA_BITWISE_SREG, reg)
      .Register(NFTA_BITWISE_DREG, reg)
      .Number(NFTA_BITWISE_LEN, static_cast<uint32_t>(size))
      .Number(NFTA_BITWISE_OP, NFT_BITWISE_BOOL)
      .Value(NFTA_BITWISE_MASK, mask, size)
      .Value(NFTA_BITWISE_XOR, toggle, size);
  return *this;
}

RuleBuilder& RuleBuilder::KeepBits(unsigned bits) {
  uint8_t mask[16] = {};
  constexpr uint8_t kZeros[16] = {};
  for (unsigned bit = 0; bit < bits; ++bit)
    mask[bit / 8] |= static_cast<uint8_t>(0x80U >> bit % 8);
  return And(0, mask, kZeros, address_words() * size_t{4});
}

RuleBuilder& RuleBuilder::PrefixIn(const net::IpPrefix& prefix, Match match) {
  return KeepBits(prefix.length())
      .Compare(0, match, prefix.address().data(), prefix.address().size());
}

RuleBuilder& RuleBuilder::SourceIn(const net::IpPrefix& prefix, Match match) {
  return LoadSource(0).PrefixIn(prefix, match);
}

RuleBuilder& RuleBuilder::DestinationIn(const net::IpPrefix& prefix, Match match) {
  return LoadDestination(0).PrefixIn(prefix, match);
}

RuleBuilder& RuleBuilder::IsLocal(uint32_t flag) {
  Expression(out_, "fib")
      .Register(NFTA_FIB_DREG, 0)
      .Number(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE)
      .Number(NFTA_FIB_FLAGS, flag);
  const uint32_t local = RTN_LOCAL;
  return Compare(0, Match::kEqual, &local, sizeof local);
}

RuleBuilder& RuleBuilder::SourceIsLocal() {
  return IsLocal(NFTA_FIB_F_SADDR);
}

RuleBuilder& RuleBuilder::DestinationIsLocal() {
  return IsLocal(NFTA_FIB_F_DADDR);
}

RuleBuilder& RuleBuilder::InputInterface(std::string_view name, bool prefix, Match match) {
  char padded[IFNAMSIZ] = {};
  std::memcpy(padded, name.data(), std::min(name.size(), sizeof padded - 1));
  Meta(NFT_META_IIFNAME, 0);
  return Compare(0, match, padded, prefix ? name.size() : sizeof padded);
}

RuleBuilder& RuleBuilder::OutputInterface(std::string_view name, Match match) {
  char padded[IFNAMSIZ] = {};
  std::memcpy(padded, name.data(), std::min(name.size(), sizeof padded - 1));
  Meta(NFT_META_OIFNAME, 0);
  return Compare(0, match, padded, sizeof padded);
}

RuleBuilder& RuleBuilder::AnyBit(uint32_t bits) {
  const uint32_t zero = 0;
  return And(0, bits).Compare(0, Match::kNotEqual, &zero, sizeof zero);
}

RuleBuilder& RuleBuilder::Mark(uint32_t bits) {
  return Meta(NFT_META_MARK, 0).And(0, bits).Compare(0, Match::kEqual, &bits, sizeof bits);
}

RuleBuilder& RuleBuilder::CtState(uint32_t bits) {
  Expression(out_, "ct").Register(NFTA_CT_DREG, 0).Number(NFTA_CT_KEY, NFT_CT_STATE);
  return AnyBit(bits);
}

RuleBuilder& RuleBuilder::CtStatus(uint32_t bits) {
  Expression(out_, "ct").Register(NFTA_CT_DREG, 0).Number(NFTA_CT_KEY, NFT_CT_STATUS);
  return AnyBit(bits);
}

RuleBuilder& RuleBuilder::DestinationInIpset(uint16_t index) {
  // One dimension, and no flag that says it is the source's. The kernel wants a size that XT_ALIGN
  // would give (net/netfilter/x_tables.c, xt_check_match), and clears what is between the fields.
  alignas(8) uint8_t info[(sizeof(xt_set_info_match_v4) + 7) / 8 * 8] = {};
  auto* const match = reinterpret_cast<xt_set_info_match_v4*>(info);
  match->match_set.index = index;
  match->match_set.dim = 1;
  const Expression expression(out_, "match");
  out_.PutString(NFTA_MATCH_NAME, "set");
  out_.PutU32(NFTA_MATCH_REV, 4);
  out_.Put(NFTA_MATCH_INFO, info, sizeof info);
  return *this;
}

RuleBuilder& RuleBuilder::Update(std::string_view map, unsigned key, unsigned data,
                                 std::chrono::seconds timeout) {
  const Expression expression(out_, "dynset");
  out_.PutString(NFTA_DYNSET_SET_NAME, map);
  out_.PutU32(NFTA_DYNSET_OP, NFT_DYNSET_OP_UPDATE);
  out_.PutU32(NFTA_DYNSET_SREG_KEY, RegisterNumber(key));
  out_.PutU32(NFTA_DYNSET_SREG_DATA, RegisterNumber(data));
  out_.PutU64(NFTA_DYNSET_TIMEOUT, static_cast<uint64_t>(timeout.count()) * 1000);
  return *this;
}

RuleBuilder& RuleBuilder::Delete(std::string_view map, unsigned key, unsigned data) {
  // The kernel wants a register for the value of a map, one that was written, though it does not
  // read it here.
  Expression(out_, "dynset")
      .Text(NFTA_DYNSET_SET_NAME, map)
      .Number(NFTA_DYNSET_OP, NFT_DYNSET_OP_DELETE)
      .Register(NFTA_DYNSET_SREG_KEY, key)
      .Register(NFTA_DYNSET_SREG_DATA, data);
  return *this;
}

RuleBuilder& RuleBuilder::StoreMark() {
  Expression(out_, "meta").Number(NFTA_META_KEY, NFT_META_MARK).Register(NFTA_META_SREG, 0);
  return *this;
}

RuleBuilder& RuleBuilder::SetMark(uint32_t bits) {
  return Meta(NFT_META_MARK, 0).And(0, ~bits, bits).StoreMark();
}

RuleBuilder& RuleBuilder::ClearMark(uint32_t bits) {
  return Meta(NFT_META_MARK, 0).And(0, ~bits).StoreMark();
}

RuleBuilder& RuleBuilder::Dnat(unsigned address, unsigned port) {
  Expression(out_, "nat")
      .Number(NFTA_NAT_TYPE, NFT_NAT_DNAT)
      .Number(NFTA_NAT_FAMILY, family_ == net::Family::kIPv4 ? NFPROTO_IPV4 : NFPROTO_IPV6)
      .Register(NFTA_NAT_REG_ADDR_MIN, address)
      .Register(NFTA_NAT_REG_PROTO_MIN, port);
  return *this;
}

RuleBuilder& RuleBuilder::DnatAddress(unsigned address) {
  Expression(out_, "nat")
      .Number(NFTA_NAT_TYPE, NFT_NAT_DNAT)
      .Number(NFTA_NAT_FAMILY, family_ == net::Family::kIPv4 ? NFPROTO_IPV4 : NFPROTO_IPV6)
      .Register(NFTA_NAT_REG_ADDR_MIN, address);
  return *this;
}

RuleBuilder& RuleBuilder::Masquerade() {
  Expression(out_, "masq").Number(NFTA_MASQ_FLAGS, NF_NAT_RANGE_PROTO_RANDOM_FULLY);
  return *this;
}

RuleBuilder& RuleBuilder::Reject() {
  const Expression expression(out_, "reject");
  out_.PutU32(NFTA_REJECT_TYPE, NFT_REJECT_ICMP_UNREACH);
  out_.PutU8(NFTA_REJECT_ICMP_CODE,
             family_ == net::Family::kIPv4 ? kIcmpPortUnreachable : kIcmp6PortUnreachable);
  return *this;
}

RuleBuilder& RuleBuilder::ResetTcp() {
  const uint8_t tcp = IPPROTO_TCP;
  LoadProtocol(0).Compare(0, Match::kEqual, &tcp, sizeof tcp);
  Expression(out_, "reject").Number(NFTA_REJECT_TYPE, NFT_REJECT_TCP_RST);
  return *this;
}

RuleBuilder& RuleBuilder::Verdict(int code, std::string_view chain) {
  const Expression expression(out_, "immediate");
  out_.PutU32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
  const size_t data = out_.Begin(NFTA_IMMEDIATE_DATA);
  const size_t verdict = out_.Begin(NFTA_DATA_VERDICT);
  out_.PutU32(NFTA_VERDICT_CODE, static_cast<uint32_t>(code));
  if (!chain.empty()) out_.PutString(NFTA_VERDICT_CHAIN, chain);
  out_.End(verdict);
  out_.End(data);
  return *this;
}

RuleBuilder& RuleBuilder::Drop() {
  return Verdict(NF_DROP);
}

RuleBuilder& RuleBuilder::Accept() {
  return Verdict(NF_ACCEPT);
}

RuleBuilder& RuleBuilder::Return() {
  return Verdict(NFT_RETURN);
}

RuleBuilder& RuleBuilder::Jump(std::string_view chain) {
  return Verdict(NFT_JUMP, chain);
}

Rule RuleBuilder::Build(std::string comment) {
  return {out_.Take(), std::move(comment)};
}

}  // namespace pointsman::agent::nft
