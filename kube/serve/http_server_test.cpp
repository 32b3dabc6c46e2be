#include "kube/serve/http_server.h"

#include <sys/socket.h>

#include <boost/asio/post.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netdb.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "kube/serve/http_connection.h"

namespace pointsman::kube {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::string Exchange(int port, const std::string& request, const char* host = "127.0.0.1") {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* address = nullptr;
  EXPECT_EQ(getaddrinfo(host, std::to_string(port).c_str(), &hints, &address), 0);
  const UniqueFd fd(socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(connect(fd.get(), address->ai_addr, address->ai_addrlen), 0) << host;
  freeaddrinfo(address);
  EXPECT_EQ(write(fd.get(), request.data(), request.size()), static_cast<ssize_t>(request.size()));
  std::string answer;
  std::array<char, 4096> buffer{};
  for (;;) {
    const ssize_t got = read(fd.get(), buffer.data(), buffer.size());
    if (got <= 0) break;
    answer.append(buffer.data(), static_cast<size_t>(got));
  }
  return answer;
}

// One server for all cases.
class HttpServerTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = std::make_unique<HttpServer>("127.0.0.1:0");
    server_->Handle("/healthz", [](const ServedRequest&) { return ServedResponse{.body = "ok"}; });
    server_->Handle("/echo", [](const ServedRequest& request) {
      return ServedResponse{
          .status = 503, .content_type = "application/json", .body = request.query};
    });
    server_->Handle("/throws", [](const ServedRequest&) -> ServedResponse {
      throw std::runtime_error("the reason");
    });
    server_->Start();
  }
  static void TearDownTestSuite() { server_.reset(); }

  inline static std::unique_ptr<HttpServer> server_;
};

// It used to end the process.
TEST(RunContextTest, WhatAHandlerThrowsEndsNothing) {
  boost::asio::io_context context;
  int done = 0;
  boost::asio::post(context, [] { throw std::runtime_error("of one connection"); });
  boost::asio::post(context, [&] { ++done; });
  boost::asio::post(context, [] { throw std::logic_error("of another"); });
  boost::asio::post(context, [&] { ++done; });
  RunContext(context, "test");
  EXPECT_EQ(done, 2);
}

TEST_F(HttpServerTest, AnswersItsRoutes) {
  ASSERT_GT(server_->port(), 0);
  const std::string answer =
      Exchange(server_->port(), "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\nContent-Length: 2\r\n"));
  EXPECT_THAT(answer, ::testing::EndsWith("\r\n\r\nok"));
}

TEST_F(HttpServerTest, PassesQueryStatusAndType) {
  const std::string answer =
      Exchange(server_->port(), "GET /echo?a=b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(answer, HasSubstr("Content-Type: application/json"));
  EXPECT_THAT(answer, ::testing::EndsWith("\r\n\r\na=b"));
}

TEST_F(HttpServerTest, HeadHasNoBody) {
  const std::string answer =
      Exchange(server_->port(), "HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(answer, HasSubstr("Content-Length: 2"));
  EXPECT_THAT(answer, ::testing::EndsWith("\r\n\r\n"));
}

TEST_F(HttpServerTest, RefusesWhatItDoesNotServe) {
  EXPECT_THAT(
      Exchange(server_->port(), "GET /other HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
      StartsWith("HTTP/1.1 404 "));
  const std::string post = Exchange(
      server_->port(),
      "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(post, StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(post, HasSubstr("Allow: GET, HEAD"));
  const std::string thrown =
      Exchange(server_->port(), "GET /throws HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(thrown, StartsWith("HTTP/1.1 500 "));
  EXPECT_THAT(thrown, HasSubstr("the reason"));
}

TEST_F(HttpServerTest, RefusesAHeadThatIsTooLong) {
  const std::string answer = Exchange(
      server_->port(), "GET /healthz HTTP/1.1\r\nX: " + std::string(20'000, 'x') + "\r\n\r\n");
  EXPECT_THAT(answer, Not(StartsWith("HTTP/1.1 200")));
}

TEST_F(HttpServerTest, SaysWhichAddressIsTaken) {
  HttpServer second("127.0.0.1:" + std::to_string(server_->port()));
  try {
    second.Start();
    FAIL() << "two servers on one port";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), HasSubstr("127.0.0.1:" + std::to_string(server_->port())));
    EXPECT_THAT(error.what(), Not(HasSubstr("unknown cause")));
  }
}

TEST(HttpServerFamiliesTest, AnyAddressIsThoseOfBoth) {
  for (const std::string host : {"[::]", "0.0.0.0", ""}) {
    HttpServer server(host + ":0");
    server.Handle("/", [](const ServedRequest&) { return ServedResponse{.body = "here"}; });
    server.Start();
    for (const char* from : {"127.0.0.1", "::1"}) {
      EXPECT_THAT(
          Exchange(server.port(), "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", from),
          HasSubstr("here"))
          << host << " from " << from;
    }
  }
}

TEST(HttpServerFamiliesTest, KeepsAConnectionOpen) {
  HttpServer server("127.0.0.1:0");
  server.Handle("/", [](const ServedRequest&) { return ServedResponse{.body = "here"}; });
  server.Start();
  const std::string answers =
      Exchange(server.port(),
               "GET / HTTP/1.1\r\nHost: x\r\n\r\nHEAD /none HTTP/1.1\r\nHost: x\r\n\r\n"
               "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(answers,
              ContainsRegex("200 OK(.|\n)*here(.|\n)*404 Not Found(.|\n)*200 OK(.|\n)*here"));
}

TEST(HttpServerStopTest, FreesItsPort) {
  for (const std::string host : {"127.0.0.1", "[::1]", "[::]", "0.0.0.0", ""}) {
    HttpServer first(host + ":0");
    first.Start();
    const int port = first.port();
    first.Stop();
    first.Stop();  // once more does nothing
    HttpServer second(host + ":" + std::to_string(port));
    EXPECT_NO_THROW(second.Start()) << host;
    EXPECT_EQ(second.port(), port);
  }
}

TEST(HttpServerAddressTest, RefusesBadAddresses) {
  for (const char* bad : {"", "8080", "127.0.0.1:", "127.0.0.1:99999", "localhost:80",
                          "1.2.3.4:80s", "1.2.3.4:80,81"}) {
    EXPECT_THROW(HttpServer{bad}, std::invalid_argument) << bad;
  }
  for (const char* good : {":8080", "0.0.0.0:8080", "[::]:8080", "[::1]:8080", "127.0.0.1:0"}) {
    EXPECT_NO_THROW(HttpServer{good}) << good;
  }
}

}  // namespace
}  // namespace pointsman::kube
