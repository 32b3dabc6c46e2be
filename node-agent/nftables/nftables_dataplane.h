// nftables mode: one table of ours in each family, in which a Service is nothing but elements of
// maps (layout.h).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kube/net/ip_address.h"
#include "kube/pointsman/proxy_settings.h"
#include "node-agent/dataplane/dataplane.h"

namespace pointsman::agent {

namespace nft {
class NftablesFamily;
}

// Needs no iptables: it masquerades in its own tables. A sync writes one transaction, one before
// it when a chain is new, and one after it when something is left over that nothing leads to any
// more. Clients' affinity is in the kernel only and survives every sync. With detectLocalMode
// NodeCIDR, settings.cluster_cidrs are this node's pod CIDRs.
//
// When the kernel refuses a change, the table is read and repaired at once; what it refuses even
// then is a problem in the result, and the next Sync is a full one. route_localnet is set for node
// ports on 127.0.0.1 and taken back when this mode is removed, if it was not set before.
class NftablesDataplane final : public Dataplane {
 public:
  // `families`: those to serve; tables of ours in another one are removed. Each stands alone: what
  // fails in one leaves the other as it is. Throws std::invalid_argument that names the field.
  NftablesDataplane(const kube::ProxySettings& settings, const std::vector<net::Family>& families);
  ~NftablesDataplane() override;

  kube::Mode mode() const override { return kube::Mode::kNftables; }
  SyncResult FullSync(const ServiceModel& model) override;
  SyncResult Sync(const ServiceModel& model, const ModelDelta& delta) override;
  VerifyResult Verify(const ServiceModel& model) override;
  // Empties the chains that take new connections. Counts the connections to Services that were
  // there then, whichever mode translated them, and are still open.
  DrainStatus Drain(const ServiceModel& model) override;
  // Of more than kMostBindings clients only so many are looked at, which takes 4 s: see
  // NftablesFamily::ReadAffinity. While the kernel's hash table grows it can leave out some more.
  std::vector<ClientBinding> Bindings(const ServiceModel& model) override;
  // Keeps the time left.
  SyncResult Bind(const ServiceModel& model, const std::vector<ClientBinding>& bindings) override;
  SyncResult Remove() override;
  bool Present() override;
  std::vector<std::string> Sysctls() const override;

 private:
  std::vector<std::unique_ptr<nft::NftablesFamily>> served_;
  std::vector<std::unique_ptr<nft::NftablesFamily>> others_;
};

}  // namespace pointsman::agent
