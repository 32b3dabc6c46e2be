#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "e2e/control-plane/http/message.h"

namespace pointsman::e2e {

struct ListenAddress {
  std::filesystem::path netns;  // empty: the server's own
  std::string host;             // an IPv4 or IPv6 address, without brackets
  std::uint16_t port = 0;       // 0: any
};
// "ADDR:PORT", "[V6]:PORT" or "NETNS_PATH@ADDR:PORT". Throws std::invalid_argument.
ListenAddress ParseListenAddress(const std::string& text);

// HTTP/1.1 over TLS, a thread per connection: a watch is a blocked thread that an event wakes, so
// that nothing stands between the write and the socket.
class HttpServer {
 public:
  struct Options {
    std::filesystem::path certificate;  // PEM
    std::filesystem::path key;          // PEM
    std::filesystem::path client_ca;    // PEM; client certificates are verified against it
    std::size_t max_body = 3u << 20;
    std::size_t max_connections = 4096;
    std::chrono::seconds idle_timeout{300};
  };
  HttpServer(const Options& options, HttpHandler handler);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Binds and serves; returns the port. Throws std::system_error naming the address.
  std::uint16_t Listen(const ListenAddress& address);
  // Refuses new connections (they are closed at once) until called with false.
  void RefuseConnections(bool refuse);
  // Stops accepting and ends all connections.
  void Stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pointsman::e2e
