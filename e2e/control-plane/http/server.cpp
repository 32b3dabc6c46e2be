#include "e2e/control-plane/http/server.h"

#include <arpa/inet.h>
#include <charconv>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sched.h>
#include <strings.h>
#include <unistd.h>

#include "e2e/control-plane/registry/trim.h"

namespace pointsman::e2e {
namespace {

constexpr std::size_t kMaxHead = 65536;
constexpr int kWriteTimeoutMs = 30000;

[[noreturn]] void failErrno(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

std::string describe(int error) {
  return std::generic_category().message(error);
}

std::string sslError() {
  char text[256];
  const unsigned long code = ERR_get_error();
  if (code == 0) return "no reason given";
  ERR_error_string_n(code, text, sizeof(text));
  ERR_clear_error();
  return text;
}

const char* phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 406:
      return "Not Acceptable";
    case 409:
      return "Conflict";
    case 410:
      return "Gone";
    case 413:
      return "Request Entity Too Large";
    case 415:
      return "Unsupported Media Type";
    case 422:
      return "Unprocessable Entity";
    case 429:
      return "Too Many Requests";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Status";
  }
}

bool equalsNoCase(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

/// Thrown inside a connection's thread to end it.
struct ConnectionEnded {};

/// A malformed request: answered, then the connection ends.
struct BadHttp {
  int status;
  std::string message;
};

// h2 is not spoken, so that ALPN must end at http/1.1.
int selectAlpn(SSL*, const unsigned char** out, unsigned char* outLength, const unsigned char* in,
               unsigned int inLength, void*) {
  static constexpr std::string_view kHttp11 = "http/1.1";
  for (unsigned int i = 0; i < inLength; i += 1u + in[i]) {
    const std::string_view offered(reinterpret_cast<const char*>(in + i + 1), in[i]);
    if (offered == kHttp11) {
      *out = in + i + 1;
      *outLength = in[i];
      return SSL_TLSEXT_ERR_OK;
    }
  }
  return SSL_TLSEXT_ERR_NOACK;
}

void subjectOf(X509* certificate, std::string& user, std::vector<std::string>& groups) {
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

}  // namespace

std::optional<std::string> percentDecode(std::string_view text, bool plusIsSpace) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%') {
      unsigned value = 0;
      if (i + 2 >= text.size()) return std::nullopt;
      const auto [end, error] =
          std::from_chars(text.data() + i + 1, text.data() + i + 3, value, 16);
      if (error != std::errc() || end != text.data() + i + 3) return std::nullopt;
      out.push_back(static_cast<char>(value));
      i += 2;
    } else if (plusIsSpace && text[i] == '+') {
      out.push_back(' ');
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

std::string HttpRequest::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (equalsNoCase(key, name)) return value;
  }
  return {};
}

std::optional<std::string> HttpRequest::parameter(std::string_view name) const {
  std::string_view rest = query;
  while (!rest.empty()) {
    const auto end = rest.find('&');
    const std::string_view pair = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    const auto equal = pair.find('=');
    const auto key = percentDecode(pair.substr(0, equal), true);
    if (!key || *key != name) continue;
    if (equal == std::string_view::npos) return std::string();
    return percentDecode(pair.substr(equal + 1), true);
  }
  return std::nullopt;
}

ListenAddress parseListenAddress(const std::string& text) {
  ListenAddress address;
  std::string rest = text;
  if (const auto at = rest.rfind('@'); at != std::string::npos) {
    address.netns = rest.substr(0, at);
    rest = rest.substr(at + 1);
  }
  const auto colon = rest.rfind(':');
  if (colon == std::string::npos) {
    throw std::invalid_argument("--listen: '" + text + "' is not [NETNS@]ADDR:PORT");
  }
  address.host = rest.substr(0, colon);
  if (address.host.size() > 2 && address.host.front() == '[' && address.host.back() == ']') {
    address.host = address.host.substr(1, address.host.size() - 2);
  }
  const char* begin = rest.data() + colon + 1;
  const char* end = rest.data() + rest.size();
  const auto [stop, error] = std::from_chars(begin, end, address.port);
  if (error != std::errc() || stop != end) {
    throw std::invalid_argument("--listen: '" + text + "': the port is not a number to 65535");
  }
  return address;
}

struct HttpServer::Impl {
  class Connection;

