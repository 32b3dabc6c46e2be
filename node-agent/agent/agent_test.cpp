// The agent as a whole, in this process, on this machine's kernel.
#include "node-agent/agent/agent.h"

#include <atomic>
#include <climits>
#include <fstream>
#include <sys/stat.h>
#include <sys/utsname.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include "node-agent/agent/testing/agent_fixture.h"
#include "node-agent/testing/neighbours/proxies.h"

namespace pointsman::agent {
namespace {

using kube::Json;
using kube::Mode;
using std::chrono_literals::operator""ms;
using testing::AgentTest;
using ::testing::AllOf;
using testing::Await;
using testing::Connect;
using testing::Connects;
using ::testing::HasSubstr;
using testing::HttpGet;
using testing::IsOk;
using testing::kNode;
using ::testing::Not;

// Services and endpoints change, metrics and health are read, watches end, the server goes and
// comes, the agent is ended and started: all while it moves from mode to mode and back.
TEST_F(AgentTest, MovesFromModeToModeWhileEverythingElseHappens) {
  Ask(Settings(Mode::kNftables));
  StartAgent();
  ASSERT_TRUE(Await([&] { return Runs(Mode::kNftables); })) << Status().dump(1);
  EXPECT_TRUE(Connects("10.96.0.10", 80));

  std::atomic<size_t> scrapes = 0;
  std::jthread changer([&](const std::stop_token& stop) {
    for (int i = 0; !stop.stop_requested(); ++i) {
      const std::string name = "busy-" + std::to_string(i % 20);
      PutService(name, 20 + i % 20);
      if (i % 3 == 0) PutSlice(name, "IPv4", {});
      if (i % 5 == 0) api_->Remove("services", "default", name);
      if (i % 50 == 0) PutNode({"10.244." + std::to_string(i % 200) + ".0/24"});
      std::this_thread::sleep_for(5ms);
    }
  });
  std::vector<std::jthread> readers;
  readers.reserve(2);
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        if (IsOk(HttpGet(10352, "/metrics"))) ++scrapes;
        HttpGet(10352, "/readyz");
        HttpGet(10353, "/livez");
        HttpGet(10256, "/healthz");
        std::this_thread::sleep_for(10ms);
      }
    });
  }
  for (const Mode mode :
       {Mode::kIptables, Mode::kUserspace, Mode::kNftables, Mode::kUserspace, Mode::kIptables}) {
    Ask(Settings(mode));
    api_->CutWatches();
    EXPECT_TRUE(Await([&] { return Runs(mode); })) << kube::ToString(mode) << Status().dump(1);
    EXPECT_TRUE(Connects("10.96.0.10", 80)) << kube::ToString(mode);
  }
  EXPECT_TRUE(Is("Ready", "True", "Serving")) << Status().dump(1);

  api_->GoAway();
  EXPECT_TRUE(Connects("10.96.0.10", 80)) << "what is in the kernel serves";
  EXPECT_TRUE(IsOk(HttpGet(10353, "/livez")));
  api_->ComeBack();
  PutService("later", 11);
  EXPECT_TRUE(Await([&] { return Connects("10.96.0.11", 80); }));

  StopAgent();
  EXPECT_TRUE(Connects("10.96.0.10", 80)) << "and so it does without an agent";
  Ask(Settings(Mode::kNftables));
  StartAgent();
  EXPECT_TRUE(Await([&] { return Runs(Mode::kNftables); })) << Status().dump(1);
  EXPECT_GT(scrapes, 0U);

  changer = {};
  readers.clear();
  Ask(Settings(Mode::kNftables), /*removed=*/true);
  EXPECT_TRUE(Await([&] {
    return Is("Ready", "False", "Removed") && Status().value("activeMode", "-").empty();
  })) << Status().dump(1);
  EXPECT_THAT(testing::RunTool({"nft", "list", "ruleset"}), Not(HasSubstr("pointsman")));
}

