// What it costs to watch clients' connections around a handover (node-agent/traffic), on a node
// that tracks many connections:
//  * a packet that the node forwards, with and without the tap;
//  * a packet of interest, read from the tap and counted.
// In network namespaces of this machine; needs root and nft, and net.netfilter.nf_conntrack_max for
// --entries. Each figure is the median of 9 rounds, with and without in turn.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <string>
#include <sys/socket.h>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <sched.h>

#include "base/throw_errno.h"
#include "kube/net/socket_address.h"
#include "node-agent/testing/fresh_mounts.h"
#include "node-agent/testing/run_tool.h"
#include "node-agent/testing/test_address.h"
#include "node-agent/testing/test_network.h"
#include "node-agent/traffic/attempts.h"
#include "node-agent/traffic/connection_tap.h"

namespace pointsman::agent {
namespace {

using Clock = std::chrono::steady_clock;
using Nanoseconds = std::chrono::duration<double, std::nano>;
using testing::RunTool;

constexpr int kRounds = 9;
constexpr int kPackets = 200'000;

net::IpAddress Ip(const std::string& text) {
  return net::IpAddress::Parse(text).value();
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void SendTo(int fd, const void* data, size_t size, const net::IpAddress& ip, uint16_t port) {
  const sockaddr_storage to = net::ToSocketAddress(ip, port);
  if (sendto(fd, data, size, 0, reinterpret_cast<const sockaddr*>(&to), sizeof(sockaddr_in)) < 0)
    ThrowErrno("sendto");
}

// Entries of connection tracking, one for each SYN of another client.
void Track(int raw, uint32_t entries) {
  std::array<uint8_t, 40> packet{0x45, 0, 0, 40, 0, 0, 0, 0, 64, IPPROTO_TCP};
  packet[32] = 0x50;
  packet[33] = 0x02;
  const net::IpAddress to = Ip("10.244.2.2");
  std::copy_n(to.data(), 4, packet.begin() + 16);
  for (uint32_t i = 0; i < entries; ++i) {
    const net::IpAddress from = net::IpAddress::V4((uint32_t{11} << 24) + i / 50'000);
    std::copy_n(from.data(), 4, packet.begin() + 12);
    const uint32_t port = 10'000 + i % 50'000;
    packet[20] = static_cast<uint8_t>(port >> 8);
    packet[21] = static_cast<uint8_t>(port);
    packet[22] = 0x1f;
    packet[23] = 0x90;
    SendTo(raw, packet.data(), packet.size(), to, 0);
  }
}

// Nanoseconds a packet; a veth pair hands it on in the sender's own time, as far as the receiver.
double Forward(int fd) {
  const std::array<char, 64> data{};
  const net::IpAddress to = Ip("10.244.2.2");
  const auto begin = Clock::now();
  for (int i = 0; i < kPackets; ++i)
    SendTo(fd, data.data(), data.size(), to, 9999);
  return Nanoseconds(Clock::now() - begin).count() / kPackets;
}

// Nanoseconds for each packet of a full ring, read and counted.
double ReadRing(int raw) {
  ConnectionTap tap;
  Track(raw, ConnectionTap::kFrames);
  Attempts attempts(std::chrono::seconds(3));
  size_t seen = 0;
  const auto begin = Clock::now();
  tap.Read([&](const Segment& segment, bool, std::chrono::nanoseconds) {
    ++seen;
    attempts.Asked(segment.source, segment.destination, begin);
  });
  return Nanoseconds(Clock::now() - begin).count() / static_cast<double>(seen);
}

void Measure(uint32_t entries) {
  if (::unshare(CLONE_NEWNET) != 0) ThrowErrno("unshare");
  testing::EnterFreshMounts({"/run"});
  RunTool({"sysctl", "-qw", "net.ipv4.ip_forward=1"});
  testing::TestNetwork network;
  network.AddHost("from", "10.244.1.2", "10.244.1.1");
  network.AddHost("to", "10.244.2.2", "10.244.2.1");
  // What comes for nobody is not answered.
  const std::string drop =
      "add table ip t; add chain ip t i { type filter hook prerouting priority -300 ; policy "
      "drop ; }";
  RunTool({"ip", "netns", "exec", "to", "nft", drop});
  const std::string drop_invalid =
      "add table ip t; add chain ip t f { type filter hook forward priority 0 ; }; add rule ip t f "
      "ct state invalid drop";
  RunTool({"nft", drop_invalid});
  // Or what has no checksum would be tracked by nobody.
  RunTool({"sysctl", "-qw", "net.netfilter.nf_conntrack_checksum=0"});
  const UniqueFd raw =
      testing::SocketIn(testing::TestNetwork::At("from"), AF_INET, SOCK_RAW, IPPROTO_RAW);
  const UniqueFd udp = testing::SocketIn(testing::TestNetwork::At("from"), AF_INET, SOCK_DGRAM);
  Track(raw.get(), entries);
  const std::string tracked = RunTool({"sysctl", "-n", "net.netfilter.nf_conntrack_count"});
  std::vector<double> without;
  std::vector<double> with;
  std::vector<double> read;
  for (std::vector<double>* of : {&without, &with, &read})
    of->reserve(kRounds);
  Forward(udp.get());
  for (int round = 0; round < kRounds; ++round) {
    without.push_back(Forward(udp.get()));
    const ConnectionTap tap;
    with.push_back(Forward(udp.get()));
  }
  for (int round = 0; round < kRounds; ++round)
    read.push_back(ReadRing(raw.get()));
  fmt::print("connections tracked: {}", tracked);
  fmt::print("a forwarded packet: {:.0f} ns without the tap, {:.0f} ns with it\n", Median(without),
             Median(with));
  fmt::print("a packet of interest, read and counted: {:.0f} ns; a full ring of {}: {:.1f} ms\n",
             Median(read), ConnectionTap::kFrames,
             Median(read) * static_cast<double>(ConnectionTap::kFrames) / 1e6);
}

}  // namespace
}  // namespace pointsman::agent

int main(int argc, char** argv) {
  CLI::App app{"What it costs to watch clients' connections"};
  uint32_t entries = 0;
  app.add_option("--entries", entries, "connections that are tracked meanwhile");
  CLI11_PARSE(app, argc, argv);
  try {
    pointsman::agent::Measure(entries);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
