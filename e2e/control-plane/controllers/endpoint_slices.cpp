// EndpointSlices and Endpoints of Services with a selector, as kube-controller-manager makes them
// (KEP-752, KEP-1672 for terminating endpoints).
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "e2e/control-plane/base/api_time.h"
#include "e2e/control-plane/controllers/controller.h"

namespace pointsman::e2e {
namespace {

constexpr const char* kSlices = "discovery.k8s.io/endpointslices";
constexpr const char* kManagedBy = "endpointslice.kubernetes.io/managed-by";
constexpr const char* kManager = "endpointslice-controller.k8s.io";
constexpr const char* kServiceName = "kubernetes.io/service-name";
constexpr const char* kTrigger = "endpoints.kubernetes.io/last-change-trigger-time";
constexpr size_t kMaxEndpoints = 100;
constexpr size_t kMaxAddresses = 1000;  // of an Endpoints object

using Labels = std::vector<std::pair<std::string, std::string>>;

struct Pod {
  std::string ns, name, uid, node, hostname, subdomain;
  Labels labels;
  std::vector<std::string> addresses;
  bool ready = false;
  bool terminating = false;
  bool done = false;                                               // Succeeded, Failed
  std::map<std::pair<std::string, std::string>, int> named_ports;  // (name, protocol)
};

Pod ReadPod(const StoredObject& object) {
  Json json = object.Parse();
  Pod pod;
  pod.ns = object.ns;
  pod.name = object.name;
  pod.uid = object.uid;
  pod.labels = object.labels;
  const Json spec = json.value("spec", Json::object());
  const Json status = json.value("status", Json::object());
  pod.node = spec.value("nodeName", "");
  pod.hostname = spec.value("hostname", "");
  pod.subdomain = spec.value("subdomain", "");
  for (const auto& ip : status.value("podIPs", Json::array())) {
    pod.addresses.push_back(ip.value("ip", ""));
  }
  if (std::string ip = status.value("podIP", ""); pod.addresses.empty() && !ip.empty())
    pod.addresses.push_back(std::move(ip));
  for (const auto& condition : status.value("conditions", Json::array())) {
    if (condition.value("type", "") == "Ready") pod.ready = condition.value("status", "") == "True";
  }
  std::string phase = status.value("phase", "");
  pod.done = phase == "Succeeded" || phase == "Failed";
  pod.terminating = json["metadata"].contains("deletionTimestamp");
  for (const char* list : {"containers", "initContainers"}) {
    for (const auto& container : spec.value(list, Json::array())) {
      for (const auto& port : container.value("ports", Json::array())) {
        if (!port.contains("name")) continue;
        pod.named_ports.emplace(
            std::pair(port["name"].get<std::string>(), port.value("protocol", "TCP")),
            port.value("containerPort", 0));
      }
    }
  }
  return pod;
}

class EndpointSliceController : public Controller {
 public:
  EndpointSliceController(Store& store, const Emulation& emulation)
      : Controller("endpointslice"), store_(store), emulation_(emulation) {}

  bool Watches(const ResourceName& resource) const override {
    return resource == "services" || resource == "pods" || resource == "nodes" ||
           resource == kSlices;
  }

  void OnEvent(const ResourceName& resource, const ObjectPtr& previous,
               const ObjectPtr& now) override {
    const StoredObject& object = now ? *now : *previous;
    if (resource == "services") {
      OnService(object, now != nullptr);
    } else if (resource == "pods") {
      OnPod(object, now != nullptr);
    } else if (resource == "nodes") {
      OnNode(object, now != nullptr);
    } else {
      OnSlice(object, previous, now);
    }
  }

  void Sync(const std::string& key) override {
    auto [ns, name] = SplitKey(key);
    ObjectPtr stored = store_.Get("services", ns, name);
    if (!stored) {
      for (const auto& slice : slices_[key])
        RemoveSlice(ns, slice);
      slices_.erase(key);
      return;
    }
    Json service = stored->Parse();
    const Json spec = service.value("spec", Json::object());
    if (service["metadata"].contains("deletionTimestamp") ||
        spec.value("selector", Json::object()).empty() ||
        spec.value("type", "ClusterIP") == "ExternalName") {
      return;
    }
    std::vector<const Pod*> pods = Select(ns, spec["selector"]);
    Json families = spec.value("ipFamilies", Json::array({"IPv4"}));
    for (const char* family : {"IPv4", "IPv6"}) {
      bool wanted = std::find(families.begin(), families.end(), family) != families.end();
      SyncFamily(key, service, family, wanted ? pods : std::vector<const Pod*>{}, wanted);
    }
    SyncEndpoints(service, families[0], pods);
  }

 private:
  using Bucket = std::tuple<std::string, std::string, std::string>;  // namespace, label, value

