#include "node-agent/nftables/nftables_dataplane.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace pointsman::agent {

NftablesDataplane::NftablesDataplane(const kube::ProxySettings& settings,
                                     const std::vector<net::Family>& families,
                                     const std::vector<xtables::IptablesTool*>& tools)
    : FamilyDataplane("nftables rules") {
  for (const net::Family family : {net::Family::kIPv4, net::Family::kIPv6}) {
    auto part = std::make_unique<nft::NftablesFamily>(settings, family, tools);
    if (std::find(families.begin(), families.end(), family) != families.end()) {
      Serve(std::move(part));
    } else {
      DoNotServe(std::move(part));
    }
  }
}

}  // namespace pointsman::agent
