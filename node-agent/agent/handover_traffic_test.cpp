// A handover is judged by what the new mode does, whatever a connection proves in either mode: with
// the kernel's own rules, the forwarder and real connections.
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "node-agent/agent/kernel_environment.h"
#include "node-agent/dataplane/mode_traits.h"
#include "node-agent/dataplane/sync_problems.h"
#include "node-agent/handover/mode_controller.h"
#include "node-agent/testing/fresh_mounts.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/model_maker.h"
#include "node-agent/testing/run_tool.h"
#include "node-agent/userspace/forwarder/tcp_relay.h"
#include "node-agent/userspace/testing/forwarder_launcher.h"
#include "node-agent/userspace/testing/forwarder_program.h"
#include "node-agent/userspace/testing/sockets.h"
#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent {
namespace {

using kube::Mode;
using testing::At;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::MakeBackend;
using testing::RunTool;

constexpr char kLauncher[] = "/run/pointsman/launcher.sock";
// The endpoints' address; nothing listens on kRefused.
constexpr char kPod[] = "10.244.0.2";
constexpr uint16_t kPort = 8080;
constexpr uint16_t kRefused = 9;

class HandoverTrafficTest : public FreshNetnsTest {
 protected:
  void SetUp() override {
    FreshNetnsTest::SetUp();
    if (IsSkipped()) return;
    testing::EnterFreshMounts({"/run"});
    std::filesystem::create_directories("/run/pointsman");
    for (const char* line :
         {"link set lo up", "address add 10.244.0.2/32 dev lo", "address add 10.244.0.3/32 dev lo",
          "link add eth0 type veth peer name wire", "address add 192.0.2.1/24 dev eth0",
          "link set eth0 up", "link set wire up", "route add default via 192.0.2.2"})
      RunTool(Words("ip " + std::string(line)));
    launcher_.emplace(testing::ForwarderProgram(), kLauncher);
    // There are no clients here, so they are not waited for.
    environment_.emplace("", "", kLauncher, "text",
                         ClientTraffic::Windows{.before = std::chrono::milliseconds(0)});
    controller_.emplace(*environment_);
  }
  void TearDown() override {
    if (controller_) {
      EXPECT_THAT(controller_->RemoveAll(), IsEmpty());
    }
  }

  static std::vector<std::string> Words(const std::string& line) {
    std::vector<std::string> words{""};
    for (const char c : line) {
      if (c == ' ') {
        words.emplace_back();
      } else {
        words.back() += c;
      }
    }
    return words;
  }
  // iptables(8) as the agent uses it here, with these words.
  static void Iptables(const std::string& line) {
    const xtables::IptablesTool tool(net::Family::kIPv4);
    RunTool(Words("iptables-" + std::string(tool.variant()) + " " + line));
  }
  // False: this kernel cannot run it.
  bool CanRun(Mode mode) { return environment_->Preflight(mode, {}, true).passed; }
  void Apply(Mode mode) {
    kube::ProxySettings settings;
    settings.mode = mode;
    settings.fallback_modes.clear();
    controller_->Apply(settings, maker_.model);
    EXPECT_FALSE(controller_->state().failed) << Describe(controller_->state().problems);
  }
  const ModeState& state() const { return controller_->state(); }

  void AddService(const std::string& name, std::vector<Backend> backends) {
    maker_.Put(testing::MakeEntry(name, kube::Protocol::kTcp,
                                  "10.96.0." + std::to_string(10 + maker_.model.entries.size()), 80,
                                  std::move(backends)));
  }
  // Answers at kPod:kPort as servers usually do.
  void AddLiveService() {
    server_ = std::make_unique<testing::EchoServer>(At(kPod, kPort), "");
    AddService("live", {MakeBackend(kPod, kPort)});
  }
  // Opens every connection and never does anything, not when the client closes its half either.
  void AddSilentService() {
    listeners_.push_back(testing::ListenTcp(At("10.244.0.3", kPort)));
    AddService("silent", {MakeBackend("10.244.0.3", kPort)});
  }
  // Some of whose endpoints are dead, or all.
  void AddServicesWithDeadEndpoints() {
    AddService("refused", {MakeBackend(kPod, kRefused)});
    black_hole_.emplace("10.244.0.3");
    AddService("dropped", {MakeBackend("10.244.0.3", black_hole_->place().port)});
    std::vector<Backend> mostly_dead{MakeBackend(kPod, kPort)};
    for (uint16_t port = 1; port < 8; ++port)
      mostly_dead.push_back(MakeBackend(kPod, port));
    AddService("mostly-dead", std::move(mostly_dead));
  }

