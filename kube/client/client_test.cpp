#include "kube/client/client.h"

#include <future>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kube/client/discovery.h"
#include "kube/http/test_server.h"
#include "kube/testing/eventually.h"

namespace pointsman::kube {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;

std::string Status(int code, const std::string& reason, const std::string& message = "why") {
  return Json{{"kind", "Status"}, {"code", code}, {"reason", reason}, {"message", message}}.dump();
}

class ClientTest : public ::testing::Test {
 protected:
  Client Start(TestServer::Handler handler) {
    static const TestAuthority authority("CA");
    TestServer::Options options;
    options.certificate = authority.Issue("server", "IP:127.0.0.1");
    server_ = std::make_unique<TestServer>(
        options, [this, handler = std::move(handler)](const auto& request, auto& reply) {
          {
            const std::lock_guard lock(mutex_);
            requests_.push_back(request);
          }
          handler(request, reply);
        });
    Config config;
    config.server = server_->url();
    config.ca_pem = authority.ca_pem();
    return Client(MakeTransport(config));
  }
  // Answers each request with the next of these.
  Client Answer(std::vector<std::pair<int, std::string>> answers, std::string headers = "") {
    return Start([answers = std::move(answers), headers = std::move(headers),
                  next = std::make_shared<std::atomic<size_t>>(0)](const auto&, auto& reply) {
      const auto& [status, body] = answers[std::min((*next)++, answers.size() - 1)];
      reply.Json(status, body, status == 200 ? "" : headers);
    });
  }
  const TestServer::Request& Last() { return requests_.back(); }

