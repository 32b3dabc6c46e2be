// nftables mode in one address family: table `ip pointsman` or `ip6 pointsman`.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "kube/pointsman/proxy_settings.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/dataplane/route_localnet.h"
#include "node-agent/nf_tables/connection.h"
#include "node-agent/nf_tables/kernel_table.h"
#include "node-agent/nftables/desired_table.h"
#include "node-agent/nftables/drain.h"
#include "node-agent/nftables/layout.h"
#include "node-agent/nftables/shared_elements.h"
#include "node-agent/nftables/table_change.h"
#include "node-agent/xtables/forward_accept.h"

namespace pointsman::agent::nft {

// Same contract as Dataplane. Remembers how many elements name each traffic class, and nothing of
// the Services: the elements of a changed one come from its states before and after.
class NftablesFamily {
 public:
  // Does not talk to the kernel. `tools` as ForwardAccept's. Throws std::invalid_argument that
  // names the field.
  NftablesFamily(const kube::ProxySettings& settings, net::Family family,
                 const std::vector<xtables::IptablesTool*>& tools);

  SyncResult FullSync(const ServiceModel& model);
  SyncResult Sync(const ServiceModel& model, const ModelDelta& delta);
  VerifyResult Verify(const ServiceModel& model);
  DrainStatus Drain(const ServiceModel& model);
  // At most `most`.
  std::vector<ClientBinding> Bindings(const ServiceModel& model, size_t most);
  // Of bindings of the other family nothing is done.
  SyncResult Bind(const ServiceModel& model, const std::vector<ClientBinding>& bindings);
  SyncResult Remove();
  bool Present();

  net::Family family() const { return layout_.family; }
  // As Dataplane's.
  std::vector<std::string> Sysctls() const;

 private:
  Connection& Kernel();
  bool TableIsThere() const;
  SyncResult WriteTable(const ServiceModel& model);
  // Calls `call` with each of forward_; what it throws is a problem of the result.
  SyncResult Forward(const std::function<SyncResult(xtables::ForwardAccept&)>& call);
  // What `delta` changes; notes it as done.
  TableChange ChangeOf(const ModelDelta& delta);
  void ChangeClasses(const ClassUses& uses, TableChange& change);

  LayoutSettings layout_;
  std::array<xtables::ForwardAccept, 2> forward_;
  std::unique_ptr<Connection> connection_;
  ClassUses classes_;
  // Their chains stay until the next full sync, or until they are many: when a chain is made the
  // kernel walks each map that its rules look into, also `endpoints` (nf_tables_bind_set), some
  // 20 ms for 100,000 backends, and a Service that goes from ten backends to nine often comes back.
  std::set<TrafficClass> idle_classes_;
  SharedUses shared_;
  RouteLocalnet localnet_;
  bool synced_ = false;  // the kernel has what the model said
  nft::Drain drain_;
};

}  // namespace pointsman::agent::nft
