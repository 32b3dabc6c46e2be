// Handovers to and from ipvs mode beside Calico's Felix, which judges what IPVS sends on only after
// it has seen an interface kube-ipvs0 and started again: what a NetworkPolicy denies is denied at
// every moment, what it allows works, with the kernel's own rules and real connections.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>

#include "kube/testing/eventually.h"
#include "node-agent/agent/kernel_environment.h"
#include "node-agent/dataplane/sync_problems.h"
#include "node-agent/handover/mode_controller.h"
#include "node-agent/neighbours/ipvs_notice.h"
#include "node-agent/netlink/link.h"
#include "node-agent/sysctl/sysctl.h"
#include "node-agent/testing/model_maker.h"
#include "node-agent/testing/neighbours/felix.h"
#include "node-agent/testing/run_tool.h"
#include "node-agent/testing/test_network.h"

namespace pointsman::agent {
namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;
using kube::Mode;
using ::testing::AllOf;
using testing::CalicoInserts;
using testing::Felix;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::Reply;
using testing::RunTool;
using testing::Stream;
using testing::TestNetwork;
using testing::TryTool;

constexpr const char* kPodGateway = "10.244.0.1";
constexpr const char* kNodeIp = "192.168.50.1";
constexpr const char* kVip = "10.96.0.10";
constexpr const char* kPodA = "10.244.0.2";
constexpr const char* kPodB = "10.244.0.3";
constexpr uint16_t kNodePort = 30080;
constexpr const char* kMarker = IpvsNotice::kMarker;

// Of no interest to most tests here, and each handover is watched for 12 s.
class NothingIsCompared final : public TrafficCheck {
 public:
  size_t Before(Mode, Mode, const ServiceModel&) override { return 0; }
  std::vector<std::string> AfterSwitch() override { return {}; }
};

// The real one, on whose clock a test can put time.
class Environment final : public KernelEnvironment {
 public:
  Environment() : KernelEnvironment("", "", "", "text") {}
  std::chrono::steady_clock::time_point Now() override {
    return std::chrono::steady_clock::now() + skipped;
  }
  TrafficCheck& Traffic() override {
    if (judged) return KernelEnvironment::Traffic();
    return nothing_;
  }
  std::chrono::steady_clock::duration skipped{};
  bool judged = false;  // handovers, by what clients meet

 private:
  NothingIsCompared nothing_;
};

// Connections, one after the other and all the time, from each of these hosts.
class Attempts {
 public:
  struct Way {
    std::string host;  // "": the node
    std::string ip;
    uint16_t port;
  };
  // `timeout`: of each. A denied one gets no answer.
  Attempts(const std::vector<Way>& ways, std::chrono::milliseconds timeout) {
    threads_.reserve(ways.size());
    for (const Way& way : ways) {
      threads_.emplace_back([this, way, timeout] {
        while (!stop_) {
          Stream stream(TestNetwork::At(way.host), way.ip, way.port, {.timeout = timeout});
          const bool connected = stream.connected();
          const Reply answer = stream.Ask();
          const std::lock_guard lock(mutex_);
          ++(answer.ok() ? through_ : not_through_)[fmt::format("{} to {}", way.host, way.ip)];
          if (!answer.ok() && failures_.size() < kFailuresTold) {
            failures_.push_back(fmt::format(
                "{} to {} {}: {}, until {:%T}", way.host, way.ip,
                connected ? "was connected" : "was not connected",
                std::generic_category().message(answer.error),
                std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now())));
          }
        }
      });
    }
    ways_ = ways.size();
  }
  ~Attempts() { Stop(); }
  void Stop() {
    stop_ = true;
    for (std::thread& thread : threads_)
      thread.join();
    threads_.clear();
  }
  // Every way was tried that often since this call, and more that had begun before.
  bool More(int attempts) const {
    const auto before = Counts();
    return Eventually([&] {
      const auto now = Counts();
      if (now.size() < ways_) return false;
      return std::all_of(now.begin(), now.end(), [&](const auto& item) {
        const auto old = before.find(item.first);
        return item.second >= (old == before.end() ? 0 : old->second) + attempts;
      });
    });
  }
  std::map<std::string, int> through() const {
    const std::lock_guard lock(mutex_);
    return through_;
  }
  std::map<std::string, int> not_through() const {
    const std::lock_guard lock(mutex_);
    return not_through_;
  }
  // Of those not through, the first ones: what the client was told, and when.
  std::vector<std::string> failures() const {
    const std::lock_guard lock(mutex_);
    return failures_;
  }

