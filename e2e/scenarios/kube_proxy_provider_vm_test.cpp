// The road that most clusters need: a stock kube-proxy goes from ipvs to nftables. Only Debian's
// own kernel has both; it runs in virtual machines, emulated.
#include "e2e/scenarios/kube_proxy_provider_fixture.h"

namespace pointsman::e2e {
namespace {

class KubeProxyProviderStockKernelTest : public KubeProxyProviderFixture {};

TEST_F(KubeProxyProviderStockKernelTest, FromIpvsToNftables) {
  // As few as an emulated CPU can bear.
  constexpr int kRate = 5;
  START_OR_RETURN(MakeCluster({"vm", "vm"}, "ipvs"));
  const Loads loads = StartLoads(3, kRate);
  Apply("nftables");
  AwaitOwn("nftables", KubeProxyFileText("nftables"));
  AwaitOnly("nftables");
  ExpectPods(2);
  // kube-proxy removes its old rules before it writes the new ones, and with virtual servers go
  // their connections: nothing that configures it can change that. Who comes after is served.
  for (const World::Load& load : loads) {
    const LoadReport report = world_->StopLoad(load);
    std::printf("%s, meanwhile: %s\n", load.node.c_str(), report.Summary().c_str());
    EXPECT_LT(report.Failed(), report.Succeeded()) << report.json.dump(1);
  }
  ExpectCleanEnd(StartLoads(3, kRate), "in mode nftables");
}

}  // namespace
}  // namespace pointsman::e2e
