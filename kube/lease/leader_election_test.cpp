#include "kube/lease/leader_election.h"

#include <atomic>
#include <future>
#include <mutex>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kube/http/test_server.h"
#include "kube/testing/eventually.h"
#include "kube/testing/fake_time.h"

namespace pointsman::kube {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::MatchesRegex;

// Keeps one Lease as the API server does: a stale resourceVersion is a conflict.
class LeaseStore {
 public:
  struct Answer {
    int status = 200;
    std::string body;
  };
  Answer Do(const std::string& method, const std::string& request_body) {
    const std::lock_guard lock(mutex_);
    if (method == "POST") {
      if (!lease_.is_null()) return Failure(409, "AlreadyExists");
      lease_ = Json::parse(request_body);
      Stamp();
    } else if (lease_.is_null()) {
      return Failure(404, "NotFound");
    } else if (method == "PUT") {
      Json lease = Json::parse(request_body);
      if (lease["metadata"]["resourceVersion"] != lease_["metadata"]["resourceVersion"])
        return Failure(409, "Conflict");
      lease_ = std::move(lease);
      Stamp();
    }
    return {200, lease_.dump()};
  }
  static Answer Failure(int code, const char* reason) {
    return {code, Json{{"kind", "Status"}, {"code", code}, {"reason", reason}}.dump()};
  }
  Json Spec() {
    const std::lock_guard lock(mutex_);
    return lease_.is_null() ? Json() : lease_["spec"];
  }
  void SetSpec(const Json& spec) {
    const std::lock_guard lock(mutex_);
    lease_ = {{"metadata", {{"name", "op"}, {"namespace", "ns"}}}, {"spec", spec}};
    Stamp();
  }

 private:
  void Stamp() { lease_["metadata"]["resourceVersion"] = std::to_string(++version_); }

  std::mutex mutex_;
  Json lease_;
  int version_ = 0;
};

class LeaseServer {
 public:
  LeaseServer() {
    TestServer::Options options;
    options.certificate = authority_.Issue("server", "IP:127.0.0.1");
    server_ = std::make_unique<TestServer>(
        options, [this](const auto& request, auto& reply) { Serve(request, reply); });
  }
  Client MakeClient() const {
    Config config;
    config.server = server_->url();
    config.ca_pem = authority_.ca_pem();
    return Client(MakeTransport(config));
  }
  Json Spec() { return lease_.Spec(); }
  void SetSpec(const Json& spec) { lease_.SetSpec(spec); }

  enum class Mode { kServe, kFail, kHang };
  std::atomic<Mode> mode{Mode::kServe};

 private:
  void Serve(const TestServer::Request& request, TestServer::Reply& reply) {
    if (mode == Mode::kHang) {
      reply.WaitForPeerToLeave();
      return;
    }
    const LeaseStore::Answer answer = mode == Mode::kFail ? LeaseStore::Failure(403, "Forbidden")
                                                          : lease_.Do(request.method, request.body);
    reply.Json(answer.status, answer.body);
  }

  const TestAuthority authority_{"CA"};
  LeaseStore lease_;
  std::unique_ptr<TestServer> server_;
};

// Answers without a network, for a test that needs elections by the thousand.
class LeaseTransport final : public Transport {
 public:
  HttpResponse Send(const HttpRequest& request) override {
    LeaseStore::Answer answer = lease_.Do(request.method, request.body);
    return {answer.status, {}, std::move(answer.body)};
  }
  HttpResponse Stream(const HttpRequest& request,
                      const std::function<bool(std::string_view)>& on_data,
                      std::stop_token) override {
    HttpResponse response = Send(request);
    if (response.status < 300) on_data(std::exchange(response.body, {}));
    return response;
  }

 private:
  LeaseStore lease_;
};

LeaderElectionOptions Options(const std::string& identity) {
  LeaderElectionOptions options;
  options.ns = "ns";
  options.name = "op";
  options.identity = identity;
  options.lease_duration = milliseconds(4000);
  options.renew_deadline = milliseconds(3000);
  options.retry_period = milliseconds(200);
  return options;
}

// What a leader does here.
void WaitForStop(const Leadership& leadership) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait(lock, leadership.stop(), [] { return false; });
}

// One candidate on a thread of its own, with a clock of its own.
class Candidate {
 public:
  Candidate(const LeaseServer& server, const LeaderElectionOptions& options)
      : client_(server.MakeClient()), result_(std::async(std::launch::async, [this, options] {
          return RunWithLeaderElection(
              client_, options,
              [this](const Leadership& leadership) {
                began_.set_value(&leadership);
                WaitForStop(leadership);
              },
              stop_.get_token(), time_);
        })) {}
  ~Candidate() { stop_.request_stop(); }

