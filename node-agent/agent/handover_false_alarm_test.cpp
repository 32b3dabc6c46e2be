// A handover is not reverted for what clients and endpoints do anyway. A hundred of them, with real
// packets, among clients that give up, dead, dying and crowded endpoints, clients that a policy
// keeps out, scanners and datagrams that nobody answers.
#include <chrono>
#include <memory>
#include <netinet/in.h>
#include <optional>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "kube/pointsman/change_impact.h"
#include "kube/pointsman/rollout_gates.h"
#include "node-agent/agent/kernel_environment.h"
#include "node-agent/dataplane/sync_problems.h"
#include "node-agent/handover/mode_controller.h"
#include "node-agent/handover/service_probes.h"
#include "node-agent/testing/client_network.h"
#include "node-agent/testing/steady_clients.h"
#include "node-agent/testing/test_address.h"
#include "node-agent/traffic/client_traffic.h"

namespace pointsman::agent {
namespace {

using kube::Mode;
using std::chrono_literals::operator""ms;
using ::testing::HasSubstr;
using testing::Ip;
using ::testing::IsEmpty;
using testing::MakeBackend;
using testing::SteadyClient;

constexpr int kHandovers = 100;
// The clients connect so often that this is as much as minutes of a busy node's traffic.
constexpr ClientTraffic::Windows kShort{
    .before = 80ms, .after = 160ms, .answer_within = 90ms, .compare = 30ms};

class FalseAlarmTest : public testing::ClientNetworkTest {
 protected:
  void SetUp() override {
    ClientNetworkTest::SetUp();
    if (IsSkipped()) return;
    environment_.emplace("", "", "", "text", kShort);
    controller_.emplace(*environment_);
    for (const Mode mode : {Mode::kIptables, Mode::kNftables}) {
      if (!environment_->Preflight(mode, {}, true).passed)
        GTEST_SKIP() << "this kernel cannot run both modes";
    }
    AddServices();
    Apply(Mode::kIptables);
  }
  void TearDown() override {
    clients_.clear();
    if (controller_) {
      EXPECT_THAT(controller_->RemoveAll(), IsEmpty());
    }
    ClientNetworkTest::TearDown();
  }

