#include "kube/config/server_url.h"

#include <stdexcept>

#include <gmock/gmock.h>

namespace pointsman::kube {
namespace {

using testing::HasSubstr;

std::string Refusal(const std::string& address) {
  try {
    return "accepted as " + ServerUrl(address, true);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
}

TEST(ServerUrl, WithASchemeItStays) {
  EXPECT_EQ(ServerUrl("https://10.0.0.1:6443/", false), "https://10.0.0.1:6443");
  EXPECT_EQ(ServerUrl("HTTPS://10.0.0.1", false), "https://10.0.0.1");
  EXPECT_EQ(ServerUrl("http://localhost:8080", true), "http://localhost:8080");
  EXPECT_EQ(ServerUrl("https://rancher/k8s/clusters/c-1?x=y#z", true),
            "https://rancher/k8s/clusters/c-1");
  EXPECT_EQ(ServerUrl("https://[fd00::1]:6443", true), "https://[fd00::1]:6443");
  EXPECT_EQ(ServerUrl("https://a:", true), "https://a");
}

TEST(ServerUrl, WithoutASchemeTlsDecides) {
  EXPECT_EQ(ServerUrl("10.0.0.10:6443", true), "https://10.0.0.10:6443");
  EXPECT_EQ(ServerUrl("10.0.0.10:8080", false), "http://10.0.0.10:8080");
  EXPECT_EQ(ServerUrl("api.example/", true), "https://api.example");
  EXPECT_EQ(ServerUrl("[fd00::1]:6443", true), "https://[fd00::1]:6443");
  EXPECT_EQ(ServerUrl("fd00::1", true), "https://[fd00::1]");
}

TEST(ServerUrl, SaysWhatIsWrong) {
  EXPECT_THAT(Refusal(""), HasSubstr("missing"));
  EXPECT_THAT(Refusal("10.0.0.1:6443/path"), HasSubstr("must be a URL or a host:port pair"));
  EXPECT_THAT(Refusal("unix:///run/api"), HasSubstr("neither http:// nor https://"));
  EXPECT_THAT(Refusal("https://"), HasSubstr("has no host"));
  EXPECT_THAT(Refusal("https://:6443"), HasSubstr("has no host"));
  EXPECT_THAT(Refusal("https://a:b"), HasSubstr("no port from 1 to 65535"));
  EXPECT_THAT(Refusal("https://a:65536"), HasSubstr("no port from 1 to 65535"));
  EXPECT_THAT(Refusal("https://[10.0.0.1]"), HasSubstr("no IPv6 address"));
  EXPECT_THAT(Refusal("https://[fd00::1"), HasSubstr("no IPv6 address"));
  EXPECT_THAT(Refusal("https://[fd00::1]x"), HasSubstr("something after its host"));
  EXPECT_THAT(Refusal("https://a b"), HasSubstr("a character that no URL has"));
  EXPECT_THAT(Refusal(std::string("https://a\0b", 11)), HasSubstr("a character that no URL has"));
  const std::string secret = Refusal("https://admin:secret@a");
  EXPECT_THAT(secret, HasSubstr("user name or password"));
  EXPECT_THAT(secret, testing::Not(HasSubstr("secret@")));
}

TEST(ServerUrl, Parts) {
  EXPECT_EQ(HostOfUrl("https://[fd00::1]:6443/x"), "fd00::1");
  EXPECT_EQ(PortOfUrl("https://[fd00::1]:6443/x"), "6443");
  EXPECT_EQ(HostOfUrl("https://a/x:1"), "a");
  EXPECT_EQ(PortOfUrl("https://a/x:1"), "");
  EXPECT_EQ(PortOfUrl("https://[fd00::1]"), "");
}

}  // namespace
}  // namespace pointsman::kube