 private:
  std::map<std::string, int> Counts() const {
    const std::lock_guard lock(mutex_);
    std::map<std::string, int> all = through_;
    for (const auto& [way, count] : not_through_)
      all[way] += count;
    return all;
  }
  mutable std::mutex mutex_;
  std::map<std::string, int> through_;
  std::map<std::string, int> not_through_;
  static constexpr size_t kFailuresTold = 10;
  std::vector<std::string> failures_;
  std::atomic<bool> stop_{false};
  size_t ways_ = 0;
  std::vector<std::thread> threads_;
};

// pod-b is what the Service leads to; of the pods and clients only pod-a may connect to it.
class PolicyHandoverTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    for (const char* module : {"ip_vs", "ip_vs_rr", "dummy", "veth", "nf_conntrack"})
      RunTool({"modprobe", module});
    // A kernel of so little memory has room for some thousand connections, which these are in
    // seconds: each that has ended is remembered for two minutes.
    ASSERT_TRUE(WriteSysctl("net.netfilter.nf_conntrack_max", "1000000").ok());
    network_ = std::make_unique<TestNetwork>();
    ASSERT_TRUE(
        WriteSysctl("net.ipv4.tcp_max_tw_buckets", std::to_string(TestNetwork::kTimeWaitBuckets))
            .ok());
    network_->AddHost("pod-a", kPodA, kPodGateway);
    network_->AddHost("pod-b", kPodB, kPodGateway);
    network_->AddHost("pod-c", "10.244.0.4", kPodGateway);
    network_->AddHost("client", "192.168.50.2", kNodeIp);
    network_->Serve("pod-b", kPodB, 8080);
    // As a node has it: in iptables mode nobody else sets it.
    ASSERT_TRUE(WriteSysctl("net.ipv4.ip_forward", "1").ok());
    // What is not bound needs a route for the node's own connections, wherever it leads.
    RunTool({"ip", "route", "add", "10.96.0.0/16", "via", "192.168.50.2"});
  }
  static void TearDownTestSuite() { network_.reset(); }

  void SetUp() override {
    ServicePortEntry web = testing::MakeEntry("web", kube::Protocol::kTcp, kVip, 80,
                                              {testing::MakeBackend(kPodB, 8080)});
    web.node_port = kNodePort;
    maker_.Put(web);
    maker_.model.node.node_name = "node";
    maker_.model.node.node_port_addresses = {testing::Ip(kNodeIp)};
    StartAgent();
  }
  void TearDown() override {
    denied_.reset();
    allowed_.reset();
    felix_.reset();
    EXPECT_THAT(controller_->RemoveAll(), IsEmpty());
    TryTool({"ip", "link", "del", kMarker});
    Felix::RemoveRules();
    TryTool({"conntrack", "-F"});
  }

  // Another process of the agent takes over; the one before is killed.
  void StartAgent() {
    controller_.reset();
    environment_ = std::make_unique<Environment>();
    controller_ = std::make_unique<ModeController>(*environment_);
  }
  void StartFelix(CalicoInserts inserts = CalicoInserts::kFirst) {
    felix_ = std::make_unique<Felix>(
        Felix::Settings{.policies = {{.pod = kPodB,
                                      .link = "vpod-b",
                                      .ingress_from = std::vector<std::string>{kPodA}}},
                        .link_prefix = "vpod-",
                        .node = {kNodeIp},
                        .inserts = inserts});
  }
  void StartAttempts() {
    denied_ = std::make_unique<Attempts>(
        std::vector<Attempts::Way>{
            {"client", kNodeIp, kNodePort}, {"client", kVip, 80}, {"pod-c", kVip, 80}},
        50ms);
    // Every engine lets the node itself through.
    allowed_ = std::make_unique<Attempts>(
        std::vector<Attempts::Way>{{"pod-a", kVip, 80}, {"", kVip, 80}}, 5000ms);
    TriedOften();
  }
  void TriedOften() const {
    EXPECT_TRUE(denied_->More(10));
    EXPECT_TRUE(allowed_->More(10));
  }
  void ExpectPolicyHeld() {
    denied_->Stop();
    allowed_->Stop();
    EXPECT_THAT(denied_->through(), IsEmpty());
    EXPECT_THAT(allowed_->not_through(), IsEmpty())
        << ::testing::PrintToString(allowed_->failures());
  }

  kube::ProxySettings Settings(Mode mode) const {
    kube::ProxySettings settings;
    settings.mode = mode;
    settings.cluster_cidrs = {net::IpPrefix::Parse("10.244.0.0/16").value()};
    settings.neighbours.accept = accept_;
    return settings;
  }
  void Apply(Mode mode) { controller_->Apply(Settings(mode), maker_.model); }
  // As the sync thread does.
  bool TickUntil(const std::function<bool()>& holds) {
    return Eventually([&] {
      if (environment_->Now() >= controller_->NextDeadline()) controller_->Tick(maker_.model);
      return holds();
    });
  }
  bool TickUntilActive(Mode mode) {
    return TickUntil([&] { return state().active == mode && !state().draining; });
  }
  bool TickUntilMarkerIsGone() {
    return TickUntil([&] { return !Marker(); });
  }
  const ModeState& state() const { return controller_->state(); }

  static std::optional<netlink::Link> Marker() {
    netlink::Socket socket(NETLINK_ROUTE);
    return netlink::FindLink(socket, kMarker);
  }
  static bool IsOurs(const std::optional<netlink::Link>& marker) {
    return marker && marker->alias == "pointsman" && marker->kind == "dummy";
  }
  // Felix' rules in the kernel are those for IPVS.
  static bool RulesKnowIpvs() {
    const auto places = FelixChains("").Read();
    return !places.empty() && std::all_of(places.begin(), places.end(),
                                          [](const auto& place) { return place.knows_ipvs; });
  }
  static std::string NothingOfIpvs() {
    std::string found = RunTool({"ipvsadm", "-Sn"});
    if (RunTool({"iptables-legacy-save"}).find("POINTSMAN-IPVS") != std::string::npos)
      found += "rules";
    return found;
  }

  std::vector<std::string> accept_;
  static inline std::unique_ptr<TestNetwork> network_;
  testing::ModelMaker maker_;
  std::unique_ptr<Environment> environment_;
  std::unique_ptr<ModeController> controller_;
  std::unique_ptr<Felix> felix_;
  std::unique_ptr<Attempts> denied_;
  std::unique_ptr<Attempts> allowed_;
};

