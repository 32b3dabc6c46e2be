#include "kube/http/tls_settings.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <spdlog/spdlog.h>

#include "kube/config/server_url.h"

// cpprestsdk has no way to keep Boost.Asio from parsing all of the system's CAs anew for each
// connection, before the context comes to Apply: 15 ms and a megabyte each, and an agent has one
// connection a watch. A program's own definition goes before that of a library it is linked with.
// Apply gives every context its store, so nothing is missing.
extern "C" int SSL_CTX_set_default_verify_paths(SSL_CTX* /*context*/) {
  return 1;
}

namespace pointsman::kube {
namespace {

bool IsIpAddress(const std::string& text) {
  in6_addr address{};
  return inet_pton(AF_INET, text.c_str(), &address) == 1 ||
         inet_pton(AF_INET6, text.c_str(), &address) == 1;
}

std::string OpensslError() {
  const unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  if (code == 0) return "no PEM block found";
  const char* reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : "OpenSSL error " + std::to_string(code);
}

std::unique_ptr<BIO, decltype(&BIO_free)> Reader(const std::string& pem) {
  return {BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), &BIO_free};
}

// Never asks: a passphrase has nowhere to come from.
int NoPassphrase(char* /*buffer*/, int /*size*/, int /*writing*/, void* /*unused*/) {
  return -1;
}

// The slot of an SSL_CTX that holds a shared_ptr to the settings.
int ContextSlot() {
  static const int slot = SSL_CTX_get_ex_new_index(
      0, nullptr, nullptr, nullptr,
      [](void* /*parent*/, void* held, CRYPTO_EX_DATA* /*data*/, int /*slot*/, long /*arg*/,
         void* /*argp*/) { delete static_cast<std::shared_ptr<TlsSettings>*>(held); });
  return slot;
}

// The slots of an SSL that OnConnected fills.
int ArgumentSlot() {
  static const int slot = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return slot;
}

int FunctionSlot() {
  static const int slot = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return slot;
}

// How many certificates `pem` has; `broken`: how many blocks are none.
template <typename Add>
int ForEachCertificate(const std::string& pem, Add add, int& broken) {
  const auto reader = Reader(pem);
  int count = 0;
  for (;;) {
    ERR_clear_error();
    if (X509* certificate = PEM_read_bio_X509_AUX(reader.get(), nullptr, NoPassphrase, nullptr)) {
      add(certificate);
      ++count;
      continue;
    }
    if (ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE) break;  // the end
    if (++broken > 1000) break;
  }
  return count;
}

// The host name as Go's crypto/x509 compares it: without brackets and the root's dot.
std::string VerifiedName(const Config& config) {
  if (config.tls_server_name.empty()) {
    std::string host = HostOfUrl(config.server);
    if (host.ends_with('.')) host.pop_back();
    return host;
  }
  std::string name = config.tls_server_name;
  if (name.size() > 2 && name.front() == '[' && name.back() == ']') {
    return name.substr(1, name.size() - 2);
  }
  if (name.ends_with('.')) name.pop_back();
  return name;
}

}  // namespace

std::shared_ptr<TlsSettings> TlsSettings::Make(const Config& config) {
  std::shared_ptr<TlsSettings> settings(new TlsSettings);
  settings->insecure_ = config.insecure_skip_tls_verify;
  settings->name_ = VerifiedName(config);
  settings->name_is_ip_ = IsIpAddress(settings->name_);
  settings->ReadCas(config);
  if (!config.client_certificate_pem.empty()) settings->ReadClient(config);
  // What OpenSSL does not take is said now, and not by the first connection.
  const std::unique_ptr<SSL_CTX, Deleter<SSL_CTX_free>> probe(SSL_CTX_new(TLS_client_method()));
  ERR_clear_error();
  if (settings->name_.find('\0') != std::string::npos || probe == nullptr ||
      !settings->TryApply(probe.get())) {
    throw ConfigError("TLS for " + config.server + " cannot be set up: " + OpensslError());
  }
  return settings;
}

void TlsSettings::ReadCas(const Config& config) {
  cas_.reset(X509_STORE_new());
  if (config.ca_pem.empty()) {
    // None to be found is no error here: the verification will say so.
    X509_STORE_set_default_paths(cas_.get());
    ERR_clear_error();
    return;
  }
  const std::string what = "certificate authority of " + config.server;
  int broken = 0;
  const int count = ForEachCertificate(
      config.ca_pem,
      [&](X509* certificate) {
        const Certificate owned(certificate);
        X509_STORE_add_cert(cas_.get(), certificate);
      },
      broken);
  if (count == 0) throw ConfigError(what + ": not PEM certificates: " + OpensslError());
  if (broken > 0) {
    spdlog::warn("{}: {} of its PEM blocks are no certificates and left out", what, broken);
  }
  ERR_clear_error();
}

