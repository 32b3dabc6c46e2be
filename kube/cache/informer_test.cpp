#include "kube/cache/informer.h"

#include <condition_variable>
#include <deque>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kube/cache/raw_object.h"
#include "kube/http/test_server.h"
#include "kube/testing/eventually.h"
#include "kube/testing/fake_time.h"

namespace pointsman::kube {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Json Object(const std::string& name, const std::string& version) {
  return {{"metadata", {{"namespace", "ns"}, {"name", name}, {"resourceVersion", version}}}};
}

std::string ListOf(const std::string& version, const std::vector<Json>& items) {
  return Json{{"metadata", {{"resourceVersion", version}}}, {"items", items}}.dump();
}

std::string Event(const std::string& type, const Json& object) {
  return Json{{"type", type}, {"object", object}}.dump() + "\n";
}

const TestAuthority& Authority() {
  static const TestAuthority authority("CA");
  return authority;
}

// What the server says to the nth list and the nth watch. "END" ends a watch. After the last entry
// lists fail and watches are silent.
struct Answers {
  std::deque<std::pair<int, std::string>> lists;
  std::deque<std::vector<std::string>> watches;
};

// An API server that plays a script.
class Script {
 public:
  explicit Script(Answers answers, int port = 0) : answers_(std::move(answers)) {
    TestServer::Options options;
    options.certificate = Authority().Issue("server", "IP:127.0.0.1");
    options.port = port;
    server_ = std::make_unique<TestServer>(
        options, [this](const auto& request, auto& reply) { Serve(request, reply); });
  }

  Client MakeClient() const {
    Config config;
    config.server = server_->url();
    config.ca_pem = Authority().ca_pem();
    return Client(MakeTransport(config));
  }
  int port() const { return server_->port(); }
  std::vector<std::string> Lists() { return Copy(lists_); }
  std::vector<std::string> Watches() { return Copy(watches_); }

 private:
  void Serve(const TestServer::Request& request, TestServer::Reply& reply) {
    if (!request.TargetHas("watch=true")) {
      std::pair<int, std::string> answer{404, "no more lists in this script"};
      {
        const std::lock_guard lock(mutex_);
        lists_.push_back(request.target);
        if (!answers_.lists.empty()) {
          answer = answers_.lists.front();
          answers_.lists.pop_front();
        }
      }
      reply.Json(answer.first, answer.second);
      return;
    }
    std::vector<std::string> events;
    {
      const std::lock_guard lock(mutex_);
      watches_.push_back(request.target);
      if (!answers_.watches.empty()) {
        events = answers_.watches.front();
        answers_.watches.pop_front();
      }
    }
    reply.Begin(200);
    for (const std::string& event : events) {
      if (event == "END") {
        reply.End();
        return;
      }
      reply.Chunk(event);
    }
    reply.WaitForPeerToLeave();
  }
  std::vector<std::string> Copy(const std::vector<std::string>& list) {
    const std::lock_guard lock(mutex_);
    return list;
  }

