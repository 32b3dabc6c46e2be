// The controller against an API server in memory: what it writes, and above all what it does not.
#include "operator/runtime/controller.h"

#include <condition_variable>
#include <future>
#include <map>
#include <mutex>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "kube/testing/eventually.h"

namespace pointsman::op {
namespace {

using kube::HttpRequest;
using kube::HttpResponse;
using kube::Json;
using ::testing::HasSubstr;
using std::chrono_literals::operator""s;
using std::chrono_literals::operator""ms;

// Lists, silent watches, and writes that are stored. Every write but Events is counted and shown to
// `on_write` before it is answered.
class FakeApi final : public kube::Transport {
 public:
  using OnWrite = std::function<void(size_t count, const std::stop_token& stop)>;

  FakeApi(int nodes, OnWrite on_write) : on_write_(std::move(on_write)) {
    for (int i = 0; i < nodes; ++i) {
      const std::string name = fmt::format("n{:04}", i);
      Store("/api/v1/nodes",
            {{"metadata", {{"name", name}, {"uid", "uid-" + name}}},
             {"status", {{"conditions", {{{"type", "Ready"}, {"status", "True"}}}}}}});
    }
    Store(kConfigurations,
          {{"metadata", {{"name", "cluster"}, {"uid", "uid-cluster"}, {"generation", 1}}},
           {"spec", {{"mode", "ipvs"}, {"rollout", {{"canary", {{"nodes", 0}}}}}}}});
  }

  // Before it is used.
  void Store(const std::string& path, Json object) {
    object["metadata"]["resourceVersion"] = std::to_string(++version_);
    const std::string name = object["metadata"]["name"];
    objects_[path][name] = std::move(object);
  }

  HttpResponse Send(const HttpRequest& request) override { return Answer(request, {}); }

  HttpResponse Stream(const HttpRequest& request,
                      const std::function<bool(std::string_view)>& on_data,
                      std::stop_token stop) override {
    if (request.target.find("watch=true") != std::string::npos) {
      std::unique_lock lock(mutex_);
      std::condition_variable_any never;
      never.wait(lock, stop, [] { return false; });
      return {};
    }
    HttpResponse response = Answer(request, stop);
    if (response.status >= 200 && response.status < 300) on_data(std::exchange(response.body, {}));
    return response;
  }

  size_t Writes() const {
    const std::lock_guard lock(mutex_);
    return writes_;
  }
  size_t Events() const {
    const std::lock_guard lock(mutex_);
    return events_;
  }
  // Of ProxyConfigurations, with what they changed and when.
  struct ConfigurationWrite {
    std::chrono::steady_clock::time_point when;
    std::string target;
  };
  std::vector<ConfigurationWrite> ConfigurationWrites() const {
    const std::lock_guard lock(mutex_);
    return configuration_writes_;
  }
  Json Configuration() const {
    const std::lock_guard lock(mutex_);
    return objects_.at(kConfigurations).at("cluster");
  }

 private:
  static constexpr const char* kConfigurations = "/apis/pointsman.io/v1alpha1/proxyconfigurations";

  HttpResponse Answer(const HttpRequest& request, const std::stop_token& stop) {
    const std::string path = request.target.substr(0, request.target.find('?'));
    if (request.method != "GET" && path.find("/events") == std::string::npos) {
      size_t count = 0;
      {
        const std::lock_guard lock(mutex_);
        count = ++writes_;
        if (path.starts_with(kConfigurations)) {
          configuration_writes_.push_back({std::chrono::steady_clock::now(), path});
        }
      }
      on_write_(count, stop);
    }
    const std::lock_guard lock(mutex_);
    if (path.find("/events") != std::string::npos) ++events_;
    if (request.method == "GET") return {200, {}, List(path).dump()};
    const Json body = Json::parse(request.body);
    if (request.method == "POST") {
      Json object = body;
      object["metadata"]["uid"] = "uid-" + std::to_string(version_);
      object["metadata"]["generation"] = 1;
      Store(path, object);
      return {201, {}, objects_[path][object["metadata"]["name"].get<std::string>()].dump()};
    }
    std::string of = path;
    if (of.ends_with("/status")) of.resize(of.size() - 7);
    const size_t slash = of.rfind('/');
    auto& stored = objects_[of.substr(0, slash)][of.substr(slash + 1)];
    stored.merge_patch(body);
    stored["metadata"]["resourceVersion"] = std::to_string(++version_);
    return {200, {}, stored.dump()};
  }

  Json List(const std::string& path) {
    Json items = Json::array();
    for (const auto& [name, object] : objects_[path])
      items.push_back(object);
    return {{"metadata", {{"resourceVersion", std::to_string(version_)}}},
            {"items", std::move(items)}};
  }

  const OnWrite on_write_;
  mutable std::mutex mutex_;
  std::map<std::string, std::map<std::string, Json>> objects_;  // by path, by name
  uint64_t version_ = 0;
  size_t writes_ = 0;
  size_t events_ = 0;
  std::vector<ConfigurationWrite> configuration_writes_;
};

// The operator's worker on a thread of its own.
struct Leader {
  explicit Leader(std::shared_ptr<FakeApi> server)
      : api(std::move(server)), client(api), controller(client, "pointsman-system", {}, metrics) {
    controller.Start();
    ended = std::async(std::launch::async,
                       [this] { controller.Lead(stop.get_token(), [] { return held.load(); }); });
  }
  bool EndsWithin(std::chrono::seconds time) {
    return ended.wait_for(time) == std::future_status::ready;
  }
  int Passes() const {
    const std::string text = metrics.Render();
    const std::string name = "\npointsman_operator_reconciles_total ";
    return std::stoi(text.substr(text.find(name) + name.size()));
  }

