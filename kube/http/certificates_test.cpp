// Certificates that are replaced while a program runs, with a real server that wants them.
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kube/http/test_server.h"
#include "kube/http/tls_source.h"
#include "kube/http/transport.h"
#include "kube/testing/eventually.h"

namespace pointsman::kube {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;

HttpRequest Get(const std::string& target) {
  HttpRequest request;
  request.target = target;
  request.timeout = seconds(10);
  return request;
}

class CertificatesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "pointsman-certs-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { fs::remove_all(dir_); }

  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(dir_ / name) << text;
  }
  void Rename(const std::string& name, const std::string& text) const {
    Write(name + ".new", text);
    fs::rename(dir_ / (name + ".new"), dir_ / name);
  }
  void WritePair(const TestCertificate& pair) const {
    Write("cert", pair.certificate_pem);
    Write("key", pair.key_pem);
  }

  TestServer::Options ServerOptions() const {
    TestServer::Options options;
    options.certificate = servers_.Issue("server", "IP:127.0.0.1");
    options.client_ca_pem = clients_.ca_pem();
    return options;
  }
  // With its client's certificate in cert and key, and the servers' CA in ca.
  Config ClientConfig(const std::string& url) const {
    Write("ca", servers_.ca_pem());
    Config config;
    config.server = url;
    config.ca_pem = servers_.ca_pem();
    config.ca_file = dir_ / "ca";
    config.client_certificate_file = dir_ / "cert";
    config.client_key_file = dir_ / "key";
    std::ifstream certificate(dir_ / "cert");
    std::ifstream key(dir_ / "key");
    config.client_certificate_pem.assign(std::istreambuf_iterator<char>(certificate), {});
    config.client_key_pem.assign(std::istreambuf_iterator<char>(key), {});
    return config;
  }
  static std::unique_ptr<Transport> Connect(const Config& config) {
    return MakeTransport(config, Transport::kMaxResponseBytes, milliseconds(20));
  }
  // Status and body; 0 and the message when the request did not go through.
  static std::pair<int, std::string> Answer(Transport& transport, const std::string& target = "/") {
    try {
      const HttpResponse response = transport.Send(Get(target));
      return {response.status, response.body};
    } catch (const TransportError& error) {
      return {0, error.what()};
    }
  }

  const TestAuthority clients_{"clients"};
  const TestAuthority servers_{"servers"};
  fs::path dir_;
};

// As kube-apiserver: who you are, or 401 when your certificate is not valid any more.
void SayClient(const TestServer::Request& request, TestServer::Reply& reply) {
  if (request.client_expired) {
    reply.Json(401, "expired");
  } else {
    reply.Json(200, request.client);
  }
}

TEST_F(CertificatesTest, AnExpiringClientCertificateIsRenewedWithoutARestart) {
  TestServer server(ServerOptions(), SayClient);
  WritePair(clients_.Issue("one", "", 5));
  const auto transport = Connect(ClientConfig(server.url()));
  EXPECT_EQ(Answer(*transport).second, "one");
  ASSERT_TRUE(Eventually([&] { return Answer(*transport).first != 200; }));  // it has expired
  WritePair(clients_.Issue("two", ""));
  EXPECT_TRUE(Eventually([&] { return Answer(*transport).second == "two"; }));
}

TEST_F(CertificatesTest, A401MakesItLookAtOnce) {
  TestServer server(ServerOptions(), [](const auto& request, auto& reply) {
    reply.Json(request.client == "two" ? 200 : 401, request.client);
  });
  WritePair(clients_.Issue("one", ""));
  const auto transport = MakeTransport(ClientConfig(server.url()), Transport::kMaxResponseBytes,
                                       std::chrono::hours(1));
  EXPECT_EQ(Answer(*transport).first, 401);
  WritePair(clients_.Issue("two", ""));
  EXPECT_EQ(Answer(*transport), std::pair(200, std::string("two")));
}

