#include "node-agent/iptables/iptables_dataplane.h"

#include "node-agent/dataplane/family_parts.h"
#include "node-agent/iptables/iptables_family.h"
#include "node-agent/iptables/recent_lists.h"

namespace pointsman::agent {
namespace {

constexpr std::string_view kWhat = "iptables rules";

template <typename Call>
SyncResult ForEachFamily(const std::vector<std::unique_ptr<IptablesFamily>>& families,
                         const Call& call) {
  SyncResult sum;
  for (const std::unique_ptr<IptablesFamily>& family : families) {
    AddPartOf(family->family(), kWhat, sum, [&] { return call(*family); });
  }
  // Said of both families it is still one Service.
  sum.warnings.erase(std::unique(sum.warnings.begin(), sum.warnings.end()), sum.warnings.end());
  return sum;
}

}  // namespace

IptablesDataplane::IptablesDataplane(const kube::ProxySettings& settings, IptablesTool& tool)
    : IptablesDataplane(settings, std::vector{&tool}) {}

IptablesDataplane::IptablesDataplane(const kube::ProxySettings& settings,
                                     const std::vector<IptablesTool*>& tools) {
  for (IptablesTool* tool : tools)
    families_.push_back(std::make_unique<IptablesFamily>(settings, *tool));
}

IptablesDataplane::~IptablesDataplane() = default;

SyncResult IptablesDataplane::FullSync(const ServiceModel& model) {
  return ForEachFamily(families_, [&](IptablesFamily& family) { return family.FullSync(model); });
}

SyncResult IptablesDataplane::Sync(const ServiceModel& model, const ModelDelta& delta) {
  return ForEachFamily(families_,
                       [&](IptablesFamily& family) { return family.Sync(model, delta); });
}

VerifyResult IptablesDataplane::Verify(const ServiceModel& model) {
  VerifyResult sum;
  for (const std::unique_ptr<IptablesFamily>& family : families_) {
    AddPartOf(family->family(), kWhat, sum, [&] { return family->Verify(model); });
  }
  return sum;
}

DrainStatus IptablesDataplane::Drain(const ServiceModel& model) {
  DrainStatus sum;
  for (const std::unique_ptr<IptablesFamily>& family : families_) {
    sum.connections += family->Drain(model).connections;
  }
  return sum;
}

std::vector<ClientBinding> IptablesDataplane::Bindings(const ServiceModel& model) {
  std::vector<ClientBinding> all;
  for (const std::unique_ptr<IptablesFamily>& family : families_) {
    std::vector<ClientBinding> part =
        ReadRecentBindings(model, family->family(), kMostBindings - all.size());
    std::move(part.begin(), part.end(), std::back_inserter(all));
  }
  return all;
}

SyncResult IptablesDataplane::Bind(const ServiceModel& model,
                                   const std::vector<ClientBinding>& bindings) {
  return ForEachFamily(families_, [&](const IptablesFamily& family) {
    // The Services have been told of by a warning.
    if (!family.keeps_affinity()) return SyncResult{};
    return WriteRecentBindings(model, family.family(), bindings);
  });
}

SyncResult IptablesDataplane::Remove() {
  return ForEachFamily(families_, [](IptablesFamily& family) { return family.Remove(); });
}

bool IptablesDataplane::Present() {
  return std::any_of(families_.begin(), families_.end(),
                     [](const auto& family) { return family->Present(); });
}

std::vector<std::string> IptablesDataplane::Sysctls() const {
  std::vector<std::string> names;
  for (const auto& family : families_) {
    for (std::string& name : family->Sysctls())
      names.push_back(std::move(name));
  }
  return names;
}

}  // namespace pointsman::agent
