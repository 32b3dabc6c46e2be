// How etcd and kube-apiserver of a release are started for a test: with the flags of
// controller-runtime's envtest.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "e2e/control-plane/pki/pki.h"

namespace pointsman::e2e {

std::vector<std::string> EtcdFlags(const std::filesystem::path& data, const std::string& client_url,
                                   const std::string& peer_url);

struct KubeApiServerOptions {
  std::string etcd_url;
  std::string url;  // of the server, as its clients see it
  std::uint16_t port = 0;
  std::filesystem::path dir;  // what it writes
  std::string service_cidr = "10.96.0.0/16";
};
// Without addresses and what it is to check. The server's certificate has been issued.
std::vector<std::string> KubeApiServerFlags(const Pki& pki, const KubeApiServerOptions& options);

}  // namespace pointsman::e2e
