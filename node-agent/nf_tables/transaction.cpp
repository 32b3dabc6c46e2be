#include "node-agent/nf_tables/transaction.h"

#include <arpa/inet.h>
#include <cstring>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>

#include "kube/text/text.h"

namespace pointsman::agent::nft {
namespace {

// The list of elements is one attribute, which cannot be larger than 65,535 bytes.
constexpr size_t kMostElementBytes = 60000;
// struct nftnl_udata: type, length, value (libnftnl, include/udata.h). Comments are type 0 in
// elements, and in rules.
constexpr uint8_t kCommentType = 0;
constexpr size_t kLongestComment = 127;

std::string CommentData(std::string_view comment) {
  std::string data;
  comment = text::Cut(comment, kLongestComment);
  data += static_cast<char>(kCommentType);
  data += static_cast<char>(comment.size() + 1);
  data += comment;
  data += '\0';
  return data;
}

void AppendHeader(std::string& bytes, uint16_t type, uint16_t flags, uint8_t family,
                  uint16_t resource) {
  const nlmsghdr header{NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(nfgenmsg)), type,
                        static_cast<uint16_t>(NLM_F_REQUEST | flags), 0, 0};
  const nfgenmsg extra{family, NFNETLINK_V0, htons(resource)};
  bytes.append(reinterpret_cast<const char*>(&header), sizeof header);
  bytes.append(reinterpret_cast<const char*>(&extra), sizeof extra);
}

}  // namespace

