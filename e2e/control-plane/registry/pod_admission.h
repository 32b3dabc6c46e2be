#pragma once

#include "e2e/control-plane/store/store.h"

namespace pointsman::e2e {

// What the admission plugins Priority and ServiceAccount do to a Pod on its creation: its priority
// comes from its class (or the default one), and its service account must exist. Throws
// StatusError 403 when class or account do not. The token's volume, which the real plugin adds to
// the spec, is the kubelet's business here.
void AdmitPod(Json& pod, const Store& store);

}  // namespace pointsman::e2e
