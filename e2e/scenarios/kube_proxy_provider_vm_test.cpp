// The road that most clusters need: a stock kube-proxy goes from ipvs to nftables. Only Debian's
// own kernel has both; it runs in virtual machines, emulated.
#include "e2e/scenarios/kube_proxy_provider_fixture.h"

namespace pointsman::e2e {
namespace {

class KubeProxyProviderStockKernelTest : public KubeProxyProviderFixture {};

TEST_F(KubeProxyProviderStockKernelTest, FromIpvsToNftablesNothingFails) {
  // As few as an emulated CPU can bear.
  constexpr int kRate = 5;
  START_OR_RETURN(MakeCluster({"vm", "vm"}, "ipvs"));
  const Loads loads = StartLoads(0, kRate);
  const Loads streams = StartLoads(3, 0);
  Apply("nftables");
  // kube-proxy removes its virtual servers at its start, and with them go their connections: while
  // there are any it does not restart, and who comes meanwhile is served without them.
  const auto waits = [&] {
    for (const char* node : {"node-1", "node-2"}) {
      if (world_->NodeProxy(node).dump().find(
              "connections through its virtual servers end first") != std::string::npos)
        return true;
    }
    return false;
  };
  world_->Await("connections through virtual servers are waited for", waits, kPatience,
                [&] { return world_->RolloutEvidence(); });
  for (const Node& node : world_->cluster().nodes())
    EXPECT_EQ(PodsSoFar(node), 1U) << node.name();
  for (const World::Load& load : streams) {
    const LoadReport report = world_->StopLoad(load);
    EXPECT_EQ(report.Streams(), 3);
    EXPECT_EQ(report.BrokenStreams(), 0) << report.json.dump(1);
  }
  AwaitOwn("nftables", KubeProxyFileText("nftables"));
  AwaitOnly("nftables");
  ExpectPods(2);
  ExpectCleanEnd(loads, "from ipvs to nftables");
  ExpectCleanEnd(StartLoads(3, kRate), "in mode nftables");
}

}  // namespace
}  // namespace pointsman::e2e
