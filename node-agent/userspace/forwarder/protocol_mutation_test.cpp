#include <gtest/gtest.h>

#include "kube/testing/mutator.h"
#include "node-agent/userspace/forwarder/protocol.h"
#include "node-agent/userspace/forwarder/protocol_checks.h"

namespace pointsman::forwarder {
namespace {

std::vector<std::string> Corpus() {
  const auto place = [](const char* ip, uint16_t port) {
    return IpPort{*net::IpAddress::Parse(ip), port};
  };
  const Slot v4{.number = 1,
                .service = "default/web:http/TCP/IPv4",
                .affinity_seconds = 10800,
                .backends = {place("10.0.0.1", 80), place("10.0.0.2", 8080)}};
  const Slot v6{.number = 70000,
                .service = "kube-system/dns:dns/UDP/IPv6",
                .kind = 2,
                .udp = true,
                .backends = {place("fd00::1", 53)}};
  std::vector<std::string> corpus;
  const auto add = [&](FrameType type, std::string_view body = {}) {
    AppendFrame(corpus.emplace_back(), type, body);
  };
  add(FrameType::kHello, EncodeU32(kProtocolVersion));
  add(FrameType::kHelloReply, Encode(HelloReply{.protocol = 2, .version = "0.1.0", .pid = 7}));
  add(FrameType::kStatsReply, Encode(Stats{.accepted = 1, .bytes_to_clients = ~uint64_t{0}}));
  add(FrameType::kSettings, EncodeU64(250'000'000));
  add(FrameType::kDrain, EncodeU32(300));
  add(FrameType::kExit);
  AppendUpdate(corpus.emplace_back(),
               {.to = 1, .whole = true, .last_slot = 70000, .set = {v4, v6}});
  AppendUpdate(corpus.back(), {.from = 1, .to = 2, .set = {v4}, .removed = {1, 70000}});
  AppendDump(corpus.emplace_back(), {&v4, &v6});
  AppendUpdate(corpus.emplace_back(), {.to = 1, .whole = true, .set = {v4}});
  for (const std::string& part :
       EncodeBindings({{v4.service, {{*net::IpAddress::Parse("10.1.0.9"), v4.backends[1], 60}}}})) {
    AppendFrame(corpus.back(), FrameType::kBind, part);
    AppendFrame(corpus.back(), FrameType::kBindingsPart, part);
  }
  return corpus;
}

TEST(ProtocolMutation, AnyBytesAreFramesOrAProtocolError) {
  pointsman::testing::ForMutations(Corpus(), 3000,
                                   [](const std::string& bytes) { CheckForwarderBytes(bytes); });
}

}  // namespace
}  // namespace pointsman::forwarder