  static inline std::stop_source stop;
  static inline std::atomic<bool> held;
  std::shared_ptr<FakeApi> api;
  kube::Client client;
  Metrics metrics;
  Controller controller;
  std::future<void> ended;
};

class ControllerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Leader::stop = std::stop_source();
    Leader::held = true;
  }
};

TEST_F(ControllerTest, SaysHowManyObjectsCannotBeRead) {
  const auto api = std::make_shared<FakeApi>(2, [](size_t, const std::stop_token&) {});
  api->Store("/api/v1/nodes", {{"kind", "Pod"}, {"metadata", {{"name", "odd"}}}});
  Leader leader(api);
  ASSERT_TRUE(Eventually([&] { return leader.Passes() > 0; }));
  leader.controller.UpdateMetrics();
  const std::string text = leader.metrics.Render();
  for (const char* line :
       {"decode_errors_total{resource=\"nodes\"} 1\n", "undecodable{resource=\"nodes\"} 1\n",
        "undecodable{resource=\"proxyconfigurations\"} 0\n", "synced{resource=\"nodes\"} 1\n"})
    EXPECT_THAT(text, HasSubstr(std::string("\npointsman_operator_watch_") + line));
  Leader::stop.request_stop();
  EXPECT_TRUE(leader.EndsWithin(30s));
}

constexpr size_t kLostAt = 50;  // writes, in the middle of the pass that makes 200 NodeProxies

TEST_F(ControllerTest, WritesNothingAfterTheLeaseIsLost) {
  std::atomic<size_t> events_then{0};
  std::shared_ptr<FakeApi> api;
  api = std::make_shared<FakeApi>(300, [&](size_t count, const std::stop_token&) {
    if (count != kLostAt) return;
    Leader::held = false;
    Leader::stop.request_stop();
    events_then = api->Events();
  });
  {
    Leader leader(api);
    ASSERT_TRUE(leader.EndsWithin(30s));
    EXPECT_EQ(api->Writes(), kLostAt);
  }
  EXPECT_EQ(api->Writes(), kLostAt);
  EXPECT_LE(api->Events(), events_then + 1) << "one may have been on its way";
}

TEST_F(ControllerTest, AWriteThatHangsEndsWithTheLease) {
  std::promise<void> hangs;
  const auto api = std::make_shared<FakeApi>(300, [&](size_t count, const std::stop_token& stop) {
    if (count != kLostAt) return;
    hangs.set_value();
    std::mutex mutex;
    std::unique_lock lock(mutex);
    std::condition_variable_any never;
    never.wait_for(lock, stop, 30s, [] { return false; });
  });
  Leader leader(api);
  hangs.get_future().wait();
  Leader::held = false;
  Leader::stop.request_stop();
  EXPECT_TRUE(leader.EndsWithin(5s));
  EXPECT_EQ(api->Writes(), kLostAt);
}

// The thread that watches the lease need not have run yet: a process that was stopped and goes on.
TEST_F(ControllerTest, AsksBeforeEachWriteWhetherTheLeaseIsHeld) {
  std::atomic<int> passes_then{-1};
  Leader* running = nullptr;
  std::promise<void> made;
  const auto made_future = made.get_future().share();
  const auto api = std::make_shared<FakeApi>(300, [&](size_t count, const std::stop_token&) {
    made_future.wait();
    if (count != kLostAt) return;
    passes_then = running->Passes();
    Leader::held = false;
  });
  Leader leader(api);
  running = &leader;
  made.set_value();
  ASSERT_TRUE(Eventually([&] { return passes_then >= 0 && leader.Passes() > passes_then; }))
      << "the pass ends";
  EXPECT_EQ(api->Writes(), kLostAt);
  Leader::stop.request_stop();
  EXPECT_TRUE(leader.EndsWithin(5s));
}

TEST_F(ControllerTest, AStoppedLeaderBeginsNothing) {
  const auto api = std::make_shared<FakeApi>(3, [](size_t, const std::stop_token&) {});
  Leader::stop.request_stop();
  Leader leader(api);
  EXPECT_TRUE(leader.EndsWithin(5s));
  EXPECT_EQ(api->Writes(), 0U);
}

TEST_F(ControllerTest, WritesAProxyConfigurationOnceASecondAtMost) {
  const auto api = std::make_shared<FakeApi>(450, [](size_t, const std::stop_token&) {});
  Leader leader(api);
  // Three passes of NodeProxies are written meanwhile.
  ASSERT_TRUE(Eventually([&] { return api->Writes() > 450; }));
  ASSERT_TRUE(Eventually([&] {
    return api->Configuration().value("/status/phase"_json_pointer, "") == "Preflight";
  })) << api->Configuration().dump(1);
  Leader::stop.request_stop();
  ASSERT_TRUE(leader.EndsWithin(5s));
  const auto writes = api->ConfigurationWrites();
  ASSERT_GE(writes.size(), 2U) << "finalizer, status";
  for (size_t i = 1; i < writes.size(); ++i) {
    EXPECT_GE(writes[i].when - writes[i - 1].when, 990ms) << writes[i].target;
  }
}

}  // namespace
}  // namespace pointsman::op
