#include "kubectl-pointsman/listing.h"

#include <string>
#include <string_view>
#include <utility>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

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

// As `pointsman-node-agent --list --list-format=json` prints it.
constexpr std::string_view kListedJson = R"({"services": [
{"mode": "ipvs", "protocol": "TCP", "family": "IPv4", "address": "10.96.1.1", "port": 80, "service": null,
 "scheduler": "rr", "endpoints": [{"address": "10.244.1.10", "port": 8080, "weight": 1, "active": 0, "inactive": 7}]},
{"mode": "ipvs", "protocol": "TCP", "family": "IPv6", "address": null, "port": 30080, "service": null,
 "scheduler": "rr", "note": "for pods", "endpoints": []},
{"mode": "ipvs", "protocol": "UDP", "family": "IPv6", "address": "fd00::10", "port": 53, "service": null,
 "refused": "rejected", "of a newer agent": [1], "endpoints": []},
{"mode": "ipvs", "protocol": "TCP", "family": "IPv4", "address": "10.96.9.9", "port": 80, "service": null, "endpoints": []},
{"mode": "nftables", "protocol": "TCP", "family": "IPv4", "address": "10.96.1.1", "port": 80,
 "service": "default/web:http", "endpoints": [{"address": "10.244.1.10", "port": 8080}]}
]})";

nlohmann::json Document(std::string_view text, std::string_view wanted = "") {
  const ServiceNames names = Names();
  return ListedServices(
      text, [&]() -> const ServiceNames& { return names; }, wanted);
}

TEST(ListingDocumentTest, HasTheAgentsServicesWithTheApisNames) {
  const nlohmann::json services = Document(kListedJson);
  nlohmann::json expected = nlohmann::json::parse(kListedJson)["services"];
  for (const int web : {0, 1})
    expected[web]["service"] = "default/web:http";
  expected[2]["service"] = "kube-system/dns";
  expected[2].erase("of a newer agent");
  EXPECT_EQ(services, expected);
  EXPECT_EQ(Document(R"({"services": [
]})"),
            nlohmann::json::array());
}

TEST(ListingDocumentTest, OneServiceAlone) {
  for (const char* web : {"web", "default/web", "default/web:http"})
    EXPECT_EQ(Document(kListedJson, web).size(), 3U) << web;
  EXPECT_EQ(Document(kListedJson, "fd00::10"), Document(kListedJson, "dns"));
  EXPECT_EQ(Document(kListedJson, "10.96.9.9").at(0)["service"], nullptr);
  EXPECT_EQ(Document(kListedJson, "other/web").size(), 0U);
}

// Each field wrong in turn.
TEST(ListingDocumentTest, WhatIsNoListingIsNoDocument) {
  const nlohmann::json good = nlohmann::json::parse(kListedJson)["services"][0];
  const auto listed = [](const nlohmann::json& service) {
    return nlohmann::json{{"services", {service}}}.dump();
  };
  EXPECT_EQ(Document(listed(good)).size(), 1U);
  const std::pair<const char*, const char*> wrong[] = {{"/mode", "7"},
                                                       {"/protocol", "\"TCPX\""},
                                                       {"/protocol", "[]"},
                                                       {"/family", "\"IPv5\""},
                                                       {"/address", "\"name\""},
                                                       {"/address", "1"},
                                                       {"/port", "-1"},
                                                       {"/port", "65536"},
                                                       {"/port", "80.5"},
                                                       {"/port", "\"80\""},
                                                       {"/service", "{}"},
                                                       {"/scheduler", "null"},
                                                       {"/endpoints", "{}"},
                                                       {"/endpoints", "[7]"},
                                                       {"/endpoints/0/address", "\"\""},
                                                       {"/endpoints/0/port", "1e99"},
                                                       {"/endpoints/0/weight", "\"x\""}};
  for (const auto& [field, value] : wrong) {
    nlohmann::json bad = good;
    bad[nlohmann::json::json_pointer(field)] = nlohmann::json::parse(value);
    EXPECT_THROW(Document(listed(bad)), Failure) << field << " " << value;
  }
  for (const auto& [field, ignored] : good.items()) {
    nlohmann::json bad = good;
    bad.erase(field);
    if (field == "scheduler") continue;
    EXPECT_THROW(Document(listed(bad)), Failure) << "without " << field;
  }
  for (const char* bad :
       {"", "ipvs mode\n", "[]", "{}", "null", R"({"services": {}})", R"({"services": [1]})",
        R"({"services": [)", "{\"services\": []} x", "{\"services\": [], \"\xff\": 1}"})
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
  EXPECT_THROW(Document("{\"services\": " + std::string(100'000, '[')), Failure);
  EXPECT_THROW(
      Document("{\"services\": " + std::string(100'000, '[') + std::string(100'000, ']') + "}"),
      Failure);
}

}  // namespace
}  // namespace pointsman::plugin
