#include "kubectl-pointsman/api.h"

#include <algorithm>
#include <map>

#include "kube/client/discovery.h"
#include "kube/objects/object_json.h"
#include "kube/text/text.h"
#include "kubectl-pointsman/exit_code.h"
#include "operator/plan/input.h"

namespace pointsman::plugin {
namespace {

using kube::Json;
namespace resources = kube::resources;

const kube::Resource kControllerRevisions{"apps", "v1", "controllerrevisions", "ControllerRevision",
                                          true};
// Events of objects without a namespace are kept there.
constexpr const char* kEventsNamespace = "default";

std::string Text(const Json& object, const char* pointer) {
  const Json::json_pointer at(pointer);
  const bool there = object.contains(at) && object.at(at).is_string();
  return there ? object.at(at).get<std::string>() : "";
}

std::string Names(const std::vector<kube::ProxyConfiguration>& configurations) {
  std::string names;
  for (const kube::ProxyConfiguration& configuration : configurations)
    names += (names.empty() ? "" : ", ") + configuration.name;
  return names;
}

// Calls `item` with each object, parsed.
void ForEach(kube::Client& client, const kube::Resource& resource, const std::string& ns,
             const kube::ListOptions& options, const std::function<void(const Json&)>& item,
             const std::function<void()>& clear) {
  client.ListItems(
      resource, ns, options, [&](std::string_view text) { item(kube::ParseObject(text)); }, clear);
}

Event EventFromJson(const Json& object) {
  Event event;
  event.type = Text(object, "/type");
  event.reason = Text(object, "/reason");
  event.message = Text(object, "/message");
  event.component = Text(object, "/source/component");
  if (event.component.empty()) event.component = Text(object, "/reportingComponent");
  for (const char* at : {"/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"}) {
    if (event.last.empty()) event.last = Text(object, at);
  }
  if (object.contains("count") && object.at("count").is_number_integer())
    event.count = object.at("count").get<int64_t>();
  return event;
}

}  // namespace

// A 404 says either that the object is not there or that nobody knows its kind.
bool Api::ServesPointsman() {
  return kube::ServesResource(client_, resources::kProxyConfigurations);
}

std::vector<kube::ProxyConfiguration> Api::Configurations() {
  std::vector<kube::ProxyConfiguration> all;
  ForEach(
      client_, resources::kProxyConfigurations, "", {},
      [&](const Json& object) { all.push_back(kube::ProxyConfigurationFromJson(object)); },
      [&] { all.clear(); });
  return all;
}

kube::ProxyConfiguration Api::Configuration(const std::string& name) {
  if (!name.empty()) {
    try {
      return kube::ProxyConfigurationFromJson(
          client_.Get(resources::kProxyConfigurations, "", name));
    } catch (const kube::ApiError& error) {
      if (!error.IsNotFound() || !ServesPointsman()) throw;
      const std::string others = Names(Configurations());
      throw Failure(ExitCode::kNotFound,
                    "there is no ProxyConfiguration " + text::Quote(name) +
                        (others.empty() ? "; there is none at all" : "; there are: " + others));
    }
  }
  std::vector<kube::ProxyConfiguration> all = Configurations();
  if (all.empty()) {
    throw Failure(ExitCode::kNotFound,
                  "there is no ProxyConfiguration on this cluster; apply one (`kubectl apply -f "
                  "crds/examples/iptables.yaml`), or ask the nodes first: `kubectl pointsman "
                  "preflight --mode ipvs --ask`");
  }
  if (all.size() > 1)
    throw Failure(ExitCode::kError,
                  "there are several ProxyConfigurations, say which with --name: " + Names(all));
  return std::move(all.front());
}

NodeProxies Api::AllNodeProxies() {
  NodeProxies found;
  ForEach(
      client_, resources::kNodeProxies, "", {},
      [&](const Json& object) {
        try {
          found.proxies.push_back(kube::NodeProxyFromJson(object));
        } catch (const std::invalid_argument& error) {
          found.unreadable.push_back("NodeProxy " + Text(object, "/metadata/name") + ": " +
                                     error.what());
        }
      },
      [&] { found = {}; });
  std::sort(found.proxies.begin(), found.proxies.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return found;
}

std::optional<kube::NodeProxy> Api::NodeProxy(const std::string& node) {
  try {
    return kube::NodeProxyFromJson(client_.Get(resources::kNodeProxies, "", node));
  } catch (const kube::ApiError& error) {
    if (!error.IsNotFound() || !ServesPointsman()) throw;
    return std::nullopt;
  }
}

std::vector<kube::Node> Api::Nodes() {
  std::vector<kube::Node> nodes;
  client_.ListItems(
      resources::kNodes, "", {},
      [&](std::string_view text) { nodes.push_back(kube::DecodeNode(text)); },
      [&] { nodes.clear(); });
  std::sort(nodes.begin(), nodes.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return nodes;
}

std::vector<kube::Pod> Api::KubeProxyPods(const std::string& node) {
  std::map<std::string, kube::Pod> pods;
  for (const char* label : op::kKubeProxyPodLabels) {
    kube::ListOptions options;
    options.label_selector = std::string(label) + "=" + op::kKubeProxyPodLabel;
    client_.ListItems(
        resources::kPods, "kube-system", options,
        [&](std::string_view text) {
          kube::Pod pod = kube::DecodePod(text);
          if (pod.node_name == node && !pod.over) pods[pod.name] = std::move(pod);
        },
        [] {});
  }
  std::vector<kube::Pod> list;
  list.reserve(pods.size());
  for (auto& [name, pod] : pods)
    list.push_back(std::move(pod));
  return list;
}

std::vector<StoredRevision> Api::Revisions(const kube::ProxyConfiguration& of) {
  std::vector<StoredRevision> revisions;
  kube::ListOptions options;
  options.label_selector = std::string(op::kConfigurationLabel) + "=" + of.name;
  ForEach(
      client_, kControllerRevisions, ns_, options,
      [&](const Json& object) {
        // What others keep under our label is not ours, and nothing to go back to.
        try {
          StoredRevision stored{op::RevisionFromJson(object),
                                Text(object, "/metadata/creationTimestamp")};
          if (stored.revision.owner_uid == of.uid) revisions.push_back(std::move(stored));
        } catch (const std::invalid_argument&) {
          return;
        }
      },
      [&] { revisions.clear(); });
  std::sort(revisions.begin(), revisions.end(),
            [](const auto& a, const auto& b) { return a.revision.number < b.revision.number; });
  return revisions;
}

std::vector<Event> Api::EventsAbout(std::string_view kind, const std::string& name) {
  std::vector<Event> events;
  kube::ListOptions options;
  options.field_selector =
      "involvedObject.kind=" + std::string(kind) + ",involvedObject.name=" + name;
  ForEach(
      client_, resources::kEvents, kEventsNamespace, options,
      [&](const Json& object) { events.push_back(EventFromJson(object)); },
      [&] { events.clear(); });
  std::stable_sort(events.begin(), events.end(),
                   [](const Event& a, const Event& b) { return a.last < b.last; });
  return events;
}

Json Api::RawConfigurationOrNull(const std::string& name) {
  try {
    return client_.Get(resources::kProxyConfigurations, "", name);
  } catch (const kube::ApiError& error) {
    if (!error.IsNotFound() || !ServesPointsman()) throw;
    return nullptr;
  }
}

kube::ProxyConfiguration Api::PatchSpec(
    const std::string& name, const std::function<Json(const kube::ProxyConfiguration&)>& make) {
  constexpr int kTries = 5;
  for (int tried = 1;; ++tried) {
    const kube::ProxyConfiguration configuration = Configuration(name);
    const Json spec = make(configuration);
    if (spec.is_null()) return configuration;
    try {
      return kube::ProxyConfigurationFromJson(client_.Patch(
          resources::kProxyConfigurations, "", configuration.name, kube::PatchType::kMerge,
          {{"metadata",
            {{"resourceVersion", configuration.resource_version}, {"uid", configuration.uid}}},
           {"spec", spec}},
          "", kFieldManager));
    } catch (const kube::ApiError& error) {
      if (!error.IsConflict() || tried == kTries) throw;
    }
  }
}

kube::ProxyConfiguration Api::Create(const Json& configuration) {
  return kube::ProxyConfigurationFromJson(
      client_.Create(resources::kProxyConfigurations, "", configuration));
}

bool Api::Delete(const kube::ProxyConfiguration& configuration) {
  return client_.Delete(resources::kProxyConfigurations, "", configuration.name, configuration.uid);
}

}  // namespace pointsman::plugin