// As behind a NAT of few ports, or of a client that has no room to remember what it closed:
// conntrack and IPVS remember the connection before, of whatever mode.
TEST_F(PolicyHandoverTest, AClientPortThatIsUsedAgainConnectsWhateverModeItWasUsedIn) {
  for (const char* host : {"pod-a", "client"})
    network_->SetTimeWaitBuckets(host, 0);
  std::vector<std::string> failed;
  const auto connect = [&](std::string_view when, const char* host, const char* ip, uint16_t port) {
    for (uint16_t source = 20000; source < 20010; ++source) {
      Stream stream(TestNetwork::At(host), ip, port, {.timeout = 5000ms, .source_port = source});
      if (const Reply answer = stream.Ask(); !answer.ok())
        failed.push_back(fmt::format("{}: {} to {} from port {}: {}", when, host, ip, source,
                                     std::generic_category().message(answer.error)));
    }
  };
  const auto connect_all = [&](std::string_view when) {
    connect(when, "pod-a", kVip, 80);
    connect(when, "client", kVip, 80);
    connect(when, "client", kNodeIp, kNodePort);
  };
  for (const Mode mode : {Mode::kIptables, Mode::kIpvs, Mode::kIptables, Mode::kIpvs}) {
    Apply(mode);
    connect_all(fmt::format("{} has just begun", kube::ToString(mode)));
    environment_->skipped += Settings(mode).drain_timeout;
    ASSERT_TRUE(TickUntilActive(mode));
    connect_all(kube::ToString(mode));
    connect_all(kube::ToString(mode));
  }
  EXPECT_THAT(failed, IsEmpty());
  for (const char* host : {"pod-a", "client"})
    network_->SetTimeWaitBuckets(host, TestNetwork::kTimeWaitBuckets);
}

