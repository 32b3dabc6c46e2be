#include "kube/serve/http_connection.h"

#include <boost/asio/dispatch.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <spdlog/spdlog.h>

namespace pointsman::kube {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t kMostHeader = 8192;
// After a connection could not be accepted and none could be ended for it.
constexpr std::chrono::milliseconds kRest{100};

std::optional<tcp::acceptor> TryOpen(asio::io_context& context, const tcp::endpoint& endpoint,
                                     error_code& error) {
  tcp::acceptor acceptor(context);
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error && endpoint.address().is_v6()) {
    acceptor.set_option(asio::ip::v6_only(!endpoint.address().is_unspecified()), error);
  }
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) return std::nullopt;
  return acceptor;
}

std::optional<tcp::acceptor> OpenListener(asio::io_context& context, const asio::ip::address& ip,
                                          uint16_t port, error_code& error) {
  if (!ip.is_unspecified()) return TryOpen(context, {ip, port}, error);
  auto acceptor = TryOpen(context, {asio::ip::address_v6::any(), port}, error);
  if (error == asio::error::address_family_not_supported) {
    error.clear();
    acceptor = TryOpen(context, {asio::ip::address_v4::any(), port}, error);
  }
  return acceptor;
}

// A socket of both families sees IPv4 peers as mapped ones.
net::IpAddress PeerOf(const tcp::socket& socket) {
  error_code gone;
  const asio::ip::address peer = socket.remote_endpoint(gone).address();
  if (peer.is_v4()) return net::IpAddress::V4(peer.to_v4().to_uint());
  const asio::ip::address_v6 v6 = peer.to_v6();
  if (v6.is_v4_mapped()) {
    return net::IpAddress::V4(asio::ip::make_address_v4(asio::ip::v4_mapped, v6).to_uint());
  }
  return net::IpAddress::FromBytes(v6.to_bytes().data(), 16);
}

}  // namespace

class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  HttpConnection(tcp::socket socket, net::ShareKey listener, std::shared_ptr<ConnectionTable> table,
                 Answerer answer)
      : table_(std::move(table)),
        place_(table_->Add({listener, net::ShareKey::Of(PeerOf(socket))}, this)),
        stream_(std::move(socket)),
        answer_(std::move(answer)) {}
  ~HttpConnection() { Leave(); }
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  void Read() {
    parser_.emplace();
    parser_->header_limit(kMostHeader);
    parser_->body_limit(0);
    // Of the whole header, however many pieces it comes in.
    stream_.expires_after(table_->limits().header);
    http::async_read_header(stream_, buffer_, *parser_,
                            [self = shared_from_this()](error_code error, size_t) {
                              // A peer that went or sent no HTTP is told nothing.
                              if (!error && !self->left_) self->Answer();
                            });
  }

  // Ends it from outside, whatever it waits for.
  void Close() {
    Leave();
    stream_.close();
  }

  // When its peer last did what it should: connect, send a whole request, take a whole answer.
  Clock::time_point last_progress() const { return last_progress_; }

 private:
  void Answer() {
    last_progress_ = Clock::now();
    stream_.expires_never();
    const auto& request = parser_->get();
    const std::string_view target(request.target().data(), request.target().size());
    const size_t query = target.find('?');
    answer_({std::string(request.method_string()), std::string(target.substr(0, query)),
             query == std::string_view::npos ? "" : std::string(target.substr(query + 1))},
            // Hands its hold on the connection on: who answers must not be the last to have one.
            [self = shared_from_this()](ServedResponse served) mutable {
              const auto executor = self->stream_.get_executor();
              asio::dispatch(executor,
                             [self = std::move(self), served = std::move(served)]() mutable {
                               if (!self->left_) self->Write(std::move(served));
                             });
            });
  }

  void Write(ServedResponse served) {
    const auto& request = parser_->get();
    response_ = {};
    response_.version(request.version());
    response_.result(static_cast<unsigned>(served.status));
    // What a request with a body sends after its header is not read: the next one is not found.
    response_.keep_alive(request.keep_alive() && parser_->is_done());
    response_.set(http::field::content_type, served.content_type);
    response_.set("X-Content-Type-Options", "nosniff");
    for (const auto& [name, value] : served.headers)
      response_.set(name, value);
    response_.body() = std::move(served.body);
    response_.prepare_payload();
    if (request.method() == http::verb::head) response_.body().clear();
    last_progress_ = Clock::now();
    held_ = response_.body().size();
    table_->Hold(this, held_);
    // What the peer has not taken in time goes, also from the kernel's buffers.
    ResetOnClose(true);
    stream_.expires_after(table_->limits().answer);
    http::async_write(stream_, response_, [self = shared_from_this()](error_code error, size_t) {
      if (!self->left_) self->Written(error);
    });
  }

  void Written(error_code error) {
    Release();
    if (error) return;
    ResetOnClose(false);
    last_progress_ = Clock::now();
    if (response_.keep_alive()) return Read();
    error_code ignored;  // the peer has gone first
    stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
  }

  void ResetOnClose(bool reset) {
    error_code ignored;  // the peer has gone first
    stream_.socket().set_option(asio::socket_base::linger(reset, 0), ignored);
  }

  void Release() {
    table_->Release(this, std::exchange(held_, 0));
    response_.body() = {};
  }

  void Leave() {
    if (std::exchange(left_, true)) return;
    table_->Release(this, std::exchange(held_, 0));
    table_->Remove(place_);
  }

  const std::shared_ptr<ConnectionTable> table_;
  bool left_ = false;  // the table
  Clock::time_point last_progress_ = Clock::now();
  const net::FairShares<HttpConnection>::Place place_;
  size_t held_ = 0;
  boost::beast::tcp_stream stream_;
  const Answerer answer_;
  boost::beast::flat_buffer buffer_{kMostHeader};
  std::optional<http::request_parser<http::empty_body>> parser_;
  http::response<http::string_body> response_;
};

