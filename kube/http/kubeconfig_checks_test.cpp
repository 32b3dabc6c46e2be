#include "kube/http/kubeconfig_checks.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kube/http/test_server.h"
#include "kube/testing/mutator.h"

namespace pointsman::testing {
namespace {

std::string Base64(const std::string& text) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < text.size(); i += 3) {
    uint32_t bits = 0;
    for (size_t n = 0; n < 3; ++n)
      bits = bits << 8 | (i + n < text.size() ? static_cast<unsigned char>(text[i + n]) : 0U);
    for (size_t n = 0; n < 4; ++n)
      out += i + n > text.size() ? '=' : kDigits[bits >> (18 - 6 * n) & 63];
  }
  return out;
}

// As kubeadm, RKE, EKS and kubectl write them; the first as JSON, which is YAML, so that values
// and not only bytes are changed.
std::vector<std::string> Corpus() {
  const kube::TestAuthority authority("CA");
  const kube::TestCertificate client = authority.Issue("client", "");
  return {
      R"({"apiVersion":"v1","kind":"Config","current-context":"main","preferences":{},
"contexts":[{"name":"main","context":{"cluster":"c","user":"u","namespace":"web"}}],
"clusters":[{"name":"c","cluster":{"server":"https://10.0.0.1:6443","tls-server-name":"kubernetes",
"insecure-skip-tls-verify":false,"proxy-url":"","certificate-authority-data":")" +
          Base64(authority.ca_pem()) + R"("}}],
"users":[{"name":"u","user":{"client-certificate-data":")" +
          Base64(client.certificate_pem) + R"(","client-key-data":")" + Base64(client.key_pem) +
          R"(","token":"abc","username":"","password":""}}]})",
      "apiVersion: v1\nkind: Config\nclusters:\n- cluster:\n    api-version: v1\n"
      "    certificate-authority: ca.pem\n    server: https://127.0.0.1:6443\n  name: local\n"
      "contexts:\n- context:\n    cluster: local\n    user: proxy\n  name: default\n"
      "current-context: default\nusers:\n- name: proxy\n  user:\n    client-certificate: c.pem\n"
      "    client-key: k.pem\n",
      "apiVersion: v1\nkind: Config\nclusters: [{name: k, cluster: {server: 'api.example:443'}}]\n"
      "contexts: [{name: d, context: {cluster: k, user: u}}]\ncurrent-context: d\n"
      "users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1beta1, "
      "command: aws, args: [eks, get-token]}}}]\n",
      "clusters: [{name: k, cluster: {server: 'https://[fd00::1]', insecure-skip-tls-verify: "
      "yes}}]\n"
      "contexts: [{name: d, context: {cluster: k}}]\ncurrent-context: d\n",
  };
}

TEST(KubeconfigChecks, HoldForMutations) {
  ForMutations(Corpus(), 1000, CheckKubeconfig);
}

}  // namespace
}  // namespace pointsman::testing
