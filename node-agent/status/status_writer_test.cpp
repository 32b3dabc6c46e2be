#include "node-agent/status/status_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kube/testing/eventually.h"
#include "kube/testing/fake_time.h"

namespace pointsman::agent {
namespace {

using kube::Json;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

// An API server that answers each PATCH as the test says and keeps what was sent.
class Server final : public kube::Transport {
 public:
  using Answer = std::function<kube::HttpResponse(const Json& status)>;

  explicit Server(Answer answer) : answer_(std::move(answer)) {}

  kube::HttpResponse Send(const kube::HttpRequest& request) override {
    const Json status = Json::parse(request.body).at("status");
    const std::lock_guard lock(mutex_);
    sent_.push_back(status);
    changed_.notify_all();
    return answer_(status);
  }
  kube::HttpResponse Stream(const kube::HttpRequest& request,
                            const std::function<bool(std::string_view)>& on_data,
                            std::stop_token /*stop*/) override {
    kube::HttpResponse response = Send(request);
    if (response.status == 200) on_data(std::exchange(response.body, ""));
    return response;
  }
  // The writes so far, once there are `count`.
  std::vector<Json> Wait(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, seconds(20), [&] { return sent_.size() >= count; });
    return sent_;
  }

 private:
  const Answer answer_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Json> sent_;
};

kube::HttpResponse Accepted() {
  return {.status = 200, .body = "{}"};
}

kube::HttpResponse Refused() {
  return {.status = 422,
          .body = R"({"kind":"Status","code":422,"reason":"Invalid","message":"Too long"})"};
}

class StatusWriterTest : public testing::Test {
 protected:
  void Start(Server::Answer answer) {
    server_ = std::make_shared<Server>(std::move(answer));
    client_.emplace(server_);
    writer_ = std::make_unique<StatusWriter>(*client_, "n1", options_, time_);
  }
  // Time goes on by this once the writer knows what became of its first `count` writes.
  void After(uint64_t count, std::chrono::nanoseconds by) {
    ASSERT_TRUE(Eventually([&] { return writer_->Writes() + writer_->Failures() >= count; }));
    time_.Advance(by);
  }
  static kube::NodeProxyStatus Status(const std::string& message) {
    kube::NodeProxyStatus status;
    status.active_mode = "ipvs";
    kube::SetCondition(status.conditions,
                       {"Ready", kube::ConditionStatus::kTrue, "Serving", message, "", 1},
                       "2026-01-02T03:04:05Z");
    return status;
  }