Transaction::Transaction(net::Family family, std::string_view table)
    : family_(family), table_(table) {
  AppendHeader(bytes_, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
}

void Transaction::CloseMessage() {
  if (elements_ != 0) {
    End(elements_);
    elements_ = 0;
  }
  if (offsets_.empty()) return;
  const auto length = static_cast<uint32_t>(bytes_.size() - offsets_.back());
  std::memcpy(bytes_.data() + offsets_.back(), &length, sizeof length);
}

void Transaction::Begin(uint8_t message, uint16_t flags, std::string label) {
  CloseMessage();
  offsets_.push_back(bytes_.size());
  labels_.push_back(std::move(label));
  AppendHeader(bytes_, static_cast<uint16_t>((NFNL_SUBSYS_NFTABLES << 8) | message), flags,
               family_ == net::Family::kIPv4 ? NFPROTO_IPV4 : NFPROTO_IPV6, 0);
}

void Transaction::PutValue(uint16_t type, std::string_view value) {
  const size_t nest = AttributeWriter::Begin(type);
  Put(NFTA_DATA_VALUE, value.data(), value.size());
  End(nest);
}

void Transaction::AddTable(uint32_t flags) {
  Begin(NFT_MSG_NEWTABLE, NLM_F_CREATE, "table " + table_);
  PutString(NFTA_TABLE_NAME, table_);
  PutU32(NFTA_TABLE_FLAGS, flags);
  ++objects_;
}

void Transaction::DeleteTable() {
  Begin(NFT_MSG_DELTABLE, 0, "table " + table_);
  PutString(NFTA_TABLE_NAME, table_);
  ++objects_;
}

void Transaction::AddSet(const SetDefinition& set) {
  Begin(NFT_MSG_NEWSET, NLM_F_CREATE, fmt::format("set {}", set.name));
  PutString(NFTA_SET_TABLE, table_);
  PutString(NFTA_SET_NAME, set.name);
  PutU32(NFTA_SET_FLAGS, set.flags);
  PutU32(NFTA_SET_KEY_TYPE, set.key_type);
  PutU32(NFTA_SET_KEY_LEN, set.key_size);
  if ((set.flags & NFT_SET_MAP) != 0) {
    PutU32(NFTA_SET_DATA_TYPE, set.data_type);
    if (set.data_size != 0) PutU32(NFTA_SET_DATA_LEN, set.data_size);
  }
  PutU32(NFTA_SET_ID, ++next_set_id_);
  if (set.max_elements != 0 || !set.fields.empty()) {
    const size_t description = AttributeWriter::Begin(NFTA_SET_DESC);
    if (set.max_elements != 0) PutU32(NFTA_SET_DESC_SIZE, set.max_elements);
    if (!set.fields.empty()) {
      const size_t fields = AttributeWriter::Begin(NFTA_SET_DESC_CONCAT);
      for (const uint32_t size : set.fields) {
        const size_t field = AttributeWriter::Begin(NFTA_LIST_ELEM);
        PutU32(NFTA_SET_FIELD_LEN, size);
        End(field);
      }
      End(fields);
    }
    End(description);
  }
  ++objects_;
}

void Transaction::DeleteSet(std::string_view name) {
  Begin(NFT_MSG_DELSET, 0, fmt::format("set {}", name));
  PutString(NFTA_SET_TABLE, table_);
  PutString(NFTA_SET_NAME, name);
  ++objects_;
}

void Transaction::AddChain(const Chain& chain) {
  Begin(NFT_MSG_NEWCHAIN, NLM_F_CREATE, "chain " + chain.name);
  PutString(NFTA_CHAIN_TABLE, table_);
  PutString(NFTA_CHAIN_NAME, chain.name);
  if (chain.hook) {
    const size_t hook = AttributeWriter::Begin(NFTA_CHAIN_HOOK);
    PutU32(NFTA_HOOK_HOOKNUM, chain.hook->number);
    PutU32(NFTA_HOOK_PRIORITY, static_cast<uint32_t>(chain.hook->priority));
    End(hook);
    PutU32(NFTA_CHAIN_POLICY, NF_ACCEPT);
    PutString(NFTA_CHAIN_TYPE, chain.hook->type);
  }
  ++objects_;
}

void Transaction::DeleteChain(std::string_view name) {
  Begin(NFT_MSG_DELCHAIN, 0, fmt::format("chain {}", name));
  PutString(NFTA_CHAIN_TABLE, table_);
  PutString(NFTA_CHAIN_NAME, name);
  ++objects_;
}

void Transaction::FlushChain(std::string_view name) {
  Begin(NFT_MSG_DELRULE, 0, fmt::format("chain {}", name));
  PutString(NFTA_RULE_TABLE, table_);
  PutString(NFTA_RULE_CHAIN, name);
  ++objects_;
}

void Transaction::AppendRule(std::string_view chain, const Rule& rule) {
  Begin(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, fmt::format("a rule of chain {}", chain));
  PutString(NFTA_RULE_TABLE, table_);
  PutString(NFTA_RULE_CHAIN, chain);
  const size_t expressions = AttributeWriter::Begin(NFTA_RULE_EXPRESSIONS);
  Append(rule.expressions);
  End(expressions);
  if (!rule.comment.empty()) {
    const std::string comment = CommentData(rule.comment);
    Put(NFTA_RULE_USERDATA, comment.data(), comment.size());
  }
  ++objects_;
}

void Transaction::OpenElements(uint8_t message, uint16_t flags, const SetDefinition& set) {
  if (elements_ != 0 && elements_message_ == message && elements_set_ == set.name &&
      bytes_.size() - elements_ < kMostElementBytes) {
    return;
  }
  Begin(message, flags, fmt::format("elements of set {}", set.name));
  PutString(NFTA_SET_ELEM_LIST_TABLE, table_);
  PutString(NFTA_SET_ELEM_LIST_SET, set.name);
  elements_ = AttributeWriter::Begin(NFTA_SET_ELEM_LIST_ELEMENTS);
  elements_message_ = message;
  elements_set_ = set.name;
}

void Transaction::AddElement(const SetDefinition& set, const RawElement& element,
                             std::string_view comment) {
  OpenElements(NFT_MSG_NEWSETELEM, NLM_F_CREATE, set);
  const size_t nest = AttributeWriter::Begin(NFTA_LIST_ELEM);
  PutValue(NFTA_SET_ELEM_KEY, element.key);
  if (!set.fields.empty()) {
    PutValue(NFTA_SET_ELEM_KEY_END, element.data);
  } else if (!element.data.empty()) {
    PutValue(NFTA_SET_ELEM_DATA, element.data);
  }
  if (!comment.empty()) {
    const std::string data = CommentData(comment);
    Put(NFTA_SET_ELEM_USERDATA, data.data(), data.size());
  }
  End(nest);
  ++objects_;
}

void Transaction::AddExpiring(const SetDefinition& map, const RawElement& element,
                              std::chrono::milliseconds timeout, std::chrono::milliseconds left) {
  OpenElements(NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, map);
  const size_t nest = AttributeWriter::Begin(NFTA_LIST_ELEM);
  PutValue(NFTA_SET_ELEM_KEY, element.key);
  PutValue(NFTA_SET_ELEM_DATA, element.data);
  PutU64(NFTA_SET_ELEM_TIMEOUT, static_cast<uint64_t>(timeout.count()));
  PutU64(NFTA_SET_ELEM_EXPIRATION, static_cast<uint64_t>(left.count()));
  End(nest);
  ++objects_;
}

void Transaction::DeleteElement(const SetDefinition& set, const RawElement& element) {
  OpenElements(NFT_MSG_DELSETELEM, 0, set);
  const size_t nest = AttributeWriter::Begin(NFTA_LIST_ELEM);
  PutValue(NFTA_SET_ELEM_KEY, element.key);
  if (!set.fields.empty()) PutValue(NFTA_SET_ELEM_KEY_END, element.data);
  End(nest);
  ++objects_;
}

void Transaction::AddGoto(const SetDefinition& map, std::string_view key, std::string_view chain) {
  OpenElements(NFT_MSG_NEWSETELEM, NLM_F_CREATE, map);
  const size_t nest = AttributeWriter::Begin(NFTA_LIST_ELEM);
  PutValue(NFTA_SET_ELEM_KEY, key);
  const size_t data = AttributeWriter::Begin(NFTA_SET_ELEM_DATA);
  const size_t verdict = AttributeWriter::Begin(NFTA_DATA_VERDICT);
  PutU32(NFTA_VERDICT_CODE, static_cast<uint32_t>(NFT_GOTO));
  PutString(NFTA_VERDICT_CHAIN, chain);
  End(verdict);
  End(data);
  End(nest);
  ++objects_;
}

void Transaction::FlushSet(std::string_view name) {
  Begin(NFT_MSG_DELSETELEM, 0, fmt::format("elements of set {}", name));
  PutString(NFTA_SET_ELEM_LIST_TABLE, table_);
  PutString(NFTA_SET_ELEM_LIST_SET, name);
  ++objects_;
}

std::string Transaction::Finish(uint32_t sequence, bool commit) {
  CloseMessage();
  for (size_t i = 0; i < offsets_.size(); ++i) {
    nlmsghdr header;
    std::memcpy(&header, bytes_.data() + offsets_[i], sizeof header);
    header.nlmsg_seq = sequence + 1 + static_cast<uint32_t>(i);
    // The last request's acknowledgement says that the kernel came to the end.
    if (i + 1 == offsets_.size()) header.nlmsg_flags |= NLM_F_ACK;
    std::memcpy(bytes_.data() + offsets_[i], &header, sizeof header);
  }
  nlmsghdr begin;
  std::memcpy(&begin, bytes_.data(), sizeof begin);
  begin.nlmsg_seq = sequence;
  std::memcpy(bytes_.data(), &begin, sizeof begin);
  if (commit) AppendHeader(bytes_, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
  return Take();
}

const std::string& Transaction::LabelOf(size_t index) const {
  static const std::string transaction = "the transaction";
  return index == 0 || index > labels_.size() ? transaction : labels_[index - 1];
}

}  // namespace pointsman::agent::nft
