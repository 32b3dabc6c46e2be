#include "kube/serve/http_connection.h"

#include <boost/asio/ip/v6_only.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>

namespace pointsman::kube {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;

constexpr uint32_t kMostHeader = 8192;
constexpr std::chrono::seconds kTimeout{10};

std::optional<tcp::acceptor> TryOpen(asio::io_context& context, const tcp::endpoint& endpoint,
                                     boost::system::error_code& error) {
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

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, std::function<ServedResponse(const ServedRequest&)> answer,
             std::shared_ptr<void> slot)
      : stream_(std::move(socket)), answer_(std::move(answer)), slot_(std::move(slot)) {}

  void Read() {
    parser_.emplace();
    parser_->header_limit(kMostHeader);
    parser_->body_limit(0);
    stream_.expires_after(kTimeout);
    http::async_read_header(stream_, buffer_, *parser_,
                            [self = shared_from_this()](boost::beast::error_code error, size_t) {
                              // A peer that went or sent no HTTP is told nothing.
                              if (!error) self->Answer();
                            });
  }

 private:
  void Answer() {
    const auto& request = parser_->get();
    const std::string_view target(request.target().data(), request.target().size());
    const size_t query = target.find('?');
    ServedResponse served =
        answer_({std::string(request.method_string()), std::string(target.substr(0, query)),
                 query == std::string_view::npos ? "" : std::string(target.substr(query + 1))});
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
    stream_.expires_after(kTimeout);
    http::async_write(stream_, response_,
                      [self = shared_from_this()](boost::beast::error_code error, size_t) {
                        if (error) return;
                        if (self->response_.keep_alive()) return self->Read();
                        boost::system::error_code ignored;  // the peer has gone first
                        self->stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
                      });
  }

  boost::beast::tcp_stream stream_;
  const std::function<ServedResponse(const ServedRequest&)> answer_;
  const std::shared_ptr<void> slot_;
  boost::beast::flat_buffer buffer_{kMostHeader};
  std::optional<http::request_parser<http::empty_body>> parser_;
  http::response<http::string_body> response_;
};

}  // namespace

std::optional<tcp::acceptor> OpenListener(asio::io_context& context, const asio::ip::address& ip,
                                          uint16_t port, boost::system::error_code& error) {
  error.clear();
  if (!ip.is_unspecified()) return TryOpen(context, {ip, port}, error);
  auto acceptor = TryOpen(context, {asio::ip::address_v6::any(), port}, error);
  if (error == asio::error::address_family_not_supported) {
    error.clear();
    acceptor = TryOpen(context, {asio::ip::address_v4::any(), port}, error);
  }
  return acceptor;
}

std::shared_ptr<void> ConnectionLimit::Take() {
  if (open_->fetch_add(1) >= most_) {
    open_->fetch_sub(1);
    return nullptr;
  }
  return {open_.get(), [open = open_](void*) { open->fetch_sub(1); }};
}

void ServeConnection(tcp::socket socket, std::function<ServedResponse(const ServedRequest&)> answer,
                     std::shared_ptr<void> slot) {
  std::make_shared<Connection>(std::move(socket), std::move(answer), std::move(slot))->Read();
}

}  // namespace pointsman::kube
