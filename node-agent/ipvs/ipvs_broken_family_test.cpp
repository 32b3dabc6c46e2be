// A kernel whose ip6tables or iptables refuses `-j MARK` (kubernetes#99127): the other family is
// served as ever.
#include <filesystem>
#include <fstream>
#include <sys/mount.h>

#include "node-agent/ipvs/testing/dual_stack_node.h"

namespace pointsman::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

struct Addresses {
  net::Family family;
  const char* tool;
  const char* pod_gateway;
  const char* pod_a;
  const char* pod_b;
  const char* pod_c;
  const char* vip;
};
constexpr Addresses kV4{
    net::Family::kIPv4, "iptables-legacy", kPodGateway, kPodA, kPodB, kPodC, kVip};
constexpr Addresses kV6{net::Family::kIPv6, "ip6tables-legacy", "fd00:10:244::1", "fd00:10:244::2",
                        "fd00:10:244::3",   "fd00:10:244::4",   "fd00:10:96::10"};
// The agent looks for tools there first.
constexpr const char* kTools = "/usr/local/sbin/";

void WriteWrapper(const Addresses& at, const std::string& refusal) {
  const std::string restore = std::string(at.tool) + "-restore";
  std::ofstream(kTools + restore) << "#!/bin/sh\n"
                                     "input=$(cat; echo .)\n"
                                  << refusal << "printf %s \"${input%.}\" | exec /usr/sbin/"
                                  << restore << " \"$@\"\n";
  std::filesystem::permissions(kTools + restore, std::filesystem::perms(0755));
}
void Break(const Addresses& at) {
  WriteWrapper(at, "case $input in *'-j MARK'*) echo 'MARK: no such target' >&2; exit 2;; esac\n");
}
void Mend(const Addresses& at) {
  WriteWrapper(at, "");
}

// Before the tools, which look for their programs when they are made.
struct Wrappers {
  Wrappers() {
    Mend(kV4);
    Mend(kV6);
  }
};

// The parameter is the family that is broken.
class IpvsBrokenFamilyTest : public ::testing::TestWithParam<const Addresses*>,
                             private Wrappers,
                             protected DualStackNode {
 protected:
  static void SetUpTestSuite() {
    LoadModules();
    for (const char* module : {"ip_vs", "ip_vs_rr"})
      RunTool({"modprobe", module});
    ASSERT_EQ(mount("tmpfs", "/usr/local/sbin", "tmpfs", 0, nullptr), 0) << errno;
    network_ = std::make_unique<TestNetwork>();
    for (const auto& [host, v4, v6] : {std::tuple{"pod-a", kV4.pod_a, kV6.pod_a},
                                       {"pod-b", kV4.pod_b, kV6.pod_b},
                                       {"pod-c", kV4.pod_c, kV6.pod_c}}) {
      network_->AddHost(host, v4, kV4.pod_gateway);
      network_->AddAddress(host, v6, kV6.pod_gateway);
      network_->Serve(host, v4, 8080);
      network_->Serve(host, v6, 8080);
    }
  }
  static void TearDownTestSuite() {
    network_.reset();
    umount("/usr/local/sbin");
  }

  void SetUp() override {
    for (const Addresses* at : {&kV4, &kV6})
      Put(*at, at->pod_a);
  }
  void TearDown() override {
    Mend(broken_);
    TearDownNode();
  }

  // A Service in `at`'s family, on one pod.
  ModelDelta Put(const Addresses& at, const char* pod) {
    ServicePortEntry entry = MakeEntry(at.family == net::Family::kIPv4 ? "web-4" : "web-6",
                                       Protocol::kTcp, at.vip, 80, {MakeBackend(pod, 8080)});
    entry.affinity_timeout = std::chrono::seconds(100);
    return maker_.Put(std::move(entry));
  }
  static Reply Ask(const Addresses& at) { return AskTcp("pod-c", at.vip, 80); }
  static void ExpectBrokenAlone(const std::vector<SyncProblem>& problems, const Addresses& broken) {
    ASSERT_EQ(problems.size(), 1U) << Text(problems);
    EXPECT_EQ(problems.front().family, broken.family);
    EXPECT_EQ(problems.front().object,
              "iptables rules of " + std::string(net::ToString(broken.family)));
    EXPECT_THAT(problems.front().message, HasSubstr("MARK: no such target"));
  }
  // The rules of both families.
  static std::string Rules() {
    std::string text;
    for (const Addresses* at : {&kV4, &kV6}) {
      for (const char* table : {"filter", "mangle", "nat"})
        text += RunTool({at->tool, "-t", table, "-S"});
    }
    return text;
  }

  const Addresses& broken_ = *GetParam();
  const Addresses& well_ = &broken_ == &kV4 ? kV6 : kV4;
  static inline std::unique_ptr<TestNetwork> network_;
};