  Options options;
  Handler handler;
  SSL_CTX* context = nullptr;
  int stopFd = -1;
  std::atomic<bool> stopping{false};
  std::atomic<bool> refusing{false};
  std::vector<std::pair<int, std::thread>> listeners;
  std::mutex mutex;
  std::condition_variable ended;
  std::size_t connections = 0;

  void acceptLoop(int fd);
  void serve(int fd, std::string peer);
};

class HttpServer::Impl::Connection : public HttpExchange {
 public:
  Connection(Impl& server, int fd, std::string peer)
      : server_(server), fd_(fd), peer_(std::move(peer)), ssl_(SSL_new(server.context)) {
    if (ssl_ == nullptr) throw std::runtime_error("SSL_new: " + sslError());
    SSL_set_fd(ssl_, fd_);
  }
  ~Connection() override {
    SSL_free(ssl_);
    ::close(fd_);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void run() {
    if (!handshake()) return;
    for (;;) {
      HttpRequest request;
      try {
        if (!readRequest(request)) break;
      } catch (const BadHttp& bad) {
        HttpResponse response;
        response.status = bad.status;
        response.contentType = bad.status == 413 ? "application/json" : "text/plain";
        response.body = bad.message;
        response.close = true;
        send(response);
        // Closing with unread bytes would reset the connection under the answer.
        drain();
        break;
      }
      answered_ = false;
      headOnly_ = request.method == "HEAD";
      keepAlive_ = !equalsNoCase(request.header("Connection"), "close");
      server_.handler(request, *this);
      if (chunked_) {
        writeAll("0\r\n\r\n");
        chunked_ = false;
      }
      if (!answered_ || !keepAlive_ || aborted_) break;
    }
    if (!aborted_) SSL_shutdown(ssl_);
  }

  void send(const HttpResponse& response) override {
    answered_ = true;
    if (response.close) keepAlive_ = false;
    std::string head = headOf(response.status, response.contentType, response.headers);
    head += "Content-Length: " + std::to_string(response.body.size()) + "\r\n\r\n";
    if (headOnly_) {
      writeAll(head);
    } else if (response.body.size() < 16384) {
      head += response.body;
      writeAll(head);
    } else {
      writeAll(head);
      writeAll(response.body);
    }
  }

  void begin(int status, const std::string& contentType,
             const std::vector<std::pair<std::string, std::string>>& headers) override {
    answered_ = true;
    chunked_ = true;
    std::string head = headOf(status, contentType, headers);
    head += "Transfer-Encoding: chunked\r\n\r\n";
    writeAll(head);
  }

  bool write(std::string_view piece) override {
    if (piece.empty()) return true;
    char size[20];
    const int n = snprintf(size, sizeof(size), "%zx\r\n", piece.size());
    std::string chunk;
    chunk.reserve(piece.size() + 24);
    chunk.append(size, static_cast<std::size_t>(n)).append(piece).append("\r\n");
    try {
      writeAll(chunk);
    } catch (const ConnectionEnded&) {
      gone();
      return false;
    }
    return true;
  }

  bool waitFor(int fd, std::chrono::milliseconds timeout) override {
    pollfd fds[3] = {{fd_, POLLIN | POLLRDHUP, 0}, {server_.stopFd, POLLIN, 0}, {fd, POLLIN, 0}};
    const int n = ::poll(fds, 3, static_cast<int>(timeout.count()));
    if (n < 0 && errno != EINTR) failErrno("poll");
    if (fds[1].revents != 0) {
      keepAlive_ = false;
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
          gone();
          return false;
        }
      }
      if ((fds[0].revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0) {
        gone();
        return false;
      }
      if (got > 0) {
        gone();
        return false;
      }
    }
    return true;
  }

  void abort() override { gone(); }

 private:
  void gone() {
    aborted_ = true;
    chunked_ = false;
    keepAlive_ = false;
    answered_ = true;
  }

  std::string headOf(int status, const std::string& contentType,
                     const std::vector<std::pair<std::string, std::string>>& headers) const {
    std::string head = "HTTP/1.1 " + std::to_string(status) + " " + phrase(status) + "\r\n";
    head += "Content-Type: " + contentType + "\r\n";
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
    if (!keepAlive_) head += "Connection: close\r\n";
    return head;
  }

  // Waits for the socket; false on a timeout or when the server stops.
  bool await(short events, int timeoutMs) {
    for (;;) {
      pollfd fds[2] = {{fd_, events, 0}, {server_.stopFd, POLLIN, 0}};
      const int n = ::poll(fds, 2, timeoutMs);
      if (n < 0) {
        if (errno == EINTR) continue;
        failErrno("poll");
      }
      if (n == 0 || fds[1].revents != 0) return false;
      return true;
    }
  }