TEST_F(CertificatesTest, IdleConnectionsOfTheOldCertificateAreClosed) {
  TestServer server(ServerOptions(), SayClient);
  WritePair(clients_.Issue("one", ""));
  const auto transport = Connect(ClientConfig(server.url()));
  EXPECT_EQ(Answer(*transport).second, "one");
  EXPECT_EQ(server.open_connections(), 1);
  WritePair(clients_.Issue("two", ""));
  EXPECT_TRUE(Eventually([&] { return Answer(*transport).second == "two"; }));
  const int with_two = server.connections();
  EXPECT_TRUE(Eventually([&] { return server.open_connections() <= with_two - 1; }));
  for (int i = 0; i < 5; ++i)
    EXPECT_EQ(Answer(*transport).second, "two");
}

TEST_F(CertificatesTest, AWatchOfTheOldCertificateEndsAsIfTheServerHadEndedIt) {
  TestServer server(ServerOptions(), [](const auto& request, auto& reply) {
    if (!reply.Begin(200)) return;
    reply.Chunk(request.client);
    reply.WaitForPeerToLeave();
  });
  WritePair(clients_.Issue("one", ""));
  const auto transport = Connect(ClientConfig(server.url()));
  HttpRequest watch = Get("/watch");
  watch.long_lived = true;
  const auto run = [&] {
    std::string who;
    std::promise<void> begun;
    auto ended = std::async(std::launch::async, [&] {
      const auto take = [&](std::string_view piece) {
        who = piece;
        begun.set_value();
        return true;
      };
      return transport->Stream(watch, take, {}).status;
    });
    begun.get_future().wait();
    WritePair(clients_.Issue("next", ""));
    EXPECT_EQ(ended.get(), 200);
    return who;
  };
  EXPECT_EQ(run(), "one");
  EXPECT_EQ(run(), "next");
}

TEST_F(CertificatesTest, AWatchStaysWhenOnlyTheCaIsReplaced) {
  std::promise<void> go_on;
  TestServer server(ServerOptions(), [&](const auto& request, auto& reply) {
    if (request.target != "/watch") return reply.Json(200, "{}");
    reply.Begin(200);
    reply.Chunk("one");
    go_on.get_future().wait();
    reply.Chunk("two");
    reply.End();
  });
  WritePair(clients_.Issue("client", ""));
  const auto transport = Connect(ClientConfig(server.url()));
  HttpRequest watch = Get("/watch");
  watch.long_lived = true;
  std::vector<std::string> pieces;
  transport->Stream(watch,
                    [&](std::string_view piece) {
                      pieces.emplace_back(piece);
                      if (pieces.size() == 1) {
                        Rename("ca", TestAuthority("another").ca_pem());
                        // It has been seen: new connections do not trust the server any more.
                        EXPECT_TRUE(Eventually([&] { return Answer(*transport).first == 0; }));
                        go_on.set_value();
                      }
                      return true;
                    },
                    {});
  EXPECT_EQ(pieces, (std::vector<std::string>{"one", "two"}));
}

// The two steps of kubernetes.io/docs/tasks/tls/manual-rotation-of-ca-certificates.
TEST_F(CertificatesTest, TheClustersCaIsRotatedWithoutARestart) {
  const TestAuthority next("next CA");
  auto server = std::make_unique<TestServer>(ServerOptions(), SayClient);
  const int port = server->port();
  WritePair(clients_.Issue("client", ""));
  const auto transport = Connect(ClientConfig(server->url()));
  EXPECT_EQ(Answer(*transport).first, 200);
  Rename("ca", servers_.ca_pem() + next.ca_pem());
  server.reset();
  TestServer::Options options = ServerOptions();
  options.port = port;
  options.certificate = next.Issue("server", "IP:127.0.0.1");
  server = std::make_unique<TestServer>(options, SayClient);
  EXPECT_TRUE(Eventually([&] { return Answer(*transport).first == 200; }));
  // The old one is taken out: who has its key is nobody any more.
  Rename("ca", next.ca_pem());
  EXPECT_EQ(Answer(*transport).first, 200);
  server.reset();
  options.certificate = servers_.Issue("server", "IP:127.0.0.1");
  server = std::make_unique<TestServer>(options, SayClient);
  EXPECT_TRUE(Eventually([&] {
    return Answer(*transport).second.find("server certificate not accepted") != std::string::npos;
  }));
}

