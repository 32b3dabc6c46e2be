#include "node-agent/netlink/ipset.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/ipset/ip_set_hash.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <system_error>

#include "base/throw_errno.h"
#include "base/unique_fd.h"

namespace pointsman::agent::netlink {
namespace {

constexpr uint8_t kProtocol = 6;  // spoken by every kernel since 2.6.39

// The revision says which features the set has and must be known to the kernel and to the `ipset`
// of the person who looks: these are from Linux 3.18 and 4.x.
struct TypeFacts {
  const char* name;
  uint8_t revision;
  bool has_port, has_ip2;
};
const TypeFacts& Facts(SetType type) {
  static constexpr TypeFacts kFacts[] = {
      {"hash:ip", 4, false, false},       {"hash:ip,port", 5, true, false},
      {"hash:ip,port,ip", 5, true, true}, {"hash:ip,port,net", 7, true, true},
      {"hash:net,port", 7, true, false},
  };
  return kFacts[static_cast<size_t>(type)];
}

struct IpSetRequest : Message {
  IpSetRequest(uint8_t command, uint16_t flags, uint8_t family = AF_UNSPEC)
      : Message(static_cast<uint16_t>((NFNL_SUBSYS_IPSET << 8) | command), flags,
                sizeof(nfgenmsg)) {
    header<nfgenmsg>()->nfgen_family = family;
    header<nfgenmsg>()->version = NFNETLINK_V0;
    PutU8(IPSET_ATTR_PROTOCOL, kProtocol);
  }
};

void PutIp(Message& message, uint16_t attribute, const net::IpAddress& address) {
  nlattr* nest = message.BeginNested(attribute);
  message.PutAddress(
      static_cast<uint16_t>((address.is_v4() ? IPSET_ATTR_IPADDR_IPV4 : IPSET_ATTR_IPADDR_IPV6) |
                            NLA_F_NET_BYTEORDER),
      address);
  message.EndNested(nest);
}

void PutElement(Message& message, SetType type, const SetElement& element) {
  const TypeFacts& facts = Facts(type);
  nlattr* nest = message.BeginNested(IPSET_ATTR_DATA);
  PutIp(message, IPSET_ATTR_IP, element.ip);
  if (type == SetType::kHashNetPort) message.PutU8(IPSET_ATTR_CIDR, element.prefix_length);
  if (facts.has_port) {
    message.PutU16(IPSET_ATTR_PORT | NLA_F_NET_BYTEORDER, htons(element.port));
    message.PutU8(IPSET_ATTR_PROTO, element.protocol);
  }
  if (facts.has_ip2) PutIp(message, IPSET_ATTR_IP2, element.ip2);
  if (type == SetType::kHashIpPortNet) message.PutU8(IPSET_ATTR_CIDR2, element.prefix_length);
  message.EndNested(nest);
}

size_t Append(Batch& batch, uint8_t command, std::string_view name, SetType type,
              const SetElement& element) {
  // Without NLM_F_EXCL the kernel forgives what is already so.
  IpSetRequest request(command, 0, element.ip.is_v4() ? AF_INET : AF_INET6);
  request.PutString(IPSET_ATTR_SETNAME, name);
  PutElement(request, type, element);
  return batch.Add(request);
}

void ParseIp(const nlattr* nested, net::IpAddress& out) {
  for (const nlattr* attribute : Attributes(nested)) {
    const size_t size = mnl_attr_get_payload_len(attribute);
    if (size == 4 || size == 16) out = AttributeAddress(attribute);
  }
}

SetElement ParseElement(const nlattr* nested) {
  SetElement element;
  for (const nlattr* attribute : Attributes(nested)) {
    switch (mnl_attr_get_type(attribute)) {
      case IPSET_ATTR_IP:
        ParseIp(attribute, element.ip);
        break;
      case IPSET_ATTR_IP2:
        ParseIp(attribute, element.ip2);
        break;
      case IPSET_ATTR_PORT:
        element.port = ntohs(mnl_attr_get_u16(attribute));
        break;
      case IPSET_ATTR_PROTO:
        element.protocol = mnl_attr_get_u8(attribute);
        break;
      case IPSET_ATTR_CIDR:
      case IPSET_ATTR_CIDR2:
        element.prefix_length = mnl_attr_get_u8(attribute);
        break;
      default:
        break;
    }
  }
  return element;
}

const nlattr* Find(const nlmsghdr* header, uint16_t type) {
  for (const nlattr* attribute : Attributes(header, sizeof(nfgenmsg))) {
    if (mnl_attr_get_type(attribute) == type) return attribute;
  }
  return nullptr;
}

}  // namespace

std::string_view ToString(SetType type) {
  return Facts(type).name;
}

std::string SetElement::ToString(SetType type) const {
  const TypeFacts& facts = Facts(type);
  std::string text = ip.ToString();
  if (type == SetType::kHashNetPort) text += "/" + std::to_string(prefix_length);
  if (facts.has_port) {
    const char* name = protocol == IPPROTO_TCP    ? "tcp"
                       : protocol == IPPROTO_UDP  ? "udp"
                       : protocol == IPPROTO_SCTP ? "sctp"
                                                  : nullptr;
    text += "," + (name != nullptr ? std::string(name) : std::to_string(protocol)) + ":" +
            std::to_string(port);
  }
  if (facts.has_ip2) text += "," + ip2.ToString();
  if (type == SetType::kHashIpPortNet) text += "/" + std::to_string(prefix_length);
  return text;
}

std::string IpsetErrorText(int error) {
  switch (error) {
    case IPSET_ERR_PROTOCOL:
      return "ipset: protocol error";
    case IPSET_ERR_FIND_TYPE:
      return "ipset: the kernel does not know this type of set (module missing?)";
    case IPSET_ERR_MAX_SETS:
      return "ipset: no more sets possible";
    case IPSET_ERR_BUSY:
      return "ipset: the set is in use";
    case IPSET_ERR_EXIST_SETNAME2:
      return "ipset: a set of this name but of another type exists";
    case IPSET_ERR_TYPE_MISMATCH:
      return "ipset: the sets are of different types";
    case IPSET_ERR_EXIST:
      return "ipset: element exists already, or does not exist";
    case IPSET_ERR_INVALID_CIDR:
      return "ipset: invalid prefix length";
    case IPSET_ERR_INVALID_FAMILY:
      return "ipset: the set is of another address family";
    case IPSET_ERR_HASH_FULL:
      return "ipset: the set is full";
    default:
      break;
  }
  if (error >= IPSET_ERR_PRIVATE) return "ipset: error " + std::to_string(error);
  return std::generic_category().message(error);
}

Ipset::Ipset() : socket_(NETLINK_NETFILTER) {}

std::vector<SetInfo> Ipset::List() {
  std::vector<SetInfo> sets;
  IpSetRequest request(IPSET_CMD_LIST, 0);
  // Names only: the kernel leaves headers and elements out.
  request.PutU32(IPSET_ATTR_FLAGS | NLA_F_NET_BYTEORDER, htonl(IPSET_FLAG_LIST_SETNAME));
  const int error = socket_.Dump(
      request, [&] { sets.clear(); },
      [&](const nlmsghdr* header) {
        const nlattr* name = Find(header, IPSET_ATTR_SETNAME);
        if (name == nullptr) return;
        SetInfo info;
        info.name = mnl_attr_get_str(name);
        if (const nlattr* type = Find(header, IPSET_ATTR_TYPENAME))
          info.type_name = mnl_attr_get_str(type);
        if (const nlattr* family = Find(header, IPSET_ATTR_FAMILY))
          info.family =
              mnl_attr_get_u8(family) == AF_INET6 ? net::Family::kIPv6 : net::Family::kIPv4;
        sets.push_back(std::move(info));
      });
  if (error != 0)
    throw std::system_error(error, std::generic_category(), "list ipsets (kernel module ip_set)");
  return sets;
}

int Ipset::Create(const std::string& name, SetType type, net::Family family,
                  uint32_t max_elements) {
  IpSetRequest request(IPSET_CMD_CREATE, NLM_F_CREATE);
  request.PutString(IPSET_ATTR_SETNAME, name);
  request.PutString(IPSET_ATTR_TYPENAME, ToString(type));
  request.PutU8(IPSET_ATTR_REVISION, Facts(type).revision);
  request.PutU8(IPSET_ATTR_FAMILY, family == net::Family::kIPv4 ? AF_INET : AF_INET6);
  nlattr* nest = request.BeginNested(IPSET_ATTR_DATA);
  request.PutU32(IPSET_ATTR_MAXELEM | NLA_F_NET_BYTEORDER, htonl(max_elements));
  request.EndNested(nest);
  return socket_.Execute(request);
}

const int Ipset::kInUse = IPSET_ERR_BUSY;

int Ipset::Destroy(const std::string& name) {
  IpSetRequest request(IPSET_CMD_DESTROY, 0);
  request.PutString(IPSET_ATTR_SETNAME, name);
  return socket_.Execute(request);
}

uint16_t Ipset::IndexOf(const std::string& name) {
  // Over netlink only from Linux 4.20 on (IPSET_CMD_GET_BYNAME); this is what iptables asks.
  const UniqueFd fd(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
  if (!fd) ThrowErrno("open a raw socket");
  ip_set_req_get_set_family request{};
  request.op = IP_SET_OP_GET_FNAME;
  request.version = kProtocol;
  name.copy(request.set.name, sizeof request.set.name - 1);
  socklen_t size = sizeof request;
  if (::getsockopt(fd.get(), SOL_IP, SO_IP_SET, &request, &size) < 0)
    ThrowErrno("ask for the number of ipset " + name);
  if (request.set.index == IPSET_INVALID_ID)
    ThrowErrno("ask for the number of ipset " + name, ENOENT);
  return request.set.index;
}

int Ipset::Elements(const std::string& name, std::vector<SetElement>& out) {
  const size_t before = out.size();
  IpSetRequest request(IPSET_CMD_LIST, 0);
  request.PutString(IPSET_ATTR_SETNAME, name);
  return socket_.Dump(
      request, [&] { out.resize(before); },
      [&](const nlmsghdr* header) {
        const nlattr* list = Find(header, IPSET_ATTR_ADT);
        if (list == nullptr) return;
        for (const nlattr* attribute : Attributes(list)) {
          if (mnl_attr_get_type(attribute) == IPSET_ATTR_DATA)
            out.push_back(ParseElement(attribute));
        }
      });
}

size_t Ipset::Add(Batch& batch, std::string_view name, SetType type, const SetElement& element) {
  return Append(batch, IPSET_CMD_ADD, name, type, element);
}

size_t Ipset::Delete(Batch& batch, std::string_view name, SetType type, const SetElement& element) {
  return Append(batch, IPSET_CMD_DEL, name, type, element);
}

}  // namespace pointsman::agent::netlink
