#include "node-agent/model/local_detector.h"

#include <algorithm>
#include <stdexcept>
#include <string_view>

#include "kube/pointsman/limits.h"

namespace pointsman::agent {
namespace {

const std::string& CheckInterface(const std::string& name, size_t max_size,
                                  std::string_view field) {
  const bool bad = std::any_of(name.begin(), name.end(), [](unsigned char c) {
    return c <= ' ' || c == '"' || c == '\'' || c == '\\' || c == '/' || c == '+' || c >= 127;
  });
  if (name.empty() || name.size() > max_size || bad) {
    throw std::invalid_argument(std::string(field) + ": '" + name + "' is not an interface's name");
  }
  return name;
}

}  // namespace

LocalDetector::LocalDetector(const kube::ProxySettings& settings, net::Family family) {
  switch (settings.detect_local_mode) {
    case kube::DetectLocalMode::kNone:
    case kube::DetectLocalMode::kClusterCidr:
    case kube::DetectLocalMode::kNodeCidr:
      for (const net::IpPrefix& cidr : settings.cluster_cidrs) {
        if (cidr.family() != family) continue;
        kind = cidr.length() == 0 ? Kind::kEverything : Kind::kPrefix;
        prefix = cidr;
        return;
      }
      return;
    case kube::DetectLocalMode::kBridgeInterface:
      kind = Kind::kInterface;
      interface = CheckInterface(settings.detect_local.bridge_interface,
                                 kube::limits::kMaxInterfaceName, "detectLocal.bridgeInterface");
      return;
    case kube::DetectLocalMode::kInterfaceNamePrefix:
      kind = Kind::kInterfacePrefix;
      interface =
          CheckInterface(settings.detect_local.interface_name_prefix,
                         kube::limits::kMaxInterfaceName - 1, "detectLocal.interfaceNamePrefix");
      return;
  }
}

}  // namespace pointsman::agent