bool ConnectionTable::EndOne() {
  return EndOne({});
}

bool ConnectionTable::EndOne(std::span<const net::ShareKey> newcomer) {
  const auto choice = shares_.Heaviest(
      newcomer, [](const HttpConnection& connection) { return connection.last_progress(); });
  if (!choice) return false;
  choice->item->Close();
  return true;
}

ConnectionTable::Shares::Place ConnectionTable::Add(const std::array<net::ShareKey, 2>& path,
                                                    HttpConnection* connection) {
  while (shares_.size() >= limits_.connections && EndOne(path)) {
  }
  return shares_.Add(path, connection);
}

void ConnectionTable::Hold(HttpConnection* connection, size_t bytes) {
  held_ += bytes;
  while (held_ > limits_.unsent_bytes && !holding_.empty()) {
    (*std::min_element(holding_.begin(), holding_.end(), [](const auto* a, const auto* b) {
      return a->last_progress() < b->last_progress();
    }))->Close();
  }
  holding_.insert(connection);
}

void ConnectionTable::Release(HttpConnection* connection, size_t bytes) {
  if (holding_.erase(connection) > 0) held_ -= bytes;
}

class HttpListener::Acceptor : public std::enable_shared_from_this<Acceptor> {
 public:
  Acceptor(asio::io_context& context, std::shared_ptr<ConnectionTable> table, Answerer answer,
           std::string name)
      : context_(context),
        table_(std::move(table)),
        answer_(std::move(answer)),
        name_(std::move(name)),
        rest_(context) {}

  error_code Open(const asio::ip::address& ip, uint16_t port) {
    error_code error;
    acceptor_ = OpenListener(context_, ip, port, error);
    if (acceptor_) Accept();
    return error;
  }
  void Close() {
    acceptor_.reset();
    rest_.cancel();
  }
  uint16_t port() const { return acceptor_ ? acceptor_->local_endpoint().port() : 0; }

 private:
  void Accept() {
    acceptor_->async_accept([self = shared_from_this()](error_code error, tcp::socket socket) {
      if (!self->acceptor_) return;
      if (error) return self->Failed(error);
      ServeConnection(std::move(socket), net::ShareKey::Of(reinterpret_cast<uintptr_t>(self.get())),
                      self->table_, self->answer_);
      self->Accept();
    });
  }

  void Failed(const error_code& error) {
    if (error == asio::error::connection_aborted) return Accept();  // that one, before we took it
    // No descriptors, as a rule. One of ours, which may be a silent peer's, makes room.
    if (const auto times = log_.Happened()) {
      spdlog::error("http: {}: no connection could be accepted, {} times: {}", name_, *times,
                    error.message());
    }
    if (table_->EndOne()) return Accept();
    rest_.expires_after(kRest);
    rest_.async_wait([self = shared_from_this()](error_code stopped) {
      if (!stopped && self->acceptor_) self->Accept();
    });
  }

  asio::io_context& context_;
  const std::shared_ptr<ConnectionTable> table_;
  const Answerer answer_;
  const std::string name_;
  std::optional<tcp::acceptor> acceptor_;
  asio::steady_timer rest_;
  LogLimit log_;
};

HttpListener::HttpListener(asio::io_context& context, std::shared_ptr<ConnectionTable> table,
                           Answerer answer, std::string name)
    : acceptor_(std::make_shared<Acceptor>(context, std::move(table), std::move(answer),
                                           std::move(name))) {}

HttpListener::~HttpListener() {
  acceptor_->Close();
}

error_code HttpListener::Open(const asio::ip::address& ip, uint16_t port) {
  return acceptor_->Open(ip, port);
}

uint16_t HttpListener::port() const {
  return acceptor_->port();
}

void RunContext(asio::io_context& context, const std::string& name) {
  for (;;) {
    try {
      context.run();
      return;
    } catch (const std::exception& error) {
      spdlog::error("http: {}: {}", name, error.what());
    }
  }
}

void ServeConnection(tcp::socket socket, net::ShareKey listener,
                     std::shared_ptr<ConnectionTable> table, Answerer answer) {
  std::make_shared<HttpConnection>(std::move(socket), listener, std::move(table), std::move(answer))
      ->Read();
}

}  // namespace pointsman::kube
