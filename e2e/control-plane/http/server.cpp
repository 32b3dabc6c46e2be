#include "e2e/control-plane/http/server.h"

#include <arpa/inet.h>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <netinet/in.h>
#include <stdexcept>
#include <string_view>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sched.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "e2e/control-plane/http/connection.h"

namespace pointsman::e2e {
namespace {

[[noreturn]] void FailErrno(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

std::string Describe(int error) {
  return std::generic_category().message(error);
}

// h2 is not spoken, so that ALPN must end at http/1.1.
int SelectAlpn(SSL*, const unsigned char** out, unsigned char* out_length, const unsigned char* in,
               unsigned int in_length, void*) {
  static constexpr std::string_view kHttp11 = "http/1.1";
  for (unsigned int i = 0; i < in_length; i += 1u + in[i]) {
    const std::string_view offered(reinterpret_cast<const char*>(in + i + 1), in[i]);
    if (offered == kHttp11) {
      *out = in + i + 1;
      *out_length = in[i];
      return SSL_TLSEXT_ERR_OK;
    }
  }
  return SSL_TLSEXT_ERR_NOACK;
}

SSL_CTX* MakeTlsContext(const HttpServer::Options& o) {
  SSL_CTX* context = SSL_CTX_new(TLS_server_method());
  if (context == nullptr) throw std::runtime_error("SSL_CTX_new: " + TlsError());
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_AUTO_RETRY | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
  static constexpr unsigned char kSession[] = "pointsman-control-plane";
  SSL_CTX_set_session_id_context(context, kSession, sizeof(kSession) - 1);
  SSL_CTX_set_alpn_select_cb(context, SelectAlpn, nullptr);
  if (SSL_CTX_use_certificate_chain_file(context, o.certificate.c_str()) != 1) {
    throw std::runtime_error(o.certificate.string() + ": " + TlsError());
  }
  if (SSL_CTX_use_PrivateKey_file(context, o.key.c_str(), SSL_FILETYPE_PEM) != 1) {
    throw std::runtime_error(o.key.string() + ": " + TlsError());
  }
  if (SSL_CTX_load_verify_locations(context, o.client_ca.c_str(), nullptr) != 1) {
    throw std::runtime_error(o.client_ca.string() + ": " + TlsError());
  }
  SSL_CTX_set_client_CA_list(context, SSL_load_client_CA_file(o.client_ca.c_str()));
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  return context;
}

std::string AddressText(const sockaddr_storage& address) {
  char text[INET6_ADDRSTRLEN] = "?";
  std::uint16_t port = 0;
  if (address.ss_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&address);
    inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
    port = ntohs(v4->sin_port);
  } else {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&address);
    inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text));
    port = ntohs(v6->sin6_port);
  }
  return std::string(text) + ":" + std::to_string(port);
}

std::pair<sockaddr_storage, socklen_t> SocketAddressOf(const ListenAddress& address) {
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
  return {storage, length};
}

// Enters the network namespace of `address` for good.
void EnterNamespace(const ListenAddress& address) {
  const UniqueFd ns(::open(address.netns.c_str(), O_RDONLY | O_CLOEXEC));
  if (!ns) FailErrno("open " + address.netns.string());
  if (::setns(ns.get(), CLONE_NEWNET) != 0) FailErrno("setns " + address.netns.string());
}

// Listens at `address`, with the port that it got.
std::pair<UniqueFd, std::uint16_t> BindSocket(const ListenAddress& address) {
  const std::string where = address.host + ":" + std::to_string(address.port);
  if (!address.netns.empty()) EnterNamespace(address);
  auto [storage, length] = SocketAddressOf(address);
  UniqueFd fd(::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) FailErrno("socket " + where);
  const int one = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (storage.ss_family == AF_INET6) {
    ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
  }
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&storage), length) != 0)
    FailErrno("bind " + where);
  if (::listen(fd.get(), 1024) != 0) FailErrno("listen " + where);
  length = sizeof(storage);
  if (::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&storage), &length) != 0) {
    FailErrno("getsockname " + where);
  }
  const std::uint16_t port =
      ntohs(storage.ss_family == AF_INET ? reinterpret_cast<sockaddr_in*>(&storage)->sin_port
                                         : reinterpret_cast<sockaddr_in6*>(&storage)->sin6_port);
  return {std::move(fd), port};
}

}  // namespace

