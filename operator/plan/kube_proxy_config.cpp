#include "operator/plan/kube_proxy_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <stdexcept>
#include <vector>

#include "kube/config/yaml_edit.h"
#include "kube/config/yaml_json.h"
#include "kube/pointsman/duration.h"
#include "kube/pointsman/limits.h"
#include "kube/pointsman/settings_json.h"
#include "kube/text/text.h"
#include "operator/plan/json_member.h"

namespace pointsman::op {
namespace {

using nlohmann::json;

std::string Text(const json& object, const char* name) {
  const json member = Member(object, name);
  return member.is_string() ? member.get<std::string>() : "";
}
[[noreturn]] void Fail(const std::string& why) {
  throw std::invalid_argument(why);
}

// The value of --config; "": none is given.
std::string ConfigFlag(const json& container) {
  std::vector<std::string> words;
  for (const char* list : {"command", "args"}) {
    const json given = Member(container, list);
    if (!given.is_array()) continue;
    for (const json& word : given) {
      if (word.is_string()) words.push_back(word.get<std::string>());
    }
  }
  std::string path;
  for (size_t i = 0; i < words.size(); ++i) {
    for (const std::string_view flag : {"--config", "-config"}) {
      if (words[i] == flag && i + 1 < words.size()) path = words[i + 1];
      const std::string begin = std::string(flag) + "=";
      if (words[i].starts_with(begin)) path = words[i].substr(begin.size());
    }
  }
  return path;
}

struct Mounted {
  std::string volume;
  std::string path;  // in the volume
};

// Of the mounts that hold `path` the deepest.
std::optional<Mounted> FindMount(const json& container, const std::string& path) {
  std::optional<Mounted> found;
  size_t depth = 0;
  const json mounts = Member(container, "volumeMounts");
  if (!mounts.is_array()) return found;
  for (const json& mount : mounts) {
    std::string at = Text(mount, "mountPath");
    while (at.size() > 1 && at.back() == '/')
      at.pop_back();
    const bool itself = path == at;
    if (at.empty() || at.size() < depth || !(itself || path.starts_with(at + "/"))) continue;
    depth = at.size();
    std::string inside = Text(mount, "subPath");
    if (!itself) inside += (inside.empty() ? "" : "/") + path.substr(at.size() + 1);
    found = Mounted{Text(mount, "name"), inside};
  }
  return found;
}

std::optional<int> MinorOf(const std::string& image) {
  const std::string without_digest = image.substr(0, image.find('@'));
  const size_t colon = without_digest.rfind(':');
  if (colon == std::string::npos) return std::nullopt;
  std::string_view tag = std::string_view(without_digest).substr(colon + 1);
  if (tag.starts_with("v")) tag.remove_prefix(1);
  if (!tag.starts_with("1.")) return std::nullopt;
  tag.remove_prefix(2);
  int minor = 0;
  const auto [end, error] = std::from_chars(tag.data(), tag.data() + tag.size(), minor);
  const bool ends = end == tag.data() + tag.size() || *end == '.' || *end == '-' || *end == '+';
  if (error != std::errc() || !ends || minor < 0) return std::nullopt;
  return minor;
}

// The key of the ConfigMap that is at `path` in the volume.
std::string KeyAt(const json& config_map, const std::string& path) {
  const json items = Member(config_map, "items");
  if (!items.is_array() || items.empty()) return path;
  for (const json& item : items) {
    if (Text(item, "path") == path) return Text(item, "key");
  }
  return "";
}

// Fields that a kube-proxy before that version does not know and leaves out with a line in its log.
struct Since {
  std::string_view field;
  int minor;
};
constexpr std::array kSince{Since{"nftables", 29},
                            Since{"conntrack.tcpBeLiberal", 29},
                            Since{"conntrack.udpTimeout", 29},
                            Since{"conntrack.udpStreamTimeout", 29},
                            Since{"iptables.localhostNodePorts", 26},
                            Since{"detectLocal", 24}};

json* Find(json& object, std::string_view path) {
  json* value = &object;
  while (value != nullptr && !path.empty()) {
    const size_t dot = std::min(path.find('.'), path.size());
    if (!value->is_object()) return nullptr;
    const auto found = value->find(path.substr(0, dot));
    value = found == value->end() ? nullptr : &*found;
    path.remove_prefix(std::min(dot + 1, path.size()));
  }
  return value;
}

bool HasGate(json file, const char* gate) {
  json* const value = Find(file, std::string("featureGates.") + gate);
  return value != nullptr && *value == true;
}

std::string Version(int minor) {
  return "kube-proxy 1." + std::to_string(minor);
}

void CheckMode(kube::Mode mode, int minor, const json& file) {
  if (mode == kube::Mode::kNftables) {
    if (minor < 29)
      Fail("spec.mode: nftables needs kube-proxy 1.29, the DaemonSet's image is " + Version(minor));
    if (minor < 31 && !HasGate(file, "NFTablesProxyMode"))
      Fail("spec.mode: nftables in " + Version(minor) +
           " needs featureGates: {NFTablesProxyMode: true} in kube-proxy's file");
  }
  if (mode == kube::Mode::kIpvs && minor >= 43)
    Fail("spec.mode: " + Version(minor) + " has no mode ipvs any more; use nftables");
  if (mode == kube::Mode::kIpvs && minor >= 40 && !HasGate(file, "KubeProxyIPVS"))
    Fail("spec.mode: ipvs in " + Version(minor) +
         " needs featureGates: {KubeProxyIPVS: true} in kube-proxy's file");
}

void CheckVersion(const kube::ProxySettings& settings, json asked, const json& file, int minor) {
  CheckMode(settings.mode, minor, file);
  for (const Since& since : kSince) {
    if (minor < since.minor && Find(asked, since.field) != nullptr)
      Fail("spec." + std::string(since.field) + ": needs " + Version(since.minor) +
           ", the DaemonSet's image is " + Version(minor));
  }
}

// What Pointsman's own modes can do and kube-proxy cannot.
void CheckSettings(const kube::ProxySettings& settings) {
  if (settings.mode == kube::Mode::kUserspace)
    Fail("spec.mode: with provider KubeProxy it is iptables, ipvs or nftables");
  static constexpr std::array<std::string_view, 4> kOurs{"mh", "fo", "ovf", "twos"};
  if (std::find(kOurs.begin(), kOurs.end(), settings.ipvs.scheduler) != kOurs.end())
    Fail("spec.ipvs.scheduler: kube-proxy does not take " + settings.ipvs.scheduler +
         "; use rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed or nq");
  if (settings.node_port_primary && !settings.node_port_addresses.empty())
    Fail("spec.nodePortAddresses: kube-proxy takes CIDRs, or primary alone");
}

json ReadFile(std::string_view text) {
  json file = kube::ParseYaml(text).value;
  const std::string kind = Text(file, "kind");
  const std::string version = Text(file, "apiVersion");
  if (kind != "KubeProxyConfiguration" || version != "kubeproxy.config.k8s.io/v1alpha1")
    Fail("is no KubeProxyConfiguration of kubeproxy.config.k8s.io/v1alpha1 (kind " +
         text::Quote(kind) + ", apiVersion " + text::Quote(version) + ")");
  return file;
}

bool SameValue(const json& has, const json& wanted) {
  if (has == wanted) return true;
  if (!has.is_string() || !wanted.is_string()) return false;
  const auto a = kube::ParseDuration(has.get<std::string>());
  const auto b = kube::ParseDuration(wanted.get<std::string>());
  return a && b && *a == *b;
}

// Without what the file says already.
json WithoutPresent(const json& wanted, const json& has) {
  json rest = json::object();
  for (const auto& [name, value] : wanted.items()) {
    const json present = Member(has, name.c_str());
    if (value.is_object()) {
      if (json inner = WithoutPresent(value, present); !inner.empty())
        rest[name] = std::move(inner);
    } else if (!SameValue(present, value)) {
      rest[name] = value;
    }
  }
  return rest;
}

// What of the asked fields the file does not say yet.
json Missing(std::string_view text, json asked) {
  const json file = ReadFile(text);
  const json mode = Member(file, "mode");
  // kube-proxy's default.
  if ((mode.is_null() || mode == json("")) && Member(asked, "mode") == "iptables")
    asked.erase("mode");
  return WithoutPresent(asked, file);
}

json Differences(const json& settings, const json& defaults) {
  json differing = json::object();
  for (const auto& [name, value] : settings.items()) {
    const json usual = Member(defaults, name.c_str());
    if (value.is_object()) {
      if (json inner = Differences(value, usual); !inner.empty()) differing[name] = inner;
    } else if (value != usual) {
      differing[name] = value;
    }
  }
  return differing;
}

}  // namespace

KubeProxyFile FindKubeProxyFile(const json& pod_spec) {
  const json containers = Member(pod_spec, "containers");
  json container;
  std::string path;
  if (containers.is_array()) {
    for (const json& candidate : containers) {
      if (path = ConfigFlag(candidate); !path.empty()) {
        container = candidate;
        break;
      }
    }
  }
  if (path.empty())
    Fail(
        "none of its containers has the flag --config: Pointsman changes kube-proxy's file, and no "
        "flags. Give kube-proxy a file in a ConfigMap");
  const auto mount = FindMount(container, path);
  if (!mount) Fail("its file " + text::Quote(path) + " is in no volume: put it into a ConfigMap");
  KubeProxyFile file;
  const json volumes = Member(pod_spec, "volumes");
  for (const json& volume : volumes.is_array() ? volumes : json::array()) {
    if (Text(volume, "name") != mount->volume) continue;
    const json config_map = Member(volume, "configMap");
    file.config_map = Text(config_map, "name");
    file.key = KeyAt(config_map, mount->path);
  }
  if (file.config_map.empty())
    Fail("its file " + text::Quote(path) + " is of volume " + text::Quote(mount->volume) +
         ", which is no ConfigMap's: put it into one");
  if (file.key.empty() || file.key.find('/') != std::string::npos)
    Fail("no key of ConfigMap " + text::Quote(file.config_map) + " is its file " +
         text::Quote(path));
  file.minor = MinorOf(Text(container, "image"));
  return file;
}

kube::Mode ModeOfKubeProxyFile(std::string_view text) {
  const json mode = Member(ReadFile(text), "mode");
  if (mode.is_null() || mode == json("")) return kube::Mode::kIptables;
  const auto known = mode.is_string() ? kube::ParseMode(mode.get<std::string>()) : std::nullopt;
  if (!known || *known == kube::Mode::kUserspace)
    Fail("mode: is none of iptables, ipvs and nftables");
  return *known;
}

KubeProxyAddresses AddressesOfKubeProxyFile(std::string_view text) {
  json file;
  try {
    file = ReadFile(text);
  } catch (const std::invalid_argument&) {
    return {};
  }
  const auto address = [&](const char* field) {
    std::string value = Text(file, field);
    return value.size() <= kube::limits::kMaxBindAddress ? value : std::string();
  };
  return {.healthz = address("healthzBindAddress"), .metrics = address("metricsBindAddress")};
}

json AskedFields(const kube::ProxySettings& settings, const kube::ProxySettings* before) {
  const json all = kube::ToJson(settings);
  json asked = Differences(all, kube::ToJson(kube::ProxySettings{}));
  if (before != nullptr) asked.merge_patch(Differences(all, kube::ToJson(*before)));
  // What is no field of kube-proxy's.
  for (const char* ours : {"fallbackModes", "userspace", "modules", "neighbours", "handover"})
    asked.erase(ours);
  asked["mode"] = all["mode"];
  return asked;
}

bool SaysAsked(std::string_view text, const json& asked) {
  return Missing(text, asked).empty();
}

std::string WithAsked(std::string_view text, const json& asked) {
  const json changes = Missing(text, asked);
  return changes.empty() ? std::string(text) : kube::EditYaml(text, changes);
}

void CheckKubeProxyCan(const kube::ProxySettings& settings, const json& asked,
                       std::string_view text, std::optional<int> minor) {
  CheckSettings(settings);
  if (minor) CheckVersion(settings, asked, ReadFile(text), *minor);
}

}  // namespace pointsman::op