  // Does `step` until it succeeds; false when the connection is over.
  template <typename Step>
  int retry(Step step, int timeoutMs) {
    for (;;) {
      ERR_clear_error();
      const int n = step();
      if (n > 0) return n;
      const int error = SSL_get_error(ssl_, n);
      if (error == SSL_ERROR_WANT_READ) {
        if (!await(POLLIN, timeoutMs)) return 0;
      } else if (error == SSL_ERROR_WANT_WRITE) {
        if (!await(POLLOUT, timeoutMs)) return 0;
      } else {
        return 0;
      }
    }
  }

  bool handshake() {
    if (retry([&] { return SSL_accept(ssl_); }, 10000) <= 0) {
      const std::string why = sslError();
      spdlog::debug("{}: TLS handshake failed: {}", peer_, why);
      return false;
    }
    if (X509* certificate = SSL_get1_peer_certificate(ssl_)) {
      if (SSL_get_verify_result(ssl_) == X509_V_OK) subjectOf(certificate, user_, groups_);
      X509_free(certificate);
    }
    return true;
  }

  bool fill(int timeoutMs) {
    char chunk[16384];
    const int n =
        retry([&] { return SSL_read(ssl_, chunk, static_cast<int>(sizeof(chunk))); }, timeoutMs);
    if (n <= 0) return false;
    input_.append(chunk, static_cast<std::size_t>(n));
    return true;
  }

  void drain() {
    std::size_t total = 0;
    while (total < (16u << 20)) {
      input_.clear();
      if (!fill(500)) return;
      total += input_.size();
    }
  }

  void writeAll(std::string_view data) {
    while (!data.empty()) {
      const int size = static_cast<int>(std::min<std::size_t>(data.size(), 1u << 20));
      const int n = retry([&] { return SSL_write(ssl_, data.data(), size); }, kWriteTimeoutMs);
      if (n <= 0) throw ConnectionEnded();
      data.remove_prefix(static_cast<std::size_t>(n));
    }
  }

  bool readRequest(HttpRequest& request) {
    std::size_t end = 0;
    int timeout = static_cast<int>(std::chrono::milliseconds(server_.options.idleTimeout).count());
    while ((end = input_.find("\r\n\r\n")) == std::string::npos) {
      if (input_.size() > kMaxHead) throw BadHttp{431, "the request's header is too large"};
      if (!fill(timeout)) return false;
      timeout = 30000;
    }
    const std::string head = input_.substr(0, end);
    input_.erase(0, end + 4);
    parseHead(head, request);
    request.peer = peer_;
    request.certificateUser = user_;
    request.certificateGroups = groups_;

    if (!request.header("Expect").empty()) writeAll("HTTP/1.1 100 Continue\r\n\r\n");
    const std::string encoding = request.header("Transfer-Encoding");
    const std::string length = request.header("Content-Length");
    if (!encoding.empty()) {
      if (!length.empty() || !equalsNoCase(encoding, "chunked")) {
        throw BadHttp{400, "unsupported transfer encoding"};
      }
      return readChunks(request.body);
    }
    if (length.empty()) return true;
    std::size_t size = 0;
    const auto [stop, error] = std::from_chars(length.data(), length.data() + length.size(), size);
    if (error != std::errc() || stop != length.data() + length.size()) {
      throw BadHttp{400, "malformed Content-Length"};
    }
    if (size > server_.options.maxBody) tooLarge();
    while (input_.size() < size) {
      if (!fill(30000)) return false;
    }
    request.body = input_.substr(0, size);
    input_.erase(0, size);
    return true;
  }

