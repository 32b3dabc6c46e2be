#include "node-agent/nftables/nftables_dataplane.h"

#include <algorithm>

#include "node-agent/dataplane/family_parts.h"
#include "node-agent/nftables/nftables_family.h"

namespace pointsman::agent {
namespace {

using Families = std::vector<std::unique_ptr<nft::NftablesFamily>>;

constexpr std::string_view kWhat = "nftables rules";

template <typename Call>
void ForEach(const Families& families, SyncResult& sum, const Call& call) {
  for (const auto& family : families) {
    AddPartOf(family->family(), kWhat, sum, [&] { return call(*family); });
  }
}

}  // namespace

NftablesDataplane::NftablesDataplane(const kube::ProxySettings& settings,
                                     const std::vector<net::Family>& families) {
  for (const net::Family family : {net::Family::kIPv4, net::Family::kIPv6}) {
    const bool served = std::find(families.begin(), families.end(), family) != families.end();
    (served ? served_ : others_).push_back(std::make_unique<nft::NftablesFamily>(settings, family));
  }
}

NftablesDataplane::~NftablesDataplane() = default;

SyncResult NftablesDataplane::FullSync(const ServiceModel& model) {
  SyncResult sum;
  ForEach(served_, sum, [&](nft::NftablesFamily& family) { return family.FullSync(model); });
  ForEach(others_, sum, [](nft::NftablesFamily& family) { return family.Remove(); });
  return sum;
}

SyncResult NftablesDataplane::Sync(const ServiceModel& model, const ModelDelta& delta) {
  SyncResult sum;
  ForEach(served_, sum, [&](nft::NftablesFamily& family) { return family.Sync(model, delta); });
  return sum;
}

VerifyResult NftablesDataplane::Verify(const ServiceModel& model) {
  VerifyResult sum;
  for (const auto& family : served_)
    AddPartOf(family->family(), kWhat, sum, [&] { return family->Verify(model); });
  return sum;
}

DrainStatus NftablesDataplane::Drain(const ServiceModel& model) {
  DrainStatus sum;
  for (const auto& family : served_)
    sum.connections += family->Drain(model).connections;
  return sum;
}

std::vector<ClientBinding> NftablesDataplane::Bindings(const ServiceModel& model) {
  std::vector<ClientBinding> all;
  for (const auto& family : served_) {
    std::vector<ClientBinding> part = family->Bindings(model, kMostBindings - all.size());
    std::move(part.begin(), part.end(), std::back_inserter(all));
  }
  return all;
}

SyncResult NftablesDataplane::Bind(const ServiceModel& model,
                                   const std::vector<ClientBinding>& bindings) {
  SyncResult sum;
  ForEach(served_, sum, [&](nft::NftablesFamily& family) { return family.Bind(model, bindings); });
  return sum;
}

SyncResult NftablesDataplane::Remove() {
  SyncResult sum;
  for (const Families* families : {&served_, &others_})
    ForEach(*families, sum, [](nft::NftablesFamily& family) { return family.Remove(); });
  return sum;
}

bool NftablesDataplane::Present() {
  const auto present = [](const auto& family) { return family->Present(); };
  return std::any_of(served_.begin(), served_.end(), present) ||
         std::any_of(others_.begin(), others_.end(), present);
}

std::vector<std::string> NftablesDataplane::Sysctls() const {
  std::vector<std::string> names;
  for (const auto& family : served_) {
    for (std::string& name : family->Sysctls())
      names.push_back(std::move(name));
  }
  return names;
}

}  // namespace pointsman::agent
