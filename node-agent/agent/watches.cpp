#include "node-agent/agent/watches.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <string_view>
#include <utility>

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include "kube/client/discovery.h"
#include "kube/time/time_source.h"

namespace pointsman::agent {
namespace {

// Services and slices of another proxy or of headless Services never reach us: kube-proxy's
// selector.
constexpr char kOurs[] =
    "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name";

template <typename T>
bool SameVersion(const T& a, const T& b) {
  return !a.resource_version.empty() && a.resource_version == b.resource_version;
}

kube::Resource EndpointSliceResource(kube::Client& client) {
  if (kube::ServesResource(client, kube::resources::kEndpointSlices)) {
    return kube::resources::kEndpointSlices;
  }
  spdlog::info("the API server has no discovery.k8s.io/v1: using v1beta1");
  return kube::resources::kEndpointSlicesV1Beta1;
}

// Served as it was, or not at all.
template <typename T>
void AddUnreadable(const char* kind, const kube::Informer<T>& informer,
                   std::vector<ModelProblem>& problems) {
  for (const auto& [key, why] : informer.Undecodable()) {
    const bool kept = informer.Get(key) != nullptr;
    problems.push_back({kind, key,
                        fmt::format("it cannot be read and {}: {}",
                                    kept ? "is served as it was before" : "is not served", why)});
  }
}

}  // namespace

Watches::Watches(kube::Client& client, std::string node_name, bool node_proxy, ChangeInbox& inbox,
                 ProxyHealth& health)
    : client_(client),
      node_name_(std::move(node_name)),
      node_proxy_(node_proxy),
      inbox_(inbox),
      health_(health) {}

bool Watches::FindEndpointSlices(const std::stop_token& stop) {
  kube::Client client = client_.WithStop(stop);  // it may accept and never answer
  std::chrono::milliseconds delay{500};
  while (!stop.stop_requested()) {
    try {
      slices_resource_ = EndpointSliceResource(client);
      return true;
    } catch (const std::exception& error) {
      spdlog::warn("API server unreachable; retrying: {}", error.what());
    }
    kube::TimeSource::Real().Sleep(delay, stop);
    delay = std::min(delay * 2, std::chrono::milliseconds(15'000));
  }
  return false;
}

void Watches::MakeInformers() {
  const kube::ReflectorOptions ours{.label_selector = kOurs};
  services_ = std::make_unique<kube::Informer<kube::Service>>(
      client_, kube::resources::kServices, ours, kube::DecodeService,
      [](const kube::Service& service) { return service.Key(); }, SameVersion<kube::Service>);
  // health_ learns of it here and not only when it is handled: a sync thread that hangs handles
  // nothing.
  services_->AddHandler([this](const auto& before, const auto& after) {
    health_.ChangeQueued();
    inbox_.PutService((after ? after : before)->Key(), after);
  });
  services_->OnSynced([this] { inbox_.PutCacheSynced(CacheId::kServices); });
  slices_ = std::make_unique<kube::Informer<kube::EndpointSlice>>(
      client_, slices_resource_, ours, kube::DecodeEndpointSlice,
      [](const kube::EndpointSlice& slice) { return slice.Key(); },
      SameVersion<kube::EndpointSlice>);
  slices_->AddHandler([this](const auto& before, const auto& after) {
    health_.ChangeQueued();
    inbox_.PutEndpointSlice((after ? after : before)->Key(), after);
  });
  slices_->OnSynced([this] { inbox_.PutCacheSynced(CacheId::kEndpointSlices); });
  const kube::ReflectorOptions this_node{.field_selector = "metadata.name=" + node_name_};
  nodes_ = std::make_unique<kube::Informer<kube::Node>>(
      client_, kube::resources::kNodes, this_node, kube::DecodeNode,
      [](const kube::Node& node) { return node.name; }, SameVersion<kube::Node>);
  nodes_->AddHandler([this](const auto&, const auto& after) { inbox_.PutNode(after); });
  nodes_->OnSynced([this] { inbox_.PutCacheSynced(CacheId::kNode); });
  if (!node_proxy_) return;
  proxies_ = std::make_unique<kube::Informer<kube::NodeProxy>>(
      client_, kube::resources::kNodeProxies, this_node,
      [](std::string_view json) {
        return kube::NodeProxyFromJson(kube::Json::parse(json.begin(), json.end()));
      },
      [](const kube::NodeProxy& proxy) { return proxy.name; }, SameVersion<kube::NodeProxy>);
  proxies_->AddHandler([this](const auto&, const auto& after) { inbox_.PutNodeProxy(after); });
}

bool Watches::Start(std::stop_token stop) {
  if (!FindEndpointSlices(stop)) return false;
  MakeInformers();
  made_ = true;
  services_->Start();
  slices_->Start();
  nodes_->Start();
  if (proxies_) proxies_->Start();
  return true;
}

kube::ObjectReference Watches::ReferenceTo(const std::string& kind, const std::string& ns,
                                           const std::string& name) const {
  if (kind != "Service") return {slices_resource_.ApiVersion(), kind, ns, name, ""};
  const auto service = made_ ? services_->Get(ns + "/" + name) : nullptr;
  return {"v1", kind, ns, name, service ? service->uid : ""};
}

std::string Watches::ServiceOf(const ModelProblem& problem) const {
  if (problem.kind == "Service") return problem.key;
  const auto slice = made_ ? slices_->Get(problem.key) : nullptr;
  if (slice && !slice->service_name.empty())
    return problem.key.substr(0, problem.key.find('/') + 1) + slice->service_name;
  return problem.kind + " " + problem.key;
}

std::chrono::steady_clock::time_point Watches::HeardOfNodeProxy() const {
  if (!made_ || !proxies_) return std::chrono::steady_clock::time_point::min();
  return proxies_->Stats().last_contact;
}

std::vector<ModelProblem> Watches::Unreadable() const {
  std::vector<ModelProblem> problems;
  if (!made_) return problems;
  AddUnreadable("Service", *services_, problems);
  AddUnreadable("EndpointSlice", *slices_, problems);
  return problems;
}

void Watches::Show(Metrics& metrics) const {
  if (!made_) return;
  const auto show = [&metrics](const char* resource, const auto& informer) {
    metrics.SetWatch(resource, informer.Stats().errors, informer.HasSynced(),
                     informer.DecodeErrors(), informer.Undecodable().size());
  };
  show("services", *services_);
  show("endpointslices", *slices_);
  show("nodes", *nodes_);
  if (proxies_) show("nodeproxies", *proxies_);
}

}  // namespace pointsman::agent