  [[noreturn]] void tooLarge() const {
    throw BadHttp{413, R"({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",)"
                       R"("message":"Request entity too large: limit is )" +
                           std::to_string(server_.options.maxBody) +
                           R"(","reason":"RequestEntityTooLarge","code":413})"};
  }

  bool readChunks(std::string& body) {
    for (;;) {
      std::size_t end = 0;
      while ((end = input_.find("\r\n")) == std::string::npos) {
        if (input_.size() > kMaxHead) throw BadHttp{400, "malformed chunk"};
        if (!fill(30000)) return false;
      }
      std::size_t size = 0;
      const auto [stop, error] = std::from_chars(input_.data(), input_.data() + end, size, 16);
      if (error != std::errc() || (stop != input_.data() + end && *stop != ';')) {
        throw BadHttp{400, "malformed chunk"};
      }
      if (size > server_.options.maxBody || body.size() + size > server_.options.maxBody) {
        tooLarge();
      }
      input_.erase(0, end + 2);
      while (input_.size() < size + 2) {
        if (!fill(30000)) return false;
      }
      if (input_.compare(size, 2, "\r\n") != 0) throw BadHttp{400, "malformed chunk"};
      body.append(input_, 0, size);
      input_.erase(0, size + 2);
      if (size == 0) return true;
    }
  }

  static void parseHead(std::string_view head, HttpRequest& request) {
    auto lineEnd = head.find("\r\n");
    const std::string_view line = head.substr(0, lineEnd);
    const auto first = line.find(' ');
    const auto second = line.rfind(' ');
    if (first == std::string_view::npos || second == first ||
        !line.substr(second + 1).starts_with("HTTP/1.")) {
      throw BadHttp{400, "malformed request line"};
    }
    request.method = line.substr(0, first);
    const std::string_view target = line.substr(first + 1, second - first - 1);
    const auto question = target.find('?');
    const auto path = percentDecode(target.substr(0, question), false);
    if (!path || path->empty() || path->front() != '/') {
      throw BadHttp{400, "malformed request target"};
    }
    request.path = *path;
    if (question != std::string_view::npos) request.query = target.substr(question + 1);
    while (lineEnd != std::string_view::npos) {
      head.remove_prefix(lineEnd + 2);
      lineEnd = head.find("\r\n");
      const std::string_view field = head.substr(0, lineEnd);
      const auto colon = field.find(':');
      if (colon == std::string_view::npos || colon == 0) throw BadHttp{400, "malformed header"};
      request.headers.emplace_back(field.substr(0, colon), trim(field.substr(colon + 1)));
    }
  }

  Impl& server_;
  const int fd_;
  const std::string peer_;
  SSL* ssl_;
  std::string user_;
  std::vector<std::string> groups_;
  std::string input_;
  bool answered_ = false;
  bool chunked_ = false;
  bool keepAlive_ = true;
  bool headOnly_ = false;
  bool aborted_ = false;
};

void HttpServer::Impl::serve(int fd, std::string peer) {
  const int one = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
  try {
    Connection connection(*this, fd, std::move(peer));
    connection.run();
  } catch (const ConnectionEnded&) {
    // The peer went away in the middle of an answer; there is nobody left to tell.
  } catch (const std::exception& e) {
    spdlog::warn("a connection ended: {}", e.what());
  }
  const std::lock_guard lock(mutex);
  --connections;
  ended.notify_all();
}

void HttpServer::Impl::acceptLoop(int fd) {
  for (;;) {
    pollfd fds[2] = {{fd, POLLIN, 0}, {stopFd, POLLIN, 0}};
    if (::poll(fds, 2, -1) < 0 && errno != EINTR) {
      spdlog::critical("poll on a listening socket: {}", describe(errno));
      return;
    }
    if (stopping) return;
    if ((fds[0].revents & POLLIN) == 0) continue;
    sockaddr_storage from{};
    socklen_t length = sizeof(from);
    const int client =
        ::accept4(fd, reinterpret_cast<sockaddr*>(&from), &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client < 0) {
      if (errno == EMFILE || errno == ENFILE) {
        spdlog::error("accept: {}", describe(errno));
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
      continue;
    }
    char text[INET6_ADDRSTRLEN] = "?";
    std::uint16_t port = 0;
    if (from.ss_family == AF_INET) {
      const auto* v4 = reinterpret_cast<const sockaddr_in*>(&from);
      inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
      port = ntohs(v4->sin_port);
    } else {
      const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&from);
      inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text));
      port = ntohs(v6->sin6_port);
    }
    {
      const std::lock_guard lock(mutex);
      if (refusing || connections >= options.maxConnections) {
        linger reset{1, 0};
        ::setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        ::close(client);
        continue;
      }
      ++connections;
    }
    try {
      std::thread([this, client, peer = std::string(text) + ":" + std::to_string(port)]() mutable {
        serve(client, std::move(peer));
      }).detach();
    } catch (const std::system_error& e) {
      spdlog::error("no thread for a connection: {}", e.what());
      ::close(client);
      const std::lock_guard lock(mutex);
      --connections;
    }
  }
}

