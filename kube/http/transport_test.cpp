#include "kube/http/transport.h"

#include <filesystem>
#include <fstream>
#include <future>
#include <sys/stat.h>

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <unistd.h>

#include "kube/http/test_server.h"
#include "kube/testing/eventually.h"

namespace pointsman::kube {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;

const TestAuthority& Authority() {
  static const TestAuthority authority("test CA");
  return authority;
}

TestServer::Options ServerOptions(const std::string& names = "IP:127.0.0.1") {
  TestServer::Options options;
  options.certificate = Authority().Issue("server", names);
  return options;
}

Config ClientConfig(const TestServer& server) {
  Config config;
  config.server = server.url();
  config.ca_pem = Authority().ca_pem();
  return config;
}

HttpRequest Get(const std::string& target, seconds timeout = seconds(10)) {
  HttpRequest request;
  request.target = target;
  request.timeout = timeout;
  return request;
}

std::string SendError(const Config& config) {
  try {
    MakeTransport(config)->Send(Get("/x"));
  } catch (const TransportError& e) {
    return e.what();
  }
  return "no TransportError";
}

void SayOk(const TestServer::Request& /*request*/, TestServer::Reply& reply) {
  reply.Json(200, "{}");
}

TEST(TransportTest, SendsAndReadsTheWholeAnswer) {
  TestServer server(ServerOptions(), [](const auto& request, auto& reply) {
    reply.Json(201,
               request.method + " " + request.target + " " + request.Header("x-one") + " " +
                   request.Header("content-type") + " " + request.Header("user-agent") + " " +
                   request.body,
               "X-Answer: Yes\r\n");
  });
  Config config = ClientConfig(server);
  config.user_agent = "agent/1";
  const auto transport = MakeTransport(config);
  HttpRequest request = Get("/api/v1/a%2Fb?x=%20y&limit=5");
  request.method = "PATCH";
  request.headers = {{"X-One", "1"}, {"Content-Type", "application/merge-patch+json"}};
  request.body = R"({"a":"ä"})";
  const HttpResponse response = transport->Send(request);
  EXPECT_EQ(response.status, 201);
  EXPECT_EQ(response.Header("x-answer"), "Yes");
  EXPECT_EQ(response.Header("none"), "");
  EXPECT_EQ(response.body,
            "PATCH /api/v1/a%2Fb?x=%20y&limit=5 1 application/merge-patch+json agent/1 "
            R"({"a":"ä"})");
}

TEST(TransportTest, KeepsConnectionsAndReplacesClosedOnes) {
  TestServer server(ServerOptions(), [](const auto& request, auto& reply) {
    reply.Json(200, "{}");
    if (request.target == "/last") reply.Close();
  });
  const auto transport = MakeTransport(ClientConfig(server));
  // A connection goes back to the pool just after its answer was handed over, so that a request
  // that follows at once may need another one.
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(transport->Send(Get("/x")).status, 200);
  }
  EXPECT_LE(server.connections(), 10);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(transport->Send(Get("/last")).status, 200);
    EXPECT_EQ(transport->Send(Get("/x")).status, 200);
  }
}

// $SSL_CERT_FILE, which OpenSSL takes for the system's CAs.
class SystemCas {
 public:
  explicit SystemCas(const std::string& pem) {
    const int fd = mkstemp(path_.data());
    EXPECT_GE(fd, 0);
    close(fd);
    std::ofstream(path_) << pem;
    setenv("SSL_CERT_FILE", path_.c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
  }
  ~SystemCas() {
    unsetenv("SSL_CERT_FILE");  // NOLINT(concurrency-mt-unsafe)
    std::filesystem::remove(path_);
  }

 private:
  std::string path_ = (std::filesystem::temp_directory_path() / "pointsman-cas-XXXXXX").string();
};

TEST(TransportTest, WithoutACaTrustsTheSystems) {
  TestServer server(ServerOptions(), SayOk);
  Config config = ClientConfig(server);
  config.ca_pem.clear();
  const SystemCas cas(Authority().ca_pem());
  EXPECT_EQ(SendError(config), "no TransportError");
}

// What libcpprest calls for each connection must not parse the system's CAs.
TEST(TransportTest, ConnectionsDoNotReadTheSystemsCas) {
  const SystemCas cas(Authority().ca_pem());
  auto* const called =
      reinterpret_cast<int (*)(SSL_CTX*)>(dlsym(RTLD_DEFAULT, "SSL_CTX_set_default_verify_paths"));
  ASSERT_NE(called, nullptr);
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_client_method()),
                                                                  &SSL_CTX_free);
  EXPECT_EQ(called(context.get()), 1);
  EXPECT_EQ(sk_X509_OBJECT_num(X509_STORE_get0_objects(SSL_CTX_get_cert_store(context.get()))), 0);
}

