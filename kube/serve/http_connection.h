// What our HTTP servers are made of: listening sockets and connections on Boost.Beast. A peer can
// cost little: the size of a request, the time it may take and the number of connections are
// bounded.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "kube/serve/http_server.h"

namespace pointsman::kube {

// Opens a listening socket. The unspecified address of either family, as for Go's net.Listen, means
// all addresses of both, and those of IPv4 on a machine without IPv6; any other one means itself.
// `error` is set when there is no result.
std::optional<boost::asio::ip::tcp::acceptor> OpenListener(boost::asio::io_context& context,
                                                           const boost::asio::ip::address& ip,
                                                           uint16_t port,
                                                           boost::system::error_code& error);

// How many connections there are and may be. Thread-safe.
class ConnectionLimit {
 public:
  explicit ConnectionLimit(size_t most) : most_(most) {}
  // What is given back when the last copy goes; nullptr: there are as many as may be.
  std::shared_ptr<void> Take();

 private:
  const std::shared_ptr<std::atomic<size_t>> open_ = std::make_shared<std::atomic<size_t>>(0);
  const size_t most_;
};

// Answers the requests of one connection until the peer ends it, is silent for ten seconds, or
// sends what is no request or is larger than 8 KiB. Bodies of requests are not read. `answer` is
// called on the socket's executor, which is all the connection runs on; it must not throw. `slot`
// is kept until the end.
void ServeConnection(boost::asio::ip::tcp::socket socket,
                     std::function<ServedResponse(const ServedRequest&)> answer,
                     std::shared_ptr<void> slot);

}  // namespace pointsman::kube
