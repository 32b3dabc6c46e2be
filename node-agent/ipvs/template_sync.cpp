#include "node-agent/ipvs/template_sync.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <linux/ip_vs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <optional>
#include <random>
#include <sys/socket.h>
#include <system_error>
#include <thread>
#include <unordered_map>

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "base/throw_errno.h"
#include "base/unique_fd.h"
#include "kube/net/socket_address.h"
#include "node-agent/ipvs/frontend.h"

namespace pointsman::agent::ipvs {
namespace {

using netlink::IpvsDaemon;
using netlink::IpvsTemplate;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr char kInterface[] = "lo";
constexpr auto kTime = std::chrono::seconds(2);
// A look for what is there already may take that much of it. What it misses is no harm: the kernel
// leaves a template where it leads to, but its time starts anew.
constexpr auto kLookTime = milliseconds(700);
// What was sent is taken for lost, and sent again, after this.
constexpr auto kResend = milliseconds(200);
constexpr auto kPoll = milliseconds(2);

constexpr size_t kMostMessage = 1400;
constexpr size_t kMostInMessage = 255;  // ip_vs_sync_mesg::nr_conns is one byte
constexpr size_t kV4Size = 36;          // struct ip_vs_sync_v4
constexpr size_t kV6Size = 72;          // struct ip_vs_sync_v6
// As many messages as this makes (48 of IPv6) fit into a socket's usual receive buffer, where each
// costs 2304 of 212,992 bytes.
constexpr size_t kTemplatesPerBurst = 912;
constexpr uint16_t kAssured = 1;  // IP_VS_CTPL_S_ASSURED: outlives a connection that is dropped

// Organization-local scope (RFC 2365); the second byte is that of our other addresses.
const net::IpPrefix& Groups() {
  static const net::IpPrefix prefix = net::IpPrefix::Parse("239.112.0.0/16").value();
  return prefix;
}

bool IsOwn(const IpvsDaemon& daemon) {
  return daemon.state == IP_VS_STATE_BACKUP && daemon.interface == kInterface &&
         Groups().Contains(daemon.group);
}

IpvsDaemon DrawDaemon() {
  std::random_device random;
  IpvsDaemon daemon;
  daemon.state = IP_VS_STATE_BACKUP;
  daemon.interface = kInterface;
  daemon.sync_id = std::uniform_int_distribution<uint32_t>(1, 255)(random);
  daemon.group = net::IpAddress::V4(Groups().address().v4_host_order() |
                                    std::uniform_int_distribution<uint32_t>(1, 0xfffe)(random));
  // With net.ipv4.vs.sync_ports it listens on up to 64 ports from this one.
  daemon.port = std::uniform_int_distribution<uint16_t>(20000, 65000)(random);
  return daemon;
}

void AppendU16(std::string& bytes, uint16_t value) {
  bytes += static_cast<char>(value >> 8);
  bytes += static_cast<char>(value & 0xff);
}

void AppendU32(std::string& bytes, uint32_t value) {
  AppendU16(bytes, static_cast<uint16_t>(value >> 16));
  AppendU16(bytes, static_cast<uint16_t>(value & 0xffff));
}

void AppendAddress(std::string& bytes, const net::IpAddress& address) {
  bytes.append(reinterpret_cast<const char*>(address.data()), address.size());
}

size_t SizeOf(const IpvsTemplate& t) {
  return t.client.is_v4() ? kV4Size : kV6Size;
}

void AppendTemplate(std::string& bytes, const IpvsTemplate& t) {
  bytes += static_cast<char>(t.client.is_v4() ? 0 : 1);  // STYPE_F_INET6
  bytes += static_cast<char>(t.protocol);
  AppendU16(bytes, static_cast<uint16_t>(SizeOf(t)));
  AppendU32(bytes, IP_VS_CONN_F_MASQ | IP_VS_CONN_F_TEMPLATE);
  AppendU16(bytes, kAssured);
  AppendU16(bytes, 0);  // client port
  AppendU16(bytes, t.port);
  AppendU16(bytes, t.destination_port);
  AppendU32(bytes, 0);  // packet mark
  AppendU32(bytes, static_cast<uint32_t>(t.left.count()));
  AppendAddress(bytes, t.client);
  AppendAddress(bytes, t.address);
  AppendAddress(bytes, t.destination);
}

// The kernel's backup daemon while this lives.
class Daemon {
 public:
  explicit Daemon(netlink::Ipvs& ipvs) : ipvs_(ipvs) {}
  ~Daemon() {
    if (!runs_) return;
    const int error = Stop();
    if (error != 0)
      spdlog::error("IPVS's backup daemon is not stopped: {}",
                    std::generic_category().message(error));
  }
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // Returns 0 or a positive errno.
  int Start() {
    int error = 0;
    // Someone's socket may have the port.
    for (int i = 0; i < 5; ++i) {
      config_ = DrawDaemon();
      error = ipvs_.StartDaemon(config_);
      if (error != EADDRINUSE && error != EINTR) break;
    }
    runs_ = error == 0;
    return error;
  }
  int Stop() {
    runs_ = false;
    const int error = ipvs_.StopDaemon(IP_VS_STATE_BACKUP);
    return error == ESRCH ? 0 : error;
  }
  const IpvsDaemon& config() const { return config_; }

