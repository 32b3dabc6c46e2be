#include "e2e/control-plane/http/connection.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <ctime>
#include <exception>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdexcept>
#include <string_view>
#include <sys/socket.h>
#include <system_error>
#include <utility>
#include <vector>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

namespace pointsman::e2e {
namespace {

constexpr std::size_t kMaxHead = 65536;
constexpr std::size_t kMaxDrained = 16u << 20;  // of a body that is refused
constexpr int kHandshakeTimeoutMs = 10000;
constexpr int kReadTimeoutMs = 30000;  // within a request
constexpr int kWriteTimeoutMs = 30000;
constexpr int kDrainTimeoutMs = 500;

// Thrown inside a connection's thread to end it.
struct ConnectionEnded {};

[[noreturn]] void FailPoll() {
  throw std::system_error(errno, std::generic_category(), "poll");
}

void SubjectOf(X509* certificate, std::string& user, std::vector<std::string>& groups) {
  X509_NAME* subject = X509_get_subject_name(certificate);
  for (int i = 0; i < X509_NAME_entry_count(subject); ++i) {
    X509_NAME_ENTRY* entry = X509_NAME_get_entry(subject, i);
    const int nid = OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry));
    if (nid != NID_commonName && nid != NID_organizationName) continue;
    unsigned char* utf8 = nullptr;
    const int length = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(entry));
    if (length < 0) continue;
    std::string value(reinterpret_cast<char*>(utf8), static_cast<std::size_t>(length));
    OPENSSL_free(utf8);
    if (nid == NID_commonName) {
      user = std::move(value);
    } else {
      groups.push_back(std::move(value));
    }
  }
}

