// What the API server is and which resources it serves.
#pragma once

#include <string>

#include "kube/client/client.h"

namespace pointsman::kube {

struct ServerVersion {
  int major = 0;
  int minor = 0;            // 20 for "20+", which providers send
  std::string git_version;  // "v1.20.15"

  bool AtLeast(int want_major, int want_minor) const {
    return major != want_major ? major > want_major : minor >= want_minor;
  }
};

// GET /version. Throws as Client does, and TransportError when the answer has no version.
ServerVersion GetServerVersion(Client& client);

// Whether the server serves this group, version and plural: Kubernetes 1.20 has EndpointSlices as
// discovery.k8s.io/v1beta1 only, 1.25 and later as v1 only.
bool ServesResource(Client& client, const Resource& resource);

}  // namespace pointsman::kube
