// Rules of nf_tables, built expression by expression. Registers are the sixteen of 4 bytes
// (NFT_REG32_00…); a longer value takes as many as it needs, each part of a concatenation begins a
// new one (net/netfilter/nf_tables_api.c).
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "kube/net/ip_address.h"
#include "node-agent/nf_tables/attributes.h"

struct nlattr;

namespace pointsman::agent::nft {

struct Rule {
  std::string expressions;  // NFTA_LIST_ELEM attributes
  std::string comment;      // as nft(8) shows it; "": none
};

// Is each expression of `wanted`, with each of its attributes, what the kernel says? The kernel may
// tell more (it fills in defaults). `list`: NFTA_RULE_EXPRESSIONS, may be null.
bool SameExpressions(std::string_view wanted, const nlattr* list);

enum class Match : uint8_t { kEqual, kNotEqual };

// An expression reads only registers that an earlier one of the same rule wrote: newer kernels
// refuse anything else.
class RuleBuilder {
 public:
  explicit RuleBuilder(net::Family family) : family_(family) {}

  // Registers that an address takes.
  unsigned address_words() const { return family_ == net::Family::kIPv4 ? 1 : 4; }
  net::Family family() const { return family_; }

  // What a packet says, into a register.
  RuleBuilder& LoadProtocol(unsigned to);
  RuleBuilder& LoadSource(unsigned to);
  RuleBuilder& LoadDestination(unsigned to);
  RuleBuilder& LoadSourcePort(unsigned to);
  RuleBuilder& LoadDestinationPort(unsigned to);
  // The first bits of the source address, the others 0, into register 0 and on.
  RuleBuilder& LoadSourceBlock(unsigned bits);
  // A random number below `modulus` (at least 1).
  RuleBuilder& LoadRandom(uint32_t modulus, unsigned to);

  // Go on only if …
  RuleBuilder& InSet(std::string_view set, unsigned key);
  RuleBuilder& NotInSet(std::string_view set, unsigned key);
  RuleBuilder& SourceIn(const net::IpPrefix& prefix, Match match);
  RuleBuilder& DestinationIn(const net::IpPrefix& prefix, Match match);
  RuleBuilder& SourceIsLocal();
  RuleBuilder& DestinationIsLocal();
  // `prefix`: any interface whose name begins so.
  RuleBuilder& InputInterface(std::string_view name, bool prefix, Match match);
  RuleBuilder& OutputInterface(std::string_view name, Match match);
  RuleBuilder& Mark(uint32_t bits);      // all of them are set
  RuleBuilder& CtState(uint32_t bits);   // any of NF_CT_STATE_BIT(…)
  RuleBuilder& CtStatus(uint32_t bits);  // any of IPS_…
  // The destination address is in an ipset of addresses, whose `index` netlink::Ipset::IndexOf
  // says. iptables' match "set", revision 4, which nf_tables runs too (CONFIG_NFT_COMPAT). While
  // the rule is there the set cannot be destroyed.
  RuleBuilder& DestinationInIpset(uint16_t index);

  // `key` is in the map, and its value goes to `to`.
  RuleBuilder& Map(std::string_view map, unsigned key, unsigned to);
  RuleBuilder& VerdictMap(std::string_view map, unsigned key);

  // The packet path's own changes of a map with time-outs. Update renews the time of a key that is
  // there and does not change its value.
  RuleBuilder& Update(std::string_view map, unsigned key, unsigned data,
                      std::chrono::seconds timeout);
  RuleBuilder& Delete(std::string_view map, unsigned key, unsigned data);

  RuleBuilder& SetMark(uint32_t bits);
  RuleBuilder& ClearMark(uint32_t bits);
  RuleBuilder& Dnat(unsigned address, unsigned port);
  RuleBuilder& DnatAddress(unsigned address);  // keeps the port
  RuleBuilder& Masquerade();
  RuleBuilder& Reject();    // ICMP port unreachable
  RuleBuilder& ResetTcp();  // of TCP only: goes on only if it is
  RuleBuilder& Drop();
  RuleBuilder& Accept();
  RuleBuilder& Return();
  RuleBuilder& Jump(std::string_view chain);

  Rule Build(std::string comment = {});

 private:
  class Expression;
  RuleBuilder& Payload(uint32_t base, uint32_t offset, uint32_t length, unsigned to);
  RuleBuilder& Meta(uint32_t key, unsigned to);
  RuleBuilder& Compare(unsigned reg, Match match, const void* value, size_t size);
  RuleBuilder& And(unsigned reg, const void* mask, const void* toggle, size_t size);
  RuleBuilder& And(unsigned reg, uint32_t mask, uint32_t toggle = 0) {
    return And(reg, &mask, &toggle, sizeof mask);
  }
  RuleBuilder& KeepBits(unsigned bits);  // of the address in register 0
  RuleBuilder& PrefixIn(const net::IpPrefix& prefix, Match match);
  RuleBuilder& IsLocal(uint32_t flag);
  RuleBuilder& LookUp(std::string_view set, unsigned key, uint32_t flags);
  RuleBuilder& AnyBit(uint32_t bits);  // of register 0
  RuleBuilder& StoreMark();            // register 0
  RuleBuilder& Verdict(int code, std::string_view chain = {});

  const net::Family family_;
  AttributeWriter out_;
};

}  // namespace pointsman::agent::nft
