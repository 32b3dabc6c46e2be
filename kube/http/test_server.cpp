#include "kube/http/test_server.h"

#include <arpa/inet.h>
#include <csignal>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <optional>
#include <stdexcept>
#include <sys/socket.h>
#include <system_error>
#include <utility>

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <unistd.h>

namespace pointsman::kube {
namespace {

void Check(bool good, const char* what) {
  if (!good) throw std::runtime_error(std::string("test server: ") + what);
}

template <typename Write>
std::string ToPem(Write write) {
  BIO* out = BIO_new(BIO_s_mem());
  Check(write(out) == 1, "writing PEM");
  char* data = nullptr;
  const long size = BIO_get_mem_data(out, &data);
  std::string pem(data, static_cast<size_t>(size));
  BIO_free(out);
  return pem;
}

std::string CertificatePem(X509* certificate) {
  return ToPem([&](BIO* out) { return PEM_write_bio_X509(out, certificate); });
}

void AddExtension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  Check(extension != nullptr, "certificate extension");
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

X509* NewCertificate(const std::string& common_name, EVP_PKEY* key, long valid_seconds = 86400) {
  static std::atomic<long> serial{1};
  X509* certificate = X509_new();
  X509_set_version(certificate, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate), valid_seconds);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(common_name.c_str()), -1, -1,
                             0);
  X509_set_pubkey(certificate, key);
  return certificate;
}

bool WriteAll(SSL* ssl, int socket, std::string_view data) {
  while (!data.empty()) {
    size_t written = 0;
    if (ssl != nullptr) {
      if (SSL_write_ex(ssl, data.data(), data.size(), &written) != 1) return false;
    } else {
      const ssize_t sent = send(socket, data.data(), data.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      written = static_cast<size_t>(sent);
    }
    data.remove_prefix(written);
  }
  return true;
}

// Appends what is there; false at the end of the connection.
bool ReadSome(SSL* ssl, int socket, std::string& buffer) {
  char piece[16384];
  if (ssl != nullptr) {
    size_t count = 0;
    if (SSL_read_ex(ssl, piece, sizeof piece, &count) != 1) return false;
    buffer.append(piece, count);
    return true;
  }
  const ssize_t count = recv(socket, piece, sizeof piece, 0);
  if (count <= 0) return false;
  buffer.append(piece, static_cast<size_t>(count));
  return true;
}

std::string CommonName(X509* certificate) {
  if (certificate == nullptr) return "";
  char name[256] = "";
  X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, sizeof name);
  return name;
}

bool IsExpired(X509* certificate) {
  return certificate != nullptr && X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0;
}

// Takes one request (Content-Length bodies only) off `buffer`, reading as needed.
std::optional<TestServer::Request> ReadRequest(SSL* ssl, int socket, std::string& buffer) {
  size_t end = 0;
  while ((end = buffer.find("\r\n\r\n")) == std::string::npos) {
    if (!ReadSome(ssl, socket, buffer)) return std::nullopt;
  }
  TestServer::Request request;
  const std::string head = buffer.substr(0, end + 2);
  buffer.erase(0, end + 4);
  size_t line_end = head.find("\r\n");
  const std::string line = head.substr(0, line_end);
  const size_t first = line.find(' ');
  const size_t second = line.find(' ', first + 1);
  request.method = line.substr(0, first);
  request.target = line.substr(first + 1, second - first - 1);
  for (size_t at = line_end + 2; at < head.size(); at = line_end + 2) {
    line_end = head.find("\r\n", at);
    const std::string field = head.substr(at, line_end - at);
    const size_t colon = field.find(':');
    std::string name = field.substr(0, colon);
    for (char& c : name)
      c = static_cast<char>(tolower(c));
    request.headers[name] = field.substr(field.find_first_not_of(' ', colon + 1));
  }
  const std::string length = request.Header("content-length");
  const size_t wanted = length.empty() ? 0 : std::stoul(length);
  while (buffer.size() < wanted) {
    if (!ReadSome(ssl, socket, buffer)) return std::nullopt;
  }
  request.body = buffer.substr(0, wanted);
  buffer.erase(0, wanted);
  return request;
}

}  // namespace

