#include "node-agent/health/service_health.h"

#include <condition_variable>
#include <mutex>
#include <sys/resource.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "node-agent/health/health_check_ports.h"

namespace pointsman::agent {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using std::chrono_literals::operator""s;

const net::IpAddress kLocalhost = *net::IpAddress::Parse("127.0.0.1");

// A port that was free a moment ago.
uint16_t FreePort() {
  asio::io_context context;
  const tcp::acceptor acceptor(context, {asio::ip::make_address("127.0.0.1"), 0});
  return acceptor.local_endpoint().port();
}

class ServiceHealthTest : public testing::Test {
 protected:
  // What one connection is told by each of `requests` requests; empty: refused.
  static std::vector<http::response<http::string_body>> Ask(uint16_t port, int requests = 1) {
    asio::io_context context;
    tcp::socket socket(context);
    boost::system::error_code error;
    socket.connect({asio::ip::make_address("127.0.0.1"), port}, error);
    std::vector<http::response<http::string_body>> answers;
    if (error) return answers;
    boost::beast::flat_buffer buffer;
    for (int i = 0; i < requests; ++i) {
      http::request<http::empty_body> request(http::verb::get, "/", 11);
      request.set(http::field::host, "node");
      http::write(socket, request);
      http::read(socket, buffer, answers.emplace_back());
    }
    return answers;
  }
  // Set works on another thread: asks until it has.
  static std::vector<http::response<http::string_body>> AskUntil(uint16_t port, bool answered) {
    const auto deadline = std::chrono::steady_clock::now() + 20s;
    while (true) {
      auto answers = Ask(port);
      if (answers.empty() != answered || std::chrono::steady_clock::now() > deadline)
        return answers;
      std::this_thread::yield();
    }
  }