  // Until it leads; valid while it does.
  const Leadership& WaitUntilLeading() { return *began_future_.get(); }
  bool LeadsWithin(std::chrono::nanoseconds time) {
    return began_future_.wait_for(time) == std::future_status::ready;
  }
  // Once it waits for its next request: lets time go on, until it has done that and waits again.
  void Tick(std::chrono::nanoseconds by) {
    ++ticks_;
    ASSERT_TRUE(Eventually([&] { return time_.Sleeps().size() >= ticks_; }));
    time_.Advance(by);
    ASSERT_TRUE(Eventually([&] { return time_.Sleeps().size() > ticks_; }));
  }
  FakeTime& time() { return time_; }
  bool Stop() {
    stop_.request_stop();
    return result_.get();
  }
  bool Result() { return result_.get(); }

 private:
  FakeTime time_{FakeTime::Sleeping::kWaits};
  size_t ticks_ = 0;
  Client client_;
  std::stop_source stop_;
  std::promise<const Leadership*> began_;
  std::shared_future<const Leadership*> began_future_ = began_.get_future().share();
  std::future<bool> result_;
};

TEST(LeaderElectionTest, MakesTheLeaseRenewsAndReleasesIt) {
  LeaseServer server;
  LeaderElectionOptions options = Options("one");
  options.lease_duration = std::chrono::hours(1);
  Candidate one(server, options);
  one.WaitUntilLeading();
  const Json first = server.Spec();
  EXPECT_EQ(first["holderIdentity"], "one");
  EXPECT_EQ(first["leaseDurationSeconds"], 3600);
  EXPECT_EQ(first["leaseTransitions"], 0);
  EXPECT_THAT(first["renewTime"].get<std::string>(), MatchesRegex("....-..-..T..:..:..\\.......Z"));
  one.Tick(options.retry_period);
  EXPECT_NE(server.Spec()["renewTime"], first["renewTime"]);
  EXPECT_EQ(server.Spec()["acquireTime"], first["acquireTime"]);
  EXPECT_TRUE(one.Stop());
  EXPECT_EQ(server.Spec()["holderIdentity"], "");

  Candidate two(server, Options("two"));
  EXPECT_TRUE(two.LeadsWithin(kAtOnce));  // its clock stands still: it need not wait
  EXPECT_EQ(server.Spec()["leaseTransitions"], 1);
  EXPECT_TRUE(two.Stop());
}

TEST(LeaderElectionTest, OneLeadsAndTheOtherWaits) {
  LeaseServer server;
  const LeaderElectionOptions options = Options("one");
  Candidate one(server, options);
  one.WaitUntilLeading();
  Candidate two(server, Options("two"));
  // Longer than the duration: it is renewed. client-go's jitter lets a candidate ask again within
  // 2.2 times the retry period.
  const std::chrono::nanoseconds step = options.retry_period * 11 / 5;
  for (std::chrono::nanoseconds passed{}; passed < options.lease_duration * 3; passed += step) {
    one.Tick(options.retry_period);
    two.Tick(step);
  }
  EXPECT_FALSE(two.LeadsWithin(milliseconds(0)));
  EXPECT_TRUE(one.Stop());
  two.time().Advance(step);
  EXPECT_TRUE(two.LeadsWithin(kAtOnce));
  EXPECT_EQ(server.Spec()["holderIdentity"], "two");
}

TEST(LeaderElectionTest, TakesOverADeadHoldersLeaseByItsOwnClock) {
  LeaseServer server;
  // The holder's clock is years ahead; that must not matter.
  server.SetSpec({{"holderIdentity", "dead"},
                  {"leaseDurationSeconds", 10},
                  {"renewTime", "2099-01-01T00:00:00.000000Z"},
                  {"leaseTransitions", 4}});
  Candidate two(server, Options("two"));
  two.Tick(seconds(10) - milliseconds(1));
  EXPECT_FALSE(two.LeadsWithin(milliseconds(0)));
  two.time().Advance(seconds(1));
  EXPECT_TRUE(two.LeadsWithin(kAtOnce));
  EXPECT_EQ(server.Spec()["leaseTransitions"], 5);
}

TEST(LeaderElectionTest, TakesALeaseWithNullFields) {
  LeaseServer server;
  server.SetSpec({{"holderIdentity", nullptr}, {"renewTime", nullptr}});
  Candidate one(server, Options("one"));
  EXPECT_TRUE(one.LeadsWithin(kAtOnce));
}

// At the renew deadline, which is before another may take the lease, and not at the first failure.
TEST(LeaderElectionTest, StopsLeadingWhenItCannotRenew) {
  for (const auto mode : {LeaseServer::Mode::kFail, LeaseServer::Mode::kHang}) {
    LeaseServer server;
    const LeaderElectionOptions options = Options("one");
    Candidate one(server, options);
    const Leadership& leadership = one.WaitUntilLeading();
    server.mode = mode;
    if (mode == LeaseServer::Mode::kFail) {
      one.Tick(options.retry_period);
      one.time().Advance(options.renew_deadline - options.retry_period - milliseconds(1));
    } else {
      one.time().Advance(options.renew_deadline - milliseconds(1));
    }
    EXPECT_TRUE(leadership.Held());
    EXPECT_FALSE(leadership.stop().stop_requested());
    one.time().Advance(milliseconds(1));
    EXPECT_FALSE(one.Result());
    EXPECT_EQ(server.Spec()["holderIdentity"], "one");
  }
}