class Connection : public HttpExchange {
 public:
  Connection(const ConnectionContext& server, UniqueFd socket, std::string peer)
      : server_(server),
        socket_(std::move(socket)),
        peer_(std::move(peer)),
        ssl_(SSL_new(server.tls)) {
    if (ssl_ == nullptr) throw std::runtime_error("SSL_new: " + TlsError());
    SSL_set_fd(ssl_, socket_.get());
  }
  ~Connection() override { SSL_free(ssl_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void Run() {
    if (!Handshake()) return;
    for (;;) {
      HttpRequest request;
      try {
        if (!ReadRequest(request)) break;
      } catch (const BadHttp& bad) {
        HttpResponse response;
        response.status = bad.status();
        response.content_type = bad.status() == 413 ? "application/json" : "text/plain";
        response.body = bad.what();
        response.close = true;
        Send(response);
        // Closing with unread bytes would reset the connection under the answer.
        Drain();
        break;
      }
      answered_ = false;
      head_only_ = request.method == "HEAD";
      keep_alive_ = !EqualsNoCase(request.Header("Connection"), "close");
      server_.handler(request, *this);
      if (chunked_) {
        WriteAll("0\r\n\r\n");
        chunked_ = false;
      }
      if (!answered_ || !keep_alive_ || aborted_) break;
    }
    if (!aborted_) SSL_shutdown(ssl_);
  }

  void Send(const HttpResponse& response) override {
    answered_ = true;
    if (response.close) keep_alive_ = false;
    std::string head = HeadOf(response.status, response.content_type, response.headers);
    head += "Content-Length: " + std::to_string(response.body.size()) + "\r\n\r\n";
    if (head_only_) {
      WriteAll(head);
    } else if (response.body.size() < 16384) {
      head += response.body;
      WriteAll(head);
    } else {
      WriteAll(head);
      WriteAll(response.body);
    }
  }

  void begin(int status, const std::string& content_type,
             const std::vector<std::pair<std::string, std::string>>& headers) override {
    answered_ = true;
    chunked_ = true;
    std::string head = HeadOf(status, content_type, headers);
    head += "Transfer-Encoding: chunked\r\n\r\n";
    WriteAll(head);
  }

  bool Write(std::string_view piece) override {
    if (piece.empty()) return true;
    char size[20];
    const int n = snprintf(size, sizeof(size), "%zx\r\n", piece.size());
    std::string chunk;
    chunk.reserve(piece.size() + 24);
    chunk.append(size, static_cast<std::size_t>(n)).append(piece).append("\r\n");
    try {
      WriteAll(chunk);
    } catch (const ConnectionEnded&) {
      Gone();
      return false;
    }
    return true;
  }

  bool WaitFor(int fd, std::chrono::milliseconds timeout) override {
    pollfd fds[3] = {
        {socket_.get(), POLLIN | POLLRDHUP, 0}, {server_.stop.get(), POLLIN, 0}, {fd, POLLIN, 0}};
    const int n = ::poll(fds, 3, static_cast<int>(timeout.count()));
    if (n < 0 && errno != EINTR) FailPoll();
    if (fds[1].revents != 0) {
      keep_alive_ = false;
      return false;
    }
    if (fds[0].revents != 0) {
      // Either the peer closes, or TLS wants something; a client does not pipeline behind a watch.
      char byte = 0;
      const int got = SSL_peek(ssl_, &byte, 1);
      if (got <= 0) {
        const int error = SSL_get_error(ssl_, got);
        ERR_clear_error();
        if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
          Gone();
          return false;
        }
      }
      if ((fds[0].revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0) {
        Gone();
        return false;
      }
      if (got > 0) {
        Gone();
        return false;
      }
    }
    return true;
  }

  void Abort() override { Gone(); }

 private:
  void Gone() {
    aborted_ = true;
    chunked_ = false;
    keep_alive_ = false;
    answered_ = true;
  }

  std::string HeadOf(int status, const std::string& content_type,
                     const std::vector<std::pair<std::string, std::string>>& headers) const {
    std::string head = "HTTP/1.1 " + std::to_string(status) + " " + ReasonPhrase(status) + "\r\n";
    head += "Content-Type: " + content_type + "\r\n";
    head += "Cache-Control: no-cache, private\r\n";
    for (const auto& [key, value] : headers) {
      head += key;
      head += ": ";
      head += value;
      head += "\r\n";
    }
    const std::time_t now = std::time(nullptr);
    std::tm tm{};
    gmtime_r(&now, &tm);
    char date[64];
    const std::size_t n =
        std::strftime(date, sizeof(date), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
    head.append(date, n);
    if (!keep_alive_) head += "Connection: close\r\n";
    return head;
  }

  // Waits for the socket; false on a timeout or when the server stops.
  bool Await(short events, int timeout_ms) {
    for (;;) {
      pollfd fds[2] = {{socket_.get(), events, 0}, {server_.stop.get(), POLLIN, 0}};
      const int n = ::poll(fds, 2, timeout_ms);
      if (n < 0) {
        if (errno == EINTR) continue;
        FailPoll();
      }
      if (n == 0 || fds[1].revents != 0) return false;
      return true;
    }
  }

  // Does `step` until it succeeds; false when the connection is over.
  template <typename Step>
  int Retry(Step step, int timeout_ms) {
    for (;;) {
      ERR_clear_error();
      const int n = step();
      if (n > 0) return n;
      const int error = SSL_get_error(ssl_, n);
      if (error == SSL_ERROR_WANT_READ) {
        if (!Await(POLLIN, timeout_ms)) return 0;
      } else if (error == SSL_ERROR_WANT_WRITE) {
        if (!Await(POLLOUT, timeout_ms)) return 0;
      } else {
        return 0;
      }
    }
  }

  bool Handshake() {
    if (Retry([&] { return SSL_accept(ssl_); }, kHandshakeTimeoutMs) <= 0) {
      const std::string why = TlsError();
      spdlog::debug("{}: TLS handshake failed: {}", peer_, why);
      return false;
    }
    if (X509* certificate = SSL_get1_peer_certificate(ssl_)) {
      if (SSL_get_verify_result(ssl_) == X509_V_OK) SubjectOf(certificate, user_, groups_);
      X509_free(certificate);
    }
    return true;
  }

  bool Fill(int timeout_ms) {
    char chunk[16384];
    const int n =
        Retry([&] { return SSL_read(ssl_, chunk, static_cast<int>(sizeof(chunk))); }, timeout_ms);
    if (n <= 0) return false;
    input_.append(chunk, static_cast<std::size_t>(n));
    return true;
  }

  void Drain() {
    std::size_t total = 0;
    while (total < kMaxDrained) {
      input_.clear();
      if (!Fill(kDrainTimeoutMs)) return;
      total += input_.size();
    }
  }

  void WriteAll(std::string_view data) {
    while (!data.empty()) {
      const int size = static_cast<int>(std::min<std::size_t>(data.size(), 1u << 20));
      const int n = Retry([&] { return SSL_write(ssl_, data.data(), size); }, kWriteTimeoutMs);
      if (n <= 0) throw ConnectionEnded();
      data.remove_prefix(static_cast<std::size_t>(n));
    }
  }

  bool ReadRequest(HttpRequest& request) {
    std::size_t end = 0;
    int timeout = static_cast<int>(std::chrono::milliseconds(server_.idle_timeout).count());
    while ((end = input_.find("\r\n\r\n")) == std::string::npos) {
      if (input_.size() > kMaxHead) throw BadHttp(431, "the request's header is too large");
      if (!Fill(timeout)) return false;
      timeout = kReadTimeoutMs;
    }
    const std::string head = input_.substr(0, end);
    input_.erase(0, end + 4);
    ParseHead(head, request);
    request.peer = peer_;
    request.certificate_user = user_;
    request.certificate_groups = groups_;

    if (!request.Header("Expect").empty()) WriteAll("HTTP/1.1 100 Continue\r\n\r\n");
    const std::string encoding = request.Header("Transfer-Encoding");
    const std::string length = request.Header("Content-Length");
    if (!encoding.empty()) {
      if (!length.empty() || !EqualsNoCase(encoding, "chunked")) {
        throw BadHttp(400, "unsupported transfer encoding");
      }
      return ReadChunks(request.body);
    }
    if (length.empty()) return true;
    std::size_t size = 0;
    const auto [stop, error] = std::from_chars(length.data(), length.data() + length.size(), size);
    if (error != std::errc() || stop != length.data() + length.size()) {
      throw BadHttp(400, "malformed Content-Length");
    }
    if (size > server_.max_body) TooLarge();
    while (input_.size() < size) {
      if (!Fill(kReadTimeoutMs)) return false;
    }
    request.body = input_.substr(0, size);
    input_.erase(0, size);
    return true;
  }

  [[noreturn]] void TooLarge() const {
    throw BadHttp(413, R"({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",)"
                       R"("message":"Request entity too large: limit is )" +
                           std::to_string(server_.max_body) +
                           R"(","reason":"RequestEntityTooLarge","code":413})");
  }

