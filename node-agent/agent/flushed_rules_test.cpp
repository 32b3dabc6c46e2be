// Somebody takes our rules out of the kernel: they are missed within half a second and written
// again, however long the sync period is. With the kernel's own rules and a clock of the test's
// own.
#include <filesystem>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>

#include "node-agent/agent/kernel_environment.h"
#include "node-agent/dataplane/sync_problems.h"
#include "node-agent/handover/mode_controller.h"
#include "node-agent/testing/fresh_mounts.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/iptables_wish.h"
#include "node-agent/testing/model_maker.h"
#include "node-agent/testing/run_tool.h"
#include "node-agent/userspace/testing/forwarder_launcher.h"
#include "node-agent/userspace/testing/forwarder_program.h"

namespace pointsman::agent {
namespace {

using std::chrono_literals::operator""ms;
using kube::Mode;
using ::testing::HasSubstr;
using testing::RunTool;

constexpr char kLauncher[] = "/run/pointsman/launcher.sock";

class Environment final : public KernelEnvironment {
 public:
  Environment() : KernelEnvironment("", "", kLauncher, "text") {}
  std::chrono::steady_clock::time_point Now() override { return now; }
  std::chrono::steady_clock::time_point now = std::chrono::steady_clock::now();
};

using Flush = std::vector<std::string>;

class FlushedRulesTest
    : public ::testing::TestWithParam<std::tuple<Mode, std::string, net::Family>> {
 protected:
  static Mode mode() { return std::get<0>(GetParam()); }
  static const std::string& variant() { return std::get<1>(GetParam()); }
  static bool v4() { return std::get<2>(GetParam()) == net::Family::kIPv4; }

  void SetUp() override {
    if (!EnterFreshNetns()) GTEST_SKIP() << "needs root to make a network namespace";
    testing::WishVariant(variant());
    for (const net::Family family : {net::Family::kIPv4, std::get<2>(GetParam())}) {
      try {
        xtables::IptablesTool{family};
      } catch (const std::runtime_error& error) {
        GTEST_SKIP() << error.what();
      }
    }
    RunTool({"ip", "link", "set", "lo", "up"});
    if (mode() == Mode::kUserspace) {
      testing::EnterFreshMounts({"/run"});
      std::filesystem::create_directories("/run/pointsman");
      launcher_.emplace(testing::ForwarderProgram(), kLauncher);
    }
    environment_.emplace();
    if (!v4()) {
      ASSERT_EQ(environment_->ServeIpv6(), "");
    }
    if (const auto can = environment_->Preflight(mode(), settings_, true); !can.passed)
      GTEST_SKIP() << can.message;
    settings_.mode = mode();
    settings_.fallback_modes.clear();
    settings_.iptables.sync_period = settings_.ipvs.sync_period = settings_.nftables.sync_period =
        std::chrono::hours(24);
    maker_.Put(testing::MakeEntry("web", kube::Protocol::kTcp, "10.96.0.10", 80,
                                  {testing::MakeBackend("10.244.1.7", 8080)}));
    if (!v4()) {
      maker_.Put(testing::MakeEntry("web", kube::Protocol::kTcp, "fd00:96::10", 80,
                                    {testing::MakeBackend("fd00:244::7", 8080)}));
    }
    controller_.emplace(*environment_);
    controller_->Apply(settings_, maker_.model);
    ASSERT_EQ(controller_->state().active, mode());
    ASSERT_FALSE(controller_->state().failed) << Describe(controller_->state().problems);
  }
  void TearDown() override {
    // A forwarder that goes on nevertheless is a failure of the launcher's.
    if (controller_) {
      EXPECT_THAT(controller_->RemoveAll(), ::testing::IsEmpty());
    }
    testing::WishVariant("");
  }

  void Wait(std::chrono::milliseconds time) {
    environment_->now += time;
    controller_->Tick(maker_.model);
  }

  static std::string Tool() { return (v4() ? "iptables-" : "ip6tables-") + variant(); }
  static std::string Ip() { return v4() ? "ip" : "ip6"; }
  // Of what this mode has. Each takes something else.
  static std::vector<Flush> Flushes() {
    std::vector<Flush> flushes{{Tool(), "-w", "-t", "nat", "-F"},
                               {Tool(), "-w", "-t", "nat", "-F", "POSTROUTING"}};
    if (variant() == "nft" || mode() == Mode::kNftables) {
      flushes.push_back({"nft", "flush", "ruleset"});
    }
    switch (mode()) {
      case Mode::kIptables:
      case Mode::kUserspace:
        flushes.push_back({Tool(), "-w", "-t", "filter", "-F"});
        flushes.push_back({Tool(), "-w", "-t", "nat", "-D", "PREROUTING", "1"});
        break;
      case Mode::kIpvs:
        flushes.push_back({Tool(), "-w", "-t", "filter", "-F"});
        flushes.push_back({Tool(), "-w", "-t", "mangle", "-F"});
        flushes.push_back({"ip", "link", "delete", "kube-ipvs-pm"});
        flushes.push_back({"ipvsadm", "-C"});
        break;
      case Mode::kNftables:
        flushes.push_back({"nft", "delete", "table", Ip(), "pointsman"});
        flushes.push_back({"nft", "flush", "table", Ip(), "pointsman"});
        flushes.push_back({"nft", "flush", "chain", Ip(), "pointsman", "prerouting"});
        break;
    }
    return flushes;
  }

  kube::ProxySettings settings_;
  testing::ModelMaker maker_;
  std::optional<testing::ForwarderLauncher> launcher_;
  std::optional<Environment> environment_;
  std::optional<ModeController> controller_;
};

TEST_P(FlushedRulesTest, AreBackWithinASecond) {
  for (const Flush& flush : Flushes()) {
    SCOPED_TRACE(fmt::format("{}", fmt::join(flush, " ")));
    RunTool(flush);
    const uint64_t full_syncs = controller_->state().full_syncs;
    const uint64_t repaired = controller_->state().repaired;
    Wait(499ms);
    EXPECT_EQ(controller_->state().full_syncs, full_syncs);
    Wait(1ms);
    EXPECT_EQ(controller_->state().full_syncs, full_syncs + 1);
    EXPECT_GT(controller_->state().repaired, repaired);
    EXPECT_FALSE(controller_->state().failed) << Describe(controller_->state().problems);
    const VerifyResult kernel =
        environment_->MakeDataplane(mode(), settings_)->Verify(maker_.model);
    EXPECT_TRUE(kernel.ok()) << Describe(kernel.differences);
  }
}

// What was accepted without a rule of ours may need one now (xtables/jump_order.h, LastKeepers;
// xtables/forward_accept.h).
TEST_P(FlushedRulesTest, APolicyThatBecomesDropIsNoticedAsSoon) {
  const uint64_t full_syncs = controller_->state().full_syncs;
  RunTool({Tool(), "-w", "-t", "filter", "-P", "FORWARD", "DROP"});
  Wait(500ms);
  EXPECT_EQ(controller_->state().full_syncs, full_syncs + 1);
  Wait(500ms);
  EXPECT_EQ(controller_->state().full_syncs, full_syncs + 1) << "once";
  if (mode() != Mode::kNftables) return;
  EXPECT_THAT(RunTool({Tool() + "-save", "-t", "filter"}), HasSubstr("-j POINTSMAN-NFT-FORWARD"));
  RunTool({Tool(), "-w", "-t", "filter", "-F", "FORWARD"});
  Wait(500ms);
  EXPECT_THAT(RunTool({Tool() + "-save", "-t", "filter"}), HasSubstr("-j POINTSMAN-NFT-FORWARD"));
}

// What we write ourselves is none of it.
TEST_P(FlushedRulesTest, AreNotMissedWhenNobodyTookThem) {
  const uint64_t full_syncs = controller_->state().full_syncs;
  for (int number = 11; number < 15; ++number) {
    const ModelDelta delta = maker_.Put(testing::MakeEntry(
        "more", kube::Protocol::kTcp, fmt::format("10.96.0.{}", number), 80,
        number % 2 == 0 ? std::vector<Backend>{}
                        : std::vector<Backend>{testing::MakeBackend("10.244.1.8", 8080)}));
    controller_->Sync(maker_.model, delta);
    RunTool({Tool(), "-w", "-t", "nat", "-A", "PREROUTING", "-s",
             v4() ? "192.0.2.1" : "2001:db8::1", "-j", "RETURN"});
    Wait(500ms);
    EXPECT_EQ(controller_->state().full_syncs, full_syncs);
  }
  // The last endpoint goes, and with it the last virtual server of IPVS.
  std::vector<std::string> addresses{"10.96.0.10"};
  if (!v4()) addresses.emplace_back("fd00:96::10");
  for (const std::string& address : addresses) {
    const ModelDelta delta =
        maker_.Put(testing::MakeEntry("web", kube::Protocol::kTcp, address, 80, {}));
    controller_->Sync(maker_.model, delta);
  }
  Wait(500ms);
  EXPECT_EQ(controller_->state().full_syncs, full_syncs);
  EXPECT_THAT(controller_->steps().failing(), ::testing::IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Modes, FlushedRulesTest,
                         ::testing::Combine(::testing::Values(Mode::kIptables, Mode::kIpvs,
                                                              Mode::kNftables, Mode::kUserspace),
                                            ::testing::Values("legacy", "nft"),
                                            ::testing::Values(net::Family::kIPv4,
                                                              net::Family::kIPv6)),
                         [](const auto& parameters) {
                           return fmt::format("{}{}{}",
                                              kube::ToString(std::get<0>(parameters.param)),
                                              std::get<1>(parameters.param),
                                              net::ToString(std::get<2>(parameters.param)));
                         });

}  // namespace
}  // namespace pointsman::agent