// 429 for one list, for as long as it likes: the agent waits, and nobody restarts it for that.
TEST_F(AgentTest, WaitsForListsThatTheServerRefuses) {
  api_->AnswerLists("endpointslices", 429);
  Ask(Settings(Mode::kNftables));
  StartAgent();
  EXPECT_TRUE(Await([&] { return api_->lists("endpointslices") >= 3; }));
  EXPECT_THAT(Condition("RulesSynced").value("message", ""),
              HasSubstr("waiting for the API server"));
  EXPECT_TRUE(IsOk(HttpGet(10352, "/readyz")));
  EXPECT_TRUE(IsOk(HttpGet(10353, "/livez")));
  EXPECT_FALSE(Connects("10.96.0.10", 80));
  api_->AnswerLists("endpointslices", 0);
  EXPECT_TRUE(Await([&] { return Runs(Mode::kNftables); })) << Status().dump(1);
  EXPECT_TRUE(Connects("10.96.0.10", 80));
}

TEST_F(AgentTest, TheServerMayComeLaterThanTheAgent) {
  Ask(Settings(Mode::kNftables));
  api_->GoAway();
  StartAgent();
  EXPECT_TRUE(Await([&] { return IsOk(HttpGet(10353, "/livez")); }));
  api_->ComeBack();
  EXPECT_TRUE(Await([&] { return Runs(Mode::kNftables); })) << Status().dump(1);
}

// kubernetes#111321, #118458.
TEST_F(AgentTest, NodeCidrFollowsTheNode) {
  PutNode({});
  kube::ProxySettings settings = Settings(Mode::kNftables);
  settings.cluster_cidrs.clear();
  settings.detect_local_mode = kube::DetectLocalMode::kNodeCidr;
  Ask(settings);
  StartAgent();
  ASSERT_TRUE(Await([&] { return Runs(Mode::kNftables); })) << "Services are served meanwhile";
  EXPECT_TRUE(Is("Degraded", "True", "NodeIncomplete")) << Status().dump(1);
  EXPECT_THAT(Condition("Degraded").value("message", ""), HasSubstr("spec.podCIDRs"));
  EXPECT_TRUE(Connects("10.96.0.10", 80));

  const auto rules_have = [](const std::string& cidr) {
    return testing::RunTool({"nft", "list", "table", "ip", "pointsman"}).find(cidr) !=
           std::string::npos;
  };
  PutNode({"10.244.3.0/24"});
  EXPECT_TRUE(Await([&] { return rules_have("10.244.3.0/24"); }));
  EXPECT_TRUE(Await([&] { return Is("Degraded", "False", "DesiredModeActive"); }))
      << Status().dump(1);
  PutNode({"10.244.4.0/24"});
  EXPECT_TRUE(Await([&] { return rules_have("10.244.4.0/24"); }));
  EXPECT_TRUE(Await([&] { return !rules_have("10.244.3.0/24"); }));
  // A Node that is made anew, before it has its CIDR again.
  api_->Remove("nodes", "", kNode);
  PutNode({});
  PutService("later", 11);
  EXPECT_TRUE(Await([&] { return Connects("10.96.0.11", 80); }));
  EXPECT_TRUE(rules_have("10.244.4.0/24"));
}

TEST_F(AgentTest, MasqueradeAllReachesTheRulesAndLeavesThem) {
  kube::ProxySettings settings = Settings(Mode::kNftables);
  Ask(settings);
  StartAgent();
  ASSERT_TRUE(Await([&] { return Runs(Mode::kNftables); })) << Status().dump(1);
  // Where a cluster IP's connections are masqueraded by their source (nft::ClassChainName).
  const auto by_source = [] {
    return testing::RunTool({"nft", "list", "table", "ip", "pointsman"}).find("chain class-int-") !=
           std::string::npos;
  };
  EXPECT_TRUE(by_source());
  settings.nftables.masquerade_all = true;
  Ask(settings);
  EXPECT_TRUE(Await([&] { return Runs(Mode::kNftables) && !by_source(); }));
  settings.nftables.masquerade_all = false;
  Ask(settings);
  EXPECT_TRUE(Await([&] { return Runs(Mode::kNftables) && by_source(); }));
}