// What decides about Config's files, by an injected clock.
class TlsSourceTest : public CertificatesTest {
 protected:
  static constexpr auto kAfter = TlsSource::kLookAgainAfter;
  const TlsSource::Clock::time_point start_ = TlsSource::Clock::now() + seconds(1);
};

TEST_F(TlsSourceTest, LooksAtMostOnceInAWhile) {
  WritePair(clients_.Issue("one", ""));
  TlsSource source(ClientConfig("https://127.0.0.1:1"), true);
  const auto before = source.Get(start_ + kAfter);
  EXPECT_EQ(source.Get(start_ + 2 * kAfter), before);  // nothing was changed
  WritePair(clients_.Issue("two", ""));
  EXPECT_EQ(source.Get(start_ + 3 * kAfter - milliseconds(1)), before);
  const auto after = source.Get(start_ + 3 * kAfter);
  EXPECT_NE(after, before);
  EXPECT_FALSE(after->HasClientOf(*before));
}

TEST_F(TlsSourceTest, KeepsThePairUntilTheNextOneIsWhole) {
  const TestCertificate one = clients_.Issue("one", "");
  const TestCertificate two = clients_.Issue("two", "");
  WritePair(one);
  TlsSource source(ClientConfig("https://127.0.0.1:1"), true);
  const auto before = source.Get(start_);
  auto now = start_;
  const auto stays = [&](const char* when) {
    now += kAfter;
    EXPECT_EQ(source.Get(now), before) << when;
  };
  Write("cert", two.certificate_pem);
  stays("the new certificate with the old key");
  Write("cert", "");
  stays("emptied, to be written anew");
  Write("cert", two.certificate_pem.substr(0, two.certificate_pem.size() / 2));
  stays("half of it");
  Write("cert", "not a certificate\n");
  stays("something else");
  fs::remove(dir_ / "cert");
  stays("gone");
  fs::create_directory(dir_ / "cert");
  stays("a folder");
  fs::remove(dir_ / "cert");
  Write("cert", two.certificate_pem);
  Write("key", two.key_pem.substr(0, 40));
  stays("half of the key");
  Write("key", two.key_pem);
  Write("ca", "");
  stays("an empty CA");
  Write("ca", servers_.ca_pem() + servers_.ca_pem().substr(0, 100));
  stays("half of a CA");
  Write("ca", servers_.ca_pem());
  EXPECT_FALSE(source.Get(now + kAfter)->HasClientOf(*before));
}

TEST_F(TlsSourceTest, SeesTheLinkOfAProjectedVolume) {
  const auto make = [this](const std::string& name, const TestCertificate& pair) {
    fs::create_directory(dir_ / name);
    Write(name + "/cert", pair.certificate_pem);
    Write(name + "/key", pair.key_pem);
  };
  make("..one", clients_.Issue("one", ""));
  make("..two", clients_.Issue("two", ""));
  fs::create_directory_symlink("..one", dir_ / "..data");
  fs::create_symlink("..data/cert", dir_ / "cert");
  fs::create_symlink("..data/key", dir_ / "key");
  TlsSource source(ClientConfig("https://127.0.0.1:1"), true);
  const auto before = source.Get(start_ + kAfter);
  fs::create_directory_symlink("..two", dir_ / "..data_tmp");
  fs::rename(dir_ / "..data_tmp", dir_ / "..data");
  EXPECT_FALSE(source.Get(start_ + 2 * kAfter)->HasClientOf(*before));
}

