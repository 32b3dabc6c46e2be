#include "node-agent/nf_tables/kernel_table.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <system_error>

#include <endian.h>
#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>

namespace pointsman::agent::nft {
namespace {

using netlink::Attributes;

std::string_view Text(const nlattr* attribute) {
  const char* text = mnl_attr_get_str(attribute);
  return {text, strnlen(text, mnl_attr_get_payload_len(attribute))};
}

uint32_t Number(const nlattr* attribute) {
  if (mnl_attr_get_payload_len(attribute) < sizeof(uint32_t)) return 0;
  return ntohl(mnl_attr_get_u32(attribute));
}

std::chrono::milliseconds Milliseconds(const nlattr* attribute) {
  if (mnl_attr_get_payload_len(attribute) < sizeof(uint64_t)) return {};
  return std::chrono::milliseconds(be64toh(mnl_attr_get_u64(attribute)));
}

std::string_view Bytes(const nlattr* attribute) {
  return {static_cast<const char*>(mnl_attr_get_payload(attribute)),
          mnl_attr_get_payload_len(attribute)};
}

// nullptr: not there.
const nlattr* Find(const Attributes& attributes, uint16_t type) {
  for (const nlattr* attribute : attributes) {
    if (mnl_attr_get_type(attribute) == type) return attribute;
  }
  return nullptr;
}

std::string_view CommentOf(const nlattr* user_data) {
  const std::string_view data = Bytes(user_data);
  // type 0, length, text with its 0
  if (data.size() < 3 || data[0] != 0 || static_cast<size_t>(data[1]) + 2 > data.size()) return {};
  return data.substr(2, static_cast<size_t>(static_cast<uint8_t>(data[1])) - 1);
}

void Check(int error, std::string_view what) {
  if (error != 0) {
    throw std::system_error(error, std::generic_category(),
                            fmt::format("list nf_tables' {}", what));
  }
}

bool NamesTable(const nlmsghdr* message, uint16_t attribute, std::string_view table) {
  const nlattr* name = Find(Attributes(message, sizeof(nfgenmsg)), attribute);
  return name != nullptr && Text(name) == table;
}

void ReadHook(const nlattr* nest, KernelChain& chain) {
  chain.base = true;
  for (const nlattr* attribute : Attributes(nest)) {
    if (mnl_attr_get_type(attribute) == NFTA_HOOK_HOOKNUM) chain.hook = Number(attribute);
    if (mnl_attr_get_type(attribute) == NFTA_HOOK_PRIORITY)
      chain.priority = static_cast<int32_t>(Number(attribute));
  }
}

void ReadChain(const nlmsghdr* message, KernelTable& table) {
  std::string name;
  KernelChain chain;
  for (const nlattr* attribute : Attributes(message, sizeof(nfgenmsg))) {
    switch (mnl_attr_get_type(attribute)) {
      case NFTA_CHAIN_NAME:
        name = Text(attribute);
        break;
      case NFTA_CHAIN_HOOK:
        ReadHook(attribute, chain);
        break;
      case NFTA_CHAIN_TYPE:
        chain.type = Text(attribute);
        break;
      case NFTA_CHAIN_POLICY:
        chain.policy = Number(attribute);
        break;
      default:
        break;
    }
  }
  table.chains.insert_or_assign(std::move(name), std::move(chain));
}

void ReadRule(const nlmsghdr* message, KernelTable& table) {
  std::string_view chain;
  KernelRule rule;
  for (const nlattr* attribute : Attributes(message, sizeof(nfgenmsg))) {
    switch (mnl_attr_get_type(attribute)) {
      case NFTA_RULE_CHAIN:
        chain = Text(attribute);
        break;
      case NFTA_RULE_EXPRESSIONS:
        rule.expressions.assign(reinterpret_cast<const char*>(attribute), attribute->nla_len);
        break;
      case NFTA_RULE_USERDATA:
        rule.comment = CommentOf(attribute);
        break;
      default:
        break;
    }
  }
  const auto found = table.chains.find(chain);
  if (found != table.chains.end()) found->second.rules.push_back(std::move(rule));
}

void ReadSet(const nlmsghdr* message, KernelTable& table) {
  std::string name;
  KernelSet set;
  for (const nlattr* attribute : Attributes(message, sizeof(nfgenmsg))) {
    switch (mnl_attr_get_type(attribute)) {
      case NFTA_SET_NAME:
        name = Text(attribute);
        break;
      case NFTA_SET_FLAGS:
        set.flags = Number(attribute);
        break;
      case NFTA_SET_KEY_LEN:
        set.key_size = Number(attribute);
        break;
      case NFTA_SET_DATA_TYPE:
        set.data_type = Number(attribute);
        break;
      case NFTA_SET_DATA_LEN:
        set.data_size = Number(attribute);
        break;
      default:
        break;
    }
  }
  table.sets.insert_or_assign(std::move(name), set);
}

void ReadData(const nlattr* nest, KernelElement& element) {
  if (const nlattr* value = Find(Attributes(nest), NFTA_DATA_VALUE)) element.data = Bytes(value);
  const nlattr* verdict = Find(Attributes(nest), NFTA_DATA_VERDICT);
  if (verdict == nullptr) return;
  const nlattr* code = Find(Attributes(verdict), NFTA_VERDICT_CODE);
  const nlattr* chain = Find(Attributes(verdict), NFTA_VERDICT_CHAIN);
  element.plain = element.plain && code != nullptr &&
                  Number(code) == static_cast<uint32_t>(NFT_GOTO) && chain != nullptr;
  if (chain != nullptr) element.data = Text(chain);
}

KernelElement ReadElement(const nlattr* nest) {
  KernelElement element;
  for (const nlattr* attribute : Attributes(nest)) {
    switch (mnl_attr_get_type(attribute)) {
      case NFTA_SET_ELEM_KEY:
      case NFTA_SET_ELEM_KEY_END:
        if (const nlattr* value = Find(Attributes(attribute), NFTA_DATA_VALUE)) {
          (mnl_attr_get_type(attribute) == NFTA_SET_ELEM_KEY ? element.key : element.data) =
              Bytes(value);
        }
        break;
      case NFTA_SET_ELEM_DATA:
        ReadData(attribute, element);
        break;
      case NFTA_SET_ELEM_FLAGS:
        element.plain = element.plain && Number(attribute) == 0;
        break;
      case NFTA_SET_ELEM_TIMEOUT:
        element.plain = false;
        break;
      case NFTA_SET_ELEM_USERDATA:
        element.comment = CommentOf(attribute);
        break;
      case NFTA_SET_ELEM_EXPIRATION:
        element.expires = Milliseconds(attribute);
        break;
      default:
        break;
    }
  }
  return element;
}

}  // namespace

bool KernelChain::HasHookOf(const Chain& chain) const {
  if (base != chain.hook.has_value()) return false;
  return !base || (type == chain.hook->type && hook == chain.hook->number &&
                   priority == chain.hook->priority && policy == NF_ACCEPT);
}

bool KernelChain::HasRulesOf(const Chain& chain) const {
  if (rules.size() != chain.rules.size()) return false;
  for (size_t i = 0; i < rules.size(); ++i) {
    const auto* list = rules[i].expressions.empty()
                           ? nullptr
                           : reinterpret_cast<const nlattr*>(rules[i].expressions.data());
    if (rules[i].comment != chain.rules[i].comment ||
        !SameExpressions(chain.rules[i].expressions, list)) {
      return false;
    }
  }
  return true;
}

bool KernelSet::Is(const SetDefinition& definition) const {
  return flags == definition.flags && key_size == definition.key_size &&
         data_type == definition.data_type &&
         (definition.data_size == 0 || data_size == definition.data_size);
}

KernelTable ReadTable(Connection& connection, net::Family family, std::string_view name) {
  KernelTable table;
  const auto list = [&](uint8_t message, uint16_t filter, uint16_t table_attribute,
                        std::string_view what, const std::function<void()>& restart,
                        const std::function<void(const nlmsghdr*)>& each) {
    const int error =
        connection.Dump(message, family, name, filter, {}, restart, [&](const nlmsghdr* answer) {
          if (NamesTable(answer, table_attribute, name)) each(answer);
          return true;
        });
    // With the filter, a table that is not there is an error on some kernels.
    if (error != ENOENT) Check(error, what);
  };
  list(
      NFT_MSG_GETTABLE, 0, NFTA_TABLE_NAME, "tables", [&] { table = {}; },
      [&](const nlmsghdr* answer) {
        table.present = true;
        const nlattr* flags = Find(Attributes(answer, sizeof(nfgenmsg)), NFTA_TABLE_FLAGS);
        table.flags = flags == nullptr ? 0 : Number(flags);
      });
  if (!table.present) return table;
  list(
      NFT_MSG_GETSET, NFTA_SET_TABLE, NFTA_SET_TABLE, "sets", [&] { table.sets.clear(); },
      [&](const nlmsghdr* answer) { ReadSet(answer, table); });
  list(
      NFT_MSG_GETCHAIN, 0, NFTA_CHAIN_TABLE, "chains", [&] { table.chains.clear(); },
      [&](const nlmsghdr* answer) { ReadChain(answer, table); });
  list(
      NFT_MSG_GETRULE, NFTA_RULE_TABLE, NFTA_RULE_TABLE, "rules",
      [&] {
        for (auto& [chain, content] : table.chains)
          content.rules.clear();
      },
      [&](const nlmsghdr* answer) { ReadRule(answer, table); });
  return table;
}

bool HasTable(Connection& connection, net::Family family, std::string_view table) {
  bool present = false;
  const int error = connection.Dump(
      NFT_MSG_GETTABLE, family, table, 0, {}, [] {},
      [&](const nlmsghdr* answer) {
        present = present || NamesTable(answer, NFTA_TABLE_NAME, table);
        return true;
      });
  // nfnetlink's answers for a subsystem that this kernel does not have.
  if (error == EINVAL || error == EOPNOTSUPP || error == ENOENT) return false;
  Check(error, "tables");
  return present;
}

void ReadElements(Connection& connection, net::Family family, std::string_view table,
                  std::string_view set, const std::function<void()>& restart,
                  const std::function<bool(const KernelElement&)>& each) {
  const int error =
      connection.Dump(NFT_MSG_GETSETELEM, family, table, NFTA_SET_ELEM_LIST_TABLE, set, restart,
                      [&](const nlmsghdr* answer) {
                        const nlattr* list =
                            Find(Attributes(answer, sizeof(nfgenmsg)), NFTA_SET_ELEM_LIST_ELEMENTS);
                        if (list == nullptr) return true;
                        for (const nlattr* element : Attributes(list)) {
                          if (!each(ReadElement(element))) return false;
                        }
                        return true;
                      });
  Check(error, fmt::format("elements of set {}", set));
}

namespace {

// "": the expression is no lookup.
std::string_view SetOfLookup(const nlattr* expression) {
  const Attributes attributes(expression);
  const nlattr* name = Find(attributes, NFTA_EXPR_NAME);
  const nlattr* data = Find(attributes, NFTA_EXPR_DATA);
  if (name == nullptr || data == nullptr || Text(name) != "lookup") return {};
  const nlattr* set = Find(Attributes(data), NFTA_LOOKUP_SET);
  return set == nullptr ? std::string_view() : Text(set);
}

}  // namespace

void ForEachLookup(Connection& connection, net::Family family, std::string_view table,
                   const std::function<void()>& restart,
                   const std::function<void(const KernelLookup&)>& each) {
  const int error = connection.Dump(
      NFT_MSG_GETRULE, family, table, NFTA_RULE_TABLE, {}, restart, [&](const nlmsghdr* answer) {
        if (!NamesTable(answer, NFTA_RULE_TABLE, table)) return true;
        const Attributes attributes(answer, sizeof(nfgenmsg));
        const nlattr* chain = Find(attributes, NFTA_RULE_CHAIN);
        const nlattr* expressions = Find(attributes, NFTA_RULE_EXPRESSIONS);
        if (chain == nullptr || expressions == nullptr) return true;
        for (const nlattr* expression : Attributes(expressions)) {
          if (const std::string_view set = SetOfLookup(expression); !set.empty())
            each({Text(chain), set});
        }
        return true;
      });
  if (error != ENOENT) Check(error, "rules");
}

}  // namespace pointsman::agent::nft