// What this program cannot read is told where people look for it, and the rest goes on.
TEST_F(AgentTest, WhatCannotBeReadIsNotServedAsSpecified) {
  Ask(Settings(Mode::kNftables));
  StartAgent();
  ASSERT_TRUE(Await([&] { return Runs(Mode::kNftables); })) << Status().dump(1);
  ASSERT_TRUE(Await([&] { return Is("ServicesAccepted", "True", "AllAccepted"); }))
      << Status().dump(1);
  const auto told = [&](const std::string& text) {
    return Condition("ServicesAccepted").value("message", "").find(text) != std::string::npos;
  };
  // One that was served, and one that never was.
  Json web = api_->Get("services", "default", "web");
  web["kind"] = "Other";
  api_->Put("services", web);
  web["metadata"]["name"] = "strange";
  api_->Put("services", web);
  Json slice = api_->Get("endpointslices", "default", "kubernetes-IPv4");
  slice["kind"] = "Other";
  api_->Put("endpointslices", slice);
  PutService("later", 11);
  EXPECT_TRUE(Await([&] {
    return told("default/web: it cannot be read and is served as it was before") &&
           told("default/strange: it cannot be read and is not served") &&
           told("EndpointSlice default/kubernetes-IPv4: it cannot be read");
  })) << Status().dump(1);
  EXPECT_TRUE(Is("ServicesAccepted", "False", "NotServedAsSpecified")) << Status().dump(1);
  EXPECT_TRUE(Is("Ready", "True", "Serving")) << Status().dump(1);
  EXPECT_TRUE(Await([&] { return Connects("10.96.0.11", 80); }));
  EXPECT_TRUE(Connects("10.96.0.10", 80));

  PutService("web", 10);
  PutService("kubernetes", 1);
  api_->Remove("services", "default", "strange");
  EXPECT_TRUE(Await([&] { return Is("ServicesAccepted", "True", "AllAccepted"); }))
      << Status().dump(1);
}

class ChangeImpactTest : public AgentTest {
 protected:
  Json Impact() const { return Status().value("impact", Json::object()); }
  // Makes changes until it is told what they take.
  bool MeasuresSyncs() {
    return Await([&] {
      PutService("busy", 20 + ++changes_ % 100);
      return Impact().value("revision", 0) == spec_.revision &&
             Impact().contains("syncMillisecondsAfter") &&
             !Impact()["syncMillisecondsAfter"].is_null();
    });
  }
  int changes_ = 0;
};

// userspace mode's connections end with it, and one Service was not served before either.
TEST_F(ChangeImpactTest, WhatAChangeDidIsMeasured) {
  Ask(Settings(Mode::kUserspace));
  StartAgent();
  ASSERT_TRUE(Await([&] { return Runs(Mode::kUserspace); })) << Status().dump(1);
  EXPECT_EQ(Impact().value("revision", 0), spec_.revision);
  EXPECT_FALSE(Impact().contains("refusedServicesBefore")) << "nothing was served";
  ASSERT_TRUE(MeasuresSyncs()) << Status().dump(1);
  Json strange = api_->Get("services", "default", "web");
  strange["kind"] = "Other";
  strange["metadata"]["name"] = "strange";
  api_->Put("services", strange);
  ASSERT_TRUE(Await([&] { return Is("ServicesAccepted", "False", "NotServedAsSpecified"); }));
  // A connection that stays open.
  const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_port = htons(9001);
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<const sockaddr*>(&any), sizeof(any)), 0);
  ASSERT_EQ(listen(listener.get(), 4096), 0);
  PutService("held", 12);
  Json slice = api_->Get("endpointslices", "default", "held-IPv4");
  slice["ports"][0]["port"] = 9001;
  api_->Put("endpointslices", slice);
  UniqueFd held;
  UniqueFd taken;
  ASSERT_TRUE(Await([&] {
    held = Connect("10.96.0.12", 80);
    pollfd arrived{.fd = listener.get(), .events = POLLIN, .revents = 0};
    if (held.get() >= 0 && poll(&arrived, 1, 1000) == 1)
      taken.Reset(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    return taken.get() >= 0;
  }));

  Ask(Settings(Mode::kIptables));
  ASSERT_TRUE(Await([&] { return Runs(Mode::kIptables); })) << Status().dump(1);
  ASSERT_TRUE(Await([&] { return Status().value("drainingMode", "-").empty(); }));
  EXPECT_TRUE(Await([&] { return Impact().value("cutConnections", 0) == 1; })) << Status().dump(1);
  ASSERT_TRUE(MeasuresSyncs()) << Status().dump(1);
  const Json impact = Impact();
  for (const char* figure : {"syncMillisecondsBefore", "syncMillisecondsAfter"})
    EXPECT_GE(impact.value(figure, 0), 1) << figure;
  EXPECT_EQ(impact.value("refusedServicesBefore", -1), 1);
  EXPECT_EQ(impact.value("refusedServicesAfter", -1), 1);

  // The next agent goes on with it.
  StopAgent();
  StartAgent();
  ASSERT_TRUE(Await([&] { return Is("Ready", "True", "Serving"); })) << Status().dump(1);
  EXPECT_EQ(Impact().value("cutConnections", 0), 1);
  EXPECT_EQ(Impact().value("refusedServicesBefore", -1), 1);
}

