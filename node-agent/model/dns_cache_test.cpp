#include "node-agent/model/dns_cache.h"

#include <gtest/gtest.h>

#include "node-agent/testing/model_maker.h"

namespace pointsman::agent {
namespace {

using kube::Protocol;
using testing::Ip;
using testing::MakeBackend;
using testing::MakeEntry;

ServicePortEntry Port(const char* name, Protocol protocol, const char* ip, uint16_t port) {
  return MakeEntry(name, protocol, ip, port, {MakeBackend("10.244.0.2", port)});
}

class DnsCacheTest : public ::testing::Test {
 protected:
  DnsCacheTest() {
    maker_.Put(udp_);
    maker_.Put(tcp_);
    maker_.Put(metrics_);
    maker_.Put(elsewhere_);
  }
  testing::ModelMaker maker_;
  const ServicePortEntry udp_ = Port("dns", Protocol::kUdp, "10.96.0.10", 53);
  const ServicePortEntry tcp_ = Port("dns", Protocol::kTcp, "10.96.0.10", 53);
  const ServicePortEntry metrics_ = Port("metrics", Protocol::kTcp, "10.96.0.10", 9153);
  const ServicePortEntry elsewhere_ = Port("other", Protocol::kUdp, "10.96.0.11", 53);
};

TEST_F(DnsCacheTest, TheCacheAnswersDnsAtItsAddressAndNothingElse) {
  maker_.model.node.dns_cache_addresses = {Ip("10.96.0.10")};
  const DnsCachePorts ports(maker_.model);
  EXPECT_TRUE(ports.Answers(udp_));
  EXPECT_TRUE(ports.Answers(tcp_));
  EXPECT_FALSE(ports.Answers(metrics_));
  EXPECT_FALSE(ports.Answers(elsewhere_));
  EXPECT_FALSE(ports.Answers(Port("dns", Protocol::kSctp, "10.96.0.10", 53)));
}

TEST_F(DnsCacheTest, WithoutACacheNothingIsLeftToIt) {
  const DnsCachePorts ports(maker_.model);
  EXPECT_FALSE(ports.Answers(udp_));
  EXPECT_FALSE(DnsCachePorts().Answers(udp_));
}

TEST_F(DnsCacheTest, AChangeAtItsAddressConcernsIt) {
  const ModelDelta dns = maker_.Put(udp_);
  const ModelDelta other = maker_.Put(elsewhere_);
  EXPECT_FALSE(ConcernsDnsCache(maker_.model.node, dns));
  maker_.model.node.dns_cache_addresses = {Ip("10.96.0.10")};
  EXPECT_TRUE(ConcernsDnsCache(maker_.model.node, dns));
  EXPECT_FALSE(ConcernsDnsCache(maker_.model.node, other));
}

}  // namespace
}  // namespace pointsman::agent