  void OnService(const StoredObject& object, bool exists) {
    std::string key = JoinKey(object.ns, object.name);
    if (auto found = service_bucket_.find(key); found != service_bucket_.end()) {
      services_by_label_[found->second].erase(key);
      service_bucket_.erase(found);
    }
    if (exists) {
      Json json = object.Parse();
      const Json selector = json.value("spec", Json::object()).value("selector", Json::object());
      if (!selector.empty()) {
        // One pair of the selector finds all pods that can match.
        Bucket bucket{object.ns, selector.begin().key(), selector.begin().value()};
        services_by_label_[bucket].insert(key);
        service_bucket_[key] = bucket;
      }
    }
    Enqueue(key);
  }

  void OnPod(const StoredObject& object, bool exists) {
    std::string key = JoinKey(object.ns, object.name);
    if (auto found = pods_.find(key); found != pods_.end()) {
      for (const auto& [label, value] : found->second.labels) {
        pods_by_label_[{object.ns, label, value}].erase(key);
        EnqueueServices({object.ns, label, value});
      }
      pods_.erase(found);
    }
    if (!exists) return;
    Pod pod = ReadPod(object);
    for (const auto& [label, value] : pod.labels) {
      pods_by_label_[{object.ns, label, value}].insert(key);
      EnqueueServices({object.ns, label, value});
    }
    pods_.emplace(key, std::move(pod));
  }

  void EnqueueServices(const Bucket& bucket) {
    auto found = services_by_label_.find(bucket);
    if (found == services_by_label_.end()) return;
    for (const auto& service : found->second)
      Enqueue(service);
  }

  void OnNode(const StoredObject& object, bool exists) {
    const std::string* zone = exists ? LabelOf(object, "topology.kubernetes.io/zone") : nullptr;
    std::string& known = zones_[object.name];
    std::string now = zone ? *zone : "";
    if (known == now) return;
    known = now;
    for (const auto& [key, pod] : pods_) {
      if (pod.node != object.name) continue;
      for (const auto& [label, value] : pod.labels)
        EnqueueServices({pod.ns, label, value});
    }
  }

  void OnSlice(const StoredObject& object, const ObjectPtr& previous, const ObjectPtr& now) {
    const std::string* service = LabelOf(object, kServiceName);
    const std::string* manager = LabelOf(object, kManagedBy);
    if (!service || !manager || *manager != kManager) return;
    std::string key = JoinKey(object.ns, *service);
    if (now) {
      slices_[key].insert(object.name);
      // Our own writes come back here: only what somebody else changed needs work.
      auto ours = written_.find(JoinKey(object.ns, object.name));
      if (ours != written_.end() && ours->second == now->resource_version) return;
    } else {
      slices_[key].erase(object.name);
      if (written_.erase(JoinKey(object.ns, object.name)) == 0) return;
    }
    if (previous || now) Enqueue(key);
  }

  std::vector<const Pod*> Select(const std::string& ns, const Json& selector) {
    const std::set<std::string>* smallest = nullptr;
    static const std::set<std::string> kNone;
    for (const auto& [label, value] : selector.items()) {
      auto found = pods_by_label_.find({ns, label, value.get<std::string>()});
      const auto* candidates = found == pods_by_label_.end() ? &kNone : &found->second;
      if (!smallest || candidates->size() < smallest->size()) smallest = candidates;
    }
    std::vector<const Pod*> out;
    Json match = {{"matchLabels", selector}};
    for (const auto& key : *smallest) {
      const Pod& pod = pods_.at(key);
      if (!pod.done && !pod.addresses.empty() && SelectorMatches(match, pod.labels)) {
        out.push_back(&pod);
      }
    }
    return out;
  }

  // The ports of the Service as this pod has them; a named port that the pod lacks is left out.
  static Json PortsFor(const Json& spec, const Pod& pod) {
    Json ports = Json::array();
    for (const auto& port : spec.value("ports", Json::array())) {
      std::string protocol = port.value("protocol", "TCP");
      Json target = port.value("targetPort", port.value("port", Json(0)));
      if (target.is_string()) {
        auto found = pod.named_ports.find({target.get<std::string>(), protocol});
        if (found == pod.named_ports.end()) continue;
        target = found->second;
      }
      if (target == 0) target = port["port"];
      Json out = {{"name", port.value("name", "")}, {"protocol", protocol}, {"port", target}};
      if (port.contains("appProtocol")) out["appProtocol"] = port["appProtocol"];
      ports.push_back(std::move(out));
    }
    return ports;
  }

  static const std::string* AddressOf(const Pod& pod, const std::string& family) {
    for (const auto& address : pod.addresses) {
      if ((address.find(':') != std::string::npos) == (family == "IPv6")) return &address;
    }
    return nullptr;
  }

