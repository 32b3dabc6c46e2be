#include "operator/plan/kube_proxy_provider.h"

#include <algorithm>
#include <charconv>
#include <stdexcept>

#include "kube/pointsman/limits.h"

namespace pointsman::op {
namespace {

constexpr const char* kNotConfigurable = "KubeProxyNotConfigurable";

// Of the last specification that ran on all nodes: a field of it that is asked for no more goes
// back to its default.
const kube::ProxySettings* SettingsBefore(const kube::ProxyConfiguration& configuration,
                                          const std::vector<Revision>& revisions) {
  for (const Revision& revision : revisions) {
    if (revision.owner_uid == configuration.uid && !revision.found &&
        revision.provider == kube::Provider::kKubeProxy &&
        revision.number == configuration.status.current_revision)
      return &revision.settings;
  }
  return nullptr;
}

}  // namespace

KubeProxyProvider::KubeProxyProvider(const PlanInput& input) : input_(input) {
  // Nothing is read that nobody asks for.
  const bool asked = std::any_of(
      input.configurations.begin(), input.configurations.end(), [](const auto& configuration) {
        return configuration->spec.provider == kube::Provider::kKubeProxy;
      });
  if (!asked) {
    refusal_ = Refusal{"NotAsked", "no ProxyConfiguration has provider KubeProxy"};
    return;
  }
  try {
    Look();
  } catch (const std::invalid_argument& error) {
    refusal_ = Refusal{kNotConfigurable,
                       "DaemonSet " + input_.kube_proxy.name + ": " + std::string(error.what())};
  }
}

void KubeProxyProvider::Look() {
  const KubeProxyInput& kube_proxy = input_.kube_proxy;
  if (!kube_proxy.no_provider.empty()) {
    refusal_ = Refusal{"NotSupported", kube_proxy.no_provider};
    return;
  }
  if (!kube_proxy.unknown.empty()) {
    refusal_ = Refusal{"KubeProxyUnknown", kube_proxy.unknown};
    return;
  }
  if (!kube_proxy.daemon_set || kube_proxy.daemon_set->deleting) {
    refusal_ =
        Refusal{"NoKubeProxy",
                "there is no DaemonSet " + kube_proxy.name +
                    " to be configured: static Pods and what is within another program (k3s) "
                    "cannot be. Use provider NodeAgent, or the operator's "
                    "--kube-proxy-daemonset where it has another name"};
    return;
  }
  set_ = kube_proxy.daemon_set.get();
  if (const std::string why = WhyNotByRevision(*set_); !why.empty())
    throw std::invalid_argument(why);
  file_ = FindKubeProxyFile(set_->pod_template.value("spec", nlohmann::json()));
  for (const auto& map : kube_proxy.config_maps) {
    if (map->name == file_.config_map && map->revision.empty() && !map->deleting) own_ = map.get();
  }
  const std::string where = "ConfigMap " + file_.config_map;
  if (own_ == nullptr)
    throw std::invalid_argument("its " + where + " is not there, or the operator may not read it");
  if (own_->immutable)
    throw std::invalid_argument("its " + where + " is immutable: make one that is not");
  const auto text = own_->data.find(file_.key);
  if (text == own_->data.end())
    throw std::invalid_argument("its " + where + " has no key " + file_.key);
  try {
    own_mode_ = ModeOfKubeProxyFile(text->second);
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument("key " + file_.key + " of its " + where + ": " + error.what());
  }
}

std::optional<KubeProxyProvider::Refusal> KubeProxyProvider::WhyNot(
    const kube::ProxyConfiguration& configuration) const {
  if (refusal_) return refusal_;
  try {
    Render(configuration, 1);
    return std::nullopt;
  } catch (const std::invalid_argument& error) {
    return Refusal{kNotConfigurable, "ConfigMap " + file_.config_map + ", key " + file_.key + ": " +
                                         std::string(error.what())};
  }
}

Revision KubeProxyProvider::Render(const kube::ProxyConfiguration& configuration,
                                   int64_t number) const {
  const kube::ProxySettings settings = SettingsOf(configuration);
  const nlohmann::json asked =
      AskedFields(settings, SettingsBefore(configuration, input_.revisions));
  CheckKubeProxyCan(settings, asked, own_text(), file_.minor);
  return MakeFileRevision(configuration, settings, WithAsked(own_text(), asked), asked, number);
}

Revision KubeProxyProvider::Found(const kube::ProxyConfiguration& configuration,
                                  int64_t number) const {
  return MakeFoundRevision(configuration, own_mode_, own_text(), number);
}

const Revision* KubeProxyProvider::FindFound(const kube::ProxyConfiguration& configuration,
                                             const std::vector<Revision>& revisions) {
  for (const Revision& revision : revisions) {
    if (revision.found && revision.owner_uid == configuration.uid) return &revision;
  }
  return nullptr;
}

bool KubeProxyProvider::IsTextOfSome(const kube::ProxyConfiguration& configuration) const {
  return std::any_of(
      input_.revisions.begin(), input_.revisions.end(), [&](const Revision& revision) {
        return revision.owner_uid == configuration.uid &&
               revision.provider == kube::Provider::kKubeProxy && revision.file == own_text();
      });
}

bool KubeProxyProvider::Carries(const Revision& revision,
                                const kube::ProxyConfiguration& configuration) const {
  if (!ready() || revision.provider != kube::Provider::kKubeProxy) return true;
  if (own_text() == revision.file) return true;
  const int64_t current = configuration.status.current_revision;
  // Until another has become its text, whatever it says is what was found.
  if (revision.found) {
    return (current == 0 || current == revision.number) && own_mode_ == revision.settings.mode &&
           !IsTextOfSome(configuration);
  }
  return current == revision.number && SaysAsked(own_text(), revision.asked);
}

std::optional<std::string> KubeProxyProvider::TextToCarry(
    const Revision& revision, const kube::ProxyConfiguration& configuration) const {
  if (IsTextOfSome(configuration)) return revision.file;
  if (revision.found) return std::nullopt;
  try {
    return WithAsked(own_text(), revision.asked);
  } catch (const std::invalid_argument&) {
    return std::nullopt;
  }
}

const KubeProxyDaemonSet* KubeProxyProvider::SetOf(int64_t revision) const {
  const std::string number = std::to_string(revision);
  for (const auto& set : input_.kube_proxy.revision_sets) {
    if (set->revision == number) return set.get();
  }
  return nullptr;
}

const KubeProxyConfigMap* KubeProxyProvider::MapOf(int64_t revision) const {
  const std::string number = std::to_string(revision);
  for (const auto& map : input_.kube_proxy.config_maps) {
    if (map->revision == number) return map.get();
  }
  return nullptr;
}

bool KubeProxyProvider::IsPrepared(const Revision& revision) const {
  const KubeProxyConfigMap* const map = MapOf(revision.number);
  const KubeProxyDaemonSet* const set = SetOf(revision.number);
  return map != nullptr && !map->deleting &&
         IsRevisionConfigMap(*map, file_, revision.number, revision.file) && set != nullptr &&
         !set->deleting;
}

std::optional<int64_t> RevisionNumber(const std::string& label) {
  int64_t number = 0;
  const char* const end = label.data() + label.size();
  const auto [at, error] = std::from_chars(label.data(), end, number);
  if (error != std::errc() || at != end || number < 1 || number > kube::limits::kMaxRevision)
    return std::nullopt;
  return number;
}

}  // namespace pointsman::op