  std::mutex mutex_;
  std::vector<TestServer::Request> requests_;
  std::unique_ptr<TestServer> server_;
};

const Resource& kServices = resources::kServices;

TEST_F(ClientTest, SendsEachVerb) {
  Client client = Start([](const auto& request, auto& reply) {
    reply.Json(request.method == "POST" ? 201 : 200, R"({"metadata":{"name":"web"}})");
  });
  EXPECT_EQ(client.Get(kServices, "ns", "web")["metadata"]["name"], "web");
  EXPECT_EQ(Last().method + " " + Last().target, "GET /api/v1/namespaces/ns/services/web");

  client.Create(kServices, "ns", {{"metadata", {{"name", "web"}}}});
  EXPECT_EQ(Last().method + " " + Last().target, "POST /api/v1/namespaces/ns/services");
  EXPECT_EQ(Json::parse(Last().body)["kind"], "Service");
  EXPECT_EQ(Json::parse(Last().body)["apiVersion"], "v1");
  EXPECT_EQ(Last().Header("content-type"), "application/json");

  client.Update(kServices, {{"metadata", {{"name", "web"}, {"namespace", "ns"}}}}, "status");
  EXPECT_EQ(Last().method + " " + Last().target, "PUT /api/v1/namespaces/ns/services/web/status");
  EXPECT_THROW(client.Update(kServices, Json::object()), std::invalid_argument);

  client.Patch(kServices, "ns", "web", PatchType::kMerge, {{"a", 1}}, "status");
  EXPECT_EQ(Last().method + " " + Last().target,
            "PATCH /api/v1/namespaces/ns/services/web/status?fieldManager=pointsman");
  EXPECT_EQ(Last().Header("content-type"), "application/merge-patch+json");
  EXPECT_EQ(Last().body, R"({"a":1})");
  client.Patch(kServices, "ns", "web", PatchType::kApply, {{"a", 1}}, "", "me/too", true);
  EXPECT_THAT(Last().target, HasSubstr("?fieldManager=me%2Ftoo&force=true"));
  EXPECT_EQ(Last().Header("content-type"), "application/apply-patch+yaml");
  EXPECT_EQ(Json::parse(Last().body)["kind"], "Service");
  client.Patch(kServices, "ns", "web", PatchType::kJson, Json::array());
  EXPECT_EQ(Last().Header("content-type"), "application/json-patch+json");

  EXPECT_TRUE(client.Delete(kServices, "ns", "web", "uid-1", "7"));
  EXPECT_EQ(Last().method, "DELETE");
  EXPECT_EQ(Json::parse(Last().body)["preconditions"],
            (Json{{"uid", "uid-1"}, {"resourceVersion", "7"}}));
  EXPECT_FALSE(Json::parse(Last().body).contains("propagationPolicy"));
  client.Delete(kServices, "ns", "web", "uid-1", "", Dependents::kOrphan);
  EXPECT_EQ(Json::parse(Last().body)["propagationPolicy"], "Orphan");
  EXPECT_THROW(client.Delete(kServices, "ns", ""), std::invalid_argument);
}

TEST_F(ClientTest, ThrowsTypedErrors) {
  Client client = Answer({{404, Status(404, "NotFound", "services \"web\" not found")},
                          {409, Status(409, "Conflict")},
                          {409, Status(409, "AlreadyExists")},
                          {404, Status(404, "NotFound")}});
  try {
    client.Get(kServices, "ns", "web");
    FAIL();
  } catch (const ApiError& e) {
    EXPECT_TRUE(e.IsNotFound());
    EXPECT_STREQ(e.what(), "services \"web\" not found");
  }
  const Json object{{"metadata", {{"name", "web"}}}};
  EXPECT_THROW(
      try { client.Update(kServices, object); } catch (const ApiError& e) {
        EXPECT_TRUE(e.IsConflict());
        throw;
      },
      ApiError);
  EXPECT_THROW(
      try { client.Create(kServices, "ns", object); } catch (const ApiError& e) {
        EXPECT_TRUE(e.IsAlreadyExists());
        throw;
      },
      ApiError);
  EXPECT_FALSE(client.Delete(kServices, "ns", "web"));
}

TEST_F(ClientTest, RetriesWhatTheServerAsksFor) {
  Client client = Answer({{429, "slow"}, {200, "{}"}}, "Retry-After: 1\r\n");
  const auto start = steady_clock::now();
  client.Create(kServices, "ns", Json::object());
  EXPECT_GE(steady_clock::now() - start, seconds(1));
  EXPECT_EQ(requests_.size(), 2U);
}

TEST_F(ClientTest, RetriesAPlain500ForGetOnlyAndNotForEver) {
  Client client = Answer({{500, Status(500, "InternalError")}});
  EXPECT_THROW(client.Create(kServices, "ns", Json::object()), ApiError);
  EXPECT_EQ(requests_.size(), 1U);
  EXPECT_THROW(client.Get(kServices, "ns", "web"), ApiError);
  EXPECT_EQ(requests_.size(), 1U + 5U);
}

TEST_F(ClientTest, RefusesAnAnswerThatIsNoObject) {
  Client client = Answer({{200, "<html>"}});
  EXPECT_THROW(client.Get(kServices, "ns", "web"), TransportError);
  EXPECT_THROW(client.List(kServices, "ns"), TransportError);
}

TEST_F(ClientTest, ListsInPages) {
  Client client =
      Answer({{200, R"({"metadata":{"resourceVersion":"5","continue":"c 1"},"items":[{"n":1}]})"},
              {200, R"({"metadata":{"resourceVersion":"5"},"items":[{"n":2},{"n":3}]})"}});
  ListOptions options;
  options.limit = 1;
  options.label_selector = "a=b,c!=d";
  options.field_selector = "metadata.name=x";
  options.resource_version = "0";
  const std::vector<Json> items = client.List(kServices, "", options);
  EXPECT_EQ(Json(items).dump(), R"([{"n":1},{"n":2},{"n":3}])");
  EXPECT_EQ(requests_[0].target,
            "/api/v1/services?labelSelector=a%3Db%2Cc%21%3Dd&fieldSelector=metadata.name%3Dx&"
            "limit=1&resourceVersion=0");
  EXPECT_THAT(requests_[1].target, HasSubstr("limit=1&continue=c%201"));
  EXPECT_FALSE(requests_[1].TargetHas("resourceVersion"));
}

TEST_F(ClientTest, ListsAnewWhenTheContinueTokenExpires) {
  Client client =
      Answer({{200, R"({"metadata":{"resourceVersion":"5","continue":"c"},"items":[{"n":1}]})"},
              {410, Status(410, "Expired")},
              {200, R"({"metadata":{"resourceVersion":"9"},"items":[{"n":1},{"n":2}]})"}});
  int items = 0;
  int restarts = 0;
  ListOptions options;
  options.resource_version = "0";
  EXPECT_EQ(client.ListItems(
                kServices, "", options, [&](std::string_view) { ++items; }, [&] { ++restarts; }),
            "9");
  EXPECT_EQ(items, 3);
  EXPECT_EQ(restarts, 1);
  EXPECT_EQ(requests_[2].target, "/api/v1/services");  // consistent, and in one piece
}

TEST_F(ClientTest, GivesAnItemWhileTheListStillComes) {
  std::promise<void> first;
  Client client = Start([&](const auto&, auto& reply) {
    reply.Begin(200);
    reply.Chunk(R"({"items":[{"n":1},{"n")");
    first.get_future().wait();
    reply.Chunk(R"(:2}],"metadata":{"resourceVersion":"7"}})");
    reply.End();
  });
  std::string seen;
  EXPECT_EQ(client.ListItems(
                kServices, "", {},
                [&](std::string_view item) {
                  if (seen.empty()) first.set_value();
                  seen += item;
                },
                [] {}),
            "7");
  EXPECT_EQ(seen, R"({"n":1}{"n":2})");
  Client cut = Start([](const auto&, auto& reply) {
    reply.Begin(200);
    reply.Chunk(R"({"metadata":{"resourceVersion":"7"},"items":[{"n":1}])");
    reply.End();
  });
  EXPECT_THROW(cut.List(kServices, ""), TransportError);
}

TEST_F(ClientTest, SendsNothingOnceStoppedOrNotAllowedTo) {
  Client client = Start([](const auto&, auto& reply) { reply.Json(200, "{\"metadata\":{}}"); });
  std::stop_source stop;
  bool allowed = true;
  Client stopped = client.WithStop(stop.get_token());
  Client guarded = client.WithGuard([&] { return allowed; });
  stopped.Create(kServices, "ns", Json::object());
  guarded.Create(kServices, "ns", Json::object());
  EXPECT_EQ(requests_.size(), 2U);
  stop.request_stop();
  allowed = false;
  for (Client* each : {&stopped, &guarded}) {
    EXPECT_THROW(each->Create(kServices, "ns", Json::object()), TransportError);
    EXPECT_THROW(each->Delete(kServices, "ns", "web"), TransportError);
  }
  EXPECT_EQ(requests_.size(), 2U);
}

TEST_F(ClientTest, ARetryToo) {
  bool allowed = true;
  Client client = Start([&](const auto&, auto& reply) {
                    allowed = false;
                    reply.Json(429, Status(429, "TooManyRequests"));
                  }).WithGuard([&] { return allowed; });
  EXPECT_THROW(client.Create(kServices, "ns", Json::object()), TransportError);
  EXPECT_EQ(requests_.size(), 1U);
}

TEST_F(ClientTest, StopEndsAListThatHangs) {
  std::stop_source stop;
  Client client = Start([&](const auto&, auto& reply) {
    reply.Begin(200);
    stop.request_stop();
    reply.WaitForPeerToLeave();
  });
  EXPECT_TRUE(AtOnce([&] {
    EXPECT_THROW(client.ListItems(
                     kServices, "", {}, [](std::string_view) {}, [] {}, stop.get_token()),
                 TransportError);
  }));
}

TEST_F(ClientTest, WatchesAndDeliversAtOnce) {
  std::promise<void> first;
  Client client = Start([&](const auto&, auto& reply) {
    reply.Begin(200);
    reply.Chunk("{\"type\":\"ADDED\",\"object\":{\"n\":1}}\n{\"type\":\"MODI");
    first.get_future().wait();
    reply.Chunk("FIED\",\"object\":{\"n\":2}}\n");
    reply.End();
  });
  WatchOptions options;
  options.resource_version = "12";
  options.timeout = seconds(301);
  std::string seen;
  client.Watch(kServices, "", options,
               [&](WatchEventType type, std::string_view object) {
                 if (seen.empty()) first.set_value();
                 seen += std::to_string(static_cast<int>(type)) + std::string(object);
                 return true;
               },
               {});
  EXPECT_EQ(seen, R"(0{"n":1}1{"n":2})");
  EXPECT_EQ(Last().target,
            "/api/v1/services?watch=true&allowWatchBookmarks=true&resourceVersion=12&"
            "timeoutSeconds=301");
}

TEST_F(ClientTest, WatchThrowsWhatTheServerSays) {
  Client gone = Answer({{410, Status(410, "Expired")}});
  const auto watch = [](Client& client) {
    client.Watch(kServices, "", {}, [](WatchEventType, std::string_view) { return true; }, {});
  };
  EXPECT_THROW(watch(gone), ApiError);
  Client error = Start([](const auto&, auto& reply) {
    reply.Begin(200);
    reply.Chunk("{\"type\":\"ERROR\",\"object\":" + Status(410, "Expired") + "}\n");
    reply.End();
  });
  EXPECT_THROW(watch(error), ApiError);
  Client cut = Start([](const auto&, auto& reply) {
    reply.Begin(200);
    reply.Chunk("{\"type\":\"ADDED\",");
    reply.End();
  });
  EXPECT_THROW(watch(cut), TransportError);
}

TEST_F(ClientTest, ASilentWatchEndsLikeOneTheServerEnded) {
  Client client = Start([](const auto&, auto& reply) {
    reply.Begin(200);
    reply.WaitForPeerToLeave();
  });
  // The shortest silence is the watch's own time and 15 s: too long for a test of its length, so
  // the watch has none of its own.
  WatchOptions options;
  options.timeout = seconds(-14);
  EXPECT_TRUE(AtOnce([&] {
    client.Watch(kServices, "", options, [](WatchEventType, std::string_view) { return true; }, {});
  }));
}

TEST_F(ClientTest, WithTimeoutBoundsTheSilence) {
  Client client = Start([](const auto&, auto& reply) { reply.WaitForPeerToLeave(); });
  EXPECT_TRUE(AtOnce([&] {
    EXPECT_THROW(client.WithTimeout(seconds(1)).Get(kServices, "ns", "web"), TransportTimeout);
  }));
}

TEST_F(ClientTest, TheRateLimitCountsRequestsRetriesAndWatchesAndAListOnce) {
  const auto tokens_taken = [this](const std::function<void(Client&)>& call,
                                   TestServer::Handler handler) {
    constexpr int kBurst = 20;
    const auto limiter = std::make_shared<RateLimiter>(1e-9, kBurst);
    Client client = Start(std::move(handler)).WithLimit(limiter);
    call(client);
    int left = 0;
    while (limiter->Reserve(RateLimiter::Clock::now()).count() == 0)
      ++left;
    return kBurst - left;
  };
  const auto fine = [](const auto&, auto& reply) { reply.Json(200, "{\"metadata\":{}}"); };
  EXPECT_EQ(tokens_taken([](Client& client) { client.Get(kServices, "ns", "web"); }, fine), 1);
  EXPECT_EQ(tokens_taken(
                [](Client& client) {
                  client.Create(kServices, "ns", Json::object());
                  client.WithTimeout(seconds(5)).Delete(kServices, "ns", "web");
                },
                fine),
            2);
  EXPECT_EQ(tokens_taken([](Client& client) { client.Get(kServices, "ns", "web"); },
                         [asked = std::make_shared<std::atomic<int>>(0)](const auto&, auto& reply) {
                           reply.Json((*asked)++ < 2 ? 429 : 200, "{\"metadata\":{}}");
                         }),
            3);
  EXPECT_EQ(tokens_taken(
                [](Client& client) {
                  client.ListItems(
                      kServices, "", {}, [](std::string_view) {}, [] {});
                },
                [](const auto& request, auto& reply) {
                  reply.Json(200, request.TargetHas("continue=")
                                      ? R"({"metadata":{"resourceVersion":"7"},"items":[]})"
                                      : R"({"metadata":{"continue":"x"},"items":[]})");
                }),
            1);
  EXPECT_EQ(tokens_taken(
                [](Client& client) {
                  client.Watch(kServices, "", {},
                               [](WatchEventType, std::string_view) { return true; }, {});
                },
                [](const auto&, auto& reply) {
                  reply.Begin(200);
                  reply.End();
                }),
            1);
}

TEST_F(ClientTest, AStopEndsTheWaitForTheRateLimit) {
  const auto limiter = std::make_shared<RateLimiter>(1e-9, 1);
  std::stop_source stop;
  Client client = Start([](const auto&, auto& reply) { reply.Json(200, "{\"metadata\":{}}"); })
                      .WithLimit(limiter)
                      .WithStop(stop.get_token());
  client.Get(kServices, "ns", "web");
  auto waits = std::async(std::launch::async, [&] { client.Get(kServices, "ns", "web"); });
  EXPECT_EQ(waits.wait_for(milliseconds(100)), std::future_status::timeout);
  stop.request_stop();
  EXPECT_THROW(waits.get(), TransportError);
  EXPECT_EQ(requests_.size(), 1U);
}

TEST_F(ClientTest, Discovers) {
  Client client = Start([](const auto& request, auto& reply) {
    if (request.target == "/version") {
      reply.Json(200, R"({"major":"1","minor":"20+","gitVersion":"v1.20.15-eks"})");
    } else if (request.target == "/apis/discovery.k8s.io/v1beta1") {
      reply.Json(200, R"({"kind":"APIResourceList","resources":[{"name":"endpointslices"}]})");
    } else {
      reply.Json(404, Status(404, "NotFound"));
    }
  });
  const ServerVersion version = GetServerVersion(client);
  EXPECT_EQ(version.minor, 20);
  EXPECT_EQ(version.git_version, "v1.20.15-eks");
  EXPECT_TRUE(version.AtLeast(1, 20));
  EXPECT_FALSE(version.AtLeast(1, 21));
  EXPECT_FALSE(ServesResource(client, resources::kEndpointSlices));
  EXPECT_TRUE(ServesResource(client, resources::kEndpointSlicesV1Beta1));
}

}  // namespace
}  // namespace pointsman::kube
