#include "node-agent/nftables/kernel_support.h"

#include <cerrno>
#include <system_error>

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>

#include "node-agent/dataplane/route_localnet.h"
#include "node-agent/nf_tables/connection.h"
#include "node-agent/nftables/elements.h"
#include "node-agent/nftables/layout.h"

namespace pointsman::agent::nft {
namespace {

constexpr std::string_view kProbeTable = "pointsman-probe";

}  // namespace

std::vector<std::string> MissingFeatures(net::Family family) {
  Connection connection;
  Transaction transaction(family, kProbeTable);
  transaction.AddTable();
  for (const SetDefinition& set : SetsOf(family))
    transaction.AddSet(set);
  kube::ProxySettings proxy;
  proxy.detect_local_mode = kube::DetectLocalMode::kInterfaceNamePrefix;
  proxy.detect_local.interface_name_prefix = "veth";
  const LayoutSettings settings(proxy, family);
  const NodeNetwork node{.localhost_node_ports = true};
  RouteLocalnet localnet;
  localnet.Want(family, node);
  std::vector<Chain> chains = StaticChains(settings, node, localnet.guard_comment());
  using Class = TrafficClass;
  const Class kinds[] = {
      Class{Class::kMasqueradeOffCluster, 2},
      Class{Class::kMasquerade | Class::kByNodePort | Class::kSourceRanges, 1},
      Class{Class::kShortcut | Class::kReject},
      Class{Class::kDrop},
      Class{Class::kByFromNode, 2, 60},
      Class{Class::kByNodePort, 2, 60},
  };
  for (const Class& kind : kinds)
    chains.push_back(ClassChain(settings, kind));
  for (const Chain& chain : chains)
    transaction.AddChain(chain);
  for (const Chain& chain : chains) {
    for (const Rule& rule : chain.rules)
      transaction.AppendRule(chain.name, rule);
  }
  // From the base chains everything can be reached: the hooks that each expression allows are
  // checked too.
  for (const Class& kind : kinds) {
    transaction.AddGoto(SetsOf(family)[static_cast<size_t>(ClassMap(kind))], View(ClassKey(kind)),
                        ClassChainName(kind));
  }
  std::vector<std::string> missing;
  for (const Refusal& refusal : connection.Check(transaction)) {
    if (refusal.error == EPERM || refusal.error == EACCES) {
      throw std::system_error(refusal.error, std::generic_category(), "probe nf_tables");
    }
    missing.push_back(fmt::format("{}: {}", refusal.object, refusal.message));
  }
  return missing;
}

}  // namespace pointsman::agent::nft
