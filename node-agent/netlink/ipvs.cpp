#include "node-agent/netlink/ipvs.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <linux/genetlink.h>
#include <linux/ip_vs.h>
#include <sys/socket.h>
#include <system_error>

namespace pointsman::agent::netlink {
namespace {

void Check(int error, const char* what) {
  if (error != 0) throw std::system_error(error, std::generic_category(), what);
}

uint16_t LookUpFamily(Socket& socket) {
  Message request(GENL_ID_CTRL, 0, sizeof(genlmsghdr));
  request.header<genlmsghdr>()->cmd = CTRL_CMD_GETFAMILY;
  request.header<genlmsghdr>()->version = 1;
  request.PutString(CTRL_ATTR_FAMILY_NAME, IPVS_GENL_NAME);
  uint16_t id = 0;
  const int error = socket.Get(request, [&](const nlmsghdr* header) {
    for (const nlattr* attribute : Attributes(header, sizeof(genlmsghdr))) {
      if (mnl_attr_get_type(attribute) == CTRL_ATTR_FAMILY_ID) id = mnl_attr_get_u16(attribute);
    }
  });
  Check(error, "generic netlink family IPVS");
  return id;
}

struct Command : Message {
  Command(uint16_t family_id, uint8_t command) : Message(family_id, 0, sizeof(genlmsghdr)) {
    header<genlmsghdr>()->cmd = command;
    header<genlmsghdr>()->version = IPVS_GENL_VERSION;
  }
};

// The kernel takes a union nf_inet_addr: always 16 bytes, IPv4 in the first 4.
void PutInetAddress(Message& message, uint16_t attribute, const net::IpAddress& address) {
  char bytes[16] = {};
  memcpy(bytes, address.data(), address.size());
  message.Put(attribute, bytes, sizeof bytes);
}

net::IpAddress InetAddress(const nlattr* attribute, uint16_t family) {
  const size_t size = family == AF_INET6 ? 16 : 4;
  if (mnl_attr_get_payload_len(attribute) < size)
    throw std::system_error(EBADMSG, std::generic_category(), "IPVS answer: short address");
  return net::IpAddress::FromBytes(mnl_attr_get_payload(attribute), size);
}

void PutServerKey(Message& message, const IpvsServer& server) {
  message.PutU16(IPVS_SVC_ATTR_AF, server.address.is_v4() ? AF_INET : AF_INET6);
  if (server.fwmark != 0) {
    message.PutU32(IPVS_SVC_ATTR_FWMARK, server.fwmark);
    return;
  }
  message.PutU16(IPVS_SVC_ATTR_PROTOCOL, server.protocol);
  PutInetAddress(message, IPVS_SVC_ATTR_ADDR, server.address);
  message.PutU16(IPVS_SVC_ATTR_PORT, htons(server.port));
}

void PutServerKeyNested(Message& message, const IpvsServer& server) {
  nlattr* nest = message.BeginNested(IPVS_CMD_ATTR_SERVICE);
  PutServerKey(message, server);
  message.EndNested(nest);
}

void PutServer(Message& message, const IpvsServer& server) {
  nlattr* nest = message.BeginNested(IPVS_CMD_ATTR_SERVICE);
  PutServerKey(message, server);
  message.PutString(IPVS_SVC_ATTR_SCHED_NAME, server.scheduler);
  const ip_vs_flags flags{server.flags, ~0U};
  message.Put(IPVS_SVC_ATTR_FLAGS, &flags, sizeof flags);
  message.PutU32(IPVS_SVC_ATTR_TIMEOUT, server.persistence);
  // One client address is one template: a full mask (IPv6: the prefix length).
  message.PutU32(IPVS_SVC_ATTR_NETMASK, server.address.is_v4() ? ~0U : 128);
  message.EndNested(nest);
}

void PutDestination(Message& message, const IpvsDestination& d, bool key_only) {
  nlattr* nest = message.BeginNested(IPVS_CMD_ATTR_DEST);
  PutInetAddress(message, IPVS_DEST_ATTR_ADDR, d.address);
  message.PutU16(IPVS_DEST_ATTR_PORT, htons(d.port));
  message.PutU16(IPVS_DEST_ATTR_ADDR_FAMILY, d.address.is_v4() ? AF_INET : AF_INET6);
  if (!key_only) {
    message.PutU32(IPVS_DEST_ATTR_FWD_METHOD, d.forwarding);
    message.PutU32(IPVS_DEST_ATTR_WEIGHT, static_cast<uint32_t>(d.weight));
    message.PutU32(IPVS_DEST_ATTR_U_THRESH, 0);
    message.PutU32(IPVS_DEST_ATTR_L_THRESH, 0);
  }
  message.EndNested(nest);
}

IpvsServer ParseServer(const nlattr* nested) {
  IpvsServer server;
  uint16_t family = AF_INET;
  const nlattr* address = nullptr;
  for (const nlattr* attribute : Attributes(nested)) {
    switch (mnl_attr_get_type(attribute)) {
      case IPVS_SVC_ATTR_AF:
        family = mnl_attr_get_u16(attribute);
        break;
      case IPVS_SVC_ATTR_PROTOCOL:
        server.protocol = static_cast<uint8_t>(mnl_attr_get_u16(attribute));
        break;
      case IPVS_SVC_ATTR_ADDR:
        address = attribute;
        break;
      case IPVS_SVC_ATTR_PORT:
        server.port = ntohs(mnl_attr_get_u16(attribute));
        break;
      case IPVS_SVC_ATTR_FWMARK:
        server.fwmark = mnl_attr_get_u32(attribute);
        break;
      case IPVS_SVC_ATTR_SCHED_NAME:
        server.scheduler = mnl_attr_get_str(attribute);
        break;
      case IPVS_SVC_ATTR_FLAGS:
        // HASHED is the kernel's own.
        server.flags = static_cast<const ip_vs_flags*>(mnl_attr_get_payload(attribute))->flags &
                       ~static_cast<uint32_t>(IP_VS_SVC_F_HASHED);
        break;
      case IPVS_SVC_ATTR_TIMEOUT:
        server.persistence = mnl_attr_get_u32(attribute);
        break;
      default:
        break;
    }
  }
  if (address != nullptr)
    server.address = InetAddress(address, family);
  else if (family == AF_INET6)
    server.address = net::IpAddress::FromBytes("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
  return server;
}

IpvsDestination ParseDestination(const nlattr* nested, uint16_t server_family) {
  IpvsDestination d;
  uint16_t family = server_family;
  const nlattr* address = nullptr;
  for (const nlattr* attribute : Attributes(nested)) {
    switch (mnl_attr_get_type(attribute)) {
      case IPVS_DEST_ATTR_ADDR:
        address = attribute;
        break;
      case IPVS_DEST_ATTR_ADDR_FAMILY:
        family = mnl_attr_get_u16(attribute);
        break;
      case IPVS_DEST_ATTR_PORT:
        d.port = ntohs(mnl_attr_get_u16(attribute));
        break;
      case IPVS_DEST_ATTR_FWD_METHOD:
        d.forwarding = mnl_attr_get_u32(attribute);
        break;
      case IPVS_DEST_ATTR_WEIGHT:
        d.weight = static_cast<int32_t>(mnl_attr_get_u32(attribute));
        break;
      case IPVS_DEST_ATTR_ACTIVE_CONNS:
        d.active = mnl_attr_get_u32(attribute);
        break;
      case IPVS_DEST_ATTR_INACT_CONNS:
        d.inactive = mnl_attr_get_u32(attribute);
        break;
      case IPVS_DEST_ATTR_STATS: {
        for (const nlattr* stat : Attributes(attribute)) {
          if (mnl_attr_get_type(stat) == IPVS_STATS_ATTR_INPKTS)
            d.in_packets = mnl_attr_get_u32(stat);
        }
        break;
      }
      default:
        break;
    }
  }
  if (address != nullptr) d.address = InetAddress(address, family);
  return d;
}

IpvsDaemon ParseDaemon(const nlattr* nested) {
  IpvsDaemon daemon;
  for (const nlattr* attribute : Attributes(nested)) {
    switch (mnl_attr_get_type(attribute)) {
      case IPVS_DAEMON_ATTR_STATE:
        daemon.state = mnl_attr_get_u32(attribute);
        break;
      case IPVS_DAEMON_ATTR_MCAST_IFN:
        daemon.interface = mnl_attr_get_str(attribute);
        break;
      case IPVS_DAEMON_ATTR_SYNC_ID:
        daemon.sync_id = mnl_attr_get_u32(attribute);
        break;
      case IPVS_DAEMON_ATTR_MCAST_GROUP:
        daemon.group = InetAddress(attribute, AF_INET);
        break;
      case IPVS_DAEMON_ATTR_MCAST_GROUP6:
        daemon.group = InetAddress(attribute, AF_INET6);
        break;
      case IPVS_DAEMON_ATTR_MCAST_PORT:
        daemon.port = mnl_attr_get_u16(attribute);
        break;
      default:
        break;
    }
  }
  return daemon;
}

const nlattr* FindAttribute(const nlmsghdr* header, uint16_t type) {
  for (const nlattr* attribute : Attributes(header, sizeof(genlmsghdr))) {
    if (mnl_attr_get_type(attribute) == type) return attribute;
  }
  return nullptr;
}

}  // namespace

Ipvs::Ipvs() : socket_(NETLINK_GENERIC), family_id_(LookUpFamily(socket_)) {}

std::vector<IpvsServer> Ipvs::Servers() {
  std::vector<IpvsServer> servers;
  Command request(family_id_, IPVS_CMD_GET_SERVICE);
  const int error = socket_.Dump(
      request, [&] { servers.clear(); },
      [&](const nlmsghdr* header) {
        const nlattr* nested = FindAttribute(header, IPVS_CMD_ATTR_SERVICE);
        if (nested != nullptr) servers.push_back(ParseServer(nested));
      });
  Check(error, "list IPVS virtual servers");
  return servers;
}

int Ipvs::Destinations(const IpvsServer& server, std::vector<IpvsDestination>& out) {
  const size_t before = out.size();
  const uint16_t family = server.address.is_v4() ? AF_INET : AF_INET6;
  Command request(family_id_, IPVS_CMD_GET_DEST);
  PutServerKeyNested(request, server);
  return socket_.Dump(
      request, [&] { out.resize(before); },
      [&](const nlmsghdr* header) {
        const nlattr* nested = FindAttribute(header, IPVS_CMD_ATTR_DEST);
        if (nested != nullptr) out.push_back(ParseDestination(nested, family));
      });
}

size_t Ipvs::NewServer(Batch& batch, const IpvsServer& server) const {
  Command request(family_id_, IPVS_CMD_NEW_SERVICE);
  PutServer(request, server);
  return batch.Add(request);
}

size_t Ipvs::SetServer(Batch& batch, const IpvsServer& server) const {
  Command request(family_id_, IPVS_CMD_SET_SERVICE);
  PutServer(request, server);
  return batch.Add(request);
}

size_t Ipvs::DeleteServer(Batch& batch, const IpvsServer& server) const {
  Command request(family_id_, IPVS_CMD_DEL_SERVICE);
  PutServerKeyNested(request, server);
  return batch.Add(request);
}

size_t Ipvs::NewDestination(Batch& batch, const IpvsServer& server,
                            const IpvsDestination& d) const {
  Command request(family_id_, IPVS_CMD_NEW_DEST);
  PutServerKeyNested(request, server);
  PutDestination(request, d, false);
  return batch.Add(request);
}

size_t Ipvs::SetDestination(Batch& batch, const IpvsServer& server,
                            const IpvsDestination& d) const {
  Command request(family_id_, IPVS_CMD_SET_DEST);
  PutServerKeyNested(request, server);
  PutDestination(request, d, false);
  return batch.Add(request);
}

size_t Ipvs::DeleteDestination(Batch& batch, const IpvsServer& server,
                               const IpvsDestination& d) const {
  Command request(family_id_, IPVS_CMD_DEL_DEST);
  PutServerKeyNested(request, server);
  PutDestination(request, d, true);
  return batch.Add(request);
}

IpvsTimeouts Ipvs::Timeouts() {
  IpvsTimeouts timeouts;
  Command request(family_id_, IPVS_CMD_GET_CONFIG);
  const int error = socket_.Get(request, [&](const nlmsghdr* header) {
    for (const nlattr* attribute : Attributes(header, sizeof(genlmsghdr))) {
      switch (mnl_attr_get_type(attribute)) {
        case IPVS_CMD_ATTR_TIMEOUT_TCP:
          timeouts.tcp = mnl_attr_get_u32(attribute);
          break;
        case IPVS_CMD_ATTR_TIMEOUT_TCP_FIN:
          timeouts.tcp_fin = mnl_attr_get_u32(attribute);
          break;
        case IPVS_CMD_ATTR_TIMEOUT_UDP:
          timeouts.udp = mnl_attr_get_u32(attribute);
          break;
        default:
          break;
      }
    }
  });
  Check(error, "read IPVS timeouts");
  return timeouts;
}

void Ipvs::SetTimeouts(const IpvsTimeouts& timeouts) {
  Command request(family_id_, IPVS_CMD_SET_CONFIG);
  if (timeouts.tcp != 0) request.PutU32(IPVS_CMD_ATTR_TIMEOUT_TCP, timeouts.tcp);
  if (timeouts.tcp_fin != 0) request.PutU32(IPVS_CMD_ATTR_TIMEOUT_TCP_FIN, timeouts.tcp_fin);
  if (timeouts.udp != 0) request.PutU32(IPVS_CMD_ATTR_TIMEOUT_UDP, timeouts.udp);
  Check(socket_.Execute(request), "set IPVS timeouts");
}

std::vector<IpvsDaemon> Ipvs::Daemons() {
  std::vector<IpvsDaemon> daemons;
  Command request(family_id_, IPVS_CMD_GET_DAEMON);
  const int error = socket_.Dump(
      request, [&] { daemons.clear(); },
      [&](const nlmsghdr* header) {
        const nlattr* nested = FindAttribute(header, IPVS_CMD_ATTR_DAEMON);
        if (nested != nullptr) daemons.push_back(ParseDaemon(nested));
      });
  Check(error, "list IPVS synchronisation daemons");
  return daemons;
}

int Ipvs::StartDaemon(const IpvsDaemon& daemon) {
  Command request(family_id_, IPVS_CMD_NEW_DAEMON);
  nlattr* nest = request.BeginNested(IPVS_CMD_ATTR_DAEMON);
  request.PutU32(IPVS_DAEMON_ATTR_STATE, daemon.state);
  request.PutString(IPVS_DAEMON_ATTR_MCAST_IFN, daemon.interface);
  request.PutU32(IPVS_DAEMON_ATTR_SYNC_ID, daemon.sync_id);
  request.Put(IPVS_DAEMON_ATTR_MCAST_GROUP, daemon.group.data(), daemon.group.size());
  request.PutU16(IPVS_DAEMON_ATTR_MCAST_PORT, daemon.port);
  request.EndNested(nest);
  return socket_.Execute(request);
}

int Ipvs::StopDaemon(uint32_t state) {
  Command request(family_id_, IPVS_CMD_DEL_DAEMON);
  nlattr* nest = request.BeginNested(IPVS_CMD_ATTR_DAEMON);
  request.PutU32(IPVS_DAEMON_ATTR_STATE, state);
  request.EndNested(nest);
  // Stopping a thread that has not run yet is EINTR to the kernel, though it is stopped, and EINTR
  // is never answered (netlink_rcv_skb in net/netlink/af_netlink.c): what is waited for is the
  // answer to a second request.
  Batch batch;
  batch.Add(request);
  batch.Add(Command(family_id_, IPVS_CMD_GET_INFO));
  const std::vector<Failure> failures = socket_.Execute(batch);
  return failures.empty() ? 0 : failures.front().error;
}

}  // namespace pointsman::agent::netlink
