#include "node-agent/model/model_builder.h"

#include <algorithm>
#include <map>
#include <stdexcept>
#include <string_view>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "node-agent/model/address_claims.h"
#include "node-agent/model/endpoint_choice.h"
#include "node-agent/model/service_resolver.h"

namespace pointsman::agent {
namespace {

size_t CountBackends(const ServicePortEntry& entry) {
  // Mostly one list, or lists that are the same or inside one another.
  const std::vector<Backend>& first = entry.internal.backends;
  const auto adds = [](const std::vector<Backend>& more, const std::vector<Backend>& have) {
    return more.empty() || more == have;
  };
  if (adds(entry.external.backends, first) && adds(entry.external_from_node.backends, first)) {
    return first.size();
  }
  std::vector<Backend> all = first;
  for (const BackendChoice* choice : {&entry.external, &entry.external_from_node}) {
    all.insert(all.end(), choice->backends.begin(), choice->backends.end());
  }
  std::sort(all.begin(), all.end());
  return static_cast<size_t>(std::unique(all.begin(), all.end()) - all.begin());
}

// Who wrote the Service looks there, and not at slices that a controller has made.
void AddSliceProblems(const std::vector<SlicePtr>& slices, std::vector<std::string>& messages) {
  size_t bad = 0;
  const kube::EndpointSlice* first = nullptr;
  for (const SlicePtr& slice : slices) {
    if (slice->problems.empty()) continue;
    ++bad;
    if (first == nullptr || slice->Key() < first->Key()) first = slice.get();
  }
  if (first == nullptr) return;
  messages.push_back(fmt::format("{} of its {} EndpointSlices cannot be served as written: {}: {}",
                                 bad, slices.size(), first->Key(), first->problems.front()));
}

bool HasHints(const kube::EndpointSlice& slice) {
  return slice.hint_sets.size() > 1;
}

bool IsOurs(const kube::Service& service) {
  return !service.headless_label && !service.has_service_proxy_name;
}

// kube-proxy selects slices by the labels too.
bool IsOurs(const kube::EndpointSlice& slice) {
  return !slice.service_name.empty() && !slice.fqdn && !slice.headless_label &&
         !slice.has_service_proxy_name;
}

// Room that is kept in the list of what changed.
constexpr size_t kKeptDirty = 1024;
constexpr size_t kMaxProblems = 20;  // of one Service, beside what its decoder says

}  // namespace

ModelBuilder::ModelBuilder(std::string node_name) : node_name_(std::move(node_name)) {
  model_.node.node_name = node_name_;
  network_.node_name = node_name_;
}

void ModelBuilder::SetService(const std::string& key, ServicePtr service) {
  if (service && service->Key() != key) {
    throw std::invalid_argument("Service " + service->Key() + " was given as " + key);
  }
  ServiceState* const state = service ? &StateOf(key) : Find(key);
  if (state == nullptr) return;
  Release(*state);
  state->service = std::move(service);
  Claim(*state);
  MarkDirty(*state);
}

void ModelBuilder::SetEndpointSlice(const std::string& key, SlicePtr slice) {
  if (slice && slice->Key() != key) {
    throw std::invalid_argument("EndpointSlice " + slice->Key() + " was given as " + key);
  }
  if (const auto found = slices_.find(std::string_view(key)); found != slices_.end()) {
    ServiceState& state = *Find((*found)->ns.str() + "/" + (*found)->service_name);
    std::erase(state.slices, *found);
    MarkDirty(state);
    slices_.erase(found);
  }
  if (!slice || !IsOurs(*slice)) return;
  ServiceState& state = StateOf(slice->ns.str() + "/" + slice->service_name);
  state.slices.push_back(slice);
  MarkDirty(state);
  slices_.insert(std::move(slice));
}

void ModelBuilder::SetNode(const std::shared_ptr<const kube::Node>& node) {
  std::string zone = node ? node->Zone() : std::string();
  if (zone == zone_) return;
  zone_ = std::move(zone);
  for (auto& [key, state] : services_) {
    const auto& slices = state->slices;
    if (std::any_of(slices.begin(), slices.end(),
                    [](const SlicePtr& slice) { return HasHints(*slice); })) {
      MarkDirty(*state);
    }
  }
}

void ModelBuilder::SetNodeNetwork(NodeNetwork network) {
  if (network.source_addresses != network_.source_addresses) {
    for (auto& [key, state] : services_) {
      if (state->service && state->service->source_ranges_given) MarkDirty(*state);
    }
  }
  network_ = std::move(network);
}

void ModelBuilder::SetMasqueradeAll(bool masquerade_all) {
  if (std::exchange(masquerade_all_, masquerade_all) != masquerade_all) ResolveAll();
}

void ModelBuilder::SetProtectedAddresses(AddressSet addresses) {
  if (addresses == protected_) return;
  const auto concerned = [](const ServiceState& state) {
    return state.service &&
           (!state.service->external_ips.empty() || !state.service->load_balancer_ingress.empty());
  };
  for (auto& [key, state] : services_) {
    if (concerned(*state)) Release(*state);
  }
  protected_ = std::move(addresses);
  for (auto& [key, state] : services_) {
    if (!concerned(*state)) continue;
    Claim(*state);
    MarkDirty(*state);
  }
}

void ModelBuilder::ResolveAll() {
  for (auto& [key, state] : services_)
    MarkDirty(*state);
}

bool ModelBuilder::HasChanges() const {
  return !dirty_.empty() || !(network_ == model_.node);
}

ModelDelta ModelBuilder::Update() {
  std::vector<EntryChange> changed;
  std::vector<EntryChange> added;
  ModelDelta delta;
  for (ServiceState* state : dirty_) {
    state->dirty = false;
    Resolve(*state, delta.changes, changed, added);
    if (!state->service && state->slices.empty()) {
      services_.erase(services_.find(state->key()));
    }
  }
  dirty_.clear();
  if (dirty_.capacity() > kKeptDirty) dirty_.shrink_to_fit();
  const auto append = [&delta](std::vector<EntryChange>& more) {
    delta.changes.insert(delta.changes.end(), std::make_move_iterator(more.begin()),
                         std::make_move_iterator(more.end()));
  };
  append(changed);
  append(added);
  if (!(network_ == model_.node)) {
    model_.node = network_;
    delta.node_changed = true;
  }
  return delta;
}

std::vector<ModelProblem> ModelBuilder::problems() const {
  std::vector<ModelProblem> all;
  for (const auto& [key, messages] : problems_) {
    all.insert(all.end(), messages.begin(), messages.end());
  }
  std::sort(all.begin(), all.end());
  return all;
}

ServiceState* ModelBuilder::Find(const std::string& key) {
  const auto found = services_.find(key);
  return found == services_.end() ? nullptr : found->second.get();
}

ServiceState& ModelBuilder::StateOf(const std::string& key) {
  if (ServiceState* const state = Find(key)) return *state;
  auto state = std::make_unique<ServiceState>(key);
  const std::string_view own_key = state->key();
  return *services_.emplace(own_key, std::move(state)).first->second;
}

void ModelBuilder::MarkDirty(ServiceState& state) {
  if (state.dirty) return;
  state.dirty = true;
  dirty_.push_back(&state);
}

void ModelBuilder::Claim(ServiceState& state) {
  if (!state.service || !IsOurs(*state.service)) return;
  for (const AddressClaim& claim : Claims(*state.service)) {
    claims_.Add(claim, &state, [this](ServiceState* other) { MarkDirty(*other); });
  }
}

void ModelBuilder::Release(ServiceState& state) {
  if (!state.service || !IsOurs(*state.service)) return;
  for (const AddressClaim& claim : Claims(*state.service)) {
    claims_.Remove(claim, &state, [this](ServiceState* other) { MarkDirty(*other); });
  }
}

std::vector<AddressClaim> ModelBuilder::Claims(const kube::Service& service) const {
  return ClaimsOf(service, AddressesOf(service, protected_, nullptr));
}

// Brings the entries of one Service in the model up to date and notes what changed.
void ModelBuilder::Resolve(ServiceState& state, std::vector<EntryChange>& removed,
                           std::vector<EntryChange>& changed, std::vector<EntryChange>& added) {
  std::vector<std::string> problems;
  std::vector<ServicePortEntry> fresh;
  const bool ours = state.service && IsOurs(*state.service);
  if (ours) {
    const auto who_has = [this, &state](const ServiceAddress& address) -> std::string_view {
      const ServiceState* winner = claims_.Winner(address);
      return winner == &state || winner == nullptr ? std::string_view() : winner->key();
    };
    fresh = ResolveService(*state.service, AddressesOf(*state.service, protected_, &problems),
                           state.slices,
                           {.topology = {node_name_, zone_},
                            .source_addresses = network_.source_addresses,
                            .masquerade_all = masquerade_all_},
                           who_has, problems);
  }
  SetProblems(state, ours, std::move(problems));

  std::vector<EntryPtr> entries;
  entries.reserve(fresh.size());
  auto old = state.entries.begin();
  const auto remove = [&](const EntryPtr& entry) {
    model_.endpoint_count -= CountBackends(*entry);
    model_.entries.erase(entry->id);
    removed.push_back({entry, nullptr});
  };
  for (ServicePortEntry& entry : fresh) {
    for (; old != state.entries.end() && (*old)->id < entry.id; ++old)
      remove(*old);
    const bool known = old != state.entries.end() && (*old)->id == entry.id;
    if (known && **old == entry) {
      entries.push_back(*old++);
      continue;
    }
    auto next = std::make_shared<const ServicePortEntry>(std::move(entry));
    model_.endpoint_count += CountBackends(*next);
    if (known) model_.endpoint_count -= CountBackends(**old);
    model_.entries.insert_or_assign(next->id, next);
    (known ? changed : added).push_back({known ? *old : nullptr, next});
    if (known) ++old;
    entries.push_back(std::move(next));
  }
  for (; old != state.entries.end(); ++old)
    remove(*old);
  model_.service_count += entries.empty() ? 0 : 1;
  model_.service_count -= state.entries.empty() ? 0 : 1;
  state.entries = std::move(entries);
}

void ModelBuilder::SetProblems(const ServiceState& state, bool ours,
                               std::vector<std::string> messages) {
  std::vector<ModelProblem> problems;
  if (ours) {
    // Each port on each address can be one: the Service's author is told of some.
    std::sort(messages.begin(), messages.end());
    messages.erase(std::unique(messages.begin(), messages.end()), messages.end());
    if (messages.size() > kMaxProblems) {
      const size_t more = messages.size() - kMaxProblems;
      messages.resize(kMaxProblems);
      messages.push_back("and " + std::to_string(more) + " more of this kind");
    }
    messages.insert(messages.end(), state.service->problems.begin(), state.service->problems.end());
    AddSliceProblems(state.slices, messages);
    for (std::string& message : messages) {
      problems.push_back({"Service", state.key(), std::move(message)});
    }
    for (const SlicePtr& slice : state.slices) {
      for (const std::string& message : slice->problems) {
        problems.push_back({"EndpointSlice", slice->Key(), message});
      }
    }
    // Once, though each port says it.
    std::sort(problems.begin(), problems.end());
    problems.erase(std::unique(problems.begin(), problems.end()), problems.end());
  }
  if (problems.empty()) {
    problems_.erase(state.key());
  } else {
    problems_.insert_or_assign(state.key(), std::move(problems));
  }
}

}  // namespace pointsman::agent