TestAuthority::TestAuthority(const std::string& name) : TestAuthority(name, nullptr) {}

TestAuthority::TestAuthority(const std::string& name, const TestAuthority& parent)
    : TestAuthority(name, &parent) {}

TestAuthority::TestAuthority(const std::string& name, const TestAuthority* parent)
    : key_(EVP_EC_gen("P-256")) {
  certificate_ = NewCertificate(name, key_);
  X509* const issuer = parent != nullptr ? parent->certificate_ : certificate_;
  X509_set_issuer_name(certificate_, X509_get_subject_name(issuer));
  AddExtension(certificate_, issuer, NID_basic_constraints, "critical,CA:TRUE");
  AddExtension(certificate_, issuer, NID_key_usage, "critical,keyCertSign");
  Check(X509_sign(certificate_, parent != nullptr ? parent->key_ : key_, EVP_sha256()) > 0,
        "signing the CA");
  ca_pem_ = CertificatePem(certificate_);
}

TestAuthority::~TestAuthority() {
  X509_free(certificate_);
  EVP_PKEY_free(key_);
}

TestCertificate TestAuthority::Issue(const std::string& common_name,
                                     const std::string& alternative_names,
                                     long valid_seconds) const {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = NewCertificate(common_name, key, valid_seconds);
  X509_set_issuer_name(certificate, X509_get_subject_name(certificate_));
  AddExtension(certificate, certificate_, NID_basic_constraints, "critical,CA:FALSE");
  AddExtension(certificate, certificate_, NID_ext_key_usage, "serverAuth,clientAuth");
  if (!alternative_names.empty()) {
    AddExtension(certificate, certificate_, NID_subject_alt_name, alternative_names);
  }
  Check(X509_sign(certificate, key_, EVP_sha256()) > 0, "signing a certificate");
  TestCertificate issued{CertificatePem(certificate), ToPem([&](BIO* out) {
                           return PEM_write_bio_PrivateKey(out, key, nullptr, nullptr, 0, nullptr,
                                                           nullptr);
                         })};
  X509_free(certificate);
  EVP_PKEY_free(key);
  return issued;
}

std::string TestServer::Request::Header(const std::string& name) const {
  const auto it = headers.find(name);
  return it == headers.end() ? "" : it->second;
}

