#include "node-agent/traffic/connection_tap.h"

#include <arpa/inet.h>
#include <array>
#include <atomic>
#include <chrono>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/throw_errno.h"

namespace pointsman::agent {
namespace {

// Enough for IPv6 and TCP's flags, or the longest IPv4 header and these.
constexpr uint32_t kSnapLength = 80;
constexpr size_t kBlockSize = size_t{64} << 10;

// With SOCK_DGRAM the packet begins with the IP header (packet(7)). "tcp[tcpflags] & (syn|rst) !=
// 0", no fragments.
constexpr sock_filter kFilter[] = {
    /* 0*/ BPF_STMT(BPF_LD | BPF_H | BPF_ABS, static_cast<uint32_t>(SKF_AD_OFF + SKF_AD_PROTOCOL)),
    /* 1*/ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 7),
    /* 2*/ BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 9),
    /* 3*/ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 0, 11),
    /* 4*/ BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 6),
    /* 5*/ BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x1fff, 9, 0),
    /* 6*/ BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
    /* 7*/ BPF_STMT(BPF_LD | BPF_B | BPF_IND, 13),
    /* 8*/ BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x06, 5, 6),
    /* 9*/ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IPV6, 0, 5),
    /*10*/ BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 6),
    /*11*/ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 0, 3),
    /*12*/ BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 40 + 13),
    /*13*/ BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x06, 0, 1),
    /*14*/ BPF_STMT(BPF_RET | BPF_K, kSnapLength),
    /*15*/ BPF_STMT(BPF_RET | BPF_K, 0),
};

void SetOption(int fd, int option, const void* value, socklen_t size, const char* what) {
  if (setsockopt(fd, SOL_PACKET, option, value, size) != 0) ThrowErrno(what);
}

}  // namespace

ConnectionTap::ConnectionTap() : loopback_(static_cast<int>(if_nametoindex("lo"))) {
  // Protocol 0: nothing comes before the filter and the ring are there.
  fd_.Reset(socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd_) ThrowErrno("packet socket");
  auto filter = std::to_array(kFilter);
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  if (setsockopt(fd_.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0)
    ThrowErrno("packet socket SO_ATTACH_FILTER");
  const int version = TPACKET_V2;
  SetOption(fd_.get(), PACKET_VERSION, &version, sizeof version, "packet socket PACKET_VERSION");
  tpacket_req request{};
  request.tp_block_size = kBlockSize;
  request.tp_block_nr = kRingSize / kBlockSize;
  request.tp_frame_size = kFrameSize;
  request.tp_frame_nr = kFrames;
  SetOption(fd_.get(), PACKET_RX_RING, &request, sizeof request, "packet socket PACKET_RX_RING");
  void* const ring = mmap(nullptr, kRingSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
  if (ring == MAP_FAILED) ThrowErrno("packet socket mmap");
  ring_ = static_cast<uint8_t*>(ring);
  sockaddr_ll every{};
  every.sll_family = AF_PACKET;
  every.sll_protocol = htons(ETH_P_ALL);  // a narrower one does not see what this node sends
  if (bind(fd_.get(), reinterpret_cast<const sockaddr*>(&every), sizeof every) != 0) {
    const int error = errno;
    munmap(ring_, kRingSize);
    ThrowErrno("packet socket bind", error);
  }
}

ConnectionTap::~ConnectionTap() {
  munmap(ring_, kRingSize);
}

uint64_t ConnectionTap::Read(const Each& each) {
  const std::chrono::nanoseconds now = std::chrono::system_clock::now().time_since_epoch();
  for (size_t i = 0; i < kFrames; ++i) {
    auto* const header = reinterpret_cast<tpacket2_hdr*>(ring_ + next_ * kFrameSize);
    const std::atomic_ref<uint32_t> status(header->tp_status);
    if ((status.load(std::memory_order_acquire) & TP_STATUS_USER) == 0) break;
    const auto* const from = reinterpret_cast<const sockaddr_ll*>(
        reinterpret_cast<const uint8_t*>(header) + TPACKET_ALIGN(sizeof(tpacket2_hdr)));
    const bool leaves = from->sll_pkttype == PACKET_OUTGOING;
    if (from->sll_ifindex != loopback_ && header->tp_net + header->tp_snaplen <= kFrameSize) {
      const auto segment = ParseSegment(reinterpret_cast<const uint8_t*>(header) + header->tp_net,
                                        header->tp_snaplen);
      if (segment) {
        const std::chrono::nanoseconds at =
            std::chrono::seconds(header->tp_sec) + std::chrono::nanoseconds(header->tp_nsec);
        each(*segment, leaves, now - at);
      }
    }
    status.store(TP_STATUS_KERNEL, std::memory_order_release);
    next_ = (next_ + 1) % kFrames;
  }
  tpacket_stats lost{};
  socklen_t size = sizeof lost;
  if (getsockopt(fd_.get(), SOL_PACKET, PACKET_STATISTICS, &lost, &size) != 0)
    ThrowErrno("packet socket PACKET_STATISTICS");
  return lost.tp_drops;
}

}  // namespace pointsman::agent