// An index of modules (libkmod/libkmod-index.c) in which one alias stands for a module whose name
// is longer than any path: libkmod refuses to look it up.
std::string IndexThatCannotBeUsed(const std::string& alias) {
  const auto number = [](uint32_t value) {
    std::string bytes;
    for (int shift = 24; shift >= 0; shift -= 8)
      bytes += static_cast<char>(value >> static_cast<unsigned>(shift));
    return bytes;
  };
  constexpr uint32_t kMagic = 0xB007F457;
  constexpr uint32_t kVersion = 0x00020001;
  constexpr uint32_t kRootWithPrefixAndValues = 0xC0000000 + 3 * sizeof(uint32_t);
  return number(kMagic) + number(kVersion) + number(kRootWithPrefixAndValues) + alias + '\0' +
         number(/*values*/ 1) + number(/*priority*/ 0) + std::string(size_t{2} * PATH_MAX, 'x') +
         '\0';
}

// The operator asks about another mode, and what there is of modules is damaged: one index is cut
// off, another is of no use.
TEST_F(AgentTest, AQuestionAboutAModeIsAnsweredWithDamagedModules) {
  utsname names{};
  uname(&names);
  const std::filesystem::path root = "/run/damaged";
  const std::filesystem::path directory = root / "lib/modules" / names.release;
  std::filesystem::create_directories(directory);
  const std::string index = IndexThatCannotBeUsed("ip_vs");
  std::ofstream(directory / "modules.dep.bin") << index.substr(0, 2 * sizeof(uint32_t));
  std::ofstream(directory / "modules.alias.bin") << index;
  Ask(Settings(Mode::kNftables));
  StartAgent(root);
  ASSERT_TRUE(Await([&] { return Runs(Mode::kNftables); })) << Status().dump(1);
  spec_.candidate =
      kube::NodeProxyCandidate{.revision = 7, .mode = Mode::kIpvs, .ipvs_scheduler = "rr"};
  PutSpec();
  ASSERT_TRUE(Await([&] { return Status().contains("candidate"); })) << Status().dump(1);
  EXPECT_EQ(Status()["candidate"]["passed"], false);
  EXPECT_EQ(Status()["candidate"].value("mode", ""), "");
  EXPECT_THAT(Status()["candidate"].value("message", ""), HasSubstr("could not be made"));
  EXPECT_TRUE(Await([&] { return Is("Degraded", "True", "Retrying"); })) << Status().dump(1);
  EXPECT_THAT(Status().dump(), HasSubstr("look up module ip_vs: File name too long"));
  EXPECT_TRUE(Is("Ready", "True", "Serving")) << Status().dump(1);
  PutService("later", 11);
  EXPECT_TRUE(Await([&] { return Connects("10.96.0.11", 80); }));

  // The question is withdrawn: there is nothing to try again.
  spec_.candidate.reset();
  PutSpec();
  EXPECT_TRUE(Await([&] { return Is("Degraded", "False", "DesiredModeActive"); }))
      << Status().dump(1);
}

