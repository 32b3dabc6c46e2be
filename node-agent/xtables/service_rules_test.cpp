#include "node-agent/xtables/service_rules.h"

#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pointsman::agent::xtables {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string RulesOf(const ServicePortEntry& entry, const kube::ProxySettings& settings = {}) {
  std::string text;
  ForEachServiceChain(entry,
                      RuleSettings(settings, net::Family::kIPv4, {.prefix = "POINTSMAN-IPT-"}),
                      [&](std::string_view, std::string_view rules) { text += rules; });
  return text;
}

ServicePortEntry Entry(const std::string& ns, const std::string& name, const std::string& port) {
  ServicePortEntry entry;
  entry.id = {ns, name, port, Protocol::kTcp, net::Family::kIPv4};
  entry.cluster_ip = *net::IpAddress::Parse("10.96.0.10");
  entry.port = 80;
  Backend backend;
  backend.ip = *net::IpAddress::Parse("10.244.0.7");
  backend.port = 8080;
  entry.internal.backends = {backend};
  return entry;
}

TEST(ServiceRulesTest, TheFirstRuleSaysWhoseTheChainIs) {
  EXPECT_THAT(RulesOf(Entry("shop", "web-1", "http")),
              HasSubstr("--comment \"pointsman shop/web-1:http\""));
  const std::string longest(63, 'a');
  EXPECT_THAT(RulesOf(Entry(longest, longest, longest)),
              HasSubstr("--comment \"pointsman " + longest + "/" + longest + ":" + longest + "\""));
}

// The API server's validation lets no such name through; iptables-restore's input must not depend
// on it, for it would take what follows as a rule.
TEST(ServiceRulesTest, NoPartOfANameBecomesARule) {
  const std::string rules = RulesOf(Entry("a\" -j ACCEPT\n-A INPUT -j ACCEPT\nCOMMIT\n*raw",
                                          "b\\\"$(x)\xff\xe3\x80", "Upper Case"));
  EXPECT_THAT(rules, HasSubstr("--comment \"pointsman a__-j_______"));
  EXPECT_THAT(rules, HasSubstr("/b___"));
  EXPECT_THAT(rules, Not(HasSubstr("COMMIT")));
  EXPECT_THAT(rules, Not(HasSubstr("INPUT")));
  size_t at = 0;
  while (at < rules.size()) {
    const size_t end = rules.find('\n', at);
    ASSERT_NE(end, std::string::npos);
    const std::string line = rules.substr(at, end - at);
    EXPECT_TRUE(line.starts_with("-A POINTSMAN")) << line;
    EXPECT_EQ(std::count(line.begin(), line.end(), '"') % 2, 0) << line;
    at = end + 1;
  }
  EXPECT_LT(RulesOf(Entry(std::string(5000, 'a'), "b", "c")).size(), 600U);
}

// A CIDR of length 0 is no match in iptables-save's words, and not the same as none.
TEST(ServiceRulesTest, AClusterCidrOfEverythingMakesEverythingThePods) {
  ServicePortEntry entry = Entry("shop", "web", "http");
  entry.node_port = 30080;
  entry.external = entry.internal;
  entry.external_from_node = entry.internal;
  entry.external_local = true;
  const auto short_cuts = [&](const kube::ProxySettings& settings) {
    std::vector<std::string> found;
    std::istringstream rules(RulesOf(entry, settings));
    for (std::string line; std::getline(rules, line);) {
      if (line.find("POINTSMAN-MARK-MASQ") == std::string::npos &&
          line.find("-j POINTSMAN-IPT-S") != std::string::npos)
        found.push_back(line.substr(line.find(' ', 3)));
    }
    return found;
  };
  kube::ProxySettings settings;
  EXPECT_EQ(short_cuts(settings).size(), 1U) << "of the node itself";
  settings.cluster_cidrs = {*net::IpPrefix::Parse("10.244.0.0/16")};
  EXPECT_THAT(short_cuts(settings)[0], HasSubstr(" -s 10.244.0.0/16 "));
  settings.cluster_cidrs = {*net::IpPrefix::Parse("0.0.0.0/0")};
  ASSERT_EQ(short_cuts(settings).size(), 2U);
  EXPECT_THAT(short_cuts(settings)[0], Not(HasSubstr("-s ")));
  EXPECT_THAT(RulesOf(entry, settings), Not(HasSubstr("! -s"))) << "nothing is from elsewhere";
}

// It is about cluster IPs (kube-proxy's rule names them), and a Local policy keeps the source.
TEST(ServiceRulesTest, MasqueradeAllLeavesTheShortCutOfALocalPolicyAlone) {
  ServicePortEntry entry = Entry("shop", "web", "http");
  entry.node_port = 30080;
  entry.external = entry.internal;
  entry.external_from_node = entry.internal;
  entry.external_local = true;
  kube::ProxySettings settings;
  settings.cluster_cidrs = {*net::IpPrefix::Parse("10.244.0.0/16")};
  EXPECT_THAT(RulesOf(entry, settings),
              testing::ContainsRegex("-s 10.244.0.0/16 .*-j POINTSMAN-IPT-S"));
  entry.internal_masquerade = Masquerade::kAlways;
  EXPECT_THAT(RulesOf(entry, settings),
              testing::ContainsRegex("-s 10.244.0.0/16 .*-j POINTSMAN-IPT-X"));
  EXPECT_THAT(RulesOf(entry, settings),
              Not(testing::ContainsRegex("-s 10.244.0.0/16 .*-j POINTSMAN-IPT-S")));
}

}  // namespace
}  // namespace pointsman::agent::xtables
