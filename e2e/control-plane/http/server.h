#pragma once

#include <filesystem>

namespace pointsman::e2e {

/// Header names are compared without regard to case.
struct HttpRequest {
  std::string method;
  std::string path;   ///< percent-decoded
  std::string query;  ///< raw
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  /// Subject of the verified client certificate; empty without one.
  std::string certificateUser;
  std::vector<std::string> certificateGroups;
  std::string peer;  ///< "127.0.0.1:4711"

  /// The first value, or empty.
  std::string header(std::string_view name) const;
  /// The first value of a query parameter, decoded; nullopt when absent.
  std::optional<std::string> parameter(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string contentType = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  bool close = false;  ///< end the connection after it
};

/// The answer's way out. Exactly one of send() and begin() is called, on the connection's thread.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;
  virtual void send(const HttpResponse& response) = 0;
  /// Starts a chunked answer.
  virtual void begin(int status, const std::string& contentType,
                     const std::vector<std::pair<std::string, std::string>>& headers = {}) = 0;
  /// One piece of it, on the wire when the call returns. False: the peer is gone.
  virtual bool write(std::string_view piece) = 0;
  /// Waits until `fd` is readable (true), or the timeout passes (true); false: the peer is gone or
  /// the server stops.
  virtual bool waitFor(int fd, std::chrono::milliseconds timeout) = 0;
  /// Ends the connection with no further byte (a fault for tests).
  virtual void abort() = 0;
};

struct ListenAddress {
  std::filesystem::path netns;  ///< empty: the server's own
  std::string host;             ///< an IPv4 or IPv6 address, without brackets
  std::uint16_t port = 0;       ///< 0: any
};
/// "ADDR:PORT", "[V6]:PORT" or "NETNS_PATH@ADDR:PORT". Throws std::invalid_argument.
ListenAddress parseListenAddress(const std::string& text);

/// HTTP/1.1 over TLS, a thread per connection: a watch is a blocked thread that an event wakes, so
/// that nothing stands between the write and the socket.
class HttpServer {
 public:
  struct Options {
    std::filesystem::path certificate;  ///< PEM
    std::filesystem::path key;          ///< PEM
    std::filesystem::path clientCa;     ///< PEM; client certificates are verified against it
    std::size_t maxBody = 3u << 20;
    std::size_t maxConnections = 4096;
    std::chrono::seconds idleTimeout{300};
  };
  /// Called on the connection's thread.
  using Handler = std::function<void(const HttpRequest&, HttpExchange&)>;

  HttpServer(Options options, Handler handler);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// Binds and serves; returns the port. Throws std::system_error naming the address.
  std::uint16_t listen(const ListenAddress& address);
  /// Refuses new connections (they are closed at once) until called with false.
  void refuseConnections(bool refuse);
  /// Stops accepting and ends all connections.
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// %41 and (for queries) + decoding; nullopt when malformed.
std::optional<std::string> percentDecode(std::string_view text, bool plusIsSpace);

}  // namespace pointsman::e2e
