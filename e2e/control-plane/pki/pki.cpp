#include "e2e/control-plane/pki/pki.h"

#include <arpa/inet.h>
#include <cerrno>
#include <fstream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include "base/throw_errno.h"
#include "base/unique_fd.h"
#include "e2e/control-plane/base/base64.h"

namespace pointsman::e2e {
namespace {

template <typename T, void (*F)(T*)>
struct Free {
  void operator()(T* p) const { F(p); }
};
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY, EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Free<X509, X509_free>>;

[[noreturn]] void Fail(const std::string& what) {
  char text[256] = "no reason given";
  if (const unsigned long code = ERR_get_error()) ERR_error_string_n(code, text, sizeof(text));
  throw std::runtime_error(what + ": " + text);
}

std::string ReadFile(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw std::system_error(errno, std::generic_category(), "open " + file.string());
  std::stringstream content;
  content << in.rdbuf();
  return content.str();
}

std::string Drain(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string text(data, static_cast<std::size_t>(size));
  BIO_free(bio);
  return text;
}

std::string ToPem(X509* certificate) {
  BIO* bio = BIO_new(BIO_s_mem());
  if (PEM_write_bio_X509(bio, certificate) != 1) Fail("PEM_write_bio_X509");
  return Drain(bio);
}

std::string ToPem(EVP_PKEY* key) {
  BIO* bio = BIO_new(BIO_s_mem());
  if (PEM_write_bio_PKCS8PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    Fail("PEM_write_bio_PKCS8PrivateKey");
  }
  return Drain(bio);
}

void Extend(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  if (extension == nullptr) Fail("certificate extension '" + value + "'");
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

struct Request {
  std::string common_name;
  std::vector<std::string> organizations;
  std::vector<std::string> alt_names;
  enum { kCa, kServer, kClient } use = kClient;
};

Certificate Issue(const Request& request, EVP_PKEY* key, X509* issuer, EVP_PKEY* issuer_key) {
  Certificate certificate(X509_new());
  X509* x = certificate.get();
  X509_set_version(x, 2);
  unsigned char serial[16];
  if (RAND_bytes(serial, sizeof(serial)) != 1) Fail("RAND_bytes");
  serial[0] &= 0x7f;
  BIGNUM* number = BN_bin2bn(serial, sizeof(serial), nullptr);
  BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x));
  BN_free(number);
  // An hour back, for the clocks of test machines.
  X509_gmtime_adj(X509_getm_notBefore(x), -3600);
  X509_gmtime_adj(X509_getm_notAfter(x), 10L * 365 * 24 * 3600);
  X509_set_pubkey(x, key);
  X509_NAME* name = X509_get_subject_name(x);
  const auto add_entry = [&](int nid, const std::string& value) {
    if (X509_NAME_add_entry_by_NID(name, nid, MBSTRING_UTF8,
                                   reinterpret_cast<const unsigned char*>(value.data()),
                                   static_cast<int>(value.size()), -1, 0) != 1) {
      Fail("certificate subject '" + value + "'");
    }
  };
  for (const std::string& organization : request.organizations) {
    add_entry(NID_organizationName, organization);
  }
  add_entry(NID_commonName, request.common_name);
  X509_set_issuer_name(x, X509_get_subject_name(issuer != nullptr ? issuer : x));
  X509* signer = issuer != nullptr ? issuer : x;
  if (request.use == Request::kCa) {
    Extend(x, signer, NID_basic_constraints, "critical,CA:TRUE");
    Extend(x, signer, NID_key_usage, "critical,digitalSignature,keyCertSign");
  } else {
    Extend(x, signer, NID_basic_constraints, "critical,CA:FALSE");
    Extend(x, signer, NID_key_usage, "critical,digitalSignature");
    Extend(x, signer, NID_ext_key_usage,
           request.use == Request::kServer ? "serverAuth" : "clientAuth");
  }
  Extend(x, signer, NID_subject_key_identifier, "hash");
  if (issuer != nullptr) Extend(x, signer, NID_authority_key_identifier, "keyid:always");
  if (!request.alt_names.empty()) {
    std::string list;
    for (const std::string& alt : request.alt_names) {
      if (alt.find_first_of(",\n") != std::string::npos) {
        throw std::invalid_argument("--san: '" + alt + "' is neither a name nor an address");
      }
      unsigned char ignored[16];
      const bool address = inet_pton(AF_INET, alt.c_str(), ignored) == 1 ||
                           inet_pton(AF_INET6, alt.c_str(), ignored) == 1;
      if (!list.empty()) list += ",";
      list += (address ? "IP:" : "DNS:") + alt;
    }
    Extend(x, signer, NID_subject_alt_name, list);
  }
  if (X509_sign(x, issuer_key, EVP_sha256()) == 0) Fail("X509_sign");
  return certificate;
}

Key NewKey() {
  Key key(EVP_EC_gen("P-256"));
  if (!key) Fail("EVP_EC_gen");
  return key;
}

std::pair<Certificate, Key> Load(const std::filesystem::path& certificate,
                                 const std::filesystem::path& key) {
  const std::string certificate_pem = ReadFile(certificate);
  const std::string key_pem = ReadFile(key);
  BIO* bio = BIO_new_mem_buf(certificate_pem.data(), static_cast<int>(certificate_pem.size()));
  Certificate x(PEM_read_bio_X509(bio, nullptr, nullptr, nullptr));
  BIO_free(bio);
  if (!x) Fail(certificate.string());
  bio = BIO_new_mem_buf(key_pem.data(), static_cast<int>(key_pem.size()));
  Key k(PEM_read_bio_PrivateKey(bio, nullptr, nullptr, nullptr));
  BIO_free(bio);
  if (!k) Fail(key.string());
  return {std::move(x), std::move(k)};
}

}  // namespace