  Json EndpointOf(const Json& service, const Pod& pod, const std::string& address) {
    bool publish = service["spec"].value("publishNotReadyAddresses", false);
    Json endpoint = {
        {"addresses", Json::array({address})},
        {"conditions", {{"ready", publish || (pod.ready && !pod.terminating)}}},
        {"targetRef",
         {{"kind", "Pod"}, {"namespace", pod.ns}, {"name", pod.name}, {"uid", pod.uid}}}};
    if (emulation_.AtLeast(22)) {  // KEP-1672
      endpoint["conditions"]["serving"] = pod.ready;
      endpoint["conditions"]["terminating"] = pod.terminating;
    }
    if (!pod.hostname.empty() && pod.subdomain == service["metadata"]["name"]) {
      endpoint["hostname"] = pod.hostname;
    }
    if (pod.node.empty()) return endpoint;
    const std::string& zone = zones_[pod.node];
    if (emulation_.AtLeast(21)) {
      endpoint["nodeName"] = pod.node;
      if (!zone.empty()) endpoint["zone"] = zone;
    } else {
      endpoint["topology"]["kubernetes.io/hostname"] = pod.node;
      if (!zone.empty()) endpoint["topology"]["topology.kubernetes.io/zone"] = zone;
    }
    return endpoint;
  }

  Json NewSlice(const Json& service, const std::string& family) const {
    const Json& meta = service["metadata"];
    std::string name = meta["name"];
    Json slice = {
        {"apiVersion", emulation_.AtLeast(21) ? "discovery.k8s.io/v1" : "discovery.k8s.io/v1beta1"},
        {"kind", "EndpointSlice"},
        {"metadata",
         {{"namespace", meta["namespace"]},
          {"name", GeneratedName(name + "-")},
          {"generateName", name + "-"},
          {"generation", 1},
          {"ownerReferences", Json::array({{{"apiVersion", "v1"},
                                            {"kind", "Service"},
                                            {"name", name},
                                            {"uid", meta["uid"]},
                                            {"controller", true},
                                            {"blockOwnerDeletion", true}}})}}},
        {"addressType", family},
        {"endpoints", Json::array()}};
    return slice;
  }

  static Json LabelsFor(const Json& service) {
    Json labels = service["metadata"].value("labels", Json::object());
    labels[kManagedBy] = kManager;
    labels[kServiceName] = service["metadata"]["name"];
    if (service["spec"].value("clusterIP", "") == "None") {
      labels["service.kubernetes.io/headless"] = "";
    }
    return labels;
  }

  void SyncFamily(const std::string& key, const Json& service, const std::string& family,
                  const std::vector<const Pod*>& pods, bool wanted) {
    // Endpoints by the ports they have, each found again by its pod's uid.
    std::map<Json, std::map<std::string, Json>> groups;
    for (const Pod* pod : pods) {
      if (const std::string* address = AddressOf(*pod, family)) {
        groups[PortsFor(service["spec"], *pod)][pod->uid] = EndpointOf(service, *pod, *address);
      }
    }
    if (groups.empty() && wanted) groups[Json::array()];  // one slice says that there are none
    std::string ns = service["metadata"]["namespace"];
    Json labels = LabelsFor(service);
    struct Slice {
      Json json;
      Json original;
    };
    std::map<Json, std::vector<Slice>> existing;
    for (const auto& name : std::set<std::string>(slices_[key])) {
      ObjectPtr stored = store_.Get(kSlices, ns, name);
      if (!stored) continue;
      Json json = stored->Parse();
      if (json.value("addressType", "") != family) continue;
      Json ports = json.value("ports", Json::array());
      if (!ports.is_array()) ports = Json::array();
      if (!groups.contains(ports)) {
        RemoveSlice(ns, name);
        continue;
      }
      existing[ports].push_back({json, json});
    }
    for (auto& [ports, endpoints] : groups) {
      auto& slices = existing[ports];
      for (auto& slice : slices) {
        Json kept = Json::array();
        for (const auto& endpoint : slice.json.value("endpoints", Json::array())) {
          std::string uid = endpoint.value("targetRef", Json::object()).value("uid", "");
          auto found = endpoints.find(uid);
          if (found == endpoints.end()) continue;
          kept.push_back(std::move(found->second));
          endpoints.erase(found);
        }
        slice.json["endpoints"] = std::move(kept);
      }
      for (auto& [uid, endpoint] : endpoints) {
        auto room = std::find_if(slices.begin(), slices.end(), [](const Slice& slice) {
          return slice.json["endpoints"].size() < kMaxEndpoints;
        });
        if (room == slices.end()) {
          slices.push_back({NewSlice(service, family), Json()});
          room = slices.end() - 1;
          room->json["ports"] = ports;
        }
        room->json["endpoints"].push_back(std::move(endpoint));
      }
      if (slices.empty()) {
        slices.push_back({NewSlice(service, family), Json()});
        slices.back().json["ports"] = ports;
      }
      size_t used = 0;
      for (const auto& slice : slices)
        used += slice.json["endpoints"].empty() ? 0 : 1;
      bool placeholder = used == 0;
      for (auto& slice : slices) {
        if (slice.json["endpoints"].empty() && !placeholder) {
          RemoveSlice(ns, slice.json["metadata"]["name"]);
          continue;
        }
        placeholder = placeholder && !slice.json["endpoints"].empty();
        slice.json["metadata"]["labels"] = labels;
        Write(key, slice.json, slice.original);
      }
    }
  }