  const StatusWriter::Options options_{};
  kube::FakeTime time_;
  int tries_ = 0;  // the writer's thread's
  std::shared_ptr<Server> server_;
  std::optional<kube::Client> client_;
  std::unique_ptr<StatusWriter> writer_;
};

// std::terminate would take the test with it.
TEST_F(StatusWriterTest, TextThatIsNoUtf8IsWrittenNevertheless) {
  Start([](const Json&) { return Accepted(); });
  kube::NodeProxyStatus status;
  status.kernel_release = "6.1\xe3\x80";
  status.sysctls = {{"net.ipv4.\xff", "\x80"}};
  status.conditions = {{"Ready", kube::ConditionStatus::kTrue, "R", "cut \xe3\x80", "", 1}};
  writer_->Want(status);
  const auto sent = server_->Wait(1);
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_EQ(sent[0]["conditions"][0]["message"], "cut \\xe3\\x80");
}

TEST_F(StatusWriterTest, AnExceptionOfAnyKindIsTriedAgain) {
  Start([this](const Json&) {
    if (++tries_ == 1) throw std::logic_error("unforeseen");
    return Accepted();
  });
  writer_->Want(Status("m"));
  After(1, seconds(1));
  EXPECT_EQ(server_->Wait(2).size(), 2U);
  EXPECT_EQ(writer_->Failures(), 1U);
}

// Modes and conditions arrive, and it is not tried again and again.
TEST_F(StatusWriterTest, WhatIsRefusedIsWrittenWithoutItsMessages) {
  Start([](const Json& status) {
    return status["conditions"][0]["message"] == "refuse me" ? Refused() : Accepted();
  });
  writer_->Want(Status("refuse me"));
  After(1, options_.min_interval);
  auto sent = server_->Wait(2);
  ASSERT_EQ(sent.size(), 2U);
  EXPECT_EQ(sent[1]["activeMode"], "ipvs");
  EXPECT_EQ(sent[1]["conditions"][0]["status"], "True");
  EXPECT_EQ(sent[1]["conditions"][0]["reason"], "Serving");
  EXPECT_THAT(sent[1]["conditions"][0]["message"].get<std::string>(), HasSubstr("refused"));
  // What the watch tells of it is what is wanted: the next write is the next change's.
  kube::NodeProxyStatus status = Status("refuse me");
  status.active_mode = "nftables";
  writer_->Want(status);
  After(2, options_.min_interval);
  sent = server_->Wait(3);
  ASSERT_EQ(sent.size(), 3U);
  EXPECT_EQ(sent[2]["activeMode"], "nftables");
  EXPECT_THAT(sent[2]["conditions"][0]["message"].get<std::string>(), HasSubstr("refused"));
}

TEST_F(StatusWriterTest, AfterAWhileTheWholeIsTriedAgain) {
  Start([this](const Json&) { return ++tries_ == 1 ? Refused() : Accepted(); });
  writer_->Want(Status("told in the end"));
  After(1, options_.min_interval);
  After(2, options_.terse_interval);
  const auto sent = server_->Wait(3);
  ASSERT_EQ(sent.size(), 3U);
  EXPECT_EQ(sent[2]["conditions"][0]["message"], "told in the end");
}

// What comes before its time goes into the write that is due: one that came too soon would be seen.
TEST_F(StatusWriterTest, NumbersAreWrittenSeldomAndSubstanceSoon) {
  Start([](const Json&) { return Accepted(); });
  kube::NodeProxyStatus status = Status("m");
  status.services = 1;
  writer_->Want(status);
  After(1, options_.numbers_interval - milliseconds(1));
  status.services = 2;
  writer_->Want(status);
  // It has looked at that, and at the clock, many times when this is over.
  EXPECT_FALSE(Eventually([&] { return writer_->Writes() > 1; }, seconds(1)));
  status.services = 3;
  writer_->Want(status);
  time_.Advance(milliseconds(1));
  EXPECT_EQ(server_->Wait(2).at(1)["services"], 3);
  status.active_mode = "nftables";
  writer_->Want(status);
  After(2, options_.min_interval);
  EXPECT_EQ(server_->Wait(3).at(2)["activeMode"], "nftables");
}

// A merge patch keeps what it does not name: figures of the revision before among them.
TEST_F(StatusWriterTest, FiguresThatAreNotKnownAnyMoreAreTakenBack) {
  Start([](const Json&) { return Accepted(); });
  kube::NodeProxyStatus status = Status("m");
  status.impact = kube::ChangeImpact{.revision = 2, .cut_connections = 3, .refused_after = 0};
  writer_->Want(status);
  Json impact = server_->Wait(1).at(0)["impact"];
  EXPECT_EQ(impact["cutConnections"], 3);
  EXPECT_TRUE(impact.contains("syncMillisecondsAfter"));
  EXPECT_TRUE(impact["syncMillisecondsAfter"].is_null());
  status.impact.reset();
  writer_->Want(status);
  After(1, options_.min_interval);
  impact = server_->Wait(2).at(1)["impact"];
  EXPECT_TRUE(impact.is_null());
}

// 1 s, 2 s, 4 s.
TEST_F(StatusWriterTest, AServerThatFailsIsTriedLessAndLessOften) {
  Start([this](const Json&) -> kube::HttpResponse {
    if (++tries_ <= 3) throw std::logic_error("unforeseen");
    return Accepted();
  });
  writer_->Want(Status("m"));
  for (const uint64_t failures : {1U, 2U, 3U}) {
    const seconds delay(1U << (failures - 1));
    After(failures, delay - milliseconds(1));
    EXPECT_FALSE(Eventually([&] { return server_->Wait(0).size() > failures; }, seconds(1)));
    time_.Advance(milliseconds(1));
    EXPECT_EQ(server_->Wait(failures + 1).size(), failures + 1);
  }
}

TEST_F(StatusWriterTest, WhatHasGoneIsTakenOutOfTheStatus) {
  Start([](const Json&) { return Accepted(); });
  kube::NodeProxyStatus status = Status("m");
  status.last_sync = "no time";
  writer_->Want(status);
  const auto sent = server_->Wait(1);
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_TRUE(sent[0]["lastSync"].is_null());
  EXPECT_TRUE(sent[0]["candidate"].is_null());
  EXPECT_TRUE(sent[0].contains("kubeProxy") && sent[0]["kubeProxy"].is_null());
}

}  // namespace
}  // namespace pointsman::agent