TEST(TransportTest, RefusesACertificateOfAnotherAuthority) {
  TestServer server(ServerOptions(), SayOk);
  Config config = ClientConfig(server);
  config.ca_pem = TestAuthority("other CA").ca_pem();
  EXPECT_THAT(SendError(config), AllOf(HasSubstr(server.url()), HasSubstr("certificate")));
  config.ca_pem.clear();  // the system's CAs do not know it either
  EXPECT_THAT(SendError(config), HasSubstr("certificate"));
  config.insecure_skip_tls_verify = true;
  EXPECT_EQ(SendError(config), "no TransportError");
}

TEST(TransportTest, RefusesACertificateForAnotherHost) {
  TestServer other_ip(ServerOptions("IP:127.0.0.2,DNS:localhost"), SayOk);
  EXPECT_THAT(SendError(ClientConfig(other_ip)), HasSubstr("it does not name 127.0.0.1"));

  // A common name is no name: only alternative names count.
  TestServer::Options common_name;
  common_name.certificate = Authority().Issue("127.0.0.1", "");
  TestServer by_common_name(common_name, SayOk);
  EXPECT_THAT(SendError(ClientConfig(by_common_name)), HasSubstr("it does not name 127.0.0.1"));

  TestServer by_name(ServerOptions("DNS:localhost"), SayOk);
  Config config = ClientConfig(by_name);
  config.server = "https://localhost:" + std::to_string(by_name.port());
  EXPECT_EQ(SendError(config), "no TransportError");
}

TEST(TransportTest, VerifiesAndAsksForTheServerNameOfTheConfig) {
  std::string sni;
  TestServer server(ServerOptions("DNS:kubernetes"), [&](const auto& request, auto& reply) {
    sni = request.sni;
    reply.Json(200, "{}");
  });
  Config config = ClientConfig(server);
  config.tls_server_name = "kubernetes";
  EXPECT_EQ(SendError(config), "no TransportError");
  EXPECT_EQ(sni, "kubernetes");
  config.tls_server_name = "other";
  EXPECT_THAT(SendError(config), HasSubstr("it does not name other"));
}

TEST(TransportTest, ReachesAnIpv6Server) {
  TestServer::Options options = ServerOptions("IP:::1");
  options.ipv6 = true;
  TestServer server(
      options, [](const auto& request, auto& reply) { reply.Json(200, request.Header("host")); });
  EXPECT_EQ(MakeTransport(ClientConfig(server))->Send(Get("/x")).body,
            "[::1]:" + std::to_string(server.port()));
}

TEST(TransportTest, PresentsTheClientCertificate) {
  const TestAuthority clients("client CA");
  TestServer::Options options = ServerOptions();
  options.client_ca_pem = clients.ca_pem();
  TestServer server(options,
                    [](const auto& request, auto& reply) { reply.Json(200, request.client); });
  Config config = ClientConfig(server);
  EXPECT_THAT(SendError(config), HasSubstr(server.url()));
  const TestCertificate client = clients.Issue("system:node:n1", "");
  config.client_certificate_pem = client.certificate_pem;
  config.client_key_pem = client.key_pem;
  EXPECT_EQ(MakeTransport(config)->Send(Get("/x")).body, "system:node:n1");
}

TEST(TransportTest, RefusesBadConfigsAtOnce) {
  Config config;
  config.server = "https://127.0.0.1:1";
  config.ca_pem = "not PEM";
  EXPECT_THROW(MakeTransport(config), ConfigError);
  const TestCertificate one = Authority().Issue("one", "");
  const TestCertificate two = Authority().Issue("two", "");
  config.ca_pem = Authority().ca_pem();
  config.client_certificate_pem = one.certificate_pem;
  config.client_key_pem = two.key_pem;
  EXPECT_THROW(MakeTransport(config), ConfigError);
  config.client_key_pem = "no key";
  EXPECT_THROW(MakeTransport(config), ConfigError);
}

