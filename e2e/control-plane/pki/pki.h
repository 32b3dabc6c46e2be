#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace pointsman::e2e {

// A directory with a certificate authority for tests: ca.crt, ca.key, server.crt, server.key,
// admin.crt, admin.key and admin.kubeconfig. Elliptic curve keys (P-256), valid for ten years.
class Pki {
 public:
  // Opens the directory; makes the CA when it is not there. Throws std::runtime_error.
  explicit Pki(std::filesystem::path directory);

  std::filesystem::path CaCertificate() const { return directory_ / "ca.crt"; }
  std::filesystem::path ServerCertificate() const { return directory_ / "server.crt"; }
  std::filesystem::path ServerKey() const { return directory_ / "server.key"; }

  // (Re)issues the server's certificate for these names and addresses.
  void IssueServer(const std::vector<std::string>& subject_alt_names) const;

  // A kubeconfig with a new client certificate (CN user, O groups) inside.
  std::string ClientKubeconfig(const std::string& server, const std::string& user,
                               const std::vector<std::string>& groups) const;

  // A secret that stays the same as long as the directory does (signs service account tokens).
  std::string TokenSecret() const;

  // Writes a file only its owner can read, atomically.
  static void WritePrivate(const std::filesystem::path& file, const std::string& content);

 private:
  std::filesystem::path directory_;
};

}  // namespace pointsman::e2e