// An index of modules in which libkmod stays: here one that is a pipe, which nobody writes.
TEST_F(AgentTest, AnIndexOfModulesThatIsReadForEverStopsNothing) {
  utsname names{};
  uname(&names);
  const std::filesystem::path root = "/run/endless";
  const std::filesystem::path directory = root / "lib/modules" / names.release;
  std::filesystem::create_directories(directory);
  Ask(Settings(Mode::kNftables));
  StartAgent(root);
  ASSERT_TRUE(Await([&] { return Runs(Mode::kNftables); })) << Status().dump(1);
  ASSERT_EQ(mkfifo((directory / "modules.dep.bin").c_str(), 0600), 0);
  spec_.candidate =
      kube::NodeProxyCandidate{.revision = 7, .mode = Mode::kIpvs, .ipvs_scheduler = "rr"};
  PutSpec();
  ASSERT_TRUE(Await([&] { return Status().contains("candidate"); })) << Status().dump(1);
  EXPECT_EQ(Status()["candidate"]["passed"], false);
  EXPECT_TRUE(Await([&] { return Is("Degraded", "True", "Retrying"); })) << Status().dump(1);
  EXPECT_THAT(Status().dump(),
              AllOf(HasSubstr("look up module"), HasSubstr("pointsman-kmod was killed"),
                    HasSubstr((directory / "modules.dep.bin").string())));
  PutService("later", 11);
  EXPECT_TRUE(Await([&] { return Connects("10.96.0.11", 80); }));
}

// From the chain in the kernel to the NodeProxy's status, and back by the field of its spec.
TEST_F(AgentTest, BesideANeighbourAModeIsBegunOnlyWhereThatIsAccepted) {
  testing::RunTool({"iptables-nft", "-N", "AZURE-NPM"});
  kube::ProxySettings settings = Settings(Mode::kUserspace);
  settings.fallback_modes = {Mode::kNftables};
  Ask(settings);
  StartAgent();
  ASSERT_TRUE(Await([&] { return Runs(Mode::kNftables); })) << Status().dump(1);
  EXPECT_TRUE(Is("PreflightPassed", "False", "NeighbourRefused")) << Status().dump(1);
  EXPECT_TRUE(Is("Degraded", "True", "Fallback"));
  EXPECT_THAT(Condition("PreflightPassed").value("message", ""),
              HasSubstr("chain AZURE-NPM in table filter of iptables-nft, IPv4"));
  const Json neighbours = Status().value("neighbours", Json::array());
  ASSERT_EQ(neighbours.size(), 1U) << Status().dump(1);
  EXPECT_EQ(neighbours[0]["name"], "azure-npm");
  EXPECT_EQ(neighbours[0]["modes"]["userspace"], "Refused");

  // The operator's question has the same answer, and goes by what would be accepted.
  spec_.candidate =
      kube::NodeProxyCandidate{.revision = 7, .mode = Mode::kUserspace, .ipvs_scheduler = "rr"};
  PutSpec();
  ASSERT_TRUE(Await([&] { return Status().contains("candidate"); }));
  EXPECT_EQ(Status()["candidate"]["passed"], false);
  EXPECT_THAT(Status()["candidate"].value("message", ""), HasSubstr("azure-npm"));
  spec_.candidate->revision = 8;
  spec_.candidate->neighbours.accept = {"azure-npm"};
  PutSpec();
  ASSERT_TRUE(Await([&] { return Status()["candidate"]["revision"] == 8; }));
  EXPECT_EQ(Status()["candidate"]["passed"], true);
  spec_.candidate.reset();

  settings.neighbours.accept = {"azure-npm"};
  Ask(settings);
  ASSERT_TRUE(Await([&] { return Runs(Mode::kUserspace); })) << Status().dump(1);
  EXPECT_TRUE(Await([&] { return Is("Degraded", "False", "DesiredModeActive"); }));
  EXPECT_TRUE(Await([&] { return Status()["neighbours"][0]["modes"]["userspace"] == "Accepted"; }))
      << Status().dump(1);

  // Another that comes while the mode serves takes nothing away.
  testing::RunTool({"iptables-nft", "-N", "WEAVE-NPC"});
  ASSERT_TRUE(Await([&] { return Is("Degraded", "True", "NeighbourRefused"); }))
      << Status().dump(1);
  EXPECT_TRUE(Runs(Mode::kUserspace));
  EXPECT_TRUE(Connects("10.96.0.10", 80));
  for (const char* chain : {"AZURE-NPM", "WEAVE-NPC"})
    testing::RunTool({"iptables-nft", "-X", chain});
  EXPECT_TRUE(Await([&] { return Is("Degraded", "False", "DesiredModeActive"); }))
      << Status().dump(1);
  EXPECT_TRUE(Await([&] { return Status()["neighbours"].empty(); })) << Status().dump(1);
}