TEST(TransportTest, SendsTheTokenAndReadsItAgainAfterA401) {
  std::string pattern = (std::filesystem::temp_directory_path() / "pointsman-http-XXXXXX").string();
  ASSERT_NE(mkdtemp(pattern.data()), nullptr);
  const std::filesystem::path file = std::filesystem::path(pattern) / "token";
  std::ofstream(file) << "old\n";
  std::atomic<int> refused{0};
  TestServer server(ServerOptions(), [&](const auto& request, auto& reply) {
    if (request.target == "/new" && request.Header("authorization") != "Bearer new") {
      ++refused;
      reply.Json(401, "refused");
    } else {
      reply.Json(200, request.Header("authorization"));
    }
  });
  Config config = ClientConfig(server);
  config.token_file = file;
  const auto transport = MakeTransport(config);
  EXPECT_EQ(transport->Send(Get("/x")).body, "Bearer old");
  EXPECT_EQ(transport->Send(Get("/new")).status, 401);  // the file still has the old one
  EXPECT_EQ(refused, 1);
  std::ofstream(file) << "new\n";
  EXPECT_EQ(transport->Send(Get("/x")).body, "Bearer old");  // read less than a minute ago
  EXPECT_EQ(transport->Send(Get("/new")).body, "Bearer new");
  EXPECT_EQ(refused, 2);
  EXPECT_EQ(transport->Send(Get("/x")).body, "Bearer new");
  std::filesystem::remove_all(pattern);
}

TEST(TransportTest, SendsNoTokenWithoutTls) {
  TestServer server({}, [](const auto& request, auto& reply) {
    reply.Json(200, "[" + request.Header("authorization") + "]");
  });
  Config config;
  config.server = server.url();
  config.token = "secret";
  EXPECT_EQ(MakeTransport(config)->Send(Get("/x")).body, "[]");
}

TEST(TransportTest, KeepsThePathOfTheServerUrl) {
  TestServer server(ServerOptions(),
                    [](const auto& request, auto& reply) { reply.Json(200, request.target); });
  Config config = ClientConfig(server);
  config.server += "/k8s/clusters/c1";
  EXPECT_EQ(MakeTransport(config)->Send(Get("/version?a=b")).body, "/k8s/clusters/c1/version?a=b");
}

TEST(TransportTest, DoesNotFollowRedirects) {
  TestServer server(ServerOptions(), [](const auto& /*request*/, auto& reply) {
    reply.Json(302, "", "Location: /elsewhere\r\n");
  });
  EXPECT_EQ(MakeTransport(ClientConfig(server))->Send(Get("/x")).status, 302);
}

TEST(TransportTest, RefusesHeadersThatBreakTheirLine) {
  TestServer server(ServerOptions(), SayOk);
  const auto transport = MakeTransport(ClientConfig(server));
  HttpRequest request = Get("/x");
  request.headers = {{"X", "1\r\nY: 2"}};
  EXPECT_THROW(transport->Send(request), std::invalid_argument);
  EXPECT_THROW(transport->Send(Get("/x HTTP/1.1\r\nY: 2")), std::invalid_argument);
  EXPECT_EQ(server.connections(), 0);
}

