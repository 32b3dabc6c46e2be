#include "e2e/conformance/case_objects.h"

#include <algorithm>
#include <regex>
#include <tuple>

#include <fmt/format.h>

#include "kube/text/ascii.h"

namespace pointsman::e2e {
namespace {

namespace resources = kube::resources;

const kube::Resource& ResourceOf(const std::string& kind) {
  if (kind == "Service") return resources::kServices;
  if (kind == "EndpointSlice") return resources::kEndpointSlices;
  if (kind == "Node") return resources::kNodes;
  throw std::invalid_argument("kind \"" + kind + "\" is not known here");
}

// What an agent may look at in a Node, to be put back.
Json NodeFacts(const Json& node) {
  const Json& metadata = node.at("metadata");
  return {{"metadata",
           {{"labels", metadata.value("labels", Json::object())},
            {"annotations", metadata.value("annotations", Json::object())}}},
          {"spec", {{"taints", node.at("spec").value("taints", Json::array())}}}};
}

// "Service/web" → {"Service", "web"}
std::pair<std::string, std::string> KindAndName(const std::string& object) {
  const size_t slash = object.find('/');
  return {object.substr(0, slash), object.substr(slash + 1)};
}

}  // namespace

CaseObjects::CaseObjects(Arena& arena, net::Family family, std::string ns)
    : arena_(arena), family_(family), namespace_(std::move(ns)) {}

void CaseObjects::MakeNamespace() {
  arena_.api().Create(resources::kNamespaces, "", {{"metadata", {{"name", namespace_}}}});
  objects_.emplace_back(resources::kNamespaces, namespace_);
}

void CaseObjects::Put(Json object) {
  const std::string kind = object.at("kind");
  const kube::Resource& resource = ResourceOf(kind);
  const std::string name = object.at("metadata").at("name");
  object["apiVersion"] = resource.ApiVersion();
  object["metadata"]["namespace"] = namespace_;
  const Json status = object.value("status", Json());
  object.erase("status");
  if (kind == "Service") {
    Json& spec = object["spec"];
    const bool has_families = spec.contains("ipFamilies") || spec.contains("ipFamilyPolicy");
    if (!has_families && spec.value("type", "") != "ExternalName") {
      spec["ipFamilyPolicy"] = "SingleStack";
      spec["ipFamilies"] = {FamilyName(family_)};
    }
  }
  Json stored;
  try {
    stored = arena_.api().Create(resource, namespace_, object);
    objects_.emplace_back(resource, name);
  } catch (const kube::ApiError& error) {
    if (!error.IsAlreadyExists()) throw;
    // What the API gave out and the manifest does not say stays, as with kubectl apply; labels go.
    const Json now = arena_.api().Get(resource, namespace_, name);
    const Json had = now.at("metadata").value("labels", Json::object());
    const Json wanted = object["metadata"].value("labels", Json::object());
    for (const auto& [label, value] : had.items()) {
      if (!wanted.contains(label)) object["metadata"]["labels"][label] = nullptr;
    }
    stored = arena_.api().Patch(resource, namespace_, name, kube::PatchType::kMerge, object);
  }
  if (!status.is_null())
    stored = arena_.api().Patch(resource, namespace_, name, kube::PatchType::kMerge,
                                {{"status", status}}, "status");
  if (kind == "Service") {
    services_[name] = stored;
    for (const Json& ip : stored["spec"].value("clusterIPs", Json::array()))
      cluster_ips_.push_back(ip);
  }
}

void CaseObjects::SetEndpoints(const std::string& service, const Json& list) {
  for (const Json& family : Service(service).at("spec").value("ipFamilies", Json::array()))
    PutSlice(service, family == "IPv4" ? net::Family::kIPv4 : net::Family::kIPv6, list);
}

void CaseObjects::PutSlice(const std::string& service, net::Family family, const Json& list) {
  Json endpoints = Json::array();
  for (const Json& item : list) {
    const std::string of = item.is_string() ? item.get<std::string>() : item.value("of", "");
    Json endpoint = {{"conditions", {{"ready", true}}}};
    if (of.empty()) {
      endpoint["addresses"] = {item.at("address")};
    } else {
      endpoint["addresses"] = {arena_.Address(of, family)};
      const std::string node = NodeOfPod(of).empty() ? of : NodeOfPod(of);
      endpoint["nodeName"] = node;
      endpoint["zone"] = node == StandingNodes().front() ? "zone-a" : "zone-b";
    }
    if (item.is_object()) {
      if (item.contains("node")) endpoint["nodeName"] = item["node"];
      if (item.contains("zone")) endpoint["zone"] = item["zone"];
      for (const char* condition : {"ready", "serving", "terminating"}) {
        if (item.contains(condition)) endpoint["conditions"][condition] = item[condition];
      }
      for (const auto& [field, hint, key] : {std::tuple{"zone_hints", "forZones", "name"},
                                             std::tuple{"node_hints", "forNodes", "name"}}) {
        if (!item.contains(field)) continue;
        endpoint["hints"][hint] = Json::array();
        for (const Json& name : item[field])
          endpoint["hints"][hint].push_back({{key, name}});
      }
    }
    endpoints.push_back(std::move(endpoint));
  }
  Json ports = Json::array();
  for (const Json& port : Service(service).at("spec").value("ports", Json::array())) {
    const Json target = port.value("targetPort", port.at("port"));
    if (!target.is_number())
      throw std::invalid_argument("Service " + service +
                                  " has a named target port: its EndpointSlice has to be written "
                                  "out with apply");
    ports.push_back({{"name", port.value("name", "")},
                     {"protocol", port.value("protocol", "TCP")},
                     {"port", target}});
  }
  Json labels = {{"kubernetes.io/service-name", service}};
  // As the EndpointSlice controller does: it hands these labels of the Service on.
  for (const char* label :
       {"service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"}) {
    const Json of_service = Service(service).at("metadata").value("labels", Json::object());
    if (of_service.contains(label)) labels[label] = of_service[label];
  }
  Put({{"kind", "EndpointSlice"},
       {"metadata",
        {{"name", fmt::format("{}-{}", service, text::ToLowerAscii(FamilyName(family)))},
         {"labels", labels}}},
       {"addressType", FamilyName(family)},
       {"endpoints", endpoints},
       {"ports", ports}});
}

void CaseObjects::Patch(const std::string& object, Json change) {
  const auto [kind, name] = KindAndName(object);
  const std::string ns = kind == "Node" ? "" : namespace_;
  if (kind == "Node" && !nodes_before_.contains(name))
    nodes_before_[name] = NodeFacts(arena_.api().Get(resources::kNodes, "", name));
  const Json status = change.value("status", Json());
  change.erase("status");
  Json stored;
  if (!change.empty())
    stored = arena_.api().Patch(ResourceOf(kind), ns, name, kube::PatchType::kMerge, change);
  if (!status.is_null())
    stored = arena_.api().Patch(ResourceOf(kind), ns, name, kube::PatchType::kMerge,
                                {{"status", status}}, "status");
  if (kind == "Service") services_[name] = stored;
}

void CaseObjects::Delete(const std::string& object) {
  const auto [kind, name] = KindAndName(object);
  const kube::Resource& resource = ResourceOf(kind);
  if (!arena_.api().Delete(resource, namespace_, name))
    throw std::invalid_argument("there is no " + object);
  std::erase(objects_, std::pair{resource, name});
}

const Json& CaseObjects::Service(const std::string& name) const {
  const auto found = services_.find(name);
  if (found == services_.end())
    throw std::invalid_argument("no earlier step applies a Service \"" + name + "\"");
  return found->second;
}

std::string CaseObjects::LookForEvent(const EventStep& step) const {
  const auto [kind, name] = KindAndName(step.object);
  const std::regex message(step.message, std::regex::ECMAScript | std::regex::multiline);
  std::string seen;
  // `kubectl describe` of a Service asks for the Events of that very object.
  const std::string uid = kind == "Service"
                              ? arena_.api()
                                    .Get(ResourceOf(kind), namespace_, name)["metadata"]["uid"]
                                    .get<std::string>()
                              : "";
  // Events of objects without a namespace are in this one.
  for (const Json& event :
       arena_.api().List(resources::kEvents, kind == "Node" ? "default" : namespace_)) {
    const Json& about = event.at("involvedObject");
    if (about.value("kind", "") != kind || about.value("name", "") != name) continue;
    if (!uid.empty() && about.value("uid", "") != uid) continue;
    const std::string text = event.value("message", "");
    if (event.value("reason", "") == step.reason && std::regex_search(text, message)) return "";
    seen += fmt::format("\n  {} {}: {}", event.value("type", ""), event.value("reason", ""), text);
  }
  return fmt::format("no Event on {} has the reason {} and a message that matches {}; there {}",
                     step.object, step.reason, step.message,
                     seen.empty() ? "is none" : "are:" + seen);
}

void CaseObjects::CleanUp() {
  for (const auto& [name, before] : nodes_before_) {
    const Json now = NodeFacts(arena_.api().Get(resources::kNodes, "", name));
    Json patch = before;
    for (const char* map : {"labels", "annotations"}) {
      for (const auto& [key, value] : now["metadata"][map].items()) {
        if (!before["metadata"][map].contains(key)) patch["metadata"][map][key] = nullptr;
      }
    }
    arena_.api().Patch(resources::kNodes, "", name, kube::PatchType::kMerge, patch);
  }
  nodes_before_.clear();
  for (auto object = objects_.rbegin(); object != objects_.rend(); ++object)
    arena_.api().Delete(object->first, object->first.namespaced ? namespace_ : "", object->second);
  objects_.clear();
}

}  // namespace pointsman::e2e
