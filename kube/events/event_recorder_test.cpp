#include "kube/events/event_recorder.h"

#include <condition_variable>
#include <mutex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kube/events/lru_map.h"
#include "kube/http/test_server.h"
#include "kube/testing/eventually.h"
#include "kube/testing/fake_time.h"

namespace pointsman::kube {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

class EventRecorderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    TestServer::Options options;
    options.certificate = authority_.Issue("server", "IP:127.0.0.1");
    server_ = std::make_unique<TestServer>(options, [this](const auto& request, auto& reply) {
      int status = 0;
      {
        const std::lock_guard lock(mutex_);
        requests_.push_back(request);
        status = request.method == "PATCH" ? patch_status_ : post_status_;
        changed_.notify_all();
      }
      if (status == 0) {
        reply.WaitForPeerToLeave();
      } else {
        reply.Json(status, "{}");
      }
    });
    Config config;
    config.server = server_->url();
    config.ca_pem = authority_.ca_pem();
    client_ = std::make_unique<Client>(MakeTransport(config));
  }
  std::vector<TestServer::Request> Wait(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, seconds(20), [&] { return requests_.size() >= count; });
    return requests_;
  }

  const TestAuthority authority_{"CA"};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<TestServer::Request> requests_;
  int post_status_ = 201;  // 0: never answers
  int patch_status_ = 200;
  std::unique_ptr<TestServer> server_;
  std::unique_ptr<Client> client_;
  const ObjectReference about_ = ReferenceTo({{"apiVersion", "pointsman.io/v1alpha1"},
                                              {"kind", "NodeProxy"},
                                              {"metadata", {{"name", "node-1"}, {"uid", "u1"}}}});
};

TEST_F(EventRecorderTest, WritesAnEvent) {
  EventRecorder recorder(*client_, "pointsman-agent", "node-1");
  recorder.Emit(about_, EventType::kWarning, "ModuleMissing", "ip_vs is missing");
  const auto requests = Wait(1);
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_EQ(requests[0].method, "POST");
  EXPECT_EQ(requests[0].target, "/api/v1/namespaces/default/events");
  const Json event = Json::parse(requests[0].body);
  EXPECT_THAT(event["metadata"]["name"].get<std::string>(), MatchesRegex("node-1\\.[0-9a-f]+"));
  EXPECT_EQ(event["kind"], "Event");
  EXPECT_EQ(event["metadata"]["namespace"], "default");
  EXPECT_EQ(event["involvedObject"], (Json{{"apiVersion", "pointsman.io/v1alpha1"},
                                           {"kind", "NodeProxy"},
                                           {"name", "node-1"},
                                           {"uid", "u1"}}));
  EXPECT_EQ(event["type"], "Warning");
  EXPECT_EQ(event["reason"], "ModuleMissing");
  EXPECT_EQ(event["message"], "ip_vs is missing");
  EXPECT_EQ(event["source"], (Json{{"component", "pointsman-agent"}, {"host", "node-1"}}));
  EXPECT_EQ(event["reportingComponent"], "pointsman-agent");
  EXPECT_EQ(event["count"], 1);
  EXPECT_EQ(event["firstTimestamp"], event["lastTimestamp"]);
  EXPECT_THAT(event["firstTimestamp"].get<std::string>(), MatchesRegex("....-..-..T..:..:..Z"));
}

TEST_F(EventRecorderTest, CountsRepeats) {
  EventRecorder recorder(*client_, "c", "");
  for (int i = 0; i < 3; ++i)
    recorder.Emit(about_, EventType::kNormal, "R", "same");
  recorder.Emit(about_, EventType::kNormal, "R", "other");
  const auto requests = Wait(4);
  ASSERT_EQ(requests.size(), 4U);
  const std::string name = Json::parse(requests[0].body)["metadata"]["name"];
  EXPECT_THAT(requests[2].target, StartsWith("/api/v1/namespaces/default/events/" + name));
  EXPECT_EQ(requests[2].method, "PATCH");
  EXPECT_EQ(Json::parse(requests[2].body)["count"], 3);
  EXPECT_EQ(requests[3].method, "POST");
}

TEST_F(EventRecorderTest, WritesAnewWhatHasExpired) {
  patch_status_ = 404;
  EventRecorder recorder(*client_, "c", "");
  recorder.Emit(about_, EventType::kNormal, "R", "same");
  recorder.Emit(about_, EventType::kNormal, "R", "same");
  const auto requests = Wait(3);
  ASSERT_EQ(requests.size(), 3U);
  EXPECT_EQ(requests[1].method, "PATCH");
  EXPECT_EQ(requests[2].method, "POST");
  EXPECT_EQ(Json::parse(requests[2].body)["count"], 1);
}

TEST_F(EventRecorderTest, CutsOffASourceThatFloods) {
  ObjectReference quiet = about_;
  quiet.name = "node-2";
  {
    EventRecorder recorder(*client_, "c", "");
    for (int i = 0; i < 1000; ++i) {
      recorder.Emit(about_, EventType::kNormal, "R", "message " + std::to_string(i));
    }
    recorder.Emit(quiet, EventType::kNormal, "R", "mine");
    EXPECT_EQ(recorder.Dropped(), 975U);
    Wait(26);
  }
  EXPECT_EQ(requests_.size(), 26U);
  EXPECT_EQ(Json::parse(requests_.back().body)["message"], "mine");
}