 private:
  netlink::Ipvs& ipvs_;
  IpvsDaemon config_;
  bool runs_ = false;
};

// Sends to the daemon.
class Sender {
 public:
  explicit Sender(const IpvsDaemon& daemon)
      : daemon_(daemon),
        to_(net::ToSocketAddress(daemon.group, daemon.port)),
        fd_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    if (!fd_) ThrowErrno("socket");
    const net::IpAddress loopback = net::IpAddress::V4(INADDR_LOOPBACK);
    // Else another interface's address becomes the source, and the loopback refuses that.
    const sockaddr_storage from = net::ToSocketAddress(loopback, 0);
    if (bind(fd_.get(), reinterpret_cast<const sockaddr*>(&from),
             net::SocketAddressSize(loopback)) < 0)
      ThrowErrno("bind to 127.0.0.1");
    ip_mreqn interface {};
    interface.imr_ifindex = static_cast<int>(if_nametoindex(kInterface));
    if (setsockopt(fd_.get(), IPPROTO_IP, IP_MULTICAST_IF, &interface, sizeof interface) < 0)
      ThrowErrno("IP_MULTICAST_IF");
  }

  // Not faster than the daemon takes them. Throws std::system_error.
  void Send(std::span<const IpvsTemplate> templates, steady_clock::time_point deadline) const {
    while (!templates.empty() && steady_clock::now() < deadline) {
      const size_t count = std::min(templates.size(), kTemplatesPerBurst);
      for (const std::string& message :
           SyncMessages(static_cast<uint8_t>(daemon_.sync_id), templates.first(count))) {
        if (sendto(fd_.get(), message.data(), message.size(), 0,
                   reinterpret_cast<const sockaddr*>(&to_),
                   net::SocketAddressSize(daemon_.group)) < 0)
          ThrowErrno("send to " + daemon_.group.ToString());
      }
      templates = templates.subspan(count);
      while (AnyWaiting() && steady_clock::now() < deadline)
        std::this_thread::sleep_for(kPoll);
    }
  }

 private:
  // Does the daemon's socket hold messages that it has not taken yet? Format: udp4_format_sock in
  // net/ipv4/udp.c.
  bool AnyWaiting() const {
    uint32_t raw = 0;  // printed as the number that its bytes are in this machine's order
    std::memcpy(&raw, daemon_.group.data(), sizeof raw);
    const std::string local = fmt::format("{:08X}:{:04X}", raw, daemon_.port);
    bool waiting = false;
    netlink::Lines lines;
    netlink::ReadPieces("/proc/thread-self/net/udp", [&](std::string_view text) {
      lines.Add(text, [&](std::string_view line) {
        netlink::Word(line);  // slot
        if (netlink::Word(line) != local) return;
        netlink::Word(line);  // remote address
        netlink::Word(line);  // state
        const std::string_view queues = netlink::Word(line);
        waiting = waiting || !queues.ends_with(":00000000");
      });
      return true;
    });
    return waiting;
  }

