// What a Config says of TLS, parsed once and applied to each connection's OpenSSL context: which
// CAs, which client certificate, which name the server's certificate must carry.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <openssl/ssl.h>

#include "kube/config/config.h"

namespace pointsman::kube {

// Thread-safe once made.
class TlsSettings : public std::enable_shared_from_this<TlsSettings> {
 public:
  // Throws ConfigError when a certificate or key is no PEM or they do not belong together, and when
  // OpenSSL does not take one of them or the name. Of a bundle of CAs that has broken ones the
  // others count, as in Go.
  static std::shared_ptr<TlsSettings> Make(const Config& config);

  TlsSettings(const TlsSettings&) = delete;
  TlsSettings& operator=(const TlsSettings&) = delete;

  // For a fresh context. Each certificate of the CA bundle is a trust anchor, also an intermediate
  // or the server's own (crypto/x509's root pool). OpenSSL's own verification is used in full
  // (chain, dates, purpose, and the name against subject alternative names only, as Go does); any
  // verification callback that the HTTP library installs is not consulted, for it also accepts a
  // common name. Keeps this alive.
  void Apply(SSL_CTX* context);

  // Calls `on_connected(argument)` when `ssl`'s handshake begins, which is when its connection has
  // a socket. Not when the handshake was already done.
  static void OnConnected(SSL* ssl, void* argument, void (*on_connected)(void* argument));

  // Whether it presents the same client certificate and key as `other`.
  bool HasClientOf(const TlsSettings& other) const {
    return client_certificate_pem_ == other.client_certificate_pem_ &&
           client_key_pem_ == other.client_key_pem_;
  }

  // Why the newest handshake or verification since `since` failed; "" if none did.
  std::string FailureSince(std::chrono::steady_clock::time_point since) const;

 private:
  template <auto Free>
  struct Deleter {
    template <typename T>
    void operator()(T* object) const {
      Free(object);
    }
  };
  using Certificate = std::unique_ptr<X509, Deleter<X509_free>>;

  TlsSettings() = default;
  bool TryApply(SSL_CTX* context);
  void ReadCas(const Config& config);
  void ReadClient(const Config& config);
  static TlsSettings& Of(const SSL* ssl);
  static int Verify(X509_STORE_CTX* chain, void* unused);
  static void OnHandshake(const SSL* ssl, int where, int value);
  void Failed(std::string why);

  std::string name_;  // host name or IP address the server's certificate must carry
  bool name_is_ip_ = false;
  bool insecure_ = false;
  // Those given; the system's when none are: who is given a CA trusts no other.
  std::unique_ptr<X509_STORE, Deleter<X509_STORE_free>> cas_;
  std::vector<Certificate> client_chain_;  // the leaf first
  std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>> client_key_;
  std::string client_certificate_pem_;
  std::string client_key_pem_;

  mutable std::mutex mutex_;
  std::string failure_;
  std::chrono::steady_clock::time_point failed_at_{};
};

}  // namespace pointsman::kube