  std::mutex mutex_;
  Answers answers_;
  std::vector<std::string> lists_;
  std::vector<std::string> watches_;
  std::unique_ptr<TestServer> server_;
};

// What the handlers said, to wait for.
class Log {
 public:
  void Add(const std::string& line) {
    const std::lock_guard lock(mutex_);
    lines_.push_back(line);
    changed_.notify_all();
  }
  void Watch(JsonInformer& informer) {
    informer.AddHandler([this](const auto& before, const auto& after) {
      const auto text = [](const JsonInformer::Ptr& object) {
        const Json& metadata = (*object)["metadata"];
        return metadata["name"].get<std::string>() + metadata["resourceVersion"].get<std::string>();
      };
      Add((before ? "-" + text(before) : "") + (after ? "+" + text(after) : ""));
    });
    informer.OnSynced([this] { Add("synced"); });
  }
  // The lines once there are `count` of them.
  std::vector<std::string> Wait(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, seconds(20), [&] { return lines_.size() >= count; });
    return lines_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> lines_;
};

// Of the first `count`.
milliseconds SumOf(const std::vector<std::chrono::nanoseconds>& sleeps, size_t count) {
  std::chrono::nanoseconds sum{0};
  for (size_t i = 0; i < std::min(count, sleeps.size()); ++i)
    sum += sleeps[i];
  return std::chrono::duration_cast<milliseconds>(sum);
}

ReflectorOptions Quick() {
  ReflectorOptions options;
  options.min_backoff = milliseconds(20);
  options.max_backoff = milliseconds(100);
  return options;
}

TEST(InformerTest, ListsThenWatches) {
  Answers answers;
  answers.lists = {{200, ListOf("10", {Object("a", "1")})}};
  answers.watches = {{Event("ADDED", Object("b", "11")), Event("MODIFIED", Object("a", "12")),
                      Event("DELETED", Object("b", "13"))}};
  Script script(answers);
  Client client = script.MakeClient();
  ReflectorOptions options = Quick();
  options.label_selector = "x=y";
  auto informer = MakeJsonInformer(client, resources::kServices, options);
  Log log;
  log.Watch(*informer);
  EXPECT_FALSE(informer->HasSynced());
  informer->Start();
  EXPECT_THAT(log.Wait(5), ElementsAre("+a1", "synced", "+b11", "-a1+a12", "-b11"));
  EXPECT_TRUE(informer->HasSynced());
  EXPECT_EQ(informer->Size(), 1U);
  EXPECT_EQ(informer->All().size(), 1U);
  EXPECT_EQ((*informer->Get("ns/a"))["metadata"]["resourceVersion"], "12");
  EXPECT_EQ(informer->Get("ns/b"), nullptr);
  EXPECT_THAT(script.Lists(),
              ElementsAre("/api/v1/services?labelSelector=x%3Dy&limit=500&resourceVersion=0"));
  EXPECT_THAT(script.Watches(),
              ElementsAre(HasSubstr("labelSelector=x%3Dy&resourceVersion=10&timeoutSeconds=")));
  EXPECT_EQ(informer->Stats().lists, 1U);
  EXPECT_EQ(informer->Stats().watches, 1U);
  EXPECT_EQ(informer->Stats().errors, 0U);
}

// Who waits for HasSynced acts on what the handlers said.
TEST(InformerTest, IsSyncedOnlyWhenTheHandlersHaveBeenToldOfAll) {
  Answers answers;
  answers.lists = {{200, ListOf("10", {Object("a", "1"), Object("b", "2")})}};
  Script script(answers);
  Client client = script.MakeClient();
  auto informer = MakeJsonInformer(client, resources::kServices, Quick());
  Log log;
  informer->AddHandler(
      [&](const auto&, const auto&) { log.Add(informer->HasSynced() ? "too early" : "not yet"); });
  informer->OnSynced([&] { log.Add(informer->HasSynced() ? "synced" : "never"); });
  informer->Start();
  EXPECT_THAT(log.Wait(3), ElementsAre("not yet", "not yet", "synced"));
}

TEST(InformerTest, ListsAgainWhenTheVersionIsGone) {
  Answers answers;
  answers.lists = {{200, ListOf("10", {Object("a", "1"), Object("b", "2"), Object("c", "3")})},
                   {200, ListOf("20", {Object("a", "1"), Object("c", "13"), Object("d", "14")})}};
  answers.watches = {{Event("ERROR", {{"kind", "Status"}, {"code", 410}})}};
  Script script(answers);
  Client client = script.MakeClient();
  auto informer = MakeJsonInformer(client, resources::kServices, Quick());
  Log log;
  log.Watch(*informer);
  informer->Start();
  const std::vector<std::string> lines = log.Wait(8);
  ASSERT_EQ(lines.size(), 8U);
  EXPECT_EQ(lines[3], "synced");
  EXPECT_EQ(lines[4], "-b2");  // deletions first
  EXPECT_THAT((std::vector{lines[5], lines[6]}),
              ::testing::UnorderedElementsAre("-c3+c13", "+d14"));
  EXPECT_EQ(lines[7], "synced");
  // Not older than what was seen, and from the server's cache: a limit would make it exact.
  EXPECT_EQ(script.Lists()[1], "/api/v1/services?resourceVersion=10");
}

TEST(InformerTest, ListsConsistentlyWhenTheVersionIsGoneFromListsToo) {
  Answers answers;
  answers.lists = {{200, ListOf("10", {Object("a", "1")})},
                   {504, R"({"kind":"Status","code":504,"reason":"Timeout",
                            "details":{"causes":[{"reason":"ResourceVersionTooLarge"}]}})"},
                   {200, ListOf("5", {Object("a", "4")})}};
  answers.watches = {{Event("ERROR", {{"kind", "Status"}, {"code", 410}})}};
  Script script(answers);
  Client client = script.MakeClient();
  auto informer = MakeJsonInformer(client, resources::kServices, Quick());
  Log log;
  log.Watch(*informer);
  informer->Start();
  EXPECT_THAT(log.Wait(4), ElementsAre("+a1", "synced", "-a1+a4", "synced"));
  EXPECT_EQ(script.Lists().back(), "/api/v1/services?limit=500");
}