// What a tenant writes into an annotation is quoted in a message.
TEST_F(EventRecorderTest, WhatIsSentIsTextOfBoundedSize) {
  EventRecorder recorder(*client_, "c", std::string(253, 'h'));
  ObjectReference about = about_;
  about.name = std::string(240, 'n') + ".-" + std::string(11, 'n');
  std::string wild = "cut \xe3\x80 \x1b[2J ";
  while (wild.size() < 300'000)
    wild += "\u3000é";
  recorder.Emit(about, EventType::kWarning, "R", wild);
  const auto requests = Wait(1);
  ASSERT_EQ(requests.size(), 1U);
  const Json event = Json::parse(requests[0].body);
  const std::string message = event["message"];
  EXPECT_LE(message.size(), 1024U);
  EXPECT_THAT(message, StartsWith("cut \\xe3\\x80 \\x1b[2J "));
  EXPECT_LE(event["reportingInstance"].get<std::string>().size(), 128U);
  EXPECT_LE(event["metadata"]["name"].get<std::string>().size(), 253U);
  EXPECT_THAT(event["metadata"]["name"].get<std::string>(), MatchesRegex("n+(\\.[0-9a-n]+)+"));
}

// One that cannot be sent must not hold up the others: it used to be tried for 95 s.
TEST_F(EventRecorderTest, TextThatIsNoUtf8IsSentAndTheNextAtOnce) {
  EventRecorder recorder(*client_, "c", "");
  recorder.Emit(about_, EventType::kWarning, "R", "cut \xe3\x80");
  recorder.Emit(about_, EventType::kWarning, "R", "next");
  const auto requests = Wait(2);
  ASSERT_EQ(requests.size(), 2U);
  EXPECT_EQ(Json::parse(requests[1].body)["message"], "next");
  EXPECT_EQ(recorder.Dropped(), 0U);
}

TEST_F(EventRecorderTest, CutsOffANamespaceThatFloods) {
  FakeTime time;
  EventRecorder recorder(*client_, "c", "", time);
  ObjectReference about = about_;
  about.ns = "tenant";
  for (int i = 0; i < 300; ++i) {
    about.name = "service-" + std::to_string(i);
    recorder.Emit(about, EventType::kWarning, "R", "m");
  }
  EXPECT_EQ(recorder.Dropped(), 200U);
  about.ns = "other";
  recorder.Emit(about, EventType::kWarning, "R", "m");
  EXPECT_EQ(recorder.Dropped(), 200U);
  EXPECT_EQ(Wait(101).size(), 101U);
  // One a minute from then on.
  about.ns = "tenant";
  time.Advance(seconds(59));
  recorder.Emit(about, EventType::kWarning, "R", "m");
  EXPECT_EQ(recorder.Dropped(), 201U);
  time.Advance(seconds(1));
  recorder.Emit(about, EventType::kWarning, "R", "m");
  EXPECT_EQ(recorder.Dropped(), 201U);
  recorder.Emit(about, EventType::kWarning, "R", "m");
  EXPECT_EQ(recorder.Dropped(), 202U);
}

TEST_F(EventRecorderTest, WhoWasCutOffMaySaySomethingAfterFiveMinutes) {
  FakeTime time;
  EventRecorder recorder(*client_, "c", "", time);
  for (int i = 0; i < 30; ++i)
    recorder.Emit(about_, EventType::kNormal, "R", "m");
  EXPECT_EQ(recorder.Dropped(), 5U);
  time.Advance(minutes(5) + seconds(1));
  recorder.Emit(about_, EventType::kNormal, "R", "m");
  EXPECT_EQ(recorder.Dropped(), 5U);
  recorder.Emit(about_, EventType::kNormal, "R", "m");
  EXPECT_EQ(recorder.Dropped(), 6U);
}

// client-go's twelve tries; then the next one's turn comes.
TEST_F(EventRecorderTest, AServerThatFailsIsTriedLessAndLessOften) {
  post_status_ = 500;
  FakeTime time;
  EventRecorder recorder(*client_, "c", "", time);
  recorder.Emit(about_, EventType::kNormal, "R", "m");
  EXPECT_TRUE(Eventually([&] { return recorder.Dropped() > 0; }));
  EXPECT_EQ(Wait(12).size(), 12U);
  EXPECT_THAT(time.Sleeps(),
              ElementsAre(seconds(2), seconds(4), seconds(8), seconds(10), seconds(10), seconds(10),
                          seconds(10), seconds(10), seconds(10), seconds(10), seconds(10)));
}

TEST_F(EventRecorderTest, CountsWhatTheServerRefuses) {
  post_status_ = 403;
  EventRecorder recorder(*client_, "c", "");
  recorder.Emit(about_, EventType::kNormal, "R", "m");
  Wait(1);
  EXPECT_TRUE(Eventually([&] { return recorder.Dropped() > 0; }));
  EXPECT_EQ(recorder.Dropped(), 1U);
}

TEST_F(EventRecorderTest, NeverBlocksAndEndsInTimeWhenTheServerHangs) {
  post_status_ = 0;
  auto recorder = std::make_unique<EventRecorder>(*client_, "c", "");
  // By then it has waited for none of them.
  EXPECT_TRUE(AtOnce([&] {
    for (int i = 0; i < 3000; ++i) {
      ObjectReference about = about_;
      about.name = "node-" + std::to_string(i);
      recorder->Emit(about, EventType::kNormal, "R", "m");
    }
  }));
  EXPECT_GE(recorder->Dropped(), 1999U);
  EXPECT_TRUE(AtOnce([&] { recorder.reset(); }));
}

TEST(LruMapTest, ForgetsWhatWasUsedLongestAgo) {
  LruMap<int, int> map(2);
  map[1] = 10;
  map[2] = 20;
  EXPECT_EQ(map[1], 10);
  map[3] = 30;
  EXPECT_EQ(map.size(), 2U);
  EXPECT_EQ(map[1], 10);
  EXPECT_EQ(map[2], 0);
}

}  // namespace
}  // namespace pointsman::kube