  bool ReadChunks(std::string& body) {
    for (;;) {
      std::size_t end = 0;
      while ((end = input_.find("\r\n")) == std::string::npos) {
        if (input_.size() > kMaxHead) throw BadHttp(400, "malformed chunk");
        if (!Fill(kReadTimeoutMs)) return false;
      }
      std::size_t size = 0;
      const auto [stop, error] = std::from_chars(input_.data(), input_.data() + end, size, 16);
      if (error != std::errc() || (stop != input_.data() + end && *stop != ';')) {
        throw BadHttp(400, "malformed chunk");
      }
      if (size > server_.max_body || body.size() + size > server_.max_body) {
        TooLarge();
      }
      input_.erase(0, end + 2);
      while (input_.size() < size + 2) {
        if (!Fill(kReadTimeoutMs)) return false;
      }
      if (input_.compare(size, 2, "\r\n") != 0) throw BadHttp(400, "malformed chunk");
      body.append(input_, 0, size);
      input_.erase(0, size + 2);
      if (size == 0) return true;
    }
  }

  const ConnectionContext& server_;
  const UniqueFd socket_;
  const std::string peer_;
  SSL* ssl_;
  std::string user_;
  std::vector<std::string> groups_;
  std::string input_;
  bool answered_ = false;
  bool chunked_ = false;
  bool keep_alive_ = true;
  bool head_only_ = false;
  bool aborted_ = false;
};

}  // namespace

std::string TlsError() {
  char text[256];
  const unsigned long code = ERR_get_error();
  if (code == 0) return "no reason given";
  ERR_error_string_n(code, text, sizeof(text));
  ERR_clear_error();
  return text;
}

void ServeConnection(const ConnectionContext& context, UniqueFd socket, std::string peer) {
  const int one = 1;
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  ::setsockopt(socket.get(), SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
  try {
    Connection connection(context, std::move(socket), std::move(peer));
    connection.Run();
  } catch (const ConnectionEnded&) {
    // The peer went away in the middle of an answer.
  } catch (const std::exception& e) {
    spdlog::warn("a connection ended: {}", e.what());
  }
}

}  // namespace pointsman::e2e
