#include "kube/http/kubeconfig_checks.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "kube/config/config.h"
#include "kube/config/credential_file.h"
#include "kube/config/server_url.h"
#include "kube/http/tls_settings.h"
#include "kube/text/text.h"

namespace pointsman::testing {
namespace {

constexpr size_t kMaxMessage = 4096;

void Require(bool holds, const std::string& what) {
  if (!holds) throw std::logic_error(what);
}

void CheckMessage(const std::string& message) {
  Require(!message.empty(), "a refusal without a message");
  Require(message.size() <= kMaxMessage, "a message of " + std::to_string(message.size()));
  Require(text::IsValidUtf8(message), "a message that is not UTF-8");
}

bool HasControl(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20; });
}

void CheckConfig(const kube::Config& config) {
  Require(config.server.starts_with("https://") || config.server.starts_with("http://"),
          "a server that is no URL: " + config.server);
  Require(!HasControl(config.server) && config.server.find(' ') == std::string::npos &&
              !kube::HostOfUrl(config.server).empty(),
          "a server that is no URL: " + config.server);
  Require(config.token.empty() || kube::IsSendableToken(config.token), "a token with odd bytes");
  Require(!HasControl(config.tls_server_name), "a TLS server name with odd bytes");
  Require(!HasControl(config.namespace_) && !config.namespace_.empty(), "an odd namespace");
  Require(config.client_certificate_pem.empty() == config.client_key_pem.empty(),
          "half a pair of certificate and key");
}

}  // namespace

void CheckKubeconfig(std::string_view input) {
  try {
    // Paths are relative to a folder that is not there.
    const kube::Config config =
        kube::ParseKubeconfig(std::string(input), "/nonexistent/kubeconfig");
    CheckConfig(config);
    kube::TlsSettings::Make(config);
  } catch (const kube::ConfigError& error) {
    CheckMessage(error.what());
  }
}

}  // namespace pointsman::testing
