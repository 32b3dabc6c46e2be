#include "e2e/testbed/real_api_server.h"

namespace pointsman::e2e {

std::vector<std::string> EtcdFlags(const std::filesystem::path& data, const std::string& client_url,
                                   const std::string& peer_url) {
  return {"--data-dir=" + data.string(), "--listen-client-urls=" + client_url,
          "--advertise-client-urls=" + client_url, "--listen-peer-urls=" + peer_url,
          "--unsafe-no-fsync"};
}

std::vector<std::string> KubeApiServerFlags(const Pki& pki, const KubeApiServerOptions& options) {
  return {"--etcd-servers=" + options.etcd_url,
          "--secure-port=" + std::to_string(options.port),
          "--cert-dir=" + options.dir.string(),
          "--client-ca-file=" + pki.CaCertificate().string(),
          "--tls-cert-file=" + pki.ServerCertificate().string(),
          "--tls-private-key-file=" + pki.ServerKey().string(),
          "--service-account-issuer=" + options.url,
          "--service-account-key-file=" + pki.ServerCertificate().string(),
          "--service-account-signing-key-file=" + pki.ServerKey().string(),
          "--service-cluster-ip-range=" + options.service_cidr,
          "--allow-privileged=true"};
}

}  // namespace pointsman::e2e