class PolicyRoundTripTest : public PolicyHandoverTest,
                            public ::testing::WithParamInterface<CalicoInserts> {};

TEST_P(PolicyRoundTripTest, NothingThatIsDeniedGetsThroughAndNothingThatIsAllowedFails) {
  environment_->judged = true;
  StartFelix(GetParam());
  Apply(Mode::kIptables);
  ASSERT_TRUE(TickUntilActive(Mode::kIptables));
  if (GetParam() == CalicoInserts::kLast) {
    // Whose place is last is learnt once, in which it is not held (docs/neighbours.md).
    felix_.reset();
    StartFelix(GetParam());
    controller_->ResyncNow();
    controller_->Tick(maker_.model);
  }
  EXPECT_FALSE(Marker());
  StartAttempts();

  Apply(Mode::kIpvs);
  EXPECT_TRUE(IsOurs(Marker())) << "made before anything moves";
  EXPECT_THAT(state().waits_for, HasSubstr("cali-forward-check"));
  bool moved_too_soon = false;
  ASSERT_TRUE(TickUntil([&] {
    const bool moved = state().active == Mode::kIpvs;
    if (!RulesKnowIpvs() && (moved || !NothingOfIpvs().empty())) moved_too_soon = true;
    return moved;
  })) << state().reverted_reason;
  EXPECT_FALSE(moved_too_soon);
  EXPECT_EQ(state().waits_for, "");
  ASSERT_TRUE(TickUntilActive(Mode::kIpvs));
  TriedOften();

  Apply(Mode::kIptables);
  // To IPVS what is denied counts as a connection for a minute.
  ASSERT_TRUE(TickUntil([&] { return state().draining == Mode::kIpvs; }));
  TriedOften();
  EXPECT_TRUE(IsOurs(Marker())) << "as long as ipvs mode has connections";
  environment_->skipped += Settings(Mode::kIptables).drain_timeout;
  ASSERT_TRUE(TickUntilActive(Mode::kIptables));
  ASSERT_TRUE(TickUntilMarkerIsGone());
  EXPECT_EQ(NothingOfIpvs(), "");
  ASSERT_TRUE(TickUntil([&] { return !RulesKnowIpvs(); }));
  TriedOften();
  ExpectPolicyHeld();
}

INSTANTIATE_TEST_SUITE_P(ChainInsertMode, PolicyRoundTripTest,
                         ::testing::Values(CalicoInserts::kFirst, CalicoInserts::kLast),
                         [](const auto& param) {
                           return param.param == CalicoInserts::kFirst ? "Insert" : "Append";
                         });

TEST_F(PolicyHandoverTest, AFelixThatNeverComesLeavesTheNodeInItsMode) {
  StartFelix();
  Apply(Mode::kIptables);
  StartAttempts();
  felix_->Hang(true);
  Apply(Mode::kIpvs);
  EXPECT_TRUE(IsOurs(Marker()));
  TriedOften();
  environment_->skipped += Announcements::kLongestWait;
  ASSERT_TRUE(TickUntil([&] { return !state().reverted_reason.empty(); }));
  EXPECT_THAT(
      state().reverted_reason,
      AllOf(HasSubstr("Calico's Felix"), HasSubstr("cali-forward-check"),
            HasSubstr("table filter of iptables-legacy, IPv4"), HasSubstr("log of calico-node")));
  EXPECT_EQ(state().active, Mode::kIptables);
  EXPECT_EQ(NothingOfIpvs(), "");
  ASSERT_TRUE(TickUntilMarkerIsGone());

  // It is well again, and so is the next try.
  felix_->Hang(false);
  environment_->skipped += ModeController::kRevertedRetry;
  ASSERT_TRUE(TickUntilActive(Mode::kIpvs));
  EXPECT_EQ(state().reverted_reason, "");
  EXPECT_TRUE(RulesKnowIpvs());
  TriedOften();
  ExpectPolicyHeld();
}