  std::atomic<bool> proxy_healthy_ = true;
  std::mutex mutex_;
  std::condition_variable told_;
  std::vector<std::string> problems_;
  ServiceHealth health_{[this] { return proxy_healthy_.load(); },
                        [this](const ServiceHealth::Service& service, const std::string& message) {
                          const std::lock_guard lock(mutex_);
                          problems_.push_back(service.name + ": " + message);
                          told_.notify_all();
                        }};
};

TEST_F(ServiceHealthTest, AnswersAsKubeProxy) {
  const uint16_t port = FreePort();
  health_.Set({{port, {"default", "web", 2}}}, {kLocalhost});
  const auto answers = AskUntil(port, true);
  ASSERT_EQ(answers.size(), 1U);
  EXPECT_EQ(answers[0].result(), http::status::ok);
  EXPECT_EQ(answers[0]["Content-Type"], "application/json");
  EXPECT_EQ(answers[0]["X-Content-Type-Options"], "nosniff");
  EXPECT_EQ(answers[0]["X-Load-Balancing-Endpoint-Weight"], "2");
  EXPECT_EQ(nlohmann::json::parse(answers[0].body()),
            (nlohmann::json{{"service", {{"namespace", "default"}, {"name", "web"}}},
                            {"localEndpoints", 2},
                            {"serviceProxyHealthy", true}}));
  EXPECT_EQ(Ask(port, 3).size(), 3U) << "a load balancer keeps its connection";
}

TEST_F(ServiceHealthTest, Is503WithoutLocalEndpointsAndWithASickProxy) {
  const uint16_t port = FreePort();
  health_.Set({{port, {"default", "web", 0}}}, {kLocalhost});
  EXPECT_EQ(AskUntil(port, true).at(0).result(), http::status::service_unavailable);
  proxy_healthy_ = false;
  const uint16_t other = FreePort();
  health_.Set({{other, {"default", "db", 1}}}, {kLocalhost});
  const auto answer = AskUntil(other, true).at(0);
  EXPECT_EQ(answer.result(), http::status::service_unavailable);
  EXPECT_EQ(nlohmann::json::parse(answer.body()).at("serviceProxyHealthy"), false);
  EXPECT_TRUE(AskUntil(port, false).empty()) << "the Service is gone, so is its port";
}

TEST_F(ServiceHealthTest, SaysThatAPortIsTakenAndServesItWhenItIsFree) {
  asio::io_context context;
  std::optional<tcp::acceptor> taken(std::in_place, context,
                                     tcp::endpoint{asio::ip::make_address("127.0.0.1"), 0});
  const uint16_t port = taken->local_endpoint().port();
  health_.Set({{port, {"default", "web", 1}}}, {kLocalhost});
  {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(told_.wait_for(lock, 20s, [&] { return !problems_.empty(); }));
    EXPECT_THAT(problems_, testing::ElementsAre(testing::AllOf(
                               testing::HasSubstr("web: "),
                               testing::HasSubstr("127.0.0.1 port " + std::to_string(port)),
                               testing::HasSubstr("Address already in use"))));
  }
  taken.reset();
  EXPECT_EQ(AskUntil(port, true).at(0).result(), http::status::ok);
}

TEST_F(ServiceHealthTest, WhatIsNoHttpOrTooLongCostsTheConnectionOnly) {
  const uint16_t port = FreePort();
  health_.Set({{port, {"default", "web", 1}}}, {kLocalhost});
  ASSERT_FALSE(AskUntil(port, true).empty());
  for (const std::string& text :
       {std::string("\r\nno http\r\n\r\n"), "GET / HTTP/1.1\r\nX: " + std::string(100'000, 'x')}) {
    asio::io_context context;
    tcp::socket socket(context);
    socket.connect({asio::ip::make_address("127.0.0.1"), port});
    boost::system::error_code error;
    asio::write(socket, asio::buffer(text), error);
    std::array<char, 100> answer;
    socket.read_some(asio::buffer(answer), error);
    EXPECT_TRUE(error) << "closed";
  }
  EXPECT_EQ(Ask(port).size(), 1U);
}

// Silent connections, more than there can be in all, to one port and from several addresses.
TEST_F(ServiceHealthTest, AFloodOfOnePortTakesNeitherOthersAnswersNorItsOwn) {
  rlimit files{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &files), 0);
  files.rlim_cur = std::min<rlim_t>(files.rlim_max, 4096);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &files), 0);
  const uint16_t flooded = FreePort();
  health_.Set({{flooded, {"default", "flooded", 1}}}, {kLocalhost});
  ASSERT_EQ(AskUntil(flooded, true).size(), 1U);
  const uint16_t other = FreePort();
  health_.Set({{flooded, {"default", "flooded", 1}}, {other, {"default", "other", 1}}},
              {kLocalhost});
  ASSERT_EQ(AskUntil(other, true).size(), 1U);
  asio::io_context context;
  std::vector<tcp::socket> silent;
  for (unsigned i = 0; i < 700; ++i) {
    tcp::socket& socket = silent.emplace_back(context, tcp::v4());
    socket.bind({asio::ip::make_address("127.0.0." + std::to_string(2 + i % 50)), 0});
    socket.connect({asio::ip::make_address("127.0.0.1"), flooded});
  }
  EXPECT_EQ(Ask(other).at(0).result(), http::status::ok);
  EXPECT_EQ(Ask(flooded).at(0).result(), http::status::ok);
}

TEST(HealthCheckPorts, FollowTheModelAndTakeTheFamilyWithMoreEndpoints) {
  const auto entry = [](net::Family family, uint16_t port, int local) {
    auto made = std::make_shared<ServicePortEntry>();
    made->id = {"default", "web", "http", Protocol::kTcp, family};
    made->health_check_node_port = port;
    made->local_ready_endpoints = local;
    return made;
  };
  HealthCheckPorts ports;
  const auto v4 = entry(net::Family::kIPv4, 32000, 1), v6 = entry(net::Family::kIPv6, 32000, 0);
  EXPECT_TRUE(ports.Apply({.changes = {{nullptr, v4}, {nullptr, v6}}}));
  EXPECT_EQ(ports.Services(), (ServiceHealth::Services{{32000, {"default", "web", 1}}}));
  EXPECT_FALSE(ports.Apply({.changes = {{v4, v4}}}));
  const auto moved4 = entry(net::Family::kIPv4, 32001, 1),
             moved6 = entry(net::Family::kIPv6, 32001, 3);
  EXPECT_TRUE(ports.Apply({.changes = {{v4, moved4}, {v6, moved6}}}));
  EXPECT_EQ(ports.Services(), (ServiceHealth::Services{{32001, {"default", "web", 3}}}));
  EXPECT_TRUE(ports.Apply({.changes = {{moved4, nullptr}, {moved6, nullptr}}}));
  EXPECT_TRUE(ports.Services().empty());
}

}  // namespace
}  // namespace pointsman::agent
