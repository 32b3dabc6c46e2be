// For tests: a mode at work on a node, with real clients and real pods, in one family.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "node-agent/contract/mode_under_test.h"
#include "node-agent/testing/dual_stack_network.h"
#include "node-agent/testing/model_maker.h"
#include "node-agent/testing/results.h"

namespace pointsman::agent::testing {

constexpr Transport kTransports[] = {Transport::kTcp, Transport::kUdp};

struct ModeAndFamily {
  Variant variant;
  net::Family family{};
};
void PrintTo(const ModeAndFamily& param, std::ostream* out);
std::string NameOf(const ::testing::TestParamInfo<ModeAndFamily>& info);

// Each mode, in both families.
std::vector<ModeAndFamily> InBothFamilies(const std::vector<Variant>& variants);
std::vector<Variant> AllVariants();

// The test's thread is in the node's network namespace; nothing of ours is in its kernel at the
// beginning, nor at the end.
class DataplaneTraffic : public ::testing::TestWithParam<ModeAndFamily> {
 protected:
  explicit DataplaneTraffic(int pods = 3) : pods_(pods) {}
  void SetUp() override;
  void TearDown() override;

  ModeUnderTest& mode() { return *mode_; }
  const Room& room() const { return mode_->room(); }
  bool v4() const { return GetParam().family == net::Family::kIPv4; }

  // A new process with settings_ takes over; it has not synced yet.
  void Restart();
  std::unique_ptr<Dataplane> Make() { return mode_->MakeDataplane(settings_, {GetParam().family}); }
  void FullSync();
  void Sync(const ModelDelta& delta);
  void Put(const ServicePortEntry& entry) { Sync(maker_.Put(entry)); }
  void ExpectVerified() { EXPECT_VERIFIED(dataplane_->Verify(maker_.model)); }

  // The address with that number in the cluster's Service network, and among public ones.
  std::string Vip(int number) const;
  std::string PublicIp(int number) const;
  std::string NodeIp() const { return v4() ? "192.168.77.1" : "fd00:77::1"; }
  std::string OutsideIp() const { return v4() ? "192.168.77.2" : "fd00:77::2"; }
  std::string Loopback() const { return v4() ? "127.0.0.1" : "::1"; }
  // As a range of one address.
  std::string Only(const std::string& ip) const { return ip + (v4() ? "/32" : "/128"); }
  std::string PodIp(int k) const;
  // The node's address that pod k sees as its gateway.
  std::string Gateway(int k) const;
  // The address by which `server` sees the client.
  std::string Seen(const std::string& server, const std::string& client) const;
  std::string Masqueraded(const std::string& server) const;

  BackendChoice Pods(const std::vector<int>& pods) const;
  ServicePortEntry Entry(const std::string& name, int number, const std::vector<int>& pods,
                         Protocol protocol = Protocol::kTcp) const;
  // The same for TCP and UDP, for the next FullSync.
  void AddBoth(ServicePortEntry entry);

  Reply FromPod(const std::string& ip, uint16_t port, const Attempt& attempt = {}, int pod = 0) {
    return Ask(network_->pod(pod), ip, port, attempt);
  }
  Reply FromOutside(const std::string& ip, uint16_t port, const Attempt& attempt = {}) {
    return Ask(network_->outside(), ip, port, attempt);
  }
  Reply FromNode(const std::string& ip, uint16_t port, const Attempt& attempt = {}) {
    return Ask(network_->node(), ip, port, attempt);
  }
  static Attempt Over(Transport transport) { return {.transport = transport}; }
  static Attempt Briefly(Transport transport = Transport::kTcp) {
    return {.transport = transport, .timeout = std::chrono::milliseconds(400)};
  }

  const int pods_;
  kube::ProxySettings settings_;
  std::unique_ptr<DualStackNetwork> network_;
  std::unique_ptr<ModeUnderTest> mode_;
  std::unique_ptr<Dataplane> dataplane_;
  // Does a client in this kernel hear the first refusal from `ip`? In ipvs mode an external IP's is
  // ICMP, for which its socket is locked (ipvs/rules.cpp).
  bool HearsRefusals(const std::string& ip) const {
    return GetParam().variant.mode != kube::Mode::kIpvs || (ip != PublicIp(1) && ip != PublicIp(2));
  }

  ModelMaker maker_;
};

void ExpectServed(const Reply& reply);
// No answer at all.
void ExpectDropped(const Reply& reply);
// The first packet was answered with a refusal. `heard` false: the client may have heard one of the
// next (DataplaneTraffic::HearsRefusals).
void ExpectRefused(const Reply& reply, bool heard = true);

}  // namespace pointsman::agent::testing