  testing::ModelMaker maker_;
  std::unique_ptr<testing::EchoServer> server_;
  std::vector<UniqueFd> listeners_;
  std::optional<testing::BlackHole> black_hole_;
  std::optional<testing::ForwarderLauncher> launcher_;
  std::optional<KernelEnvironment> environment_;
  std::optional<ModeController> controller_;
};

class LeaveUserspaceTest : public HandoverTrafficTest, public ::testing::WithParamInterface<Mode> {
 protected:
  void SetUp() override {
    HandoverTrafficTest::SetUp();
    if (!IsSkipped() && !(CanRun(Mode::kUserspace) && CanRun(GetParam())))
      GTEST_SKIP() << "this kernel cannot run both modes";
  }
};

// The forwarder accepts for all of them; in the other modes it depends on the endpoint.
TEST_P(LeaveUserspaceTest, IsNotRevertedForEndpointsThatAreDeadAnyway) {
  AddLiveService();
  AddServicesWithDeadEndpoints();
  AddSilentService();
  Apply(Mode::kUserspace);
  Apply(GetParam());
  EXPECT_EQ(state().active, GetParam());
  EXPECT_EQ(state().reverted_reason, "");
}

TEST_P(LeaveUserspaceTest, IsRevertedWhenAServiceNoLongerAnswers) {
  if (GetParam() == Mode::kIpvs) GTEST_SKIP() << "no rule sees its connections and no others";
  AddLiveService();
  AddServicesWithDeadEndpoints();
  Apply(Mode::kUserspace);
  // Neither direct connections nor the forwarder's are translated.
  Iptables("-A INPUT -d 10.244.0.0/16 -m conntrack --ctstate DNAT -j DROP");
  Apply(GetParam());
  EXPECT_EQ(state().active, Mode::kUserspace);
  EXPECT_THAT(state().reverted_reason, HasSubstr("default/live"));
  EXPECT_THAT(state().reverted_reason, Not(HasSubstr("dead")));
}

INSTANTIATE_TEST_SUITE_P(Modes, LeaveUserspaceTest,
                         ::testing::Values(Mode::kIptables, Mode::kIpvs, Mode::kNftables),
                         [](const auto& parameters) {
                           return std::string(kube::ToString(parameters.param));
                         });

class EnterUserspaceTest : public HandoverTrafficTest {
 protected:
  void SetUp() override {
    HandoverTrafficTest::SetUp();
    if (!IsSkipped() && !CanRun(Mode::kUserspace))
      GTEST_SKIP() << "this kernel cannot run mode userspace";
  }
  // No packet of the forwarder's reaches an endpoint; its rules and its socket work.
  static void CutTheForwarderOff() {
    Iptables("-t mangle -A OUTPUT -d 10.244.0.0/16 -m mark --mark 0x4000/0x4000 -j DROP");
  }
  void ExpectReverted(const std::string& service) const {
    EXPECT_EQ(state().active, Mode::kIptables);
    EXPECT_THAT(state().reverted_reason, HasSubstr("default/" + service));
  }
};

TEST_F(EnterUserspaceTest, IsNotRevertedForSilentServersOrDeadEndpoints) {
  AddLiveService();
  AddServicesWithDeadEndpoints();
  AddSilentService();
  Apply(Mode::kIptables);
  Apply(Mode::kUserspace);
  EXPECT_EQ(state().active, Mode::kUserspace);
  EXPECT_EQ(state().reverted_reason, "");
}

TEST_F(EnterUserspaceTest, IsRevertedWhenTheForwarderReachesNoEndpoint) {
  AddLiveService();
  Apply(Mode::kIptables);
  CutTheForwarderOff();
  Apply(Mode::kUserspace);
  ExpectReverted("live");
}

// Open and silent as before is no answer before the forwarder would have reset it.
TEST_F(EnterUserspaceTest, IsRevertedWhenTheForwarderReachesNoSilentServer) {
  AddSilentService();
  Apply(Mode::kIptables);
  CutTheForwarderOff();
  Apply(Mode::kUserspace);
  ExpectReverted("silent");
}

TEST(HandoverTraffic, WaitsAsLongAsTheForwarderTries) {
  EXPECT_EQ(TraitsOf(Mode::kUserspace).endpoint_accepts_within, forwarder::TcpRelay::kGivesUpAfter);
  for (const ModeTraits& traits : AllModes()) {
    if (traits.mode != Mode::kUserspace) {
      EXPECT_EQ(traits.endpoint_accepts_within.count(), 0);
    }
  }
}

}  // namespace
}  // namespace pointsman::agent