void TlsSettings::ReadClient(const Config& config) {
  const std::string what = "client certificate for " + config.server;
  int broken = 0;
  const int count = ForEachCertificate(
      config.client_certificate_pem,
      [&](X509* certificate) { client_chain_.emplace_back(certificate); }, broken);
  if (count == 0 || broken > 0) {
    throw ConfigError(what + ": not PEM certificates: " + OpensslError());
  }
  ERR_clear_error();
  client_key_.reset(
      PEM_read_bio_PrivateKey(Reader(config.client_key_pem).get(), nullptr, NoPassphrase, nullptr));
  if (client_key_ == nullptr) {
    throw ConfigError("client key for " + config.server +
                      ": not an unencrypted PEM key: " + OpensslError());
  }
  if (X509_check_private_key(client_chain_.front().get(), client_key_.get()) != 1) {
    throw ConfigError(what + ": the client key is not this certificate's: " + OpensslError());
  }
  client_certificate_pem_ = config.client_certificate_pem;
  client_key_pem_ = config.client_key_pem;
}

bool TlsSettings::TryApply(SSL_CTX* context) {
  if (SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1) return false;
  SSL_CTX_set1_cert_store(context, cas_.get());
  if (!client_chain_.empty()) {
    if (SSL_CTX_use_certificate(context, client_chain_.front().get()) != 1 ||
        SSL_CTX_use_PrivateKey(context, client_key_.get()) != 1) {
      return false;
    }
    for (size_t i = 1; i < client_chain_.size(); ++i) {
      if (SSL_CTX_add1_chain_cert(context, client_chain_[i].get()) != 1) return false;
    }
  }
  X509_VERIFY_PARAM* param = SSL_CTX_get0_param(context);
  if (X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN) != 1) return false;
  if (name_is_ip_) return X509_VERIFY_PARAM_set1_ip_asc(param, name_.c_str()) == 1;
  X509_VERIFY_PARAM_set_hostflags(
      param, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  return X509_VERIFY_PARAM_set1_host(param, name_.data(), name_.size()) == 1;
}

void TlsSettings::Apply(SSL_CTX* context) {
  SSL_CTX_set_ex_data(context, ContextSlot(), new std::shared_ptr<TlsSettings>(shared_from_this()));
  SSL_CTX_set_info_callback(context, &TlsSettings::OnHandshake);
  if (TryApply(context)) {
    SSL_CTX_set_cert_verify_callback(context, &TlsSettings::Verify, nullptr);
    return;
  }
  // It went well in Make, so this is for want of memory. A connection whose server's name is not
  // checked must not be.
  ERR_clear_error();
  SSL_CTX_set_cert_verify_callback(
      context,
      [](X509_STORE_CTX* chain, void* /*unused*/) {
        X509_STORE_CTX_set_error(chain, X509_V_ERR_OUT_OF_MEM);
        return 0;
      },
      nullptr);
}

TlsSettings& TlsSettings::Of(const SSL* ssl) {
  return **static_cast<std::shared_ptr<TlsSettings>*>(
      SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), ContextSlot()));
}

int TlsSettings::Verify(X509_STORE_CTX* chain, void* /*unused*/) {
  const auto* ssl =
      static_cast<SSL*>(X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx()));
  TlsSettings& settings = Of(ssl);
  if (settings.insecure_) return 1;
  // OpenSSL's own judgement in place of the HTTP library's callback.
  X509_STORE_CTX_set_verify_cb(chain, [](int good, X509_STORE_CTX* /*chain*/) { return good; });
  const int verified = X509_verify_cert(chain);
  if (verified <= 0) {
    const int error = X509_STORE_CTX_get_error(chain);
    std::string why =
        std::string("server certificate not accepted: ") + X509_verify_cert_error_string(error);
    if (error == X509_V_ERR_HOSTNAME_MISMATCH || error == X509_V_ERR_IP_ADDRESS_MISMATCH) {
      why += " (it does not name " + settings.name_ + ")";
    }
    settings.Failed(std::move(why));
  }
  return verified;
}

void TlsSettings::OnConnected(SSL* ssl, void* argument, void (*on_connected)(void* argument)) {
  if (SSL_is_init_finished(ssl) != 0) return;
  SSL_set_ex_data(ssl, ArgumentSlot(), argument);
  SSL_set_ex_data(ssl, FunctionSlot(), reinterpret_cast<void*>(on_connected));
}

void TlsSettings::OnHandshake(const SSL* ssl, int where, int value) {
  TlsSettings& settings = Of(ssl);
  if ((where & SSL_CB_HANDSHAKE_START) != 0) {
    const auto on_connected =
        reinterpret_cast<void (*)(void*)>(SSL_get_ex_data(ssl, FunctionSlot()));
    if (on_connected != nullptr) on_connected(SSL_get_ex_data(ssl, ArgumentSlot()));
  }
  if ((where & SSL_CB_HANDSHAKE_START) != 0 && !settings.name_is_ip_) {
    // RFC 6066: the server name is a DNS name, never an address. The callback's SSL is const, but
    // this is the one moment before the ClientHello is written.
    SSL_set_tlsext_host_name(const_cast<SSL*>(ssl), settings.name_.c_str());
  }
  if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT && (value >> 8) == SSL3_AL_FATAL) {
    settings.Failed(std::string("the server says TLS alert: ") + SSL_alert_desc_string_long(value));
  }
}

void TlsSettings::Failed(std::string why) {
  const std::lock_guard lock(mutex_);
  failure_ = std::move(why);
  failed_at_ = std::chrono::steady_clock::now();
}

std::string TlsSettings::FailureSince(std::chrono::steady_clock::time_point since) const {
  const std::lock_guard lock(mutex_);
  return failed_at_ >= since ? failure_ : "";
}

}  // namespace pointsman::kube
