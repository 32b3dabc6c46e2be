// What agent and forwarder say to each other over a UNIX stream socket: frames of at most 1 MiB,
// one question and one answer (a dump: several frames) at a time. Integers are little-endian.
//
//   frame: u32 size of the body, u16 type, u16 0, body
//
// Both ends are this project's, run by the same user on the same machine; still nothing that is
// read is trusted to have the size it says.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "node-agent/userspace/forwarder/backend_table.h"

namespace pointsman::forwarder {

// Grows when the meaning of a frame changes or one is added: a forwarder of another protocol is
// drained and replaced, and so only Hello, Drain and Exit must stay as they are for good.
inline constexpr uint32_t kProtocolVersion = 2;
inline constexpr size_t kHeaderSize = 8;
inline constexpr size_t kMaxBody = size_t{1} << 20;
inline constexpr size_t kMaxBackendsOfSlot = 40'000;  // what a frame can hold
inline constexpr size_t kMaxServiceName = 1024;

enum class FrameType : uint16_t {
  kHello = 1,     // → kHelloReply
  kUpdate = 2,    // → kDone or kError
  kDump = 3,      // → kDumpPart, … the last one says so
  kStats = 4,     // → kStatsReply
  kSettings = 5,  // u64 UDP idle time-out in nanoseconds → kDone
  // u32 seconds until it ends at the latest, from this question on → kStatsReply. It ends sooner
  // when it has nothing left and no agent is connected.
  kDrain = 6,
  kResume = 7,    // takes a drain back → kDone
  kExit = 8,      // → kDone; the process ends
  kBindings = 9,  // → kBindingsPart, … the last one says so
  kBind = 10,     // as kBindingsPart → kBindReply, to each
  kDone = 100,
  kError = 101,  // text
  kHelloReply = 102,
  kDumpPart = 103,  // u8 last, u32 count, slots
  kStatsReply = 104,
  // u8 last, u32 count, as often: service, u32 count, as often: client, backend, u32 seconds left
  kBindingsPart = 105,
  kBindReply = 106,  // u32 for how many there is no place
};

// The frame is not what it should be.
struct ProtocolError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct HelloReply {
  uint32_t protocol = 0;
  std::string version;  // of the program
  uint32_t pid = 0;
  uint64_t netns = 0;    // inode of its network namespace
  uint16_t port_v4 = 0;  // of the listening sockets, TCP and UDP; 0: the kernel has no such family
  uint16_t port_v6 = 0;
  uint64_t generation = 0;  // of the table; 0: empty, as at the start
  uint32_t last_slot = 0;   // the number given out last, kept for the next agent
  bool draining = false;
};

// A table as a whole or the difference from one generation to the next, in one or more frames: all
// of it is applied with the last one or not at all.
struct Update {
  uint64_t from = 0;  // the generation it applies to; whole: not looked at
  uint64_t to = 0;
  bool whole = false;
  bool last = true;
  uint32_t last_slot = 0;
  std::vector<Slot> set;
  std::vector<uint32_t> removed;
};

// New counters are added at the end: a drain's answer is also read by agents of other versions.
struct Stats {
  uint64_t tcp_connections = 0;   // now, also those that still look for a backend
  uint64_t udp_flows = 0;         // now
  uint64_t accepted = 0;          // since the start
  uint64_t refused_at_limit = 0;  // closed at once: no file descriptors left
  uint64_t without_backend = 0;   // closed: no backend answered
  uint64_t connect_failures = 0;  // attempts that failed, and were followed by another or not
  uint64_t bytes_to_backends = 0;
  uint64_t bytes_to_clients = 0;
  uint64_t datagrams_to_backends = 0;
  uint64_t datagrams_to_clients = 0;
  uint64_t datagrams_dropped = 0;
  uint64_t udp_retries = 0;  // datagrams sent to another backend after an ICMP error
  uint64_t pipes = 0;        // now, in use or kept
  uint64_t slots = 0;
  uint64_t connection_limit = 0;
  uint64_t retried = 0;    // TCP connections that got a backend after another attempt had failed
  uint64_t udp_begun = 0;  // flows, since the start
  uint64_t udp_bytes_to_backends = 0;  // bytes_to_… are TCP's
  uint64_t udp_bytes_to_clients = 0;
  uint64_t ended_for_room = 0;  // TCP connections that were reset to make room for others
  bool operator==(const Stats&) const = default;
};

// Appends one whole frame to `out`.
void AppendFrame(std::string& out, FrameType type, std::string_view body = {});
std::string Encode(const HelloReply& hello);
std::string Encode(const Stats& stats);
// Appends as many frames of `type` kUpdate (or, of `slots` alone, kDumpPart) as it takes. Throws
// std::length_error when one slot does not fit into a frame.
void AppendUpdate(std::string& out, const Update& update);
void AppendDump(std::string& out, const std::vector<const Slot*>& slots);
// Bodies of as many frames as it takes, of kBindings' answer or of kBind. A service may be in
// several of them. At least one. Throws std::length_error when a service's name is too long.
std::vector<std::string> EncodeBindings(const std::vector<ServiceBindings>& services);
std::string EncodeU32(uint32_t value);
std::string EncodeU64(uint64_t value);

// All throw ProtocolError.
HelloReply DecodeHelloReply(std::string_view body);
// Of a forwarder of another version: what it does not count is 0, what only it counts is left out.
Stats DecodeStats(std::string_view body);
Update DecodeUpdate(std::string_view body);
// Appends the slots; returns whether it is the last part.
bool DecodeDumpPart(std::string_view body, std::vector<Slot>& slots);
// As DecodeDumpPart.
bool DecodeBindingsPart(std::string_view body, std::vector<ServiceBindings>& services);
uint32_t DecodeU32(std::string_view body);
uint64_t DecodeU64(std::string_view body);

// Cuts a stream into frames. Holds at most one frame and what came with it.
class FrameReader {
 public:
  void Append(std::string_view bytes) { buffer_.append(bytes); }
  // False: the next frame is not here yet. `body` is valid until the next call of any function.
  // Throws ProtocolError when a header is impossible.
  bool Next(FrameType& type, std::string_view& body);

 private:
  std::string buffer_;
  size_t taken_ = 0;
};

}  // namespace pointsman::forwarder
