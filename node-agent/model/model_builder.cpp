#include "node-agent/model/model_builder.h"

#include <algorithm>
#include <map>
#include <stdexcept>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "node-agent/model/address_claims.h"
#include "node-agent/model/endpoint_choice.h"
#include "node-agent/model/service_resolver.h"

namespace pointsman::agent {
namespace {

using ServicePtr = std::shared_ptr<const kube::Service>;

// A Service, or just slices that name one.
class ServiceState {
 public:
  explicit ServiceState(std::string key) : key_(std::move(key)) {}
  const std::string& key() const { return key_; }
  kube::TimePoint created() const { return service ? service->created : kube::TimePoint::max(); }

  ServicePtr service;
  std::vector<SlicePtr> slices;   // in no order
  std::vector<EntryPtr> entries;  // what the model has of it, sorted by id
  bool dirty = false;

 private:
  const std::string key_;
};

// Slices in a set that is looked up by "ns/name" without a copy of the name.
struct SliceHash {
  using is_transparent = void;
  size_t operator()(std::string_view key) const {
    const size_t slash = key.find('/');
    return Of(key.substr(0, slash), key.substr(std::min(slash + 1, key.size())));
  }
  size_t operator()(const SlicePtr& slice) const { return Of(slice->ns, slice->name); }

 private:
  static size_t Of(std::string_view ns, std::string_view name) {
    const std::hash<std::string_view> hash;
    return hash(name) * 31 + hash(ns);
  }
};

bool HasKey(const SlicePtr& slice, std::string_view key) {
  const std::string& ns = slice->ns;
  return key.size() == ns.size() + 1 + slice->name.size() && key.starts_with(ns) &&
         key[ns.size()] == '/' && key.ends_with(slice->name);
}

struct SliceEqual {
  using is_transparent = void;
  bool operator()(const SlicePtr& a, const SlicePtr& b) const {
    return a->ns == b->ns && a->name == b->name;
  }
  bool operator()(std::string_view key, const SlicePtr& slice) const { return HasKey(slice, key); }
  bool operator()(const SlicePtr& slice, std::string_view key) const { return HasKey(slice, key); }
};

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

bool HasHints(const kube::EndpointSlice& slice) {
  return slice.hint_sets.size() > 1;
}

}  // namespace

class ModelBuilder::Impl {
 public:
  Impl(std::string node_name, std::string service_proxy_name)
      : node_name_(std::move(node_name)), service_proxy_name_(std::move(service_proxy_name)) {
    model_.node.node_name = node_name_;
    network_.node_name = node_name_;
  }

