#include "node-agent/agent/stock_kube_proxy.h"

#include <map>
#include <stdexcept>

#include <gmock/gmock.h>

namespace pointsman::agent {
namespace {

using kube::Mode;
using std::chrono_literals::operator""ms;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

net::IpAddress Ip(const char* text) {
  return net::IpAddress::Parse(text).value();
}

// kube-proxy and the kernel as a test wants them.
class StockKubeProxyTest : public ::testing::Test {
 protected:
  StockKubeProxyTest() {
    spec_.provider = kube::Provider::kKubeProxy;
    spec_.revision = 7;
    spec_.settings.mode = Mode::kNftables;
    AddEntry("web", "10.96.0.10", {"10.244.0.2", "10.244.0.3"});
    AddEntry("dns", "10.96.0.53", {"10.244.0.4"});
  }
  void AddEntry(const std::string& name, const char* cluster_ip,
                const std::vector<const char*>& endpoints) {
    auto entry = std::make_shared<ServicePortEntry>();
    entry->cluster_ip = Ip(cluster_ip);
    entry->id = {
        .ns = "default", .name = name, .port_name = "http", .family = entry->cluster_ip.family()};
    entry->port = 80;
    for (const char* endpoint : endpoints)
      entry->internal.backends.push_back({.ip = Ip(endpoint), .port = 8080});
    model_.entries[entry->id] = entry;
  }
  void Serve(const char* cluster_ip, const std::vector<const char*>& endpoints) {
    auto& served = served_[{Ip(cluster_ip), 80, kube::Protocol::kTcp}];
    served.clear();
    for (const char* endpoint : endpoints)
      served.push_back({Ip(endpoint), 8080});
  }
  void ServeAll() {
    Serve("10.96.0.10", {"10.244.0.2", "10.244.0.3"});
    Serve("10.96.0.53", {"10.244.0.4"});
  }
  const ModeState& Look() {
    now_ = std::max(now_ + 1ms, std::min(stock_.due(), now_ + std::chrono::hours(1)));
    stock_.Look(spec_, model_, ipv6_, now_);
    return stock_.state();
  }

