#include "kube/client/observed_transport.h"

#include <mutex>

#include <gtest/gtest.h>

#include "kube/client/client.h"
#include "kube/http/test_server.h"

namespace pointsman::kube {
namespace {

class ObservedTransportTest : public ::testing::Test {
 protected:
  Client Start(TestServer::Handler handler) {
    server_ = std::make_unique<TestServer>(TestServer::Options{}, std::move(handler));
    Config config;
    config.server = server_->url();
    return Client(ObserveRequests(MakeTransport(config), [this](const RequestOutcome& outcome) {
      const std::lock_guard lock(mutex_);
      outcomes_.push_back(outcome);
    }));
  }
  std::vector<RequestOutcome> Outcomes() {
    const std::lock_guard lock(mutex_);
    return outcomes_;
  }

  std::mutex mutex_;
  std::vector<RequestOutcome> outcomes_;
  std::unique_ptr<TestServer> server_;
};

TEST_F(ObservedTransportTest, TellsOfEachAttemptWhatCameOfIt) {
  std::atomic<int> asked = 0;
  Client client = Start([&](const auto& request, auto& reply) {
    const bool busy = request.method == "GET" && asked++ == 0;
    reply.Json(busy ? 429 : request.method == "POST" ? 409 : 200, "{}");
  });
  client.Get(resources::kServices, "ns", "web");
  EXPECT_THROW(client.Create(resources::kServices, "ns", Json::object()), ApiError);
  const auto outcomes = Outcomes();
  ASSERT_EQ(outcomes.size(), 3U);
  EXPECT_EQ(outcomes[0].status, 429);
  EXPECT_EQ(outcomes[1].status, 200);
  EXPECT_EQ(outcomes[1].method, "GET");
  EXPECT_EQ(outcomes[2].status, 409);
  EXPECT_EQ(outcomes[2].method, "POST");
  EXPECT_GT(outcomes[2].latency.count(), 0);
}

TEST_F(ObservedTransportTest, AWatchIsToldWhenItBeginsToAnswer) {
  std::atomic<size_t> told_while_open = 0;
  Client client = Start([](const auto&, auto& reply) {
    reply.Begin(200);
    reply.Chunk("{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"web\"}}}\n");
    reply.WaitForPeerToLeave();
  });
  client.Watch(resources::kServices, "", {},
               [&](WatchEventType, std::string_view) {
                 told_while_open = Outcomes().size();
                 return false;
               },
               {});
  EXPECT_EQ(told_while_open, 1U);
  ASSERT_EQ(Outcomes().size(), 1U);
  EXPECT_EQ(Outcomes()[0].status, 200);
}

TEST_F(ObservedTransportTest, NoAnswerIsToldToo) {
  Client client = Start([](const auto&, auto& reply) { reply.Close(); });
  server_.reset();
  EXPECT_THROW(client.Get(resources::kServices, "ns", "web"), TransportError);
  ASSERT_FALSE(Outcomes().empty());
  EXPECT_EQ(Outcomes()[0].status, 0);
}

}  // namespace
}  // namespace pointsman::kube
