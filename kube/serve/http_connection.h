// What our HTTP servers are made of: listening sockets and connections on Boost.Beast. A peer can
// cost little: the size of a request, the time it may take, the number of connections and what they
// hold are bounded, and a peer that takes all places takes them from itself
// (kube/net/fair_shares.h).
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_set>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "kube/net/fair_shares.h"
#include "kube/process/log_limit.h"
#include "kube/serve/http_server.h"

namespace pointsman::kube {

// Gives the answer to one request; from any thread, once. Not called: the connection goes with the
// last copy.
using Respond = std::function<void(ServedResponse)>;
// Called on the thread of the connections, must not throw.
using Answerer = std::function<void(ServedRequest, Respond)>;

class HttpConnection;

// The connections of all listeners that share a bound. Not thread-safe, like everything in this
// file: all runs on the one thread that runs the io_context.
class ConnectionTable {
 public:
  explicit ConnectionTable(const HttpLimits& limits) : limits_(limits) {}

  const HttpLimits& limits() const { return limits_; }
  size_t size() const { return shares_.size(); }

  // Ends the connection that has been silent longest of the heaviest peer of the listener with the
  // most connections. False: there is none.
  bool EndOne();

 private:
  friend class HttpConnection;
  using Shares = net::FairShares<HttpConnection>;

  // Makes room first.
  Shares::Place Add(const std::array<net::ShareKey, 2>& path, HttpConnection* connection);
  bool EndOne(std::span<const net::ShareKey> newcomer);
  void Remove(const Shares::Place& place) { shares_.Remove(place); }
  // `connection` holds so many bytes more of an answer. Ends others' that have waited longest for
  // their peers to take theirs, when they hold too much together.
  void Hold(HttpConnection* connection, size_t bytes);
  void Release(HttpConnection* connection, size_t bytes);

  const HttpLimits limits_;
  Shares shares_;
  std::unordered_set<HttpConnection*> holding_;
  size_t held_ = 0;
};

// A listening socket and what comes from it. The connections outlive it.
class HttpListener {
 public:
  // `context` outlives this and the connections. `name`: for the log.
  HttpListener(boost::asio::io_context& context, std::shared_ptr<ConnectionTable> table,
               Answerer answer, std::string name);
  ~HttpListener();
  HttpListener(const HttpListener&) = delete;
  HttpListener& operator=(const HttpListener&) = delete;

  // Listens. The unspecified address of either family, as for Go's net.Listen, means all addresses
  // of both, and those of IPv4 on a machine without IPv6; any other one means itself. Once.
  boost::system::error_code Open(const boost::asio::ip::address& ip, uint16_t port);
  // 0 before Open.
  uint16_t port() const;

 private:
  class Acceptor;
  const std::shared_ptr<Acceptor> acceptor_;
};

// Runs `context` until it is stopped or has nothing left to do, on the calling thread. What a
// handler throws is logged, and the rest goes on: a request or a socket must not end the process.
void RunContext(boost::asio::io_context& context, const std::string& name);

// Answers the requests of one connection until the peer ends it, is silent for too long, or sends
// what is no request or is larger than 8 KiB. Bodies of requests are not read. `listener`: which
// of those that share `table`.
void ServeConnection(boost::asio::ip::tcp::socket socket, net::ShareKey listener,
                     std::shared_ptr<ConnectionTable> table, Answerer answer);

}  // namespace pointsman::kube