  void SetService(const std::string& key, ServicePtr service) {
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

  void SetEndpointSlice(const std::string& key, SlicePtr slice) {
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

  void SetNode(const std::shared_ptr<const kube::Node>& node) {
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

  void SetNodeNetwork(NodeNetwork network) { network_ = std::move(network); }

  void SetProtectedAddresses(AddressSet addresses) {
    if (addresses == protected_) return;
    const auto concerned = [](const ServiceState& state) {
      return state.service && (!state.service->external_ips.empty() ||
                               !state.service->load_balancer_ingress.empty());
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

  void ResolveAll() {
    for (auto& [key, state] : services_)
      MarkDirty(*state);
  }

  bool HasChanges() const { return !dirty_.empty() || !(network_ == model_.node); }

  ModelDelta Update() {
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

  const ServiceModel& model() const { return model_; }

  std::vector<ModelProblem> problems() const {
    std::vector<ModelProblem> all;
    for (const auto& [key, messages] : problems_) {
      all.insert(all.end(), messages.begin(), messages.end());
    }
    std::sort(all.begin(), all.end());
    return all;
  }

 private:
  static constexpr size_t kKeptDirty = 1024;
  static constexpr size_t kMostProblems = 20;  // of one Service, beside what its decoder says

  ServiceState* Find(const std::string& key) {
    const auto found = services_.find(key);
    return found == services_.end() ? nullptr : found->second.get();
  }

  ServiceState& StateOf(const std::string& key) {
    if (ServiceState* const state = Find(key)) return *state;
    auto state = std::make_unique<ServiceState>(key);
    const std::string_view own_key = state->key();
    return *services_.emplace(own_key, std::move(state)).first->second;
  }

  void MarkDirty(ServiceState& state) {
    if (state.dirty) return;
    state.dirty = true;
    dirty_.push_back(&state);
  }

  bool IsOurs(const kube::Service& service) const {
    if (service.headless_label) return false;
    return service_proxy_name_.empty()
               ? !service.has_service_proxy_name
               : service.service_proxy_name == std::string_view(service_proxy_name_);
  }

  // kube-proxy selects slices by the labels too. A proxy with a name of its own does not insist:
  // slices that users write seldom carry it.
  bool IsOurs(const kube::EndpointSlice& slice) const {
    if (slice.service_name.empty() || slice.fqdn || slice.headless_label) return false;
    return !service_proxy_name_.empty() || !slice.has_service_proxy_name;
  }

  void Claim(ServiceState& state) {
    if (!state.service || !IsOurs(*state.service)) return;
    for (const AddressClaim& claim : Claims(*state.service)) {
      claims_.Add(claim, &state, [this](ServiceState* other) { MarkDirty(*other); });
    }
  }

  void Release(ServiceState& state) {
    if (!state.service || !IsOurs(*state.service)) return;
    for (const AddressClaim& claim : Claims(*state.service)) {
      claims_.Remove(claim, &state, [this](ServiceState* other) { MarkDirty(*other); });
    }
  }

  std::vector<AddressClaim> Claims(const kube::Service& service) const {
    return ClaimsOf(service, AddressesOf(service, protected_, nullptr));
  }

  // Brings the entries of one Service in the model up to date and notes what changed.
  void Resolve(ServiceState& state, std::vector<EntryChange>& removed,
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
                             state.slices, {node_name_, zone_}, who_has, problems);
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

  void SetProblems(const ServiceState& state, bool ours, std::vector<std::string> messages) {
    std::vector<ModelProblem> problems;
    if (ours) {
      // Each port on each address can be one: the Service's author is told of some.
      std::sort(messages.begin(), messages.end());
      messages.erase(std::unique(messages.begin(), messages.end()), messages.end());
      if (messages.size() > kMostProblems) {
        const size_t more = messages.size() - kMostProblems;
        messages.resize(kMostProblems);
        messages.push_back("and " + std::to_string(more) + " more of this kind");
      }
      messages.insert(messages.end(), state.service->problems.begin(),
                      state.service->problems.end());
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

  const std::string node_name_;
  const std::string service_proxy_name_;
  std::string zone_;
  AddressSet protected_;
  NodeNetwork network_;
  // By their own keys: the views point into the states.
  std::unordered_map<std::string_view, std::unique_ptr<ServiceState>> services_;
  std::unordered_set<SlicePtr, SliceHash, SliceEqual> slices_;  // those that are ours
  AddressClaims<ServiceState> claims_;
  std::vector<ServiceState*> dirty_;
  std::map<std::string, std::vector<ModelProblem>> problems_;  // by the Service's key
  ServiceModel model_;
};

ModelBuilder::ModelBuilder(std::string node_name, std::string service_proxy_name)
    : impl_(std::make_unique<Impl>(std::move(node_name), std::move(service_proxy_name))) {}
ModelBuilder::~ModelBuilder() = default;

void ModelBuilder::SetService(const std::string& key, ServicePtr service) {
  impl_->SetService(key, std::move(service));
}
void ModelBuilder::SetEndpointSlice(const std::string& key, SlicePtr slice) {
  impl_->SetEndpointSlice(key, std::move(slice));
}
void ModelBuilder::ResolveAll() {
  impl_->ResolveAll();
}
void ModelBuilder::SetNode(std::shared_ptr<const kube::Node> node) {
  impl_->SetNode(node);
}
void ModelBuilder::SetNodeNetwork(NodeNetwork network) {
  impl_->SetNodeNetwork(std::move(network));
}
void ModelBuilder::SetProtectedAddresses(std::unordered_set<net::IpAddress> addresses) {
  impl_->SetProtectedAddresses(std::move(addresses));
}
bool ModelBuilder::HasChanges() const {
  return impl_->HasChanges();
}
ModelDelta ModelBuilder::Update() {
  return impl_->Update();
}
const ServiceModel& ModelBuilder::model() const {
  return impl_->model();
}
std::vector<ModelProblem> ModelBuilder::problems() const {
  return impl_->problems();
}

}  // namespace pointsman::agent