TEST(TransportTest, RefusesAnAnswerOverTheBound) {
  TestServer server(ServerOptions(), [](const auto& request, auto& reply) {
    if (request.target == "/chunked") {
      if (!reply.Begin(200)) return;
      for (int i = 0; i < 11; ++i) {
        if (!reply.Chunk(std::string(100'000, 'x'))) return;
      }
      reply.End();
    } else {
      reply.Json(200, std::string(request.target == "/fits" ? 1'000'000 : 1'000'001, 'x'));
    }
  });
  const auto transport = MakeTransport(ClientConfig(server), 1'000'000);
  EXPECT_EQ(transport->Send(Get("/fits")).body.size(), 1'000'000U);
  EXPECT_THROW(transport->Send(Get("/large")), TransportError);
  EXPECT_THROW(transport->Send(Get("/chunked")), TransportError);
  EXPECT_EQ(transport->Send(Get("/fits")).status, 200);
}

TEST(TransportTest, FailsWhenTheServerSaysNothing) {
  TestServer server(ServerOptions(),
                    [](const auto& /*request*/, auto& reply) { reply.WaitForPeerToLeave(); });
  const auto transport = MakeTransport(ClientConfig(server));
  EXPECT_TRUE(
      AtOnce([&] { EXPECT_THROW(transport->Send(Get("/x", seconds(1))), TransportTimeout); }));
}

TEST(TransportTest, FailsWhenNobodyListensOrTheAnswerIsCutOff) {
  Config config;
  int port = 0;
  {
    TestServer server(ServerOptions(), [](const auto& /*request*/, auto& reply) {
      reply.Raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort");
      reply.Close();
    });
    config = ClientConfig(server);
    port = server.port();
    EXPECT_THAT(SendError(config), HasSubstr(server.url()));
  }
  EXPECT_THAT(SendError(config), HasSubstr(std::to_string(port)));
}

TEST(TransportTest, StreamsEachPieceAsItArrives) {
  std::promise<void> got_first;
  TestServer server(ServerOptions(), [&](const auto& /*request*/, auto& reply) {
    reply.Begin(200);
    reply.Chunk("one");
    got_first.get_future().wait();  // the second is only written once the first was delivered
    reply.Chunk("two");
    reply.End();
  });
  const auto transport = MakeTransport(ClientConfig(server));
  std::vector<std::string> pieces;
  const auto thread = std::this_thread::get_id();
  const HttpResponse response = transport->Stream(Get("/watch"),
                                                  [&](std::string_view piece) {
                                                    EXPECT_EQ(std::this_thread::get_id(), thread);
                                                    pieces.emplace_back(piece);
                                                    if (pieces.size() == 1) got_first.set_value();
                                                    return true;
                                                  },
                                                  {});
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, "");
  EXPECT_EQ(pieces, (std::vector<std::string>{"one", "two"}));
}

TEST(TransportTest, StreamKeepsTheBodyOfAnError) {
  TestServer server(ServerOptions(),
                    [](const auto& /*request*/, auto& reply) { reply.Json(410, "gone"); });
  const HttpResponse response = MakeTransport(ClientConfig(server))
                                    ->Stream(Get("/watch"),
                                             [](std::string_view) {
                                               ADD_FAILURE() << "an error's body is no data";
                                               return true;
                                             },
                                             {});
  EXPECT_EQ(response.status, 410);
  EXPECT_EQ(response.body, "gone");
}

TEST(TransportTest, StreamEndsWhenTheCallerWantsNoMore) {
  std::promise<void> left;
  TestServer server(ServerOptions(), [&](const auto& /*request*/, auto& reply) {
    reply.Begin(200);
    reply.Chunk("one");
    reply.WaitForPeerToLeave();
    left.set_value();
  });
  int pieces = 0;
  const auto transport = MakeTransport(ClientConfig(server));
  transport->Stream(Get("/watch"), [&](std::string_view) { return ++pieces > 1; }, {});
  EXPECT_EQ(pieces, 1);
  EXPECT_EQ(left.get_future().wait_for(seconds(5)), std::future_status::ready);
}

TEST(TransportTest, StopEndsASilentStream) {
  for (const bool answers : {true, false}) {
    TestServer server(ServerOptions(), [&](const auto& /*request*/, auto& reply) {
      if (answers) reply.Begin(200);
      reply.WaitForPeerToLeave();
    });
    const auto transport = MakeTransport(ClientConfig(server));
    std::stop_source stop;
    std::jthread stopper([&] {
      std::this_thread::sleep_for(milliseconds(200));  // while the stream is silent
      stop.request_stop();
    });
    EXPECT_TRUE(AtOnce([&] {
      transport->Stream(
          Get("/watch", seconds(60)), [](std::string_view) { return true; }, stop.get_token());
    }));
  }
}

TEST(TransportTest, ExceptionOfTheReceiverEndsTheStream) {
  TestServer server(ServerOptions(), [](const auto& /*request*/, auto& reply) {
    reply.Begin(200);
    reply.Chunk("one");
    reply.WaitForPeerToLeave();
  });
  const auto transport = MakeTransport(ClientConfig(server));
  EXPECT_THROW(
      transport->Stream(Get("/watch"),
                        [](std::string_view) -> bool { throw std::out_of_range("mine"); }, {}),
      std::out_of_range);
}

TEST(TransportTest, ASlowReceiverHoldsTheServerBack) {
  std::atomic<size_t> written{0};
  constexpr size_t kPiece = 1'000'000;
  TestServer server(ServerOptions(), [&](const auto& /*request*/, auto& reply) {
    if (!reply.Begin(200)) return;
    while (written < 200 * kPiece && reply.Chunk(std::string(kPiece, 'x')))
      written += kPiece;
    reply.WaitForPeerToLeave();
  });
  const auto transport = MakeTransport(ClientConfig(server));
  transport->Stream(Get("/watch"),
                    [](std::string_view) {
                      std::this_thread::sleep_for(seconds(1));  // long enough to send all 200 MB
                      return false;
                    },
                    {});
  EXPECT_LT(written, 50 * kPiece);  // what the sockets hold, not what could be sent
}

TEST(TransportTest, ManyThreadsShareOneTransport) {
  TestServer server(ServerOptions(),
                    [](const auto& request, auto& reply) { reply.Json(200, request.target); });
  const auto transport = MakeTransport(ClientConfig(server));
  std::vector<std::jthread> threads;
  threads.reserve(8);
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const std::string target = "/" + std::to_string(t) + "/" + std::to_string(i);
        EXPECT_EQ(transport->Send(Get(target)).body, target);
      }
    });
  }
  threads.clear();
  EXPECT_LE(server.connections(), 40);  // of 400 requests; see KeepsConnections
}

}  // namespace
}  // namespace pointsman::kube
