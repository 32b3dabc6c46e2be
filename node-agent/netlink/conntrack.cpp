#include "node-agent/netlink/conntrack.h"

#include <arpa/inet.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <system_error>

namespace pointsman::agent::netlink {
namespace {

struct ConntrackRequest : Message {
  ConntrackRequest(uint8_t command, net::Family family)
      : Message(static_cast<uint16_t>((NFNL_SUBSYS_CTNETLINK << 8) | command), 0,
                sizeof(nfgenmsg)) {
    header<nfgenmsg>()->nfgen_family = family == net::Family::kIPv4 ? AF_INET : AF_INET6;
    header<nfgenmsg>()->version = NFNETLINK_V0;
  }
};

void ParseTuple(const nlattr* nested, ConntrackTuple& tuple) {
  for (const nlattr* group : Attributes(nested)) {
    if (mnl_attr_get_type(group) == CTA_TUPLE_IP) {
      for (const nlattr* attribute : Attributes(group)) {
        const uint16_t type = mnl_attr_get_type(attribute);
        if (type == CTA_IP_V4_SRC || type == CTA_IP_V6_SRC)
          tuple.source = AttributeAddress(attribute);
        else if (type == CTA_IP_V4_DST || type == CTA_IP_V6_DST)
          tuple.destination = AttributeAddress(attribute);
      }
    } else if (mnl_attr_get_type(group) == CTA_TUPLE_PROTO) {
      for (const nlattr* attribute : Attributes(group)) {
        const uint16_t type = mnl_attr_get_type(attribute);
        if (type == CTA_PROTO_NUM)
          tuple.protocol = mnl_attr_get_u8(attribute);
        else if (type == CTA_PROTO_SRC_PORT)
          tuple.source_port = ntohs(mnl_attr_get_u16(attribute));
        else if (type == CTA_PROTO_DST_PORT)
          tuple.destination_port = ntohs(mnl_attr_get_u16(attribute));
      }
    }
  }
}

void PutTuple(Message& message, uint16_t attribute, const ConntrackTuple& tuple) {
  const bool v4 = tuple.source.is_v4();
  nlattr* outer = message.BeginNested(attribute);
  nlattr* ip = message.BeginNested(CTA_TUPLE_IP);
  message.PutAddress(v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, tuple.source);
  message.PutAddress(v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST, tuple.destination);
  message.EndNested(ip);
  nlattr* protocol = message.BeginNested(CTA_TUPLE_PROTO);
  message.PutU8(CTA_PROTO_NUM, tuple.protocol);
  message.PutU16(CTA_PROTO_SRC_PORT, htons(tuple.source_port));
  message.PutU16(CTA_PROTO_DST_PORT, htons(tuple.destination_port));
  message.EndNested(protocol);
  message.EndNested(outer);
}

void ParseProtocolInfo(const nlattr* info, ConntrackFlow& flow) {
  for (const nlattr* group : Attributes(info)) {
    if (mnl_attr_get_type(group) != CTA_PROTOINFO_TCP) continue;
    for (const nlattr* attribute : Attributes(group)) {
      if (mnl_attr_get_type(attribute) == CTA_PROTOINFO_TCP_STATE) {
        flow.tcp_state = mnl_attr_get_u8(attribute);
      }
    }
  }
}

}  // namespace

bool IsOpen(const ConntrackFlow& flow) {
  if (flow.original.protocol != IPPROTO_TCP) return (flow.status & IPS_ASSURED) != 0;
  switch (flow.tcp_state) {
    case TCP_CONNTRACK_LAST_ACK:
    case TCP_CONNTRACK_TIME_WAIT:
    case TCP_CONNTRACK_CLOSE:
      return false;
    default:
      return true;
  }
}

Conntrack::Conntrack() : socket_(NETLINK_NETFILTER) {}

void Conntrack::ForEach(net::Family family, uint8_t protocol,
                        const std::function<void(const ConntrackFlow&)>& each) {
  ConntrackRequest request(IPCTNL_MSG_CT_GET, family);
  // An entry seen twice or missed when the table changes under the dump does no harm to callers
  // that delete by id, so nothing is collected and nothing must be forgotten.
  const int error = socket_.Dump(
      request, [] {},
      [&](const nlmsghdr* header) {
        ConntrackFlow flow;
        for (const nlattr* attribute : Attributes(header, sizeof(nfgenmsg))) {
          switch (mnl_attr_get_type(attribute)) {
            case CTA_TUPLE_ORIG:
              ParseTuple(attribute, flow.original);
              break;
            case CTA_TUPLE_REPLY:
              ParseTuple(attribute, flow.reply);
              break;
            case CTA_ID:
              flow.id = mnl_attr_get_u32(attribute);
              break;
            case CTA_STATUS:
              flow.status = ntohl(mnl_attr_get_u32(attribute));
              break;
            case CTA_MARK:
              flow.mark = ntohl(mnl_attr_get_u32(attribute));
              break;
            case CTA_PROTOINFO:
              ParseProtocolInfo(attribute, flow);
              break;
            case CTA_ZONE:
              flow.zone = ntohs(mnl_attr_get_u16(attribute));
              break;
            default:
              break;
          }
        }
        if (protocol == 0 || flow.original.protocol == protocol) each(flow);
      });
  if (error != 0)
    throw std::system_error(error, std::generic_category(),
                            "list conntrack entries (kernel module nf_conntrack_netlink)");
}

size_t Conntrack::Delete(Batch& batch, const ConntrackFlow& flow) {
  ConntrackRequest request(IPCTNL_MSG_CT_DELETE, flow.original.source.family());
  PutTuple(request, CTA_TUPLE_ORIG, flow.original);
  request.PutU32(CTA_ID, flow.id);  // kept in network order
  if (flow.zone != 0) request.PutU16(CTA_ZONE, htons(flow.zone));
  return batch.Add(request);
}

}  // namespace pointsman::agent::netlink