TEST(InformerTest, ListsSoonAfterALongOutage) {
  Log log;
  Answers answers;
  answers.lists = {{200, ListOf("10", {Object("a", "1")})}};
  auto script = std::make_unique<Script>(answers);
  Client client = script->MakeClient();
  FakeTime clock;
  ReflectorOptions options;
  options.min_backoff = milliseconds(20);
  options.max_backoff = milliseconds(60'000);
  options.clock = &clock;
  auto informer = MakeJsonInformer(client, resources::kServices, options);
  log.Watch(*informer);
  informer->Start();
  log.Wait(2);
  const int port = script->port();
  ASSERT_TRUE(Eventually([&] { return !script->Watches().empty(); }));
  script.reset();
  // 20, 40, … 1,280 ms: the next failure waits for 2 s and more.
  ASSERT_TRUE(Eventually([&] { return informer->Stats().errors >= 7; }));
  // A real API server remembers no event from before its start.
  answers.watches = {{Event("ERROR", {{"kind", "Status"}, {"code", 410}})}};
  answers.lists = {{200, ListOf("20", {Object("a", "14")})}};
  script = std::make_unique<Script>(answers, port);
  EXPECT_THAT(log.Wait(4), ElementsAre("+a1", "synced", "-a1+a14", "synced"));
  // After the answer it began with the shortest wait again.
  EXPECT_LE(clock.Sleeps().back(), milliseconds(25));
}

TEST(InformerTest, IsNoHotLoopWhenEveryWatchIsTooOld) {
  Answers answers;
  answers.lists.assign(10'000, {200, ListOf("10", {})});
  answers.watches.assign(10'000, {Event("ERROR", {{"kind", "Status"}, {"code", 410}})});
  Script script(answers);
  Client client = script.MakeClient();
  FakeTime clock;
  ReflectorOptions options = Quick();
  options.clock = &clock;
  auto informer = MakeJsonInformer(client, resources::kServices, options);
  informer->Start();
  constexpr size_t kWatches = 8;
  ASSERT_TRUE(Eventually([&] { return script.Watches().size() >= kWatches; }));
  EXPECT_GE(SumOf(clock.Sleeps(), kWatches - 1), milliseconds(400));
}

TEST(InformerTest, FallsBackToAConsistentListWhenTheCacheIsGone) {
  Answers answers;
  answers.lists = {{410, R"({"kind":"Status","code":410})"},
                   {200, ListOf("20", {Object("a", "1")})}};
  Script script(answers);
  Client client = script.MakeClient();
  auto informer = MakeJsonInformer(client, resources::kServices, Quick());
  Log log;
  log.Watch(*informer);
  informer->Start();
  EXPECT_THAT(log.Wait(2), ElementsAre("+a1", "synced"));
  EXPECT_EQ(script.Lists()[1], "/api/v1/services?limit=500");
}

TEST(InformerTest, GoesOnFromTheLastVersionBookmarksIncluded) {
  Answers answers;
  answers.lists = {{200, ListOf("10", {})}};
  answers.watches = {{Event("ADDED", Object("a", "11")), "END"},
                     {Event("BOOKMARK", {{"metadata", {{"resourceVersion", "15"}}}}), "END"},
                     {Event("ADDED", Object("a", "11")), Event("ADDED", Object("b", "16"))}};
  Script script(answers);
  Client client = script.MakeClient();
  auto informer = MakeJsonInformer(client, resources::kServices, Quick());
  Log log;
  log.Watch(*informer);
  informer->Start();
  // "a11" came twice: what is as before is not reported.
  EXPECT_THAT(log.Wait(3), ElementsAre("synced", "+a11", "+b16"));
  EXPECT_THAT(script.Watches(),
              ElementsAre(HasSubstr("resourceVersion=10&"), HasSubstr("resourceVersion=11&"),
                          HasSubstr("resourceVersion=15&")));
  EXPECT_EQ(script.Lists().size(), 1U);
}

TEST(InformerTest, NeverAHotLoop) {
  Answers answers;
  answers.lists = {{200, ListOf("10", {})}};
  answers.watches.assign(10'000, {"END"});
  Script script(answers);
  Client client = script.MakeClient();
  FakeTime clock;
  ReflectorOptions options = Quick();
  options.clock = &clock;
  auto informer = MakeJsonInformer(client, resources::kServices, options);
  informer->Start();
  constexpr size_t kWatches = 8;
  ASSERT_TRUE(Eventually([&] { return script.Watches().size() >= kWatches; }));
  // 20, 40, 80, 100, 100, 100, 100 ms between them, each less a quarter.
  EXPECT_GE(SumOf(clock.Sleeps(), kWatches - 1), milliseconds(400));
  EXPECT_GE(informer->Stats().errors, kWatches - 1);
}

TEST(InformerTest, SurvivesARestartOfTheServer) {
  Log log;
  Answers answers;
  answers.lists = {{200, ListOf("10", {Object("a", "1")})}};
  auto script = std::make_unique<Script>(answers);
  Client client = script->MakeClient();
  auto informer = MakeJsonInformer(client, resources::kServices, Quick());
  log.Watch(*informer);
  informer->Start();
  log.Wait(2);
  const int port = script->port();
  ASSERT_TRUE(Eventually([&] { return !script->Watches().empty(); }));
  script.reset();
  ASSERT_TRUE(Eventually([&] { return informer->Stats().errors >= 2; }));
  EXPECT_EQ(informer->Size(), 1U);
  // Its history is shorter than ours, as after a restore.
  answers.watches = {{Event("ERROR", {{"kind", "Status"}, {"code", 410}})}};
  answers.lists = {{200, ListOf("5", {Object("a", "4")})}};
  script = std::make_unique<Script>(answers, port);
  const auto lines = log.Wait(4);
  EXPECT_THAT(lines, ElementsAre("+a1", "synced", "-a1+a4", "synced"));
}

TEST(InformerTest, LeavesOutWhatCannotBeDecoded) {
  Answers answers;
  answers.lists = {{200, ListOf("10", {Object("a", "1"), {{"metadata", Json::object()}}})}};
  answers.watches = {{Event("ADDED", {{"x", 1}}), Event("ADDED", Object("b", "11"))}};
  Script script(answers);
  Client client = script.MakeClient();
  auto informer = MakeJsonInformer(client, resources::kServices, Quick());
  Log log;
  log.Watch(*informer);
  informer->Start();
  EXPECT_THAT(log.Wait(3), ElementsAre("+a1", "synced", "+b11"));
  EXPECT_EQ(informer->DecodeErrors(), 2U);
  EXPECT_EQ(informer->Stats().errors, 0U);
}

Json Bad(const std::string& name, const std::string& version) {
  Json object = Object(name, version);
  object["bad"] = true;
  return object;
}

// An informer that cannot decode what is Bad.
std::unique_ptr<JsonInformer> MakePicky(Client& client) {
  return std::make_unique<JsonInformer>(
      client, resources::kServices, Quick(),
      [](std::string_view json) {
        Json object = Json::parse(json);
        if (object.contains("bad"))
          throw std::invalid_argument("bad \xe3\x80" + std::string(600, 'x'));
        return object;
      },
      [](const Json& object) {
        return "ns/" + object.at("metadata").at("name").get<std::string>();
      },
      nullptr);
}

// What is served goes on being served: a list is no deletion of what it cannot read.
TEST(InformerTest, WhatCannotBeDecodedStaysAsItWas) {
  Answers answers;
  answers.lists = {{200, ListOf("10", {Object("a", "1"), Object("b", "2"), Object("c", "3")})},
                   {200, ListOf("20", {Bad("a", "12"), Object("b", "13"), Bad("d", "14")})}};
  answers.watches = {{Event("MODIFIED", Bad("a", "11")), Event("MODIFIED", Object("b", "12")),
                      Event("ERROR", {{"kind", "Status"}, {"code", 410}})},
                     {Event("MODIFIED", Object("a", "21")), Event("MODIFIED", Bad("b", "22")),
                      Event("DELETED", Bad("b", "23")), Event("ADDED", Object("e", "24"))}};
  Script script(answers);
  Client client = script.MakeClient();
  auto informer = MakePicky(client);
  Log log;
  log.Watch(*informer);
  informer->Start();
  // The order within a list is any.
  const std::vector<std::string> lines = log.Wait(11);
  ASSERT_EQ(lines.size(), 11U);
  EXPECT_THAT(std::vector(lines.begin() + 4, lines.end()),
              ElementsAre("-b2+b12", "-c3", "-b12+b13", "synced", "-a1+a21", "-b13", "+e24"));
  EXPECT_EQ(informer->DecodeErrors(), 5U);
  const auto undecodable = informer->Undecodable();
  ASSERT_EQ(undecodable.size(), 1U);
  EXPECT_EQ(undecodable.begin()->first, "ns/d");
  EXPECT_THAT(undecodable.begin()->second, ::testing::StartsWith("bad \\xe3\\x80xxx"));
  EXPECT_LT(undecodable.begin()->second.size(), 600U);
}

// However many a tenant makes.
TEST(InformerTest, WhatCannotBeDecodedIsBounded) {
  std::vector<Json> items;
  items.reserve(301);
  for (int i = 0; i < 300; ++i)
    items.push_back(Bad("bad-" + std::to_string(i), "1"));
  items.push_back(Object("a", "1"));
  Answers answers;
  answers.lists = {{200, ListOf("10", items)}};
  Script script(answers);
  Client client = script.MakeClient();
  auto informer = MakePicky(client);
  Log log;
  log.Watch(*informer);
  informer->Start();
  EXPECT_THAT(log.Wait(2), ElementsAre("+a1", "synced"));
  EXPECT_EQ(informer->DecodeErrors(), 300U);
  EXPECT_EQ(informer->Undecodable().size(), JsonInformer::kMostUndecodable);
}

TEST(RawObjectTest, ReadsTheNameOfWhatIsBrokenBehindIt) {
  const auto read = [](std::string text) {
    const size_t size = text.size();
    text.resize(size + kJsonPadding);
    const ObjectName name = ReadObjectName({text.data(), size});
    return name.ns + "/" + name.name;
  };
  EXPECT_EQ(read(R"({"kind":"Service","metadata":{"name":"a","namespace":"b"},"spec":{"x":nul}})"),
            "b/a");
  EXPECT_EQ(read(R"({"metadata":{"namespace":"b","labels":{"name":"no"},"name":"a"}})"), "b/a");
  EXPECT_EQ(read(R"({"metadata":{"name":"n1"}})"), "/n1");
  EXPECT_EQ(read(R"({"metadata":{"name":5}})"), "/");
  EXPECT_EQ(read(R"({"metadata":[]})"), "/");
  EXPECT_EQ(read("nonsense"), "/");
  EXPECT_EQ(read(""), "/");
}

TEST(InformerTest, AHandlerThatThrowsDoesNotEndIt) {
  Answers answers;
  answers.lists = {{200, ListOf("10", {Object("a", "1")})}};
  answers.watches = {{Event("ADDED", Object("b", "11"))}};
  Script script(answers);
  Client client = script.MakeClient();
  auto informer = MakeJsonInformer(client, resources::kServices, Quick());
  informer->AddHandler([](const auto&, const auto&) { throw std::runtime_error("mine"); });
  Log log;
  log.Watch(*informer);
  informer->Start();
  EXPECT_THAT(log.Wait(3), ElementsAre("+a1", "synced", "+b11"));
}

TEST(InformerTest, StopsAtOnceInAWatchAndInABackoff) {
  Answers answers;
  answers.lists = {{200, ListOf("10", {})}};
  Script script(answers);
  Client client = script.MakeClient();
  {
    auto informer = MakeJsonInformer(client, resources::kServices, Quick());
    informer->Start();
    ASSERT_TRUE(Eventually([&] { return !script.Watches().empty(); }));
    EXPECT_TRUE(AtOnce([&] { informer.reset(); }));
  }
  ReflectorOptions slow;
  slow.min_backoff = slow.max_backoff = std::chrono::hours(1);
  auto informer = MakeJsonInformer(client, resources::kServices, slow);
  informer->Start();
  ASSERT_TRUE(Eventually([&] { return informer->Stats().errors > 0; }));
  EXPECT_THAT(informer->Stats().last_error, HasSubstr("no more lists"));
  EXPECT_TRUE(AtOnce([&] { informer.reset(); }));
}

}  // namespace
}  // namespace pointsman::kube
