#include "node-agent/contract/traffic.h"

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <system_error>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include "node-agent/dataplane/mode_traits.h"

namespace pointsman::agent::testing {

using net::Family;

void PrintTo(const ModeAndFamily& param, std::ostream* out) {
  *out << param.variant.name << ", " << net::ToString(param.family);
}

std::string NameOf(const ::testing::TestParamInfo<ModeAndFamily>& info) {
  return fmt::format("{}_{}", info.param.variant.name, net::ToString(info.param.family));
}

std::vector<Variant> AllVariants() {
  return {{"iptables", kube::Mode::kIptables},
          {"nftables", kube::Mode::kNftables},
          {"userspace", kube::Mode::kUserspace},
          {"ipvs", kube::Mode::kIpvs}};
}

std::vector<ModeAndFamily> InBothFamilies(const std::vector<Variant>& variants) {
  std::vector<ModeAndFamily> all;
  for (const Variant& variant : variants) {
    for (const Family family : {Family::kIPv4, Family::kIPv6})
      all.push_back({variant, family});
  }
  return all;
}

void DataplaneTraffic::SetUp() {
  settings_.mode = GetParam().variant.mode;
  settings_.cluster_cidrs = {net::IpPrefix::Parse("10.244.0.0/16").value(),
                             net::IpPrefix::Parse("fd00:244::/32").value()};
  settings_.drain_timeout = std::chrono::minutes(5);
  settings_.userspace.udp_idle_timeout = std::chrono::seconds(1);
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to make network namespaces";
  network_ = std::make_unique<DualStackNetwork>(pods_);
  network_->node().Enter();
  // Only what this kernel lacks is a reason not to look; all else that throws is a failure.
  try {
    mode_ = ModeUnderTest::Make(GetParam().variant);
  } catch (const std::runtime_error& error) {
    GTEST_SKIP() << error.what();
  }
  Restart();
  if (TraitsOf(settings_.mode).uses_iptables) EXPECT_SYNCED(mode_->EnsureBase(settings_));
  maker_.model.node.node_name = "node";
  maker_.model.node.node_port_addresses = {Ip(NodeIp())};
}

void DataplaneTraffic::TearDown() {
  if (IsSkipped()) return;
  if (dataplane_ == nullptr) Restart();
  EXPECT_SYNCED(dataplane_->Remove());
  EXPECT_FALSE(dataplane_->Present());
  dataplane_.reset();
}

void DataplaneTraffic::Restart() {
  dataplane_.reset();
  dataplane_ = Make();
}

void DataplaneTraffic::FullSync() {
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ExpectVerified();
}

void DataplaneTraffic::Sync(const ModelDelta& delta) {
  const SyncResult result = dataplane_->Sync(maker_.model, delta);
  EXPECT_SYNCED(result);
  EXPECT_EQ(result.repaired, 0U);
}

std::string DataplaneTraffic::Vip(int number) const {
  return fmt::format("{}{}", v4() ? "10.96.0." : "fd00:96::", number);
}

std::string DataplaneTraffic::PublicIp(int number) const {
  return fmt::format("{}{}", v4() ? "198.51.100." : "2001:db8::", number);
}

std::string DataplaneTraffic::PodIp(int k) const {
  return DualStackNetwork::PodIp(k, GetParam().family).ToString();
}

std::string DataplaneTraffic::Gateway(int k) const {
  return Ip(v4() ? fmt::format("10.244.{}.1", k) : fmt::format("fd00:244:{:x}::1", k)).ToString();
}

std::string DataplaneTraffic::Masqueraded(const std::string& server) const {
  return server.starts_with("pod") ? Gateway(server.back() - '0') : "";
}

std::string DataplaneTraffic::Seen(const std::string& server, const std::string& client) const {
  return room().keeps_source ? client : Masqueraded(server);
}

BackendChoice DataplaneTraffic::Pods(const std::vector<int>& pods) const {
  BackendChoice choice;
  for (const int k : pods)
    choice.backends.push_back({DualStackNetwork::PodIp(k, GetParam().family), 8080, true});
  return choice;
}

ServicePortEntry DataplaneTraffic::Entry(const std::string& name, int number,
                                         const std::vector<int>& pods, Protocol protocol) const {
  ServicePortEntry entry;
  entry.id = {"default", name, "http", protocol, GetParam().family};
  entry.cluster_ip = Ip(Vip(number));
  entry.port = 80;
  entry.internal = entry.external = Pods(pods);
  return entry;
}

void DataplaneTraffic::AddBoth(ServicePortEntry entry) {
  for (const Protocol protocol : {Protocol::kTcp, Protocol::kUdp}) {
    entry.id.protocol = protocol;
    maker_.Put(entry);
  }
}

void ExpectServed(const Reply& reply) {
  EXPECT_TRUE(reply.ok()) << std::generic_category().message(reply.error);
}

void ExpectDropped(const Reply& reply) {
  // Or a datagram that the node's own rules did not let out.
  EXPECT_THAT(reply.error, ::testing::AnyOf(ETIMEDOUT, EPERM));
}

void ExpectRefused(const Reply& reply, bool heard) {
  // A datagram of the node's own does not even leave: send(2) fails.
  if (reply.transport == Transport::kUdp) {
    EXPECT_THAT(reply.error, ::testing::AnyOf(ECONNREFUSED, EPERM, EACCES));
  } else {
    EXPECT_EQ(reply.error, ECONNREFUSED);
  }
  if (heard) {
    EXPECT_EQ(reply.resent, 0U) << "the first packet was dropped";
  }
}

}  // namespace pointsman::agent::testing
