// A kernel without xt_recent and xt_bpf, as WSL2's were (microsoft/WSL#11159, kind#3811): a test
// kernel whose modprobe does not load them.
#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node-agent/iptables/iptables_dataplane.h"
#include "node-agent/preflight/preflight.h"
#include "node-agent/testing/dual_stack_network.h"
#include "node-agent/testing/model_maker.h"
#include "node-agent/testing/results.h"
#include "node-agent/xtables/base_rules.h"

namespace pointsman::agent {
namespace {

using net::Family;
using testing::Ask;
using ::testing::Contains;
using testing::DualStackNetwork;
using ::testing::HasSubstr;
using testing::Ip;
using ::testing::IsEmpty;
using testing::ModelMaker;
using testing::Reply;

class WithoutRecentAndBpf : public ::testing::TestWithParam<Family> {
 protected:
  void SetUp() override {
    std::filesystem::create_directories("/run/modprobe.d");
    std::ofstream("/run/modprobe.d/test.conf")
        << "install xt_recent /bin/false\ninstall xt_bpf /bin/false\n";
    network_ = std::make_unique<DualStackNetwork>(2);
    network_->node().Run([&] {
      tool_ = std::make_unique<xtables::IptablesTool>(Family::kIPv4);
      tool_v6_ = std::make_unique<xtables::IptablesTool>(Family::kIPv6);
      ASSERT_FALSE(tool_->KernelHasMatch("recent"));
      ASSERT_FALSE(tool_->KernelHasMatch("bpf"));
      ASSERT_FALSE(tool_->KernelHasMatch("no-such-match"));
      ASSERT_TRUE(tool_->KernelHasMatch("statistic"));
      dataplane_ = std::make_unique<IptablesDataplane>(
          kube::ProxySettings{}, std::vector<xtables::IptablesTool*>{tool_.get(), tool_v6_.get()});
    });
  }
  bool v4() const { return GetParam() == Family::kIPv4; }
  std::string Vip() const { return v4() ? "10.96.0.10" : "fd00:96::10"; }
  std::string Gateway(int k) const {
    return Ip(v4() ? fmt::format("10.244.{}.1", k) : fmt::format("fd00:244:{:x}::1", k)).ToString();
  }
  ServicePortEntry Entry(int pod) const {
    ServicePortEntry entry;
    entry.id = {"default", "web", "http", Protocol::kTcp, GetParam()};
    entry.cluster_ip = Ip(Vip());
    entry.port = 80;
    entry.affinity_timeout = std::chrono::seconds(600);
    entry.internal.backends = {{DualStackNetwork::PodIp(pod, GetParam()), 8080, true}};
    return entry;
  }
  std::unique_ptr<DualStackNetwork> network_;
  std::unique_ptr<xtables::IptablesTool> tool_;
  std::unique_ptr<xtables::IptablesTool> tool_v6_;
  std::unique_ptr<IptablesDataplane> dataplane_;
  ModelMaker maker_;
};

TEST_P(WithoutRecentAndBpf, PreflightPassesAndTellsWhatIsMissing) {
  const PreflightResult result = RunPreflight(kube::Mode::kIptables, {}, true);
  EXPECT_TRUE(result.passed) << result.message;
  EXPECT_THAT(result.warnings, Contains(HasSubstr("sessionAffinity")));
  EXPECT_THAT(result.message, HasSubstr("xt_recent"));
  EXPECT_THAT(result.message, HasSubstr("xt_bpf"));
  EXPECT_THAT(result.modules, Contains(::testing::FieldsAre("xt_recent", "Missing")));
}

TEST_P(WithoutRecentAndBpf, ServicesAreServedAndOnlyAffinityIsMissing) {
  maker_.Put(Entry(0));
  network_->node().Run([&] {
    const SyncResult result = dataplane_->FullSync(maker_.model);
    EXPECT_SYNCED(result);
    ASSERT_EQ(result.warnings.size(), 1U);
    EXPECT_EQ(result.warnings[0].service, "web");
    EXPECT_THAT(result.warnings[0].message, HasSubstr("xt_recent"));
    EXPECT_VERIFIED(dataplane_->Verify(maker_.model));
  });
  EXPECT_EQ(Ask(network_->pod(1), Vip(), 80).server, "pod0");
  // A pod that reaches itself comes back through the node.
  EXPECT_EQ(Ask(network_->pod(0), Vip(), 80).peer, Gateway(0));
  // The next endpoint, learnt by a change.
  network_->node().Run([&] {
    const SyncResult result = dataplane_->Sync(maker_.model, maker_.Put(Entry(1)));
    EXPECT_SYNCED(result);
    EXPECT_EQ(result.warnings.size(), 1U);
    EXPECT_VERIFIED(dataplane_->Verify(maker_.model));
  });
  EXPECT_EQ(Ask(network_->pod(1), Vip(), 80).peer, Gateway(1));
  network_->node().Run([&] {
    // Nobody's clients can be bound; that is no problem of a handover.
    const EntryPtr& entry = maker_.model.entries.begin()->second;
    const ClientBinding binding{.entry = entry,
                                .client = DualStackNetwork::PodIp(0, GetParam()),
                                .backend_ip = entry->internal.backends[0].ip,
                                .backend_port = 8080,
                                .left = std::chrono::seconds(100)};
    EXPECT_SYNCED(dataplane_->Bind(maker_.model, {binding}));
    EXPECT_THAT(dataplane_->Bindings(maker_.model), IsEmpty());
    ServicePortEntry plain = Entry(1);
    plain.affinity_timeout = std::chrono::seconds(0);
    EXPECT_THAT(dataplane_->Sync(maker_.model, maker_.Put(plain)).warnings, IsEmpty());
    EXPECT_SYNCED(dataplane_->Remove());
  });
}

INSTANTIATE_TEST_SUITE_P(Families, WithoutRecentAndBpf,
                         ::testing::Values(Family::kIPv4, Family::kIPv6), [](const auto& family) {
                           return std::string(net::ToString(family.param));
                         });

}  // namespace
}  // namespace pointsman::agent
