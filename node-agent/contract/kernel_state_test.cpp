// What the kernel holds after each call, and who may have written it. No traffic.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node-agent/contract/empty_node.h"
#include "node-agent/testing/random_model.h"

namespace pointsman::agent::testing {
namespace {

using kube::Mode;
using net::Family;

constexpr Family kFamilies[] = {Family::kIPv4, Family::kIPv6};

class KernelState : public DataplaneOnEmptyNode {
 protected:
  // One of many Services, which ModeUnderTest::Damages() knows.
  void AddServices(int steps, uint32_t seed) {
    RandomModel random(seed);
    for (int i = 0; i < steps; ++i)
      random.Step(maker_);
    ServicePortEntry web = Web(Family::kIPv4, {1});
    web.load_balancer_ips = {Ip("203.0.99.1")};
    web.source_ranges = {net::IpPrefix::Parse("192.168.0.0/16").value()};
    maker_.Put(web);
  }
  static ServicePortEntry Web(Family family, const std::vector<int>& hosts) {
    const bool v4 = family == Family::kIPv4;
    std::vector<Backend> backends;
    backends.reserve(hosts.size());
    for (const int host : hosts)
      backends.push_back(
          MakeBackend((v4 ? "10.245.0." : "fd00:245::") + std::to_string(host), 8080));
    return MakeEntry("web", Protocol::kTcp, v4 ? "10.97.0.1" : "fd00:97::1", 80, backends);
  }
};

TEST_P(KernelState, IncrementalEqualsFull) {
  const std::string untouched = mode_->Kernel();
  for (int seed = 0; seed < mode_->room().random_seeds; ++seed) {
    RandomModel random(20261123 + static_cast<uint32_t>(seed));
    maker_ = {};
    maker_.model.node.node_name = "node";
    EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
    for (int step = 0; step < mode_->room().random_steps; ++step) {
      SCOPED_TRACE(fmt::format("seed {}, step {}", seed, step));
      const SyncResult result = dataplane_->Sync(maker_.model, random.Step(maker_));
      ASSERT_TRUE(result.ok()) << Text(result);
      ASSERT_EQ(result.repaired, 0U);  // the kernel took it as it was
      const std::unique_ptr<Dataplane> another = Make();
      for (Dataplane* dataplane : {dataplane_.get(), another.get()}) {
        const VerifyResult verified = dataplane->Verify(maker_.model);
        ASSERT_TRUE(verified.ok()) << Text(verified);
        EXPECT_GT(verified.objects_checked, 5U);
      }
      if (step % 10 != 9) continue;
      // Takes away what went out of use and was kept for a while, and has nothing else to do.
      const SyncResult periodic = dataplane_->FullSync(maker_.model);
      EXPECT_SYNCED(periodic);
      EXPECT_EQ(periodic.repaired, 0U);
      const std::string kernel = mode_->Kernel();
      const std::string incremental = mode_->KernelWithoutChoices();
      // Another process finds nothing to write.
      EXPECT_EQ(Make()->FullSync(maker_.model).kernel_writes, 0U);
      ASSERT_EQ(Difference(mode_->Kernel(), kernel), "");
      // Written from nothing it is the same.
      dataplane_.reset();
      EXPECT_SYNCED(Make()->Remove());
      ASSERT_EQ(Difference(mode_->Kernel(), untouched), "");
      Restart();
      EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
      ASSERT_EQ(Difference(mode_->KernelWithoutChoices(), incremental), "");
    }
    EXPECT_SYNCED(dataplane_->FullSync(ServiceModel{{}, maker_.model.node, 0, 0}));
    EXPECT_VERIFIED(dataplane_->Verify(ServiceModel{{}, maker_.model.node, 0, 0}));
    EXPECT_SYNCED(dataplane_->Remove());
    ASSERT_EQ(Difference(mode_->Kernel(), untouched), "");
  }
}

TEST_P(KernelState, NothingToDoIsNothingWritten) {
  AddServices(20, 5);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  const std::string kernel = mode_->Kernel();
  EXPECT_EQ(dataplane_->FullSync(maker_.model).kernel_writes, 0U);
  EXPECT_EQ(dataplane_->Sync(maker_.model, {}).kernel_writes, 0U);
  EXPECT_EQ(Difference(mode_->Kernel(), kernel), "");
}

TEST_P(KernelState, DamageIsSeenAndRepaired) {
  AddServices(10, 7);
  maker_.model.node.localhost_node_ports = true;
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  const std::string good = mode_->Kernel();
  for (const ModeUnderTest::Damage& damage : mode_->Damages()) {
    SCOPED_TRACE(damage.what);
    damage.work();
    EXPECT_NE(Difference(mode_->Kernel(), good), "");
    const VerifyResult seen = dataplane_->Verify(maker_.model);
    EXPECT_GT(seen.difference_count, 0U);
    if (mode_->room().damage_is_one_difference) {
      EXPECT_EQ(seen.difference_count, 1U);
    }
    for (const SyncProblem& difference : seen.differences)
      EXPECT_FALSE(difference.object.empty() || difference.message.empty());
    EXPECT_EQ(Make()->Verify(maker_.model).difference_count, seen.difference_count);
    const SyncResult result = dataplane_->FullSync(maker_.model);
    EXPECT_SYNCED(result);
    EXPECT_GT(result.kernel_writes, 0U);
    EXPECT_GE(result.repaired, damage.counted ? 1U : 0U);
    if (mode_->room().damage_is_one_difference) {
      EXPECT_EQ(result.repaired, 1U);
    }
    EXPECT_EQ(Difference(mode_->Kernel(), good), "");
    EXPECT_VERIFIED(dataplane_->Verify(maker_.model));
  }
}

TEST_P(KernelState, RemovalLeavesOthersAlone) {
  mode_->AddForeign();
  const std::string before = mode_->Kernel();
  AddServices(10, 3);
  EXPECT_FALSE(dataplane_->Present());
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_TRUE(Make()->Present());
  // By another process, which remembers nothing; one that runs might write it again.
  dataplane_.reset();
  EXPECT_SYNCED(Make()->Remove());
  EXPECT_FALSE(Make()->Present());
  EXPECT_EQ(Difference(mode_->Kernel(), before), "");
  EXPECT_EQ(Make()->Remove().kernel_writes, 0U);
}

// Which of the two is broken.
class BrokenFamily : public KernelState {
 protected:
  void SetUp() override {
    ReplaceTools();
    KernelState::SetUp();
  }
  static void ExpectOnly(Family family, const std::vector<SyncProblem>& problems) {
    EXPECT_FALSE(problems.empty());
    for (const SyncProblem& problem : problems)
      EXPECT_EQ(problem.family, family) << problem.object << ": " << problem.message;
  }
};

// kubernetes#99127: a kernel whose ip6tables is broken serves IPv4.
TEST_P(BrokenFamily, LeavesTheOtherServed) {
  for (const Family broken : kFamilies) {
    SCOPED_TRACE(net::ToString(broken));
    const Family well = broken == Family::kIPv4 ? Family::kIPv6 : Family::kIPv4;
    maker_.Put(Web(broken, {1}));
    maker_.Put(Web(well, {1}));
    mode_->Break(broken);
    ExpectOnly(broken, dataplane_->FullSync(maker_.model).problems);
    ExpectOnly(broken, dataplane_->Verify(maker_.model).differences);
    // Changes of the family that is well are written as ever, and the problem stays said.
    ExpectOnly(broken, dataplane_->Sync(maker_.model, maker_.Put(Web(well, {2}))).problems);
    ExpectOnly(broken, dataplane_->Verify(maker_.model).differences);
    // It is not tried again by each change, which would be all of the family each time.
    const std::string kernel = mode_->Kernel();
    ExpectOnly(broken, dataplane_->Sync(maker_.model, maker_.Put(Web(broken, {2}))).problems);
    EXPECT_EQ(Difference(mode_->Kernel(), kernel), "");
    ExpectOnly(broken, dataplane_->FullSync(maker_.model).problems);
    mode_->Mend(broken);
    EnsureBase();
    EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
    EXPECT_VERIFIED(Make()->Verify(maker_.model));
    EXPECT_SYNCED(dataplane_->Sync(maker_.model, maker_.Put(Web(broken, {3}))));
    EXPECT_VERIFIED(Make()->Verify(maker_.model));
    EXPECT_SYNCED(dataplane_->Remove());
  }
}

TEST_P(BrokenFamily, BothBrokenIsAProblemOfEach) {
  for (const Family family : kFamilies) {
    maker_.Put(Web(family, {1}));
    mode_->Break(family);
  }
  std::set<std::optional<Family>> families;
  for (const SyncProblem& problem : dataplane_->FullSync(maker_.model).problems)
    families.insert(problem.family);
  EXPECT_THAT(families, ::testing::ElementsAre(Family::kIPv4, Family::kIPv6));
  for (const Family family : kFamilies)
    mode_->Mend(family);
  EnsureBase();
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_VERIFIED(Make()->Verify(maker_.model));
}

std::vector<Variant> AllWithTools() {
  std::vector<Variant> all = WithEachTool("iptables", Mode::kIptables);
  for (const Variant& variant : WithEachTool("userspace", Mode::kUserspace))
    all.push_back(variant);
  all.push_back({"nftables", Mode::kNftables});
  all.push_back({"ipvs", Mode::kIpvs});
  return all;
}
INSTANTIATE_TEST_SUITE_P(Modes, KernelState, ::testing::ValuesIn(AllWithTools()), VariantName);
INSTANTIATE_TEST_SUITE_P(Modes, BrokenFamily, ::testing::ValuesIn(AllWithTools()), VariantName);

}  // namespace
}  // namespace pointsman::agent::testing
