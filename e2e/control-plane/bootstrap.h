// What a cluster has before anything is done with it, and what a test wants it to have.
#pragma once

#include <filesystem>
#include <string>

#include "e2e/control-plane/api/api_server.h"
#include "e2e/control-plane/store/store.h"

namespace pointsman::e2e {

// Namespaces, roles, priority classes and the Service default/kubernetes; what exists is left.
void Bootstrap(ApiServer& api, const Store& store, const std::string& kubernetes_ip, int port);

// The first address of the first of `cidrs`, as kube-apiserver takes it for default/kubernetes.
std::string FirstServiceIp(const std::string& cidrs);

// Creates the objects of a file of JSON lines. Throws std::system_error, and std::runtime_error
// naming the line.
void Preload(ApiServer& api, const std::filesystem::path& file);

}  // namespace pointsman::e2e
