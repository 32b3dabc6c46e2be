#include "node-agent/xtables/source_match.h"

#include "node-agent/model/local_detector.h"

namespace pointsman::agent::xtables {

SourceMatch::SourceMatch(const kube::ProxySettings& settings, net::Family family) {
  const LocalDetector local(settings, family);
  switch (local.kind) {
    case LocalDetector::Kind::kUnknown:
      return;
    case LocalDetector::Kind::kEverything:
      from_cluster = "";
      return;
    case LocalDetector::Kind::kPrefix:
      from_cluster = "-s " + local.prefix.ToString();
      break;
    case LocalDetector::Kind::kInterface:
      from_cluster = "-i " + local.interface;
      break;
    case LocalDetector::Kind::kInterfacePrefix:
      from_cluster = "-i " + local.interface + "+";
      break;
  }
  off_cluster = "! " + *from_cluster;
}

}  // namespace pointsman::agent::xtables