ListenAddress ParseListenAddress(const std::string& text) {
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
  ConnectionContext shared;
  std::size_t max_connections = 0;
  std::atomic<bool> stopping{false};
  std::atomic<bool> refusing{false};
  std::vector<std::pair<UniqueFd, std::thread>> listeners;
  std::mutex mutex;
  std::condition_variable ended;
  std::size_t connections = 0;

  void AcceptLoop(int fd);
};

void HttpServer::Impl::AcceptLoop(int fd) {
  for (;;) {
    pollfd fds[2] = {{fd, POLLIN, 0}, {shared.stop.get(), POLLIN, 0}};
    if (::poll(fds, 2, -1) < 0 && errno != EINTR) {
      spdlog::critical("poll on a listening socket: {}", Describe(errno));
      return;
    }
    if (stopping) return;
    if ((fds[0].revents & POLLIN) == 0) continue;
    sockaddr_storage from{};
    socklen_t length = sizeof(from);
    UniqueFd client(
        ::accept4(fd, reinterpret_cast<sockaddr*>(&from), &length, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!client) {
      if (errno == EMFILE || errno == ENFILE) {
        spdlog::error("accept: {}", Describe(errno));
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
      continue;
    }
    {
      const std::lock_guard lock(mutex);
      if (refusing || connections >= max_connections) {
        linger reset{1, 0};
        ::setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        continue;
      }
      ++connections;
    }
    try {
      std::thread([this, socket = std::move(client), peer = AddressText(from)]() mutable {
        ServeConnection(shared, std::move(socket), std::move(peer));
        const std::lock_guard lock(mutex);
        --connections;
        ended.notify_all();
      }).detach();
    } catch (const std::system_error& e) {
      spdlog::error("no thread for a connection: {}", e.what());
      const std::lock_guard lock(mutex);
      --connections;
    }
  }
}

HttpServer::HttpServer(const Options& options, HttpHandler handler)
    : impl_(std::make_unique<Impl>()) {
  impl_->max_connections = options.max_connections;
  impl_->shared = {std::move(handler), options.max_body, options.idle_timeout, nullptr,
                   UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))};
  if (!impl_->shared.stop) FailErrno("eventfd");
  impl_->shared.tls = MakeTlsContext(options);
}

HttpServer::~HttpServer() {
  Stop();
  SSL_CTX_free(impl_->shared.tls);
}

std::uint16_t HttpServer::Listen(const ListenAddress& address) {
  std::pair<UniqueFd, std::uint16_t> bound;
  std::exception_ptr error;
  // In a thread of its own, because setns changes the calling thread for good; a socket stays in
  // the namespace it was made in.
  std::thread binder([&] {
    try {
      bound = BindSocket(address);
    } catch (...) {
      error = std::current_exception();
    }
  });
  binder.join();
  if (error) std::rethrow_exception(error);
  auto& [fd, port] = bound;
  std::thread accepts([impl = impl_.get(), socket = fd.get()] { impl->AcceptLoop(socket); });
  impl_->listeners.emplace_back(std::move(fd), std::move(accepts));
  return port;
}

void HttpServer::RefuseConnections(bool refuse) {
  impl_->refusing = refuse;
}

void HttpServer::Stop() {
  if (impl_->stopping.exchange(true)) return;
  const std::uint64_t one = 1;
  if (::write(impl_->shared.stop.get(), &one, sizeof(one)) < 0) {
    spdlog::error("the server's stop signal: {}", Describe(errno));
  }
  for (auto& [fd, thread] : impl_->listeners) {
    thread.join();
    fd.Reset();
  }
  std::unique_lock lock(impl_->mutex);
  impl_->ended.wait(lock, [&] { return impl_->connections == 0; });
}

}  // namespace pointsman::e2e