// Chains that an uninstalled Felix left behind never change.
TEST_F(PolicyHandoverTest, WhereFelixIsAcceptedTheHandoverGoesOnWithoutIt) {
  StartFelix();
  felix_->Hang(true);
  accept_ = {"calico"};
  Apply(Mode::kIptables);
  Apply(Mode::kIpvs);
  EXPECT_NE(state().waits_for, "");
  environment_->skipped += Announcements::kLongestWait;
  ASSERT_TRUE(TickUntilActive(Mode::kIpvs));
  EXPECT_EQ(state().not_ready, "");
}

TEST_F(PolicyHandoverTest, AnInterfaceOfSomebodyElsesIsLeftAlone) {
  RunTool({"ip", "link", "add", kMarker, "type", "dummy"});
  const int index = Marker()->index;
  StartFelix();
  Apply(Mode::kIptables);
  ASSERT_TRUE(RulesKnowIpvs());
  Apply(Mode::kIpvs);
  EXPECT_EQ(state().waits_for, "");
  ASSERT_TRUE(TickUntilActive(Mode::kIpvs));
  Apply(Mode::kIptables);
  ASSERT_TRUE(TickUntilActive(Mode::kIptables));
  EXPECT_THAT(controller_->RemoveAll(), IsEmpty());
  ASSERT_TRUE(Marker());
  EXPECT_EQ(Marker()->index, index);
  EXPECT_EQ(Marker()->alias, "");
}

// kube-proxy in ipvs mode takes the interface that it finds, and binds its addresses to it.
TEST_F(PolicyHandoverTest, AnInterfaceThatKubeProxyTookOverIsLeftToIt) {
  StartFelix();
  Apply(Mode::kIptables);
  Apply(Mode::kIpvs);
  ASSERT_TRUE(TickUntilActive(Mode::kIpvs));
  RunTool({"ip", "address", "add", "10.96.0.99/32", "dev", kMarker});
  Apply(Mode::kIptables);
  ASSERT_TRUE(TickUntil([&] { return !IsOurs(Marker()); }));
  ASSERT_TRUE(Marker());
  EXPECT_THAT(RunTool({"ip", "address", "show", "dev", kMarker}), HasSubstr("10.96.0.99"));
}

// kube-proxy --cleanup deletes it, whoever made it.
TEST_F(PolicyHandoverTest, AnInterfaceThatSomebodyDeletesIsMadeAgain) {
  RunTool({"ip", "link", "add", kMarker, "type", "dummy"});
  StartFelix();
  Apply(Mode::kIpvs);
  ASSERT_TRUE(TickUntilActive(Mode::kIpvs));
  StartAttempts();
  const int writes = felix_->writes();
  RunTool({"ip", "link", "del", kMarker});
  ASSERT_TRUE(TickUntil([&] { return IsOurs(Marker()); }));
  TriedOften();
  EXPECT_TRUE(RulesKnowIpvs());
  EXPECT_LE(felix_->writes(), writes + 2);
  EXPECT_EQ(state().not_ready, "");
  ExpectPolicyHeld();
}

TEST_F(PolicyHandoverTest, AFelixThatComesLaterIsTold) {
  Apply(Mode::kIpvs);
  ASSERT_TRUE(TickUntilActive(Mode::kIpvs));
  EXPECT_FALSE(Marker()) << "a node without Calico has none";
  StartFelix();
  ASSERT_TRUE(TickUntil([&] { return IsOurs(Marker()); }));
  EXPECT_THAT(state().not_ready, HasSubstr("cali-forward-check"));
  ASSERT_TRUE(TickUntil([&] { return state().not_ready.empty(); }));
  StartAttempts();
  ExpectPolicyHeld();
}

