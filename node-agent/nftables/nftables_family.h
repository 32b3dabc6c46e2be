// nftables mode in one address family: table `ip pointsman` or `ip6 pointsman`.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "kube/pointsman/proxy_settings.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/nftables/connection.h"
#include "node-agent/nftables/elements.h"
#include "node-agent/nftables/kernel_table.h"
#include "node-agent/nftables/layout.h"
#include "node-agent/nftables/shared_elements.h"

namespace pointsman::agent::nft {

// Same contract as Dataplane. Remembers how many elements name each traffic class, and nothing of
// the Services: the elements of a changed one come from its states before and after.
class NftablesFamily {
 public:
  // Does not talk to the kernel. Throws std::invalid_argument that names the field.
  NftablesFamily(const kube::ProxySettings& settings, net::Family family);

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
  struct Desired;
  struct BoundClient;
  struct Plan;
  using ClassUses = std::map<TrafficClass, int64_t>;

  Connection& Kernel();
  const SetDefinition& Set(SetId id) const { return SetsOf(family())[static_cast<size_t>(id)]; }
  Desired MakeDesired(const ServiceModel& model, bool owns_route_localnet) const;
  void Compare(const Desired& desired, const KernelTable& kernel, Plan& plan);
  void CompareChains(const Desired& desired, const KernelTable& kernel, Plan& plan);
  void CompareClasses(const Desired& desired, SetId map, Plan& plan);
  void CompareElements(const Desired& desired, SetId set, Plan& plan);
  void WriteAll(const Desired& desired, const KernelTable& kernel, Transaction& transaction) const;
  void WriteChains(const std::vector<Chain>& chains, Transaction& transaction) const;
  void AddElement(const Element& element, Transaction& transaction) const;
  void AddClass(const TrafficClass& traffic_class, Transaction& transaction) const;
  void DeleteClass(const TrafficClass& traffic_class, Transaction& transaction) const;
  // Both transactions; false and `problems`: refused.
  bool Commit(Plan& plan, SyncResult& result);
  // The elements of `affinity`, as nft::ReadElements gives them, but of many only some.
  void ReadAffinity(const std::function<void()>& restart,
                    const std::function<void(const KernelElement&)>& each) const;
  // Each of `clients` by `request`, many in one transaction; one that the kernel refuses with an
  // error of `expected` is left out. Counts those that were done in `result`. Stops at any other
  // error, or when there are too many refusals, and returns it.
  std::optional<Refusal> WriteEach(
      std::span<const BoundClient* const> clients,
      const std::function<void(Transaction&, const BoundClient&)>& request,
      std::initializer_list<int> expected, int& refusals_left, SyncResult& result);
  bool OwnsRouteLocalnet(const KernelTable& kernel) const;
  void SwitchRouteLocalnetOff(SyncResult& result);

  LayoutSettings layout_;
  std::unique_ptr<Connection> connection_;
  ClassUses classes_;
  // Their chains stay until the next full sync, or until they are many: when a chain is made the
  // kernel walks each map that its rules look into, also `endpoints` (nf_tables_bind_set), some
  // 20 ms for 100,000 backends, and a Service that goes from ten backends to nine often comes back.
  std::set<TrafficClass> idle_classes_;
  SharedUses shared_;
  // We have switched it on. Beside the mark in the kernel, for the case that somebody deletes that.
  bool owns_route_localnet_ = false;
  bool wants_route_localnet_ = false;
  bool synced_ = false;  // the kernel has what the model said
  bool drained_ = false;
  // Conntrack's ids of the connections that were there when the drain began: later ones are another
  // mode's.
  std::unordered_set<uint32_t> draining_;
};

}  // namespace pointsman::agent::nft
