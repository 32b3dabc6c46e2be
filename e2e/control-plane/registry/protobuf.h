#pragma once

#include <string_view>

#include "e2e/control-plane/base/status_error.h"

namespace pointsman::e2e {

// A request body in application/vnd.kubernetes.protobuf (the magic "k8s\0" and a runtime.Unknown)
// as JSON; typed clients such as `kubectl create namespace` send builtin types so. Throws
// StatusError 415 for a type without field numbers in builtin_schemas.cpp, 400 when malformed.
Json DecodeProtobuf(std::string_view body);

}  // namespace pointsman::e2e
