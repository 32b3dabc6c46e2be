// A small HTTPS server for tests, with certificates made on the spot: real sockets, real TLS, and a
// handler that can say anything, also what no sane server would.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <openssl/ssl.h>

#include "base/unique_fd.h"

namespace pointsman::kube {

struct TestCertificate {
  std::string certificate_pem;
  std::string key_pem;
};

// A certificate authority that lives as long as the test.
class TestAuthority {
 public:
  explicit TestAuthority(const std::string& name);
  // An intermediate: `parent` says that this is an authority.
  TestAuthority(const std::string& name, const TestAuthority& parent);
  ~TestAuthority();
  TestAuthority(const TestAuthority&) = delete;
  TestAuthority& operator=(const TestAuthority&) = delete;
  const std::string& ca_pem() const { return ca_pem_; }
  // `alternative_names` as OpenSSL writes them: "IP:127.0.0.1,DNS:localhost"; may be empty. Valid
  // until `valid_seconds` from now.
  TestCertificate Issue(const std::string& common_name, const std::string& alternative_names,
                        long valid_seconds = 86400) const;

 private:
  TestAuthority(const std::string& name, const TestAuthority* parent);

  X509* certificate_ = nullptr;
  EVP_PKEY* key_ = nullptr;
  std::string ca_pem_;
};

class TestServer {
 public:
  struct Request {
    std::string method;
    std::string target;
    std::map<std::string, std::string> headers;  // names in lower case
    std::string body;
    std::string client;           // common name of the client's certificate, or ""
    bool client_expired = false;  // kube-apiserver looks at that with each request
    std::string sni;              // server name the client asked for, or ""
    int connection = 0;           // 1 for the first connection, …
    std::string Header(const std::string& name) const;
    bool TargetHas(std::string_view part) const { return target.find(part) != std::string::npos; }
  };

  class Reply {
   public:
    void Json(int status, const std::string& body, const std::string& extra_headers = "");
    // A chunked answer: each Chunk is one write. All return false once the peer is gone.
    bool Begin(int status, const std::string& extra_headers = "");
    bool Chunk(std::string_view data);
    bool End();
    bool Raw(std::string_view bytes);
    // Blocks until the peer closes the connection or the server stops.
    void WaitForPeerToLeave();
    // The connection is closed after the handler.
    void Close() { close_ = true; }

   private:
    friend class TestServer;
    Reply(SSL* ssl, int socket) : ssl_(ssl), socket_(socket) {}
    SSL* ssl_;
    int socket_;
    bool close_ = false;
  };

  // Called on a thread per connection.
  using Handler = std::function<void(const Request&, Reply&)>;

  struct Options {
    TestCertificate certificate;  // empty: plain HTTP
    std::string client_ca_pem;    // not empty: a client certificate of this CA is required
    bool ipv6 = false;            // listen on ::1 rather than 127.0.0.1
    int port = 0;                 // 0: any
  };

  TestServer(const Options& options, Handler handler);
  ~TestServer();  // closes every connection

  std::string url() const;
  int port() const { return port_; }
  int connections() const { return connections_; }
  int open_connections() const { return open_; }  // their handshake done, not closed by the peer

 private:
  void Accept();
  void Serve(int socket, int number);

  const Options options_;
  const Handler handler_;
  SSL_CTX* context_ = nullptr;
  UniqueFd listener_;
  int port_ = 0;
  std::atomic<int> connections_{0};
  std::atomic<int> open_{0};
  std::mutex mutex_;
  bool stopping_ = false;
  std::vector<UniqueFd> sockets_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace pointsman::kube