  kube::NodeProxySpec spec_;
  ServiceModel model_;
  bool ipv6_ = false;
  PreflightResult preflight_{.passed = true, .reason = "PreflightPassed"};
  std::map<std::string, std::string> answers_{{"/proxyMode", "iptables"}, {"/healthz", "{}"}};
  kube_proxy::Served served_;
  std::vector<std::string> asked_;
  int reads_ = 0;
  StockKubeProxy::TimePoint now_ = std::chrono::steady_clock::now();
  StockKubeProxy stock_{{.preflight = [this](const kube::ProxySettings&) { return preflight_; },
                         .get =
                             [this](const std::vector<std::string>& servers, const char* path) {
                               asked_.push_back(servers.empty() ? "" : servers.front() + path);
                               const auto found = answers_.find(path);
                               if (found == answers_.end())
                                 throw std::runtime_error("connection refused");
                               return found->second;
                             },
                         .served =
                             [this](Mode mode) {
                               ++reads_;
                               return mode == Mode::kNftables ? served_ : kube_proxy::Served();
                             }}};
};

TEST_F(StockKubeProxyTest, IsInEffectWhenTheKernelHasEveryClusterIpWithItsEndpoints) {
  EXPECT_EQ(stock_.found(), std::nullopt);
  EXPECT_EQ(Look().active, Mode::kIptables);
  EXPECT_EQ(stock_.found(), StockFinding::kOtherMode);
  EXPECT_EQ(stock_.MissingServicePorts(), std::nullopt) << "not read yet";
  EXPECT_THAT(stock_.state().waits_for, HasSubstr("its mode is iptables, not nftables"));
  EXPECT_TRUE(stock_.state().synced_once) << "in its former mode it serves";
  EXPECT_FALSE(stock_.InEffect());

  answers_.erase("/proxyMode");  // it restarts
  EXPECT_EQ(Look().failed, false);
  EXPECT_EQ(stock_.found(), StockFinding::kNoAnswer);
  EXPECT_THAT(stock_.state().waits_for, HasSubstr("connection refused"));
  EXPECT_EQ(stock_.state().active, std::nullopt);

  // /healthz and /proxyMode answer before the first sync.
  answers_["/proxyMode"] = "nftables\n";
  EXPECT_FALSE(Look().synced_once);
  EXPECT_EQ(stock_.found(), StockFinding::kNotReadBack);
  EXPECT_EQ(stock_.MissingServicePorts(), 2U);
  EXPECT_THAT(stock_.state().waits_for,
              HasSubstr("all endpoints of 2 ports of Services yet, for example default/dns:http"));
  Serve("10.96.0.10", {"10.244.0.2"});
  Serve("10.96.0.53", {"10.244.0.4", "10.244.9.9"});
  Look();
  EXPECT_THAT(stock_.state().waits_for, HasSubstr("of 1 ports"));
  // What was seen once is done with: endpoints change all the time.
  served_.erase({Ip("10.96.0.53"), 80, kube::Protocol::kTcp});
  Serve("10.96.0.10", {"10.244.0.2", "10.244.0.3"});
  EXPECT_EQ(Look().waits_for, "");
  EXPECT_TRUE(stock_.InEffect());
  EXPECT_EQ(stock_.found(), StockFinding::kVerified);
  EXPECT_EQ(stock_.MissingServicePorts(), 0U);
  EXPECT_TRUE(stock_.state().synced_once);
  EXPECT_EQ(stock_.state().active, Mode::kNftables);
  EXPECT_THAT(asked_, ::testing::Contains("http://127.0.0.1:10249/proxyMode"));
  EXPECT_THAT(asked_, ::testing::Contains("http://127.0.0.1:10256/healthz"));

  const int reads = reads_;
  Look();
  EXPECT_EQ(reads_, reads) << "read back once";
  EXPECT_EQ(stock_.due() - now_, StockKubeProxy::kWatch);
}

TEST_F(StockKubeProxyTest, ARestartIsNoTroubleAndAnEndIs) {
  answers_["/proxyMode"] = "nftables";
  ServeAll();
  Look();
  ASSERT_TRUE(stock_.InEffect());
  answers_.erase("/healthz");
  for (int i = 1; i < StockKubeProxy::kFailures; ++i) {
    EXPECT_FALSE(Look().failed);
    EXPECT_EQ(stock_.found(), StockFinding::kNoAnswer);
    EXPECT_LT(stock_.due() - now_, StockKubeProxy::kWatch);
  }
  EXPECT_TRUE(Look().failed);
  EXPECT_FALSE(stock_.InEffect());
  EXPECT_EQ(stock_.state().problems.at(0).message, "connection refused");
  answers_["/healthz"] = "";
  EXPECT_FALSE(Look().failed);
  EXPECT_TRUE(stock_.InEffect());
}

TEST_F(StockKubeProxyTest, AnotherRevisionIsVerifiedAnew) {
  answers_["/proxyMode"] = "nftables";
  ServeAll();
  Look();
  ASSERT_TRUE(stock_.InEffect());
  spec_.candidate = kube::NodeProxyCandidate{.revision = 8};  // another question
  Look();
  EXPECT_TRUE(stock_.InEffect());
  spec_.revision = 8;
  served_.clear();
  Look();
  EXPECT_FALSE(stock_.InEffect());
}

TEST_F(StockKubeProxyTest, WhatANodeHasNotIsNotExpectedOfIt) {
  answers_["/proxyMode"] = "nftables";
  ServeAll();
  AddEntry("web6", "fd00:96::10", {"fd00::2"});
  AddEntry("empty", "10.96.0.77", {});
  Look();
  EXPECT_TRUE(stock_.InEffect());
  ipv6_ = true;
  spec_.revision = 8;
  Look();
  EXPECT_THAT(stock_.state().waits_for, HasSubstr("default/web6:http/TCP/IPv6"));
  model_.entries.erase(
      {.ns = "default", .name = "web6", .port_name = "http", .family = net::Family::kIPv6});
  Look();
  EXPECT_TRUE(stock_.InEffect()) << "its Service is gone";
}

TEST_F(StockKubeProxyTest, OddAnswersAreTold) {
  answers_["/proxyMode"] = std::string("\x01<html>") + std::string(70'000, 'x');
  Look();
  EXPECT_THAT(stock_.state().waits_for, HasSubstr("which is no mode"));
  EXPECT_LT(stock_.state().waits_for.size(), 300U);
  EXPECT_EQ(stock_.state().active, std::nullopt);
  preflight_ = {.passed = false, .reason = "ModuleMissing", .message = "no nf_tables"};
  spec_.revision = 8;
  Look();
  EXPECT_THAT(stock_.state().waits_for, HasSubstr("no nf_tables"));
  EXPECT_EQ(stock_.found(), StockFinding::kCannotRun);
  EXPECT_FALSE(stock_.InEffect());
}

TEST_F(StockKubeProxyTest, IsForgottenWhenItIsNotAskedFor) {
  answers_["/proxyMode"] = "nftables";
  ServeAll();
  Look();
  stock_.Forget();
  EXPECT_FALSE(stock_.InEffect());
  EXPECT_EQ(stock_.due(), StockKubeProxy::TimePoint::max());
  EXPECT_EQ(stock_.state().active, std::nullopt);
  EXPECT_EQ(stock_.found(), std::nullopt);
  EXPECT_EQ(stock_.MissingServicePorts(), std::nullopt);
}

TEST(StockKubeProxyServers, AreWhereItListens) {
  EXPECT_THAT(ServersAt("", 10249), ElementsAre("http://127.0.0.1:10249", "http://[::1]:10249"));
  EXPECT_THAT(ServersAt("0.0.0.0:10256", 1), ElementsAre("http://127.0.0.1:10256"));
  EXPECT_THAT(ServersAt("0.0.0.0", 10256), ElementsAre("http://127.0.0.1:10256"));
  EXPECT_THAT(ServersAt("[::]:20256", 1),
              ElementsAre("http://127.0.0.1:20256", "http://[::1]:20256"));
  EXPECT_THAT(ServersAt("::", 10256), ElementsAre("http://127.0.0.1:10256", "http://[::1]:10256"));
  EXPECT_THAT(ServersAt("192.168.1.7:20256", 1), ElementsAre("http://192.168.1.7:20256"));
  EXPECT_THAT(ServersAt("fd00::7", 10249), ElementsAre("http://[fd00::7]:10249"));
  EXPECT_THAT(ServersAt(":10249", 1), ElementsAre("http://127.0.0.1:10249", "http://[::1]:10249"));
  for (const char* nowhere : {"0.0.0.0:0", "localhost:10256", "x", "0.0.0.0:", "0.0.0.0:99999",
                              "http://evil/:80", "[fd00::1"})
    EXPECT_THAT(ServersAt(nowhere, 10256), IsEmpty()) << nowhere;
}

}  // namespace
}  // namespace pointsman::agent
