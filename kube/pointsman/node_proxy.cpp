#include "kube/pointsman/node_proxy.h"

#include <array>

#include "kube/pointsman/limits.h"
#include "kube/pointsman/object_reader.h"
#include "kube/pointsman/settings_json.h"
#include "kube/pointsman/status_bounds.h"

namespace pointsman::kube {
namespace {

using nlohmann::json;

std::optional<bool> ParseState(std::string_view text) {
  if (text == "Active") return false;
  if (text == "Removed") return true;
  return std::nullopt;
}

std::optional<bool> ParseKubeProxy(std::string_view text) {
  if (text == "Leave") return false;
  if (text == "Remove") return true;
  return std::nullopt;
}

NodeProxyCandidate ReadCandidate(ObjectReader reader) {
  // Read through the settings' own reader: the same bounds and words for the same fields.
  ProxySettings settings;
  NodeProxyCandidate candidate;
  ReadSettings(reader, UnknownFields::kIgnore, settings);
  reader.Int("revision", 0, INT64_MAX, candidate.revision);
  reader.Word<Provider>("provider", ParseProvider, kProviderWords, candidate.provider);
  candidate.mode = settings.mode;
  candidate.fallback_modes = settings.fallback_modes;
  candidate.ipvs_scheduler = settings.ipvs.scheduler;
  candidate.modules = settings.modules;
  candidate.neighbours = settings.neighbours;
  return candidate;
}

NodeProxySpec ReadNodeProxySpec(ObjectReader reader) {
  NodeProxySpec spec;
  reader.String("configuration", limits::kMaxConfigurationName, spec.configuration);
  // Not up to kMaxRevision: what was written before there was that bound must be read to be mended.
  reader.Int("revision", 0, INT64_MAX, spec.revision);
  reader.Word<bool>("state", ParseState, "Active, Removed", spec.removed);
  reader.Word<bool>("kubeProxy", ParseKubeProxy, "Leave, Remove", spec.remove_kube_proxy);
  reader.Word<Provider>("provider", ParseProvider, kProviderWords, spec.provider);
  reader.String("healthzBindAddress", limits::kMaxBindAddress, spec.healthz_bind_address);
  reader.String("metricsBindAddress", limits::kMaxBindAddress, spec.metrics_bind_address);
  ReadSettings(reader, UnknownFields::kIgnore, spec.settings);
  if (reader.Has("candidate")) spec.candidate = ReadCandidate(reader.Object("candidate"));
  return spec;
}

// The modes of a neighbour's verdicts, in the order of the schema.
constexpr std::array kJudgedModes = {Mode::kUserspace, Mode::kIptables, Mode::kIpvs,
                                     Mode::kNftables};

NeighbourStatus ReadNeighbour(const json& element) {
  constexpr size_t kText = 32'768;
  std::vector<FieldError> ignored;
  ObjectReader reader(&element, "", ignored);
  NeighbourStatus neighbour;
  reader.String("name", kText, neighbour.name);
  reader.String("kind", kText, neighbour.kind);
  reader.String("message", kText, neighbour.message);
  ObjectReader modes = reader.Object("modes");
  for (const Mode mode : kJudgedModes) {
    const std::string name(ToString(mode));
    if (modes.Has(name.c_str())) modes.String(name.c_str(), kText, neighbour.modes[name]);
  }
  return neighbour;
}

ModePreflight ReadModePreflight(const json& element) {
  constexpr size_t kText = 32'768;
  std::vector<FieldError> ignored;
  ObjectReader reader(&element, "", ignored);
  ModePreflight preflight;
  reader.String("mode", kText, preflight.mode);
  reader.Bool("passed", preflight.passed);
  reader.String("reason", kText, preflight.reason);
  reader.String("message", kText, preflight.message);
  return preflight;
}

NodeProxyStatus ReadNodeProxyStatus(ObjectReader reader) {
  constexpr size_t kText = 32'768;
  NodeProxyStatus status;
  reader.Int("observedGeneration", 0, INT64_MAX, status.observed_generation);
  reader.Int("observedRevision", 0, limits::kMaxRevision, status.observed_revision);
  reader.Int("preparedRevision", 0, limits::kMaxRevision, status.prepared_revision);
  reader.String("activeMode", kText, status.active_mode);
  ObjectReader kernel = reader.Object("kernel");
  kernel.String("release", kText, status.kernel_release);
  if (const json* modules = kernel.Raw("modules"); modules != nullptr && modules->is_array()) {
    for (const json& element : *modules) {
      std::vector<FieldError> ignored;
      ObjectReader module(&element, "", ignored);
      ModuleStatus module_status;
      module.String("name", kText, module_status.name);
      module.String("state", kText, module_status.state);
      status.modules.push_back(std::move(module_status));
    }
  }
  if (const json* sysctls = kernel.Raw("sysctls"); sysctls != nullptr && sysctls->is_array()) {
    for (const json& element : *sysctls) {
      std::vector<FieldError> ignored;
      ObjectReader sysctl(&element, "", ignored);
      SysctlStatus sysctl_status;
      sysctl.String("name", kText, sysctl_status.name);
      sysctl.String("value", kText, sysctl_status.value);
      status.sysctls.push_back(std::move(sysctl_status));
    }
  }
  if (const json* neighbours = reader.Raw("neighbours");
      neighbours != nullptr && neighbours->is_array()) {
    for (const json& element : *neighbours)
      status.neighbours.push_back(ReadNeighbour(element));
  }
  reader.Int("services", 0, limits::kMaxCount, status.services);
  reader.Int("endpoints", 0, limits::kMaxCount, status.endpoints);
  reader.String("lastSync", limits::kMaxTimestamp, status.last_sync);
  reader.String("drainingMode", kText, status.draining_mode);
  reader.Int("drainingConnections", 0, limits::kMaxCount, status.draining_connections);
  reader.String("agentVersion", kText, status.agent_version);
  if (reader.Has("candidate")) {
    ObjectReader candidate = reader.Object("candidate");
    CandidateStatus answer;
    candidate.Int("revision", 0, limits::kMaxRevision, answer.revision);
    candidate.String("mode", kText, answer.mode);
    candidate.Bool("passed", answer.passed);
    candidate.String("message", kText, answer.message);
    candidate.Word<Provider>("provider", ParseProvider, kProviderWords, answer.provider);
    status.candidate = std::move(answer);
  }
  if (reader.Has("impact")) status.impact = ReadImpact(reader.Object("impact"));
  if (reader.Has("kubeProxy")) {
    ObjectReader kube_proxy = reader.Object("kubeProxy");
    status.kube_proxy.emplace();
    kube_proxy.String("state", kText, status.kube_proxy->state);
    kube_proxy.String("message", kText, status.kube_proxy->message);
  }
  if (const json* preflights = reader.Raw("preflights");
      preflights != nullptr && preflights->is_array()) {
    for (const json& element : *preflights)
      status.preflights.push_back(ReadModePreflight(element));
  }
  if (const json* conditions = reader.Raw("conditions");
      conditions != nullptr && conditions->is_array()) {
    for (const json& condition : *conditions) {
      status.conditions.push_back(ConditionFromJson(condition));
    }
  }
  return status;
}

}  // namespace

NodeProxy NodeProxyFromJson(const json& object) {
  std::vector<FieldError> errors;
  ObjectReader root(&object, "", errors);
  NodeProxy node_proxy;
  ObjectReader metadata = root.Object("metadata");
  metadata.String("name", 253, node_proxy.name);
  metadata.String("uid", 128, node_proxy.uid);
  metadata.String("resourceVersion", 128, node_proxy.resource_version);
  metadata.Int("generation", 0, INT64_MAX, node_proxy.generation);
  node_proxy.deleting = metadata.Has("deletionTimestamp");
  std::vector<FieldError> ignored;
  const json* annotations = metadata.Raw("annotations");
  ObjectReader(annotations, "", ignored).String(kUpdatedAtAnnotation, 64, node_proxy.updated_at);
  ObjectReader(annotations, "", ignored).String(kAskedAtAnnotation, 64, node_proxy.asked_at);
  if (const json* owners = metadata.Raw("ownerReferences");
      owners != nullptr && owners->is_array()) {
    for (const json& owner : *owners) {
      std::string kind;
      ObjectReader reader(&owner, "", ignored);
      reader.String("kind", 64, kind);
      if (kind == "Node") reader.String("uid", 128, node_proxy.node_uid);
    }
  }
  node_proxy.spec = ReadNodeProxySpec(root.Object("spec"));
  if (!errors.empty()) throw std::invalid_argument(Summarize(errors));
  // The status comes from another version's agent, perhaps: what is odd in it reads as absent.
  node_proxy.status = ReadNodeProxyStatus(ObjectReader(root.Raw("status"), "status", ignored));
  return node_proxy;
}

json ToJson(const NodeProxySpec& spec) {
  json object = ToJson(spec.settings);
  object["configuration"] = spec.configuration;
  object["revision"] = spec.revision;
  object["state"] = spec.removed ? "Removed" : "Active";
  object["kubeProxy"] = spec.remove_kube_proxy ? "Remove" : "Leave";
  object["provider"] = ToString(spec.provider);
  if (spec.provider == Provider::kKubeProxy) {
    object["healthzBindAddress"] = spec.healthz_bind_address;
    object["metricsBindAddress"] = spec.metrics_bind_address;
  }
  if (spec.candidate) {
    object["candidate"] = {{"revision", spec.candidate->revision},
                           {"provider", ToString(spec.candidate->provider)},
                           {"mode", ToString(spec.candidate->mode)},
                           {"fallbackModes", ToJson(spec.candidate->fallback_modes)},
                           {"ipvs", {{"scheduler", spec.candidate->ipvs_scheduler}}},
                           {"modules", ToJson(spec.candidate->modules)},
                           {"neighbours", ToJson(spec.candidate->neighbours)}};
  }
  return object;
}

json ToJson(const NodeProxyStatus& written) {
  NodeProxyStatus status = written;
  KeepToSchema(status);
  json modules = json::array();
  for (const ModuleStatus& module : status.modules) {
    modules.push_back({{"name", module.name}, {"state", module.state}});
  }
  json sysctls = json::array();
  for (const SysctlStatus& sysctl : status.sysctls) {
    sysctls.push_back({{"name", sysctl.name}, {"value", sysctl.value}});
  }
  json neighbours = json::array();
  for (const NeighbourStatus& neighbour : status.neighbours) {
    neighbours.push_back({{"name", neighbour.name},
                          {"kind", neighbour.kind},
                          {"modes", neighbour.modes},
                          {"message", neighbour.message}});
  }
  json preflights = json::array();
  for (const ModePreflight& preflight : status.preflights) {
    preflights.push_back({{"mode", preflight.mode},
                          {"passed", preflight.passed},
                          {"reason", preflight.reason},
                          {"message", preflight.message}});
  }
  json conditions = json::array();
  for (const Condition& condition : status.conditions)
    conditions.push_back(ToJson(condition));
  json object = {{"observedGeneration", status.observed_generation},
                 {"observedRevision", status.observed_revision},
                 {"preparedRevision", status.prepared_revision},
                 {"activeMode", status.active_mode},
                 {"kernel",
                  {{"release", status.kernel_release},
                   {"modules", std::move(modules)},
                   {"sysctls", std::move(sysctls)}}},
                 {"neighbours", std::move(neighbours)},
                 {"services", status.services},
                 {"endpoints", status.endpoints},
                 {"drainingMode", status.draining_mode},
                 {"drainingConnections", status.draining_connections},
                 {"agentVersion", status.agent_version},
                 {"preflights", std::move(preflights)},
                 {"conditions", std::move(conditions)}};
  // An empty string is no date-time.
  if (!status.last_sync.empty()) object["lastSync"] = status.last_sync;
  if (status.impact) object["impact"] = ToJson(*status.impact);
  if (status.candidate) {
    object["candidate"] = {{"revision", status.candidate->revision},
                           {"provider", ToString(status.candidate->provider)},
                           {"mode", status.candidate->mode},
                           {"passed", status.candidate->passed},
                           {"message", status.candidate->message}};
  }
  if (status.kube_proxy) {
    object["kubeProxy"] = {{"state", status.kube_proxy->state},
                           {"message", status.kube_proxy->message}};
  }
  return object;
}

}  // namespace pointsman::kube