TEST_P(IpvsBrokenFamilyTest, WhatHadBeenWrittenStaysUntilItIsWell) {
  for (xtables::BaseRules& base : bases_)
    EXPECT_SYNCED(base.Ensure());
  Start();
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  Break(broken_);
  RunTool({broken_.tool, "-t", "nat", "-F", "POINTSMAN-IPVS-OUTPUT"});
  ExpectBrokenAlone(dataplane_->FullSync(maker_.model).problems, broken_);
  EXPECT_EQ(Ask(well_).server, "pod-a");
  EXPECT_EQ(Ask(broken_).server, "pod-a") << "its virtual servers were not touched";
  const std::vector<ClientBinding> bindings = dataplane_->Bindings(maker_.model);
  EXPECT_TRUE(std::any_of(bindings.begin(), bindings.end(), [&](const ClientBinding& binding) {
    return binding.backend_ip == Ip(broken_.pod_a);
  })) << "its clients go on to the next mode";
  ExpectBrokenAlone(dataplane_->Sync(maker_.model, Put(broken_, broken_.pod_b)).problems, broken_);
  ExpectBrokenAlone(dataplane_->Sync(maker_.model, Put(well_, well_.pod_b)).problems, broken_);
  EXPECT_EQ(Ask(well_).server, "pod-b");

  Mend(broken_);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_VERIFIED(dataplane_->Verify(maker_.model));
  EXPECT_EQ(Ask(broken_).server, "pod-b");
}

TEST_P(IpvsBrokenFamilyTest, DrainAndRemoveLeaveNothingOfEither) {
  for (xtables::BaseRules& base : bases_)
    EXPECT_SYNCED(base.Ensure());
  Start();
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  Stream stream(TestNetwork::At("pod-c"), broken_.vip, 80);
  EXPECT_EQ(stream.Ask().server, "pod-a");
  Break(broken_);
  RunTool({broken_.tool, "-t", "nat", "-F", "POINTSMAN-IPVS-OUTPUT"});
  ExpectBrokenAlone(dataplane_->FullSync(maker_.model).problems, broken_);
  EXPECT_EQ(dataplane_->Drain(maker_.model).connections, 1U);
  EXPECT_EQ(stream.Ask().server, "pod-a");
  for (const char* jump : {"-A PREROUTING", "-A OUTPUT"})
    EXPECT_THAT(Rules(), Not(::testing::ContainsRegex(std::string(jump) + " .*POINTSMAN-IPVS")));
  EXPECT_SYNCED(dataplane_->Remove());
  EXPECT_FALSE(dataplane_->Present());
  EXPECT_THAT(Rules(), Not(HasSubstr("POINTSMAN-IPVS")));
  EXPECT_EQ(RunTool({"ipvsadm", "-Sn"}), "");
  EXPECT_THAT(RunTool({"ipset", "list", "-name"}), Not(HasSubstr("PM-IPVS")));
}

INSTANTIATE_TEST_SUITE_P(Family, IpvsBrokenFamilyTest, ::testing::Values(&kV4, &kV6),
                         [](const ::testing::TestParamInfo<const Addresses*>& broken) {
                           return std::string("Without") +
                                  std::string(net::ToString(broken.param->family));
                         });

}  // namespace
}  // namespace pointsman::agent
