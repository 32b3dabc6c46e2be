#include "kube/config/proxy_environment.h"

#include <map>

#include <gtest/gtest.h>

namespace pointsman::kube {
namespace {

std::string Variable(const std::string& server, const std::map<std::string, std::string>& set) {
  return FindEnvironmentProxy(server,
                              [&set](const char* name) {
                                const auto found = set.find(name);
                                return found == set.end() ? "" : found->second;
                              })
      .variable;
}

TEST(EnvironmentProxy, IsThatOfTheScheme) {
  EXPECT_EQ(Variable("https://10.0.0.1:6443", {{"HTTPS_PROXY", "http://p"}}), "HTTPS_PROXY");
  EXPECT_EQ(Variable("https://10.0.0.1:6443", {{"https_proxy", "http://p"}}), "https_proxy");
  EXPECT_EQ(Variable("https://10.0.0.1:6443", {{"HTTP_PROXY", "http://p"}}), "");
  EXPECT_EQ(Variable("http://10.0.0.1:8080", {{"HTTP_PROXY", "http://p"}}), "HTTP_PROXY");
  EXPECT_EQ(Variable("https://10.0.0.1:6443", {{"HTTPS_PROXY", ""}}), "");
  EXPECT_EQ(Variable("https://10.0.0.1:6443", {}), "");
}

TEST(EnvironmentProxy, TheMachineItselfHasNone) {
  for (const char* server : {"https://127.0.0.1:6443", "https://[::1]:6443", "https://localhost"}) {
    EXPECT_EQ(Variable(server, {{"HTTPS_PROXY", "http://p"}}), "") << server;
  }
}

TEST(EnvironmentProxy, NorWhatNoProxyNames) {
  const auto left_out = [](const std::string& server, const std::string& list) {
    return Variable(server, {{"HTTPS_PROXY", "http://p"}, {"NO_PROXY", list}}).empty();
  };
  EXPECT_TRUE(left_out("https://10.0.0.1:6443", "*"));
  EXPECT_TRUE(left_out("https://10.0.0.1:6443", "example.com, 10.0.0.1"));
  EXPECT_TRUE(left_out("https://10.0.0.1:6443", "10.0.0.0/8"));
  EXPECT_TRUE(left_out("https://10.0.0.1:6443", "10.0.0.1:6443"));
  EXPECT_FALSE(left_out("https://10.0.0.1:6443", "10.0.0.1:443"));
  EXPECT_FALSE(left_out("https://10.0.0.1:6443", "10.0.0.2,192.168.0.0/16,.0.1,"));
  EXPECT_TRUE(left_out("https://[fd00::1]:6443", "fd00::/8"));
  EXPECT_TRUE(left_out("https://[fd00::1]:6443", "[fd00::1]:6443"));
  EXPECT_TRUE(left_out("https://api.Example.com", "example.com"));
  EXPECT_TRUE(left_out("https://api.example.com", ".example.com"));
  EXPECT_TRUE(left_out("https://api.example.com", "*.EXAMPLE.com:443"));
  EXPECT_FALSE(left_out("https://example.com", ".example.com"));
  EXPECT_FALSE(left_out("https://notexample.com", "example.com"));
}

}  // namespace
}  // namespace pointsman::kube