  void Write(const std::string& key, Json& slice, const Json& original) {
    if (slice == original) return;
    slice["metadata"]["annotations"][kTrigger] = FormatTime(std::chrono::system_clock::now());
    ObjectPtr stored;
    if (original.is_null()) {
      stored = store_.Create(kSlices, slice);
      slices_[key].insert(stored->name);
    } else {
      Json& generation = slice["metadata"]["generation"];
      generation = generation.is_number() ? generation.get<int64_t>() + 1 : 1;
      std::string version = original["metadata"].value("resourceVersion", "0");
      stored = store_.Update(kSlices, slice, std::stoull(version));
    }
    written_[JoinKey(stored->ns, stored->name)] = stored->resource_version;
  }

  void RemoveSlice(const std::string& ns, const std::string& name) {
    written_.erase(JoinKey(ns, name));
    try {
      store_.Remove(kSlices, ns, name);
    } catch (const StatusError& error) {
      if (error.code() != 404) throw;  // gone already is what was wanted
    }
  }

  void SyncEndpoints(const Json& service, const std::string& family,
                     const std::vector<const Pod*>& pods) {
    std::map<Json, std::pair<Json, Json>> by_ports;  // ready, not ready
    size_t count = 0;
    for (const Pod* pod : pods) {
      const std::string* ip = AddressOf(*pod, family);
      bool publish = service["spec"].value("publishNotReadyAddresses", false);
      if (!ip || (pod->terminating && !publish) || ++count > kMaxAddresses) continue;
      Json address = {
          {"ip", *ip},
          {"targetRef",
           {{"kind", "Pod"}, {"namespace", pod->ns}, {"name", pod->name}, {"uid", pod->uid}}}};
      if (!pod->node.empty()) address["nodeName"] = pod->node;
      Json ports = PortsFor(service["spec"], *pod);
      if (ports.size() == 1 && ports[0].value("name", "").empty()) ports[0].erase("name");
      auto& [ready, not_ready] = by_ports[ports];
      (pod->ready || publish ? ready : not_ready).push_back(std::move(address));
    }
    Json subsets = Json::array();
    for (auto& [ports, addresses] : by_ports) {
      Json subset = Json::object();
      if (!ports.empty()) subset["ports"] = ports;
      if (!addresses.first.empty()) subset["addresses"] = std::move(addresses.first);
      if (!addresses.second.empty()) subset["notReadyAddresses"] = std::move(addresses.second);
      subsets.push_back(std::move(subset));
    }
    std::string ns = service["metadata"]["namespace"];
    std::string name = service["metadata"]["name"];
    Json labels = service["metadata"].value("labels", Json::object());
    if (store_.Get("endpoints", ns, name)) {
      store_.Modify("endpoints", ns, name, [&](Json& object) {
        if (object.value("subsets", Json::array()) == subsets &&
            object["metadata"].value("labels", Json::object()) == labels) {
          return false;
        }
        object["subsets"] = subsets;
        object["metadata"]["labels"] = labels;
        return true;
      });
      return;
    }
    store_.Create("endpoints",
                  {{"apiVersion", "v1"},
                   {"kind", "Endpoints"},
                   {"metadata", {{"namespace", ns}, {"name", name}, {"labels", labels}}},
                   {"subsets", subsets}});
  }

  Store& store_;
  Emulation emulation_;
  std::unordered_map<std::string, Pod> pods_;
  std::map<Bucket, std::set<std::string>> pods_by_label_;
  std::map<Bucket, std::set<std::string>> services_by_label_;
  std::unordered_map<std::string, Bucket> service_bucket_;
  std::map<std::string, std::string> zones_;
  std::unordered_map<std::string, std::set<std::string>> slices_;
  std::unordered_map<std::string, uint64_t> written_;
};

}  // namespace

std::unique_ptr<Controller> MakeEndpointSliceController(Store& store, const Emulation& emulation) {
  return std::make_unique<EndpointSliceController>(store, emulation);
}

}  // namespace pointsman::e2e