  net::IpPort AddService(const std::string& name, std::vector<Backend> backends) {
    const std::string ip = fmt::format("10.96.1.{}", maker_.model.entries.size());
    maker_.Put(testing::MakeEntry(name, kube::Protocol::kTcp, ip, 80, std::move(backends)));
    return {Ip(ip), 80};
  }
  // Takes a connection only now and then.
  void AddCrowdedServer(uint16_t port) {
    crowd_.push_back(testing::SocketIn(testing::TestNetwork::At("pod5"), AF_INET, SOCK_STREAM));
    const sockaddr_storage address = net::ToSocketAddress(Ip("10.244.5.2"), port);
    ASSERT_EQ(
        bind(crowd_.back().get(), reinterpret_cast<const sockaddr*>(&address), sizeof(sockaddr_in)),
        0);
    ASSERT_EQ(listen(crowd_.back().get(), 1), 0);
  }
  void AddServices() {
    refused_ = AddService("refused", {MakeBackend("10.244.4.2", 9)});
    // Nobody has this address, and what is sent to it vanishes.
    for (const char* line : {"ip link add hole type veth peer name hole-end", "ip link set hole up",
                             "ip link set hole-end up", "ip route add 10.244.9.2/32 dev hole",
                             "ip neigh add 10.244.9.2 lladdr 02:00:00:00:00:01 dev hole"})
      Tool(line);
    // The node's own probes leave Services with so many endpoints alone: they would wait for these.
    std::vector<Backend> gone;
    std::vector<Backend> crowded;
    for (uint16_t i = 0; i <= ServiceProbes::kMaxEndpoints; ++i) {
      gone.push_back(MakeBackend("10.244.9.2", static_cast<uint16_t>(8080 + i)));
      crowded.push_back(MakeBackend("10.244.5.2", static_cast<uint16_t>(7070 + i)));
      AddCrowdedServer(crowded.back().port);
    }
    dropped_ = AddService("dropped", gone);
    crowded_ = AddService("crowded", crowded);
    partly_ =
        AddService("partly-dead", {MakeBackend("10.244.4.2", 8080), MakeBackend("10.244.5.2", 8080),
                                   MakeBackend("10.244.5.2", 9)});
    mortal_ = AddService("mortal", {MakeBackend("10.244.6.2", 8080)});
    network_->AddHost("mortal", "10.244.6.2", "10.244.6.1");
    network_->Serve("mortal", "10.244.6.2", 8080);
    half_mortal_ = AddService("half-mortal",
                              {MakeBackend("10.244.6.2", 8080), MakeBackend("10.244.4.2", 8080)});
    maker_.Put(testing::MakeEntry("metrics", kube::Protocol::kUdp, "10.96.1.200", 8125,
                                  {MakeBackend("10.244.9.2", 8125)}));
    datagrams_ = testing::SocketIn(testing::TestNetwork::At("pod1"), AF_INET, SOCK_DGRAM);
    network_->AddHost("elsewhere", "192.168.78.2", "192.168.78.1");
    // As a policy engine keeps one client from everything.
    network_->AddHost("kept-out", "10.244.8.2", "10.244.8.1");
    Iptables("-t mangle -A FORWARD -s 10.244.8.2 -j DROP");
  }
  void AddClient(const std::string& host, const net::IpPort& place,
                 const SteadyClient::Habits& habits) {
    clients_.push_back(std::make_unique<SteadyClient>(host, place, habits));
  }
  void AddNoise() {
    for (const char* pod : {"pod1", "pod2"}) {
      AddClient(pod, kWeb, {.every = 8ms});
      AddClient(pod, refused_, {.every = 20ms});
      AddClient(pod, dropped_, {.every = 30ms, .patience = 200ms});
      AddClient(pod, partly_, {.every = 15ms});
      AddClient(pod, mortal_, {.every = 15ms, .patience = 300ms});
      AddClient(pod, half_mortal_, {.every = 15ms, .patience = 300ms});
      AddClient(pod, crowded_, {.every = 15ms, .patience = 300ms});
    }
    AddClient("pod3", kWeb, {.every = 5ms, .patience = 0ms});
    for (const char* outside : {"outside", "elsewhere"})
      AddClient(outside, kNodePort, {.every = 8ms});
    AddClient("outside", {kNodePort.ip, 30'000}, {.every = 3ms, .patience = 100ms, .ports = 200});
    AddClient("pod3", {kWeb.ip, 1}, {.every = 3ms, .patience = 100ms, .ports = 200});
    AddClient("kept-out", kWeb, {.every = 10ms, .patience = 200ms});
  }

  void Tick() {
    std::this_thread::sleep_until(controller_->NextDeadline());
    controller_->Tick(maker_.model);
    const sockaddr_storage metrics = net::ToSocketAddress(Ip("10.96.1.200"), 8125);
    ASSERT_EQ(sendto(datagrams_.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&metrics),
                     sizeof(sockaddr_in)),
              1);
    const UniqueFd& crowded = crowd_[served_++ % crowd_.size()];
    UniqueFd(accept4(crowded.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  }
  void Begin(Mode mode) {
    kube::ProxySettings settings;
    settings.mode = mode;
    settings.fallback_modes.clear();
    settings.drain_timeout = std::chrono::seconds(0);
    settings.nftables.masquerade_bit = nftables_masquerade_bit_;
    controller_->Apply(settings, maker_.model);
    ASSERT_FALSE(controller_->state().failed) << Describe(controller_->state().problems);
  }
  bool Settled() const {
    return controller_->state().watching.empty() && !controller_->state().draining;
  }
  void Apply(Mode mode) {
    Begin(mode);
    while (!Settled())
      Tick();
  }

  int nftables_masquerade_bit_ = 14;
  net::IpPort refused_, dropped_, partly_, mortal_, half_mortal_, crowded_;
  std::vector<UniqueFd> crowd_;
  size_t served_ = 0;  // of crowd_
  UniqueFd datagrams_;
  std::vector<std::unique_ptr<SteadyClient>> clients_;
  std::optional<KernelEnvironment> environment_;
  std::optional<ModeController> controller_;
};

kube::ChangeImpact ImpactOf(const TrafficFigures& then, const TrafficFigures& now) {
  const auto more = [](uint64_t a, uint64_t b) { return static_cast<int64_t>(b - a); };
  return {.connections_before = more(then.before, now.before),
          .failed_before = more(then.failed_before, now.failed_before),
          .connections_after = more(then.after, now.after),
          .failed_after = more(then.failed_after, now.failed_after)};
}

TEST_F(FalseAlarmTest, NoneInAHundredHandovers) {
  AddNoise();
  const ModeState& state = controller_->state();
  const uint64_t answered = ProcessWatchedTraffic().answered;
  const uint64_t unanswered = ProcessWatchedTraffic().unanswered;
  Mode mode = Mode::kIptables;
  TrafficFigures before = state.toll.traffic;
  for (int i = 0; i < kHandovers; ++i) {
    mode = mode == Mode::kIptables ? Mode::kNftables : Mode::kIptables;
    Begin(mode);
    while (state.active != mode && !HasFailure())
      Tick();
    // An endpoint dies just when new connections go to the other mode, and is back later.
    const bool dies = i % 2 == 0;
    if (dies) network_->StopServing("mortal");
    while (!Settled())
      Tick();
    if (dies) network_->Serve("mortal", "10.244.6.2", 8080);
    ASSERT_EQ(state.active, mode) << "handover " << i << ": " << state.reverted_reason;
    ASSERT_EQ(state.reverts, 0U) << state.reverted_reason;
    // Nor does the operator's gate trip.
    const TrafficFigures& now = state.toll.traffic;
    const kube::ChangeImpact impact = ImpactOf(before, now);
    ASSERT_FALSE(kube::FailsMore(impact, *kube::RolloutGates().failed_connections))
        << "handover " << i << ": " << kube::ToJson(impact).dump();
    before = now;
  }
  EXPECT_GT(before.after, kHandovers * 50U) << "there are figures";
  // There was noise, and the judge listened.
  EXPECT_GT(ProcessWatchedTraffic().answered - answered, kHandovers * 50U);
  EXPECT_GT(ProcessWatchedTraffic().unanswered - unanswered, kHandovers * 5U);
  EXPECT_EQ(ProcessWatchedTraffic().failures, 0U);

  // And it would have heard: the same noise, and a firewall of nf_tables that lets node ports by
  // for iptables mode's mark alone.
  ASSERT_EQ(mode, Mode::kIptables);
  for (const char* line :
       {"add table inet firewall",
        "add chain inet firewall forward { type filter hook forward priority 5; policy drop; }",
        "add rule inet firewall forward ct state established,related accept",
        "add rule inet firewall forward meta mark & 0x4000 == 0x4000 accept",
        "add rule inet firewall forward ip saddr 10.244.0.0/16 accept"})
    testing::RunTool({"nft", line});
  nftables_masquerade_bit_ = 15;
  Apply(Mode::kNftables);
  EXPECT_EQ(state.active, Mode::kIptables);
  EXPECT_THAT(state.reverted_reason, HasSubstr("default/web"));
}

}  // namespace
}  // namespace pointsman::agent
