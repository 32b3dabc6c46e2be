#include "operator/plan/revision.h"

#include "kube/pointsman/object_reader.h"
#include "kube/pointsman/settings_json.h"
#include "kube/text/hash.h"
#include "kube/text/json_text.h"

namespace pointsman::op {
Revision MakeRevision(const kube::ProxyConfiguration& configuration,
                      const kube::ProxySettings& settings, int64_t number) {
  Revision revision;
  revision.name =
      configuration.name + "-" +
      // Settings are compared too wherever a hash matched, so a collision costs a name, no more.
      text::Hash(configuration.uid + text::JsonText(kube::ToJson(settings)));
  revision.configuration = configuration.name;
  revision.owner_uid = configuration.uid;
  revision.number = number;
  revision.settings = settings;
  return revision;
}

nlohmann::json ToJson(const Revision& revision, const std::string& ns) {
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
          {"data", kube::ToJson(revision.settings)}};
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
  if (!errors.empty()) throw std::invalid_argument(kube::Summarize(errors));
  return revision;
}

}  // namespace pointsman::op
