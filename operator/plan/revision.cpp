#include "operator/plan/revision.h"

#include "kube/pointsman/object_reader.h"
#include "kube/pointsman/settings_json.h"
#include "kube/text/hash.h"
#include "kube/text/json_text.h"

namespace pointsman::op {
namespace {

constexpr size_t kMostFile = 1024UL * 1024;  // as a ConfigMap has

Revision Make(const kube::ProxyConfiguration& configuration, const kube::ProxySettings& settings,
              int64_t number, const std::string& more) {
  Revision revision;
  // Settings are compared too wherever a hash matched, so a collision costs a name, no more.
  revision.name = configuration.name + "-" +
                  text::Hash(configuration.uid + text::JsonText(kube::ToJson(settings)) + more);
  revision.configuration = configuration.name;
  revision.owner_uid = configuration.uid;
  revision.number = number;
  revision.settings = settings;
  return revision;
}

}  // namespace

Revision MakeRevision(const kube::ProxyConfiguration& configuration,
                      const kube::ProxySettings& settings, int64_t number) {
  return Make(configuration, settings, number, "");
}

Revision MakeFileRevision(const kube::ProxyConfiguration& configuration,
                          const kube::ProxySettings& settings, const std::string& file,
                          const nlohmann::json& asked, int64_t number) {
  Revision revision = Make(configuration, settings, number, "KubeProxy");
  revision.provider = kube::Provider::kKubeProxy;
  revision.file = file;
  revision.asked = asked;
  return revision;
}

Revision MakeFoundRevision(const kube::ProxyConfiguration& configuration, kube::Mode mode,
                           const std::string& file, int64_t number) {
  kube::ProxySettings settings;
  settings.mode = mode;
  settings.fallback_modes.clear();
  Revision revision = Make(configuration, settings, number, "found");
  revision.provider = kube::Provider::kKubeProxy;
  revision.file = file;
  revision.asked = nlohmann::json::object();
  revision.found = true;
  return revision;
}

kube::ProxySettings SettingsOf(const kube::ProxyConfiguration& configuration) {
  kube::ProxySettings settings = configuration.spec.settings;
  if (configuration.spec.provider == kube::Provider::kKubeProxy) settings.fallback_modes.clear();
  return settings;
}

nlohmann::json ToJson(const Revision& revision, const std::string& ns) {
  nlohmann::json data = kube::ToJson(revision.settings);
  if (revision.provider == kube::Provider::kKubeProxy) {
    data["provider"] = kube::ToString(revision.provider);
    data["kubeProxyFile"] = {
        {"text", revision.file}, {"asked", revision.asked}, {"found", revision.found}};
  }
  return {{"apiVersion", "apps/v1"},
          {"kind", "ControllerRevision"},
          {"metadata",
           {{"name", revision.name},
            {"namespace", ns},
            {"labels", {{kConfigurationLabel, revision.configuration}}},
            {"ownerReferences",
             {{{"apiVersion", "pointsman.io/v1alpha1"},
               {"kind", "ProxyConfiguration"},
               {"name", revision.configuration},
               {"uid", revision.owner_uid},
               {"controller", true}}}}}},
          {"revision", revision.number},
          {"data", std::move(data)}};
}

Revision RevisionFromJson(const nlohmann::json& object) {
  std::vector<kube::FieldError> errors;
  kube::ObjectReader root(&object, "", errors);
  kube::ObjectReader metadata = root.Object("metadata");
  Revision revision;
  metadata.String("name", 253, revision.name);
  metadata.Object("labels").String(kConfigurationLabel, 63, revision.configuration);
  if (const nlohmann::json* owners = metadata.Raw("ownerReferences");
      owners != nullptr && owners->is_array() && !owners->empty()) {
    kube::ObjectReader(&owners->front(), "metadata.ownerReferences[0]", errors)
        .String("uid", 128, revision.owner_uid);
  }
  root.Int("revision", 1, INT64_MAX, revision.number);
  kube::ObjectReader data = root.Object("data");
  kube::ReadSettings(data, kube::UnknownFields::kIgnore, revision.settings);
  data.Word<kube::Provider>("provider", kube::ParseProvider, kube::kProviderWords,
                            revision.provider);
  if (revision.provider == kube::Provider::kKubeProxy) {
    kube::ObjectReader file = data.Object("kubeProxyFile");
    if (!file.Has("text")) file.Error("text", "is needed with provider KubeProxy");
    file.String("text", kMostFile, revision.file);
    const nlohmann::json* asked = file.Raw("asked");
    revision.asked = asked != nullptr && asked->is_object() ? *asked : nlohmann::json::object();
    file.Bool("found", revision.found);
  }
  if (!errors.empty()) throw std::invalid_argument(kube::Summarize(errors));
  return revision;
}

}  // namespace pointsman::op