TEST_F(TlsSourceTest, DataHasNoFilesToLookAt) {
  WritePair(clients_.Issue("one", ""));
  Config config = ClientConfig("https://127.0.0.1:1");
  config.ca_file = config.client_certificate_file = config.client_key_file = "";
  TlsSource source(config, true);
  const auto before = source.Get(start_);
  WritePair(clients_.Issue("two", ""));
  EXPECT_EQ(source.Get(start_ + kAfter), before);
  EXPECT_FALSE(source.Failed(before, start_ + kAfter));
}

// What a CA bundle may be: crypto/x509 takes each certificate in it for a root.
class TrustTest : public CertificatesTest {
 protected:
  std::pair<int, std::string> AnswerWith(const TestServer& server,
                                         const std::string& ca_pem) const {
    Config config;
    config.server = server.url();
    config.ca_pem = ca_pem;
    return Answer(*Connect(config));
  }
  TestServer::Options Options(const TestAuthority& issuer) const {
    TestServer::Options options;
    options.certificate = issuer.Issue("server", "IP:127.0.0.1");
    return options;
  }
};

TEST_F(TrustTest, AnIntermediateIsATrustAnchor) {
  const TestAuthority intermediate("intermediate", servers_);
  TestServer server(Options(intermediate), SayClient);
  EXPECT_EQ(AnswerWith(server, intermediate.ca_pem()).first, 200);
  EXPECT_EQ(AnswerWith(server, intermediate.ca_pem() + servers_.ca_pem()).first, 200);
  // The names are looked at all the same.
  TestServer::Options other = Options(intermediate);
  other.certificate = intermediate.Issue("server", "DNS:other");
  TestServer elsewhere(other, SayClient);
  EXPECT_THAT(AnswerWith(elsewhere, intermediate.ca_pem()).second,
              HasSubstr("it does not name 127.0.0.1"));
  const TestAuthority stranger("intermediate", clients_);  // of the same name
  EXPECT_THAT(AnswerWith(server, stranger.ca_pem()).second, HasSubstr("not accepted"));
}

TEST_F(TrustTest, TheServersOwnCertificateIsATrustAnchor) {
  const TestServer::Options options = Options(servers_);
  TestServer server(options, SayClient);
  EXPECT_EQ(AnswerWith(server, options.certificate.certificate_pem).first, 200);
}

TEST_F(TrustTest, OtherPemBlocksOfABundleAreLeftOut) {
  const TestServer::Options options = Options(servers_);
  TestServer server(options, SayClient);
  const std::string broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
  EXPECT_EQ(
      AnswerWith(server, "a comment\n" + options.certificate.key_pem + broken + servers_.ca_pem())
          .first,
      200);
  Config config;
  config.server = server.url();
  config.ca_pem = broken;
  EXPECT_THROW(Connect(config), ConfigError);
}

TEST_F(TrustTest, ANameThatOpensslWouldCutIsRefused) {
  Config config;
  config.server = "https://127.0.0.1:1";
  config.ca_pem = servers_.ca_pem();
  config.tls_server_name = std::string("kubernetes\0.evil", 16);
  EXPECT_THROW(Connect(config), ConfigError);
}

TEST_F(TrustTest, NamesAreComparedAsInGo) {
  TestServer::Options options;
  options.certificate = servers_.Issue("server", "DNS:kubernetes.default,IP:::1");
  TestServer server(options, SayClient);
  Config config;
  config.server = server.url();
  config.ca_pem = servers_.ca_pem();
  for (const char* name : {"kubernetes.default.", "KUBERNETES.default", "[::1]", "::1"}) {
    config.tls_server_name = name;
    EXPECT_EQ(Answer(*Connect(config)).first, 200) << name;
  }
}

}  // namespace
}  // namespace pointsman::kube