void TestServer::Reply::Json(int status, const std::string& body,
                             const std::string& extra_headers) {
  Raw("HTTP/1.1 " + std::to_string(status) + " Test\r\nContent-Type: application/json\r\n" +
      extra_headers + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
}

bool TestServer::Reply::Begin(int status, const std::string& extra_headers) {
  return Raw("HTTP/1.1 " + std::to_string(status) + " Test\r\nContent-Type: application/json\r\n" +
             extra_headers + "Transfer-Encoding: chunked\r\n\r\n");
}

bool TestServer::Reply::Chunk(std::string_view data) {
  char size[32];
  snprintf(size, sizeof size, "%zx\r\n", data.size());
  return Raw(std::string(size) + std::string(data) + "\r\n");
}

bool TestServer::Reply::End() {
  return Raw("0\r\n\r\n");
}

bool TestServer::Reply::Raw(std::string_view bytes) {
  if (WriteAll(ssl_, socket_, bytes)) return true;
  close_ = true;
  return false;
}

void TestServer::Reply::WaitForPeerToLeave() {
  close_ = true;
  pollfd wait{socket_, POLLIN | POLLRDHUP, 0};
  poll(&wait, 1, -1);
}

TestServer::TestServer(const Options& options, Handler handler)
    : options_(options), handler_(std::move(handler)) {
  signal(SIGPIPE, SIG_IGN);  // NOLINT: SSL_write has no MSG_NOSIGNAL
  if (!options.certificate.certificate_pem.empty()) {
    context_ = SSL_CTX_new(TLS_server_method());
    BIO* in = BIO_new_mem_buf(options.certificate.certificate_pem.data(), -1);
    X509* certificate = PEM_read_bio_X509(in, nullptr, nullptr, nullptr);
    BIO_free(in);
    in = BIO_new_mem_buf(options.certificate.key_pem.data(), -1);
    EVP_PKEY* key = PEM_read_bio_PrivateKey(in, nullptr, nullptr, nullptr);
    BIO_free(in);
    Check(SSL_CTX_use_certificate(context_, certificate) == 1, "certificate");
    Check(SSL_CTX_use_PrivateKey(context_, key) == 1, "key");
    X509_free(certificate);
    EVP_PKEY_free(key);
    if (!options.client_ca_pem.empty()) {
      in = BIO_new_mem_buf(options.client_ca_pem.data(), -1);
      X509* ca = PEM_read_bio_X509(in, nullptr, nullptr, nullptr);
      BIO_free(in);
      X509_STORE_add_cert(SSL_CTX_get_cert_store(context_), ca);
      X509_free(ca);
      SSL_CTX_set_verify(context_, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    }
  }
  const int family = options.ipv6 ? AF_INET6 : AF_INET;
  listener_.Reset(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_addr = in6addr_loopback;
  v6.sin6_port = htons(static_cast<uint16_t>(options.port));
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  v4.sin_port = htons(static_cast<uint16_t>(options.port));
  auto* address =
      options.ipv6 ? reinterpret_cast<sockaddr*>(&v6) : reinterpret_cast<sockaddr*>(&v4);
  socklen_t size = options.ipv6 ? sizeof v6 : sizeof v4;
  if (bind(listener_.get(), address, size) != 0 || listen(listener_.get(), 64) != 0) {
    throw std::system_error(errno, std::generic_category(), "test server: bind");
  }
  getsockname(listener_.get(), address, &size);
  port_ = ntohs(options.ipv6 ? v6.sin6_port : v4.sin_port);
  acceptor_ = std::thread([this] { Accept(); });
}

TestServer::~TestServer() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (const UniqueFd& socket : sockets_)
      shutdown(socket.get(), SHUT_RDWR);
  }
  shutdown(listener_.get(), SHUT_RDWR);
  acceptor_.join();
  for (std::thread& thread : threads_)
    thread.join();
  SSL_CTX_free(context_);
}

std::string TestServer::url() const {
  return std::string(context_ != nullptr ? "https://" : "http://") +
         (options_.ipv6 ? "[::1]" : "127.0.0.1") + ":" + std::to_string(port_);
}

void TestServer::Accept() {
  for (;;) {
    const int socket = accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) return;  // the listener was shut down
    const std::lock_guard lock(mutex_);
    sockets_.emplace_back(socket);
    if (stopping_) return;
    threads_.emplace_back([this, socket, number = ++connections_] { Serve(socket, number); });
  }
}

void TestServer::Serve(int socket, int number) {
  const int on = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  SSL* ssl = nullptr;
  X509* client = nullptr;
  std::string sni;
  if (context_ != nullptr) {
    ssl = SSL_new(context_);
    SSL_set_fd(ssl, socket);
    if (SSL_accept(ssl) == 1) {
      client = SSL_get1_peer_certificate(ssl);
      const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
      if (name != nullptr) sni = name;
    } else {
      SSL_free(ssl);
      shutdown(socket, SHUT_RDWR);
      return;
    }
  }
  std::string buffer;
  ++open_;
  while (auto request = ReadRequest(ssl, socket, buffer)) {
    request->client = CommonName(client);
    request->client_expired = IsExpired(client);
    request->sni = sni;
    request->connection = number;
    Reply reply(ssl, socket);
    handler_(*request, reply);
    if (reply.close_) break;
  }
  --open_;
  X509_free(client);
  if (ssl != nullptr) {
    SSL_shutdown(ssl);
    SSL_free(ssl);
  }
  shutdown(socket, SHUT_RDWR);
}

}  // namespace pointsman::kube