// Also when the thread that would say so does not come to it: this one looks at the clock alone.
TEST(LeaderElectionTest, HeldEndsAtTheRenewDeadlineByItself) {
  LeaseServer server;
  Client client = server.MakeClient();
  const LeaderElectionOptions options = Options("one");
  FakeTime time(FakeTime::Sleeping::kWaits);
  EXPECT_FALSE(RunWithLeaderElection(
      client, options,
      [&](const Leadership& leadership) {
        server.mode = LeaseServer::Mode::kHang;
        time.Advance(options.renew_deadline - milliseconds(1));
        EXPECT_TRUE(leadership.Held());
        time.Advance(milliseconds(1));
        EXPECT_FALSE(leadership.Held());
        // The other thread finds that out too.
        EXPECT_TRUE(Eventually([&] { return leadership.stop().stop_requested(); }));
      },
      {}, time));
}

// A server that hangs must not hold up the end.
TEST(LeaderElectionTest, TheLeaseIsGivenBackWithinTwoSecondsOrNot) {
  LeaseServer server;
  Candidate one(server, Options("one"));
  one.WaitUntilLeading();
  server.mode = LeaseServer::Mode::kHang;
  const size_t slept = one.time().Sleeps().size();
  std::thread stopper([&] { EXPECT_TRUE(one.Stop()); });
  EXPECT_TRUE(Eventually([&] {
    const auto sleeps = one.time().Sleeps();
    return sleeps.size() > slept && sleeps.back() == seconds(2);
  }));
  one.time().Advance(seconds(2));
  stopper.join();
  EXPECT_EQ(server.Spec()["holderIdentity"], "one");
}

TEST(LeaderElectionTest, StopsLeadingWhenAnotherHoldsIt) {
  LeaseServer server;
  Candidate one(server, Options("one"));
  one.WaitUntilLeading();
  server.SetSpec({{"holderIdentity", "thief"}, {"leaseDurationSeconds", 60}});
  one.Tick(milliseconds(200));
  EXPECT_FALSE(one.Result());
  EXPECT_EQ(server.Spec()["holderIdentity"], "thief");
}

TEST(LeaderElectionTest, StopEndsAWaitingCandidateAtOnce) {
  LeaseServer server;
  server.mode = LeaseServer::Mode::kHang;
  Candidate one(server, Options("one"));
  EXPECT_FALSE(one.LeadsWithin(milliseconds(200)));
  EXPECT_TRUE(AtOnce([&] { EXPECT_TRUE(one.Stop()); }));
}

// Whether leadership ends when the stop is requested `spins` turns of a loop after it began.
bool EndsWhenStoppedAfter(int spins) {
  const LeaderElectionOptions options = Options("one");
  Client client(std::make_shared<LeaseTransport>());
  FakeTime time(FakeTime::Sleeping::kWaits);
  std::stop_source stop;
  std::atomic<bool> leads = false;
  std::future<bool> stopped = std::async(std::launch::async, [&] {
    return RunWithLeaderElection(
        client, options,
        [&](const Leadership& leadership) {
          leads = true;
          WaitForStop(leadership);
        },
        stop.get_token(), time);
  });
  while (!leads)
    std::this_thread::yield();
  for (std::atomic<int> spin = 0; spin < spins;)
    ++spin;
  stop.request_stop();
  const bool ended = stopped.wait_for(kAtOnce) == std::future_status::ready;
  if (!ended) time.Advance(std::chrono::hours(1));  // it loses the lease, and the test can end
  return stopped.get() && ended;
}

// Whenever it comes, also between two looks of the thread that passes it on: an operator that
// missed it would lead on after its SIGTERM. More threads than cores, so that a thread is also
// interrupted between the looks.
TEST(LeaderElectionTest, AStopAtAnyMomentEndsTheLeadership) {
  std::vector<std::future<int>> all;
  for (unsigned thread = 0; thread < 4; ++thread) {
    all.push_back(std::async(std::launch::async, [] {
      for (int round = 0; round < 10'000; ++round)
        if (!EndsWhenStoppedAfter(round % 1000)) return round;
      return -1;
    }));
  }
  for (auto& missed : all)
    EXPECT_EQ(missed.get(), -1);
}

TEST(LeaderElectionTest, ThrowsOnWhatLeadThrowsAndReleases) {
  LeaseServer server;
  Client client = server.MakeClient();
  EXPECT_THROW(
      RunWithLeaderElection(client, Options("one"),
                            [](const Leadership&) { throw std::out_of_range("mine"); }, {}),
      std::out_of_range);
  EXPECT_EQ(server.Spec()["holderIdentity"], "");
}

TEST(LeaderElectionTest, RefusesOptionsThatCannotWork) {
  LeaseServer server;
  Client client = server.MakeClient();
  LeaderElectionOptions options = Options("one");
  options.renew_deadline = options.lease_duration;
  const auto lead = [](const Leadership&) {};
  EXPECT_THROW(RunWithLeaderElection(client, options, lead, {}), std::invalid_argument);
  EXPECT_THROW(RunWithLeaderElection(client, Options(""), lead, {}), std::invalid_argument);
}

}  // namespace
}  // namespace pointsman::kube