  const IpvsDaemon& daemon_;
  const sockaddr_storage to_;
  const UniqueFd fd_;
};

struct Key {
  net::IpAddress client;
  FrontendKey frontend;
  bool operator==(const Key&) const = default;
};
struct KeyHash {
  size_t operator()(const Key& key) const noexcept {
    return std::hash<net::IpAddress>()(key.client) * 0x9e3779b97f4a7c15ULL ^
           FrontendKeyHash()(key.frontend);
  }
};
Key KeyOf(const IpvsTemplate& t) {
  return {t.client, {t.address, t.port, t.protocol}};
}

using Missing = std::unordered_map<Key, const IpvsTemplate*, KeyHash>;

// Takes those out that the kernel has. False: it was not read to the end.
bool EraseThose(Missing& missing, steady_clock::time_point deadline) {
  return netlink::ReadIpvsTemplates(deadline,
                                    [&](const IpvsTemplate& t) { missing.erase(KeyOf(t)); });
}

// Returns what is wrong, or "".
std::string Make(netlink::Ipvs& ipvs, Missing& missing, steady_clock::time_point deadline) {
  Daemon daemon(ipvs);
  if (const int error = daemon.Start(); error == EEXIST) {
    const std::vector<IpvsDaemon> daemons = ipvs.Daemons();
    const auto other = std::find_if(daemons.begin(), daemons.end(), [](const IpvsDaemon& d) {
      return d.state == IP_VS_STATE_BACKUP;
    });
    return fmt::format(
        "another program (such as keepalived) runs IPVS's backup daemon of connection "
        "synchronisation{}; it is left alone",
        other == daemons.end() ? "" : " on interface " + other->interface);
  } else if (error != 0) {
    return "start IPVS's backup daemon: " + std::generic_category().message(error);
  }
  const std::vector<IpvsDaemon> daemons = ipvs.Daemons();
  if (std::none_of(daemons.begin(), daemons.end(), IsOwn))
    return "IPVS's backup daemon takes no multicast group: that needs Linux 4.3";

  const Sender sender(daemon.config());
  bool readable = true;
  while (!missing.empty() && readable && steady_clock::now() < deadline) {
    std::vector<IpvsTemplate> batch;
    batch.reserve(missing.size());
    for (const auto& [key, t] : missing)
      batch.push_back(*t);
    sender.Send(batch, deadline);
    const auto lost = std::min(deadline, steady_clock::now() + kResend);
    while (true) {
      readable = EraseThose(missing, deadline);
      if (missing.empty() || !readable || steady_clock::now() >= lost) break;
      std::this_thread::sleep_for(kPoll);
    }
  }
  if (const int error = daemon.Stop(); error != 0)
    return "stop IPVS's backup daemon: " + std::generic_category().message(error);
  return "";
}

}  // namespace

std::vector<std::string> SyncMessages(uint8_t sync_id,
                                      std::span<const netlink::IpvsTemplate> templates) {
  // reserved, sync id, size, count, version, spare
  constexpr size_t kHead = 8;
  constexpr size_t kSizeAt = 2;
  constexpr size_t kCountAt = 4;
  constexpr char kVersion = 1;
  std::vector<std::string> messages;
  size_t count = 0;
  for (const IpvsTemplate& t : templates) {
    if (messages.empty() || count == kMostInMessage ||
        messages.back().size() + SizeOf(t) >= kMostMessage) {
      std::string& message = messages.emplace_back();
      message.reserve(kMostMessage);
      message.append({0, static_cast<char>(sync_id), 0, 0, 0, kVersion, 0, 0});
      static_assert(kHead == 8);
      count = 0;
    }
    std::string& message = messages.back();
    AppendTemplate(message, t);
    ++count;
    message[kCountAt] = static_cast<char>(count);
    message[kSizeAt] = static_cast<char>(message.size() >> 8);
    message[kSizeAt + 1] = static_cast<char>(message.size() & 0xff);
  }
  return messages;
}

void MakeTemplates(netlink::Ipvs& ipvs, const std::vector<netlink::IpvsTemplate>& templates,
                   SyncResult& result) {
  const auto deadline = steady_clock::now() + kTime;
  Missing missing;
  for (const IpvsTemplate& t : templates)
    missing.try_emplace(KeyOf(t), &t);
  const size_t wanted = missing.size();
  size_t there = 0;  // before
  std::string problem;
  try {
    StopOwnDaemon(ipvs);
    EraseThose(missing, steady_clock::now() + kLookTime);
    there = wanted - missing.size();
    if (!missing.empty()) problem = Make(ipvs, missing, deadline);
  } catch (const std::exception& error) {
    problem = error.what();
  }
  result.kernel_writes += wanted - there - missing.size();
  if (problem.empty() && missing.empty()) return;
  if (problem.empty()) problem = "IPVS did not take them in time";
  result.problems.push_back({"ipvs persistence", fmt::format("{} of {} templates are not made: {}",
                                                             missing.size(), wanted, problem)});
}

bool StopOwnDaemon(netlink::Ipvs& ipvs) {
  const std::vector<IpvsDaemon> daemons = ipvs.Daemons();
  if (std::none_of(daemons.begin(), daemons.end(), IsOwn)) return false;
  const int error = ipvs.StopDaemon(IP_VS_STATE_BACKUP);
  if (error != 0 && error != ESRCH)
    throw std::system_error(error, std::generic_category(), "stop IPVS's backup daemon");
  return true;
}

}  // namespace pointsman::agent::ipvs
