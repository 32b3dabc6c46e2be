// Requests that are none, over a pair of sockets.
#include <sys/socket.h>

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>
#include <unistd.h>

#include "kube/serve/http_connection.h"
#include "kube/testing/mutator.h"

namespace pointsman::kube {
namespace {

// What the server says to `bytes`, which come in two pieces, when the peer
// sends no more.
std::string Exchange(std::string_view bytes) {
  boost::asio::io_context context(1);
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0) {
    throw std::system_error(errno, std::generic_category(), "socketpair");
  }
  const auto table = std::make_shared<ConnectionTable>(
      HttpLimits{.header = std::chrono::seconds(1), .answer = std::chrono::seconds(1)});
  ServeConnection(boost::asio::ip::tcp::socket(context, boost::asio::ip::tcp::v4(), ends[1]),
                  net::ShareKey::Of(uint64_t{1}), table,
                  [](ServedRequest request, Respond respond) {
                    respond({.body = request.method + " " + request.path + " " + request.query});
                  });
  const size_t half = bytes.size() / 2;
  std::string answer;
  for (const std::string_view piece : {bytes.substr(0, half), bytes.substr(half)}) {
    if (send(ends[0], piece.data(), piece.size(), MSG_NOSIGNAL) < 0) break;  // it has ended it
    context.poll();
  }
  shutdown(ends[0], SHUT_WR);
  context.run();  // until the connection is gone
  std::array<char, 4096> buffer{};
  for (ssize_t got = 0; (got = recv(ends[0], buffer.data(), buffer.size(), 0)) > 0;)
    answer.append(buffer.data(), static_cast<size_t>(got));
  close(ends[0]);
  if (table->size() != 0) throw std::logic_error("a connection stays in the table");
  return answer;
}

TEST(HttpMutation, WhateverComesIsAnsweredOrRefused) {
  const std::vector<std::string> corpus{
      "GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n",
      "GET /metrics?a=b&c HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n",
      "HEAD / HTTP/1.0\r\n\r\n",
      "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
      "POST / HTTP/1.1\r\nTransfer-Encoding: "
      "chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
      "GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n",
  };
  EXPECT_NE(Exchange(corpus[0]).find("GET /healthz"), std::string::npos);
  pointsman::testing::ForMutations(corpus, 400, [](const std::string& bytes) {
    const std::string answer = Exchange(bytes);
    if (!answer.empty() && !answer.starts_with("HTTP/1."))
      throw std::logic_error("no HTTP: " + answer);
  });
}

}  // namespace
}  // namespace pointsman::kube