// The first start of an agent, in ipvs mode: iptables mode serves until Felix is ready.
TEST_F(PolicyHandoverTest, AtTheFirstStartAnotherModeServesUntilFelixIsReady) {
  StartFelix();
  Apply(Mode::kIpvs);
  EXPECT_EQ(state().active, Mode::kIptables);
  EXPECT_THAT(state().waits_for, HasSubstr("cali-forward-check"));
  StartAttempts();
  ASSERT_TRUE(TickUntilActive(Mode::kIpvs));
  TriedOften();
  ExpectPolicyHeld();
}

// It has not noticed yet that the interface went, and what it has says nothing.
TEST_F(PolicyHandoverTest, ChainsThatFelixHasYetToTakeAwayAreNotTakenForAnAnswer) {
  StartFelix();
  Apply(Mode::kIptables);
  Apply(Mode::kIpvs);
  ASSERT_TRUE(TickUntilActive(Mode::kIpvs));
  felix_->Hang(true);
  Apply(Mode::kIptables);
  ASSERT_TRUE(TickUntilActive(Mode::kIptables));
  ASSERT_TRUE(TickUntilMarkerIsGone());
  StartAttempts();
  Apply(Mode::kIpvs);
  EXPECT_EQ(state().active, Mode::kIptables);
  EXPECT_THAT(state().waits_for, HasSubstr("still has chain cali-forward-check"));
  EXPECT_FALSE(Marker());
  felix_->Hang(false);
  ASSERT_TRUE(TickUntilActive(Mode::kIpvs));
  TriedOften();
  ExpectPolicyHeld();
}

TEST_F(PolicyHandoverTest, AnAgentThatIsKilledAtAnyStepComesThere) {
  StartFelix();
  Apply(Mode::kIptables);
  ASSERT_TRUE(TickUntilActive(Mode::kIptables));
  StartAttempts();
  Apply(Mode::kIpvs);
  EXPECT_NE(state().waits_for, "");

  StartAgent();  // in the middle of the wait
  Apply(Mode::kIpvs);
  ASSERT_TRUE(TickUntilActive(Mode::kIpvs)) << state().reverted_reason;
  const int index = Marker()->index;

  StartAgent();  // while ipvs mode serves
  Apply(Mode::kIpvs);
  EXPECT_EQ(state().active, Mode::kIpvs);
  EXPECT_EQ(state().waits_for, "");
  TriedOften();
  ASSERT_TRUE(IsOurs(Marker()));
  EXPECT_EQ(Marker()->index, index) << "the same one";

  // While ipvs mode drains: a connection holds it up.
  Stream open(TestNetwork::At("pod-a"), kVip, 80);
  ASSERT_TRUE(open.Ask().ok());
  Apply(Mode::kIptables);
  ASSERT_TRUE(TickUntil([&] { return state().draining == Mode::kIpvs; }));
  StartAgent();
  Apply(Mode::kIptables);
  ASSERT_TRUE(TickUntil([&] { return state().draining == Mode::kIpvs; }));
  EXPECT_TRUE(open.Ask().ok());
  EXPECT_TRUE(IsOurs(Marker()));
  environment_->skipped += Settings(Mode::kIptables).drain_timeout;
  ASSERT_TRUE(TickUntilMarkerIsGone());
  EXPECT_EQ(state().active, Mode::kIptables);
  EXPECT_EQ(NothingOfIpvs(), "");

  // In the middle of the next wait, and then another mode is asked for.
  ASSERT_TRUE(TickUntil([&] { return !RulesKnowIpvs(); }));
  Apply(Mode::kIpvs);
  ASSERT_TRUE(IsOurs(Marker()));
  StartAgent();
  Apply(Mode::kIptables);
  ASSERT_TRUE(TickUntilMarkerIsGone());
  TriedOften();
  ExpectPolicyHeld();
}

TEST_F(PolicyHandoverTest, RemovalTakesItAwayInTheMiddleOfAWaitToo) {
  StartFelix();
  Apply(Mode::kIptables);
  Apply(Mode::kIpvs);
  ASSERT_TRUE(IsOurs(Marker()));
  StartAgent();  // as --cleanup does it
  EXPECT_THAT(controller_->RemoveAll(), IsEmpty());
  EXPECT_FALSE(Marker());
}

}  // namespace
}  // namespace pointsman::agent
