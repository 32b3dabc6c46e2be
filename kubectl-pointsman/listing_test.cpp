#include "kubectl-pointsman/listing.h"

#include <sstream>

#include <gmock/gmock.h>

#include "kubectl-pointsman/exit_code.h"
#include "kubectl-pointsman/listing_document.h"

namespace pointsman::plugin {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view kListed = R"(ipvs mode
TCP   10.96.1.1:80                 -  rr
  ->  10.244.1.10:8080  weight 1  active 0  inactive 0
TCP   *:30080                      -  node port  rr
  ->  10.244.1.10:8080  weight 1  active 0  inactive 0
UDP   [fd00::10]:53                -  rejected
TCP   10.96.9.9:80                 -  rr

nftables mode
TCP   10.96.1.1:80                 default/web:http
  ->  10.244.1.10:8080
)";

ServiceNames Names() {
  ServiceNames names;
  names.Add(kube::DecodeService(
      R"({"kind": "Service", "metadata": {"namespace": "default", "name": "web"}, "spec": {"type": "NodePort",
          "clusterIPs": ["10.96.1.1"], "ports": [{"name": "http", "protocol": "TCP", "port": 80, "nodePort": 30080}]}})"));
  names.Add(kube::DecodeService(
      R"({"kind": "Service", "metadata": {"namespace": "kube-system", "name": "dns"}, "spec": {
          "clusterIPs": ["fd00::10"], "ports": [{"protocol": "UDP", "port": 53}]}})"));
  return names;
}

// In pieces of that size.
std::string Shown(const std::string& wanted, std::string_view text = kListed,
                  size_t piece = std::string::npos) {
  const ServiceNames names = Names();
  std::string shown;
  Listing listing([&]() -> const ServiceNames& { return names; }, wanted,
                  [&](const std::string& line) { shown += line + "\n"; });
  for (; !text.empty(); text.remove_prefix(std::min(piece, text.size())))
    listing.Take(text.substr(0, piece));
  listing.End();
  return shown;
}

TEST(ListingTest, WhatHasNoNameInTheKernelGetsTheApis) {
  EXPECT_EQ(Shown(""), R"(ipvs mode
TCP   10.96.1.1:80                 default/web:http  rr
  ->  10.244.1.10:8080  weight 1  active 0  inactive 0
TCP   *:30080                      default/web:http  node port  rr
  ->  10.244.1.10:8080  weight 1  active 0  inactive 0
UDP   [fd00::10]:53                kube-system/dns  rejected
TCP   10.96.9.9:80                 -  rr

nftables mode
TCP   10.96.1.1:80                 default/web:http
  ->  10.244.1.10:8080
)");
  for (const size_t piece : {1, 7, 64})
    EXPECT_EQ(Shown("", kListed, piece), Shown(""));
}

TEST(ListingTest, OneServiceAlone) {
  EXPECT_EQ(Shown("kube-system/dns"),
            "ipvs mode\nUDP   [fd00::10]:53                kube-system/dns  rejected\n");
  for (const char* web : {"web", "default/web", "default/web:http"}) {
    EXPECT_EQ(Shown(web), R"(ipvs mode
TCP   10.96.1.1:80                 default/web:http  rr
  ->  10.244.1.10:8080  weight 1  active 0  inactive 0
TCP   *:30080                      default/web:http  node port  rr
  ->  10.244.1.10:8080  weight 1  active 0  inactive 0

nftables mode
TCP   10.96.1.1:80                 default/web:http
  ->  10.244.1.10:8080
)") << web;
  }
  EXPECT_EQ(Shown("10.96.9.9"), "ipvs mode\nTCP   10.96.9.9:80                 -  rr\n");
  EXPECT_EQ(Shown("fd00::10"), Shown("dns"));
  EXPECT_EQ(Shown("other/web"), "");
  EXPECT_EQ(Shown("we"), "");
}

TEST(ListingTest, AnEmptyKernelSaysSo) {
  const std::string nothing = "no Service of Pointsman's is in this node's kernel\n";
  EXPECT_EQ(Shown("", nothing), nothing);
  EXPECT_EQ(Shown("web", nothing), "");
}

nlohmann::json Document(const std::string& text) {
  ListingDocument document;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    document.Add(line);
  return document.Take();
}

TEST(ListingTest, AsADocument) {
  const nlohmann::json services = Document(Shown(""));
  ASSERT_EQ(services.size(), 5U);
  EXPECT_EQ(services[0],
            nlohmann::json::parse(R"({"mode": "ipvs", "protocol": "TCP", "address": "10.96.1.1",
      "port": 80, "service": "default/web:http", "scheduler": "rr",
      "endpoints": [{"address": "10.244.1.10", "port": 8080, "weight": 1, "active": 0, "inactive": 0}]})"));
  EXPECT_EQ(services[1]["address"], nullptr);
  EXPECT_EQ(services[1]["port"], 30080);
  EXPECT_EQ(services[2],
            nlohmann::json::parse(R"({"mode": "ipvs", "protocol": "UDP", "address": "fd00::10",
      "port": 53, "service": "kube-system/dns", "refused": "rejected", "endpoints": []})"));
  EXPECT_EQ(services[3]["service"], nullptr);
  EXPECT_EQ(services[4],
            nlohmann::json::parse(R"({"mode": "nftables", "protocol": "TCP", "address": "10.96.1.1",
      "port": 80, "service": "default/web:http", "endpoints": [{"address": "10.244.1.10", "port": 8080}]})"));
  EXPECT_EQ(Document("no Service of Pointsman's is in this node's kernel\n"),
            nlohmann::json::array());
  EXPECT_EQ(Document("ipvs mode\nTCP *:1 a/b  node port  rr  for pods\n")[0]["note"], "for pods");
}

TEST(ListingTest, WhatIsNoListingIsNoDocument) {
  for (const char* bad : {"  ->  1.1.1.1:1\n", "TCP\n", "TCP 1.1.1.1 a/b\n", "TCP 1.1.1.1:x a/b\n",
                          "TCP name:80 a/b\n", "TCP 1.1.1.1:1 a/b\n  ->  \n",
                          "TCP 1.1.1.1:1 a/b\n  ->  1.1.1.1:1  weight\n",
                          "TCP 1.1.1.1:1 a/b\n  ->  1.1.1.1:1  weight x\n", "TCP [:80 a/b\n"})
    EXPECT_THROW(Document(bad), Failure) << bad;
}

// Whoever has broken into a node answers in the place of its agent.
TEST(ListingTest, HostileAnswersDoNoHarm) {
  EXPECT_THAT(Shown("", "TCP   10.96.1.1:80   \x1b[2Jdefault/web\n"),
              HasSubstr("\\x1b[2Jdefault/web"));
  EXPECT_THAT(Shown("", "\x1b]0;owned\x07 mode\nTCP 1.1.1.1:1 a/b\n"), HasSubstr("\\x1b]0;owned"));
  const std::string endless(100'000, 'x');
  EXPECT_THROW(Shown("", endless), Failure);
  EXPECT_THROW(Shown("", endless + "\n"), Failure);
  EXPECT_THROW(Shown("", endless, 1000), Failure);
  EXPECT_EQ(Shown("", "TCP"), "TCP\n");
}

}  // namespace
}  // namespace pointsman::plugin