// A kernel whose ip6tables (or iptables) refuses MARK: rancher/rke2#7438.
class BrokenFamilyTest : public AgentTest,
                         public ::testing::WithParamInterface<std::tuple<Mode, bool>> {
 protected:
  static void Break(bool v6) {
    for (const char* variant : {"nft", "legacy"}) {
      const std::string tool = std::string(v6 ? "ip6tables-" : "iptables-") + variant + "-restore";
      const std::string path = "/usr/local/sbin/" + tool;
      std::ofstream(path)
          << "#!/bin/sh\n"
             "input=$(cat; echo .)\n"
             "case $input in *'-j MARK'*) echo 'MARK: no such target' >&2; exit 2;; esac\n"
             "printf %s \"${input%.}\" | exec /usr/sbin/"
          << tool << " \"$@\"\n";
      std::filesystem::permissions(path, std::filesystem::perms(0755));
    }
  }
  static void Mend() {
    for (const auto& entry : std::filesystem::directory_iterator("/usr/local/sbin"))
      std::ofstream(entry.path()) << "#!/bin/sh\nexec /usr/sbin/"
                                  << entry.path().filename().string() << " \"$@\"\n";
  }
};

TEST_P(BrokenFamilyTest, LeavesTheOtherServed) {
  const auto mode = std::get<0>(GetParam());
  const bool v6_broken = std::get<1>(GetParam());
  Break(v6_broken);
  PutNode({"10.244.1.0/24"}, /*ipv6=*/true);
  PutService("web", 10, /*ipv6=*/true);
  Ask(Settings(mode));
  StartAgent();
  ASSERT_TRUE(Await([&] { return Is("Degraded", "True", "FamilyNotServed"); })) << Status().dump(1);
  EXPECT_TRUE(Runs(mode)) << Status().dump(1);
  EXPECT_TRUE(Is("Ready", "True", "Serving")) << Status().dump(1);
  const std::string message = Condition("Degraded").value("message", "");
  EXPECT_THAT(message, HasSubstr(v6_broken ? "IPv6" : "IPv4"));
  EXPECT_THAT(message, HasSubstr("MARK: no such target"));
  EXPECT_TRUE(Connects(v6_broken ? "10.96.0.10" : "fd00:96::10", 80));
  EXPECT_FALSE(Connects(v6_broken ? "fd00:96::10" : "10.96.0.10", 80));
  // Changes of the family that is well are written as ever.
  PutService("later", 11, /*ipv6=*/true);
  EXPECT_TRUE(Await([&] { return Connects(v6_broken ? "10.96.0.11" : "fd00:96::11", 80); }));

  Mend();
  EXPECT_TRUE(Await([&] { return Is("Degraded", "False", "DesiredModeActive"); }))
      << Status().dump(1);
  EXPECT_TRUE(Connects("10.96.0.10", 80));
  EXPECT_TRUE(Connects("fd00:96::10", 80));
}

INSTANTIATE_TEST_SUITE_P(Modes, BrokenFamilyTest,
                         ::testing::Combine(::testing::Values(Mode::kIptables, Mode::kUserspace),
                                            ::testing::Bool()),
                         [](const auto& parameters) {
                           return std::string(kube::ToString(std::get<0>(parameters.param))) +
                                  (std::get<1>(parameters.param) ? "WithoutIPv6" : "WithoutIPv4");
                         });

}  // namespace
}  // namespace pointsman::agent
