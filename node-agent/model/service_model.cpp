#include "node-agent/model/service_model.h"

#include <functional>
#include <string_view>

namespace pointsman::agent {

std::string ServicePortId::ToString() const {
  std::string text = ns + "/" + name;
  if (!port_name.empty()) text += ":" + port_name;
  text += "/";
  text += kube::ToString(protocol);
  text += "/";
  text += net::ToString(family);
  return text;
}

size_t ServicePortIdHash::operator()(const ServicePortId& id) const noexcept {
  const auto mix = [](size_t seed, size_t value) {
    return seed ^ (value + 0x9e3779b97f4a7c15 + (seed << 6) + (seed >> 2));
  };
  const std::hash<std::string_view> text;
  size_t hash = mix(mix(text(id.ns), text(id.name)), text(id.port_name));
  return mix(hash, static_cast<size_t>(id.protocol) << 8 | static_cast<size_t>(id.family));
}

}  // namespace pointsman::agent