HttpServer::HttpServer(Options options, Handler handler) : impl_(std::make_unique<Impl>()) {
  impl_->options = std::move(options);
  impl_->handler = std::move(handler);
  impl_->stopFd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (impl_->stopFd < 0) failErrno("eventfd");
  SSL_CTX* context = SSL_CTX_new(TLS_server_method());
  if (context == nullptr) throw std::runtime_error("SSL_CTX_new: " + sslError());
  impl_->context = context;
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_AUTO_RETRY | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
  static constexpr unsigned char kSession[] = "pointsman-control-plane";
  SSL_CTX_set_session_id_context(context, kSession, sizeof(kSession) - 1);
  SSL_CTX_set_alpn_select_cb(context, selectAlpn, nullptr);
  const Options& o = impl_->options;
  if (SSL_CTX_use_certificate_chain_file(context, o.certificate.c_str()) != 1) {
    throw std::runtime_error(o.certificate.string() + ": " + sslError());
  }
  if (SSL_CTX_use_PrivateKey_file(context, o.key.c_str(), SSL_FILETYPE_PEM) != 1) {
    throw std::runtime_error(o.key.string() + ": " + sslError());
  }
  if (SSL_CTX_load_verify_locations(context, o.clientCa.c_str(), nullptr) != 1) {
    throw std::runtime_error(o.clientCa.string() + ": " + sslError());
  }
  SSL_CTX_set_client_CA_list(context, SSL_load_client_CA_file(o.clientCa.c_str()));
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
}

HttpServer::~HttpServer() {
  stop();
  SSL_CTX_free(impl_->context);
  ::close(impl_->stopFd);
}

std::uint16_t HttpServer::listen(const ListenAddress& address) {
  std::uint16_t port = 0;
  int fd = -1;
  std::exception_ptr error;
  // In a thread of its own, because setns changes the calling thread for good; a socket stays in
  // the namespace it was made in.
  std::thread binder([&] {
    try {
      const std::string where = address.host + ":" + std::to_string(address.port);
      if (!address.netns.empty()) {
        const int ns = ::open(address.netns.c_str(), O_RDONLY | O_CLOEXEC);
        if (ns < 0) failErrno("open " + address.netns.string());
        const int result = ::setns(ns, CLONE_NEWNET);
        ::close(ns);
        if (result != 0) failErrno("setns " + address.netns.string());
      }
      sockaddr_storage storage{};
      socklen_t length = 0;
      auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
      auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
      if (inet_pton(AF_INET, address.host.c_str(), &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(address.port);
        length = sizeof(*v4);
      } else if (inet_pton(AF_INET6, address.host.c_str(), &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(address.port);
        length = sizeof(*v6);
      } else {
        throw std::invalid_argument("--listen: '" + address.host + "' is not an IP address");
      }
      fd = ::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
      if (fd < 0) failErrno("socket " + where);
      const int one = 1;
      ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
      if (storage.ss_family == AF_INET6) {
        ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
      }
      if (::bind(fd, reinterpret_cast<sockaddr*>(&storage), length) != 0)
        failErrno("bind " + where);
      if (::listen(fd, 1024) != 0) failErrno("listen " + where);
      length = sizeof(storage);
      if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) {
        failErrno("getsockname " + where);
      }
      port = ntohs(storage.ss_family == AF_INET ? v4->sin_port : v6->sin6_port);
    } catch (...) {
      error = std::current_exception();
      if (fd >= 0) ::close(fd);
    }
  });
  binder.join();
  if (error) std::rethrow_exception(error);
  impl_->listeners.emplace_back(fd,
                                std::thread([impl = impl_.get(), fd] { impl->acceptLoop(fd); }));
  return port;
}

void HttpServer::refuseConnections(bool refuse) {
  impl_->refusing = refuse;
}

void HttpServer::stop() {
  if (impl_->stopping.exchange(true)) return;
  const std::uint64_t one = 1;
  if (::write(impl_->stopFd, &one, sizeof(one)) < 0) {
    spdlog::error("the server's stop signal: {}", describe(errno));
  }
  for (auto& [fd, thread] : impl_->listeners) {
    thread.join();
    ::close(fd);
  }
  std::unique_lock lock(impl_->mutex);
  impl_->ended.wait(lock, [&] { return impl_->connections == 0; });
}

}  // namespace pointsman::e2e
