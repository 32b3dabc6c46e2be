#include "bench/agent/kernel_reader.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <netinet/in.h>
#include <optional>
#include <sys/socket.h>
#include <system_error>

#include <poll.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "e2e/traffic/socket.h"
#include "node-agent/netlink/ipvs.h"
#include "node-agent/netlink/socket.h"

namespace pointsman::bench {
namespace {

namespace netlink = agent::netlink;

class IpvsReader final : public KernelReader {
 public:
  void Arm(const EndpointChange& change) override {
    change_ = change;
    server_.address = change.service;
    server_.port = change.service_port;
    server_.protocol = IPPROTO_TCP;
  }
  bool Done() override {
    destinations_.clear();
    ipvs_.Destinations(server_, destinations_);
    for (const netlink::IpvsDestination& d : destinations_) {
      if (d.address == change_.endpoint && d.port == change_.endpoint_port && d.weight > 0)
        return change_.present;
    }
    return !change_.present;
  }

 private:
  netlink::Ipvs ipvs_;
  netlink::IpvsServer server_;
  std::vector<netlink::IpvsDestination> destinations_;
  EndpointChange change_;
};

class XtablesReader final : public KernelReader {
 public:
  XtablesReader() : fd_(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW)) {
    if (!fd_) throw std::system_error(errno, std::generic_category(), "raw socket");
  }

  void Arm(const EndpointChange& change) override {
    present_ = change.present;
    before_ = Rules();
  }
  bool Done() override { return present_ ? Rules() > before_ : Rules() < before_; }

 private:
  unsigned Rules() const {
    ipt_getinfo info{};
    std::strcpy(info.name, "nat");
    socklen_t size = sizeof info;
    if (getsockopt(fd_.get(), IPPROTO_IP, IPT_SO_GET_INFO, &info, &size) != 0)
      throw std::system_error(errno, std::generic_category(), "table nat");
    return info.num_entries;
  }

  UniqueFd fd_;
  bool present_ = false;
  unsigned before_ = 0;
};

class NftablesReader final : public KernelReader {
 public:
  void Arm(const EndpointChange&) override { before_ = Generation(); }
  bool Done() override { return Generation() != before_; }

 private:
  uint32_t Generation() {
    netlink::Message request((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETGEN, 0, sizeof(nfgenmsg));
    uint32_t generation = 0;
    const int error = socket_.Get(request, [&](const nlmsghdr* header) {
      for (const nlattr* attribute : netlink::Attributes(header, sizeof(nfgenmsg))) {
        if (mnl_attr_get_type(attribute) == NFTA_GEN_ID)
          generation = ntohl(mnl_attr_get_u32(attribute));
      }
    });
    if (error != 0) throw std::system_error(error, std::generic_category(), "nftables generation");
    return generation;
  }

  netlink::Socket socket_{NETLINK_NETFILTER};
  uint32_t before_ = 0;
};

class ConnectionReader final : public KernelReader {
 public:
  ConnectionReader()
      : listener_(e2e::Listen(e2e::Protocol::kTcp, e2e::MakeEndpoint("0.0.0.0", kPort))) {}

  void Arm(const EndpointChange& change) override {
    change_ = change;
    misses_ = 0;
  }
  bool Done() override {
    const bool hit = Reached() == change_.endpoint;
    if (change_.present) return hit;
    misses_ = hit ? 0 : misses_ + 1;
    return misses_ == kMisses;
  }

 private:
  static constexpr uint16_t kPort = 8080;
  static constexpr int kMisses = 20;

  static bool Await(int fd, short events) {
    pollfd entry{fd, events, 0};
    return poll(&entry, 1, 1000) == 1 && (entry.revents & events) != 0;
  }
  // The endpoint that a new connection comes to; nullopt: none.
  std::optional<net::IpAddress> Reached() const {
    const e2e::Endpoint to = e2e::MakeEndpoint(change_.service.ToString(), change_.service_port);
    const UniqueFd client = e2e::OpenSocket(e2e::Protocol::kTcp, to.family(), "");
    // Thousands of closed connections must not keep the ports.
    const linger reset{1, 0};
    setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    const int begun =
        connect(client.get(), reinterpret_cast<const sockaddr*>(&to.address), to.size);
    if (begun != 0 && errno != EINPROGRESS) return std::nullopt;
    if (!Await(client.get(), POLLOUT)) return std::nullopt;
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(client.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0 || !Await(listener_.get(), POLLIN)) return std::nullopt;
    const UniqueFd server(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    sockaddr_in address{};
    size = sizeof address;
    if (!server || getsockname(server.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
      return std::nullopt;
    return net::IpAddress::FromBytes(&address.sin_addr, 4);
  }

  UniqueFd listener_;
  EndpointChange change_;
  int misses_ = 0;
};

}  // namespace

std::unique_ptr<KernelReader> MakeKernelReader(std::string_view name) {
  if (name == "ipvs") return std::make_unique<IpvsReader>();
  if (name == "xtables") return std::make_unique<XtablesReader>();
  if (name == "nftables") return std::make_unique<NftablesReader>();
  if (name == "connections") return std::make_unique<ConnectionReader>();
  throw std::invalid_argument("no kernel reader '" + std::string(name) +
                              "': ipvs, xtables, nftables or connections");
}

}  // namespace pointsman::bench