void Pki::WritePrivate(const std::filesystem::path& file, const std::string& content) {
  std::filesystem::path fresh = file;
  fresh += ".new";
  {
    const UniqueFd fd(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!fd) ThrowErrno("open " + fresh.string());
    if (::write(fd.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size()))
      ThrowErrno("write " + fresh.string());
  }
  std::filesystem::rename(fresh, file);
}

Pki::Pki(std::filesystem::path directory) : directory_(std::move(directory)) {
  std::filesystem::create_directories(directory_);
  if (std::filesystem::exists(CaCertificate()) && std::filesystem::exists(directory_ / "ca.key")) {
    return;
  }
  const Key key = NewKey();
  Request request;
  request.common_name = "pointsman-control-plane-ca";
  request.use = Request::kCa;
  const Certificate certificate = Issue(request, key.get(), nullptr, key.get());
  WritePrivate(directory_ / "ca.key", ToPem(key.get()));
  WritePrivate(CaCertificate(), ToPem(certificate.get()));
}

void Pki::IssueServer(const std::vector<std::string>& subject_alt_names) const {
  const auto [ca, ca_key] = Load(CaCertificate(), directory_ / "ca.key");
  const Key key = NewKey();
  Request request;
  request.common_name = "kube-apiserver";
  request.use = Request::kServer;
  request.alt_names = subject_alt_names;
  const Certificate certificate = Issue(request, key.get(), ca.get(), ca_key.get());
  WritePrivate(ServerKey(), ToPem(key.get()));
  WritePrivate(ServerCertificate(), ToPem(certificate.get()));
}

std::string Pki::ClientKubeconfig(const std::string& server, const std::string& user,
                                  const std::vector<std::string>& groups) const {
  const auto [ca, ca_key] = Load(CaCertificate(), directory_ / "ca.key");
  const Key key = NewKey();
  Request request;
  request.common_name = user;
  request.organizations = groups;
  const Certificate certificate = Issue(request, key.get(), ca.get(), ca_key.get());
  const nlohmann::json config = {
      {"apiVersion", "v1"},
      {"kind", "Config"},
      {"preferences", nlohmann::json::object()},
      {"clusters",
       {{{"name", "pointsman"},
         {"cluster",
          {{"server", server},
           {"certificate-authority-data", Base64Encode(ReadFile(CaCertificate()))}}}}}},
      {"users",
       {{{"name", user},
         {"user",
          {{"client-certificate-data", Base64Encode(ToPem(certificate.get()))},
           {"client-key-data", Base64Encode(ToPem(key.get()))}}}}}},
      {"contexts",
       {{{"name", "pointsman"}, {"context", {{"cluster", "pointsman"}, {"user", user}}}}}},
      {"current-context", "pointsman"}};
  return config.dump(2) + "\n";  // JSON is YAML
}

std::string Pki::TokenSecret() const {
  const std::filesystem::path file = directory_ / "token.key";
  if (!std::filesystem::exists(file)) {
    unsigned char bytes[32];
    if (RAND_bytes(bytes, sizeof(bytes)) != 1) Fail("RAND_bytes");
    WritePrivate(file, Base64Encode(std::string(reinterpret_cast<char*>(bytes), sizeof(bytes))));
  }
  return ReadFile(file);
}

}  // namespace pointsman::e2e
