#include "node-agent/neighbours/survey.h"

#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "kube/pointsman/limits.h"
#include "kube/text/text.h"
#include "node-agent/dataplane/mode_traits.h"

namespace pointsman::agent {
namespace {

using kube::Mode;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;

std::vector<Finding> SurveyOf(std::vector<Sign> signs) {
  return Survey({.found = std::move(signs)}, Neighbours());
}

std::vector<std::string_view> NamesOf(const std::vector<Finding>& findings) {
  std::vector<std::string_view> names;
  names.reserve(findings.size());
  for (const Finding& finding : findings)
    names.push_back(finding.neighbour->name);
  return names;
}

// A sign as the kernel would show it to that pattern.
Sign SignOf(const SignPattern& pattern) {
  std::string name(pattern.name);
  if (name.ends_with('*')) name.replace(name.size() - 1, 1, "x1");
  std::string where(pattern.table);
  if (!where.empty()) where += " of iptables-nft, IPv4";
  return {pattern.kind, name, where};
}

class SurveyTest : public ::testing::Test {
 protected:
  NeighbourReport Report(Mode mode, std::vector<Sign> signs) const {
    return ReportOn(mode, settings_, SurveyOf(std::move(signs)));
  }
  kube::ProxySettings settings_;
  const Sign npm_{SignKind::kChain, "AZURE-NPM", "filter of iptables-nft, IPv4"};
};

TEST_F(SurveyTest, ANodeWithoutNeighboursHasNone) {
  EXPECT_THAT(SurveyOf({}), IsEmpty());
  for (const ModeTraits& traits : AllModes())
    EXPECT_EQ(Report(traits.mode, {}), NeighbourReport{});
}

// Each row by each of its signs, alone.
TEST_F(SurveyTest, EachNeighbourIsFoundByEachOfItsSigns) {
  settings_.ipvs.strict_arp = true;
  settings_.iptables.masquerade_bit = settings_.nftables.masquerade_bit = 15;
  for (const Neighbour& neighbour : Neighbours()) {
    for (const SignPattern& pattern : neighbour.signs) {
      const std::vector<Finding> findings = SurveyOf({SignOf(pattern)});
      ASSERT_THAT(NamesOf(findings), Contains(neighbour.name)) << pattern.name;
      for (const ModeTraits& traits : AllModes()) {
        const NeighbourReport report = ReportOn(traits.mode, settings_, findings);
        const std::string begin = std::string(neighbour.name) + " (";
        const auto of_it = Contains(::testing::StartsWith(begin));
        const Level level = neighbour.Of(traits.mode).level;
        if (level == Level::kRefused) {
          EXPECT_THAT(report.refusals, of_it) << begin;
        } else {
          EXPECT_THAT(report.refusals, Not(of_it)) << begin;
        }
        if (level == Level::kWarning) {
          EXPECT_THAT(report.warnings, of_it) << begin;
        } else {
          EXPECT_THAT(report.warnings, Not(of_it)) << begin;
        }
      }
    }
  }
}

TEST_F(SurveyTest, ARefusalNamesTheSignTheReasonTheRemedyAndTheWayRoundIt) {
  const NeighbourReport report = Report(Mode::kIpvs, {npm_});
  EXPECT_THAT(report.warnings, IsEmpty());
  ASSERT_EQ(report.refusals.size(), 1U);
  EXPECT_THAT(report.refusals[0],
              AllOf(HasSubstr("azure-npm (Azure Network Policy Manager, found by chain AZURE-NPM "
                              "in table filter of iptables-nft, IPv4)"),
                    HasSubstr("mode ipvs"), HasSubstr("polices forwarded packets only"),
                    HasSubstr("choose iptables or nftables mode"),
                    HasSubstr("azure-npm in neighbours.accept")));
  EXPECT_EQ(Report(Mode::kIptables, {npm_}), NeighbourReport{});
}

TEST_F(SurveyTest, AcceptedByItsOwnNameARefusalIsAWarning) {
  settings_.neighbours.accept = {"calico"};
  EXPECT_EQ(Report(Mode::kIpvs, {npm_}).refusals.size(), 1U);
  settings_.neighbours.accept = {"calico", "azure-npm"};
  const NeighbourReport report = Report(Mode::kIpvs, {npm_});
  EXPECT_THAT(report.refusals, IsEmpty());
  EXPECT_THAT(report.warnings, ElementsAre(HasSubstr("(accepted)")));
}

TEST_F(SurveyTest, StrictArpCountsWhereItIsOn) {
  const Sign egress{SignKind::kLink, "antrea-egress0", ""};
  EXPECT_THAT(Report(Mode::kIpvs, {egress}).refusals, IsEmpty());
  settings_.ipvs.strict_arp = true;
  EXPECT_THAT(Report(Mode::kIpvs, {egress}).refusals, ElementsAre(HasSubstr("strictARP")));
  EXPECT_THAT(Report(Mode::kIptables, {egress}).refusals, IsEmpty());
}

TEST_F(SurveyTest, AnotherMasqueradeBitCountsInTheModesThatHaveIt) {
  const Sign flannel{SignKind::kChain, "FLANNEL-POSTRTG", "nat of iptables-legacy, IPv4"};
  for (const ModeTraits& traits : AllModes())
    EXPECT_THAT(Report(traits.mode, {flannel}).warnings, IsEmpty());
  settings_.iptables.masquerade_bit = 15;
  EXPECT_THAT(Report(Mode::kIpvs, {flannel}).warnings, ElementsAre(HasSubstr("0x4000")));
  EXPECT_THAT(Report(Mode::kNftables, {flannel}).warnings, IsEmpty());
  settings_.nftables.masquerade_bit = 3;
  EXPECT_THAT(Report(Mode::kNftables, {flannel}).warnings, ElementsAre(HasSubstr("0x4000")));
}

// No rule of another chain lets anything by it, of whoever.
TEST_F(SurveyTest, AForwardPolicyOfNfTablesIsAWarningWhereServicesAreForwarded) {
  const Sign drop{SignKind::kForwardPolicyDrop, "forward", "filter of nf_tables, inet"};
  const Sign flannel{SignKind::kChain, "FLANNEL-FWD", "filter of iptables-legacy, IPv4"};
  for (const Mode mode : {Mode::kIptables, Mode::kNftables})
    EXPECT_THAT(Report(mode, {drop, flannel}).warnings, ElementsAre(HasSubstr("policy drop")));
  for (const Mode mode : {Mode::kIpvs, Mode::kUserspace})
    EXPECT_THAT(Report(mode, {drop}).warnings, IsEmpty());
}

TEST_F(SurveyTest, NodeLocalDnsIsFineInEachMode) {
  for (const Mode mode : {Mode::kUserspace, Mode::kIptables, Mode::kIpvs, Mode::kNftables}) {
    const auto report = Report(mode, {{SignKind::kLinkAddress, "nodelocaldns", "10.96.0.10"}});
    EXPECT_THAT(report.refusals, IsEmpty());
    EXPECT_THAT(report.warnings, IsEmpty());
  }
}

// A link or a chain may be called anything by whoever may make one.
TEST_F(SurveyTest, HostileNamesDoNothingToMessages) {
  const std::string name("\x1b[2J\xff\n\xe2\x80\xae" + std::string(300, 'x'));
  for (const SignKind kind :
       {SignKind::kRuleIif, SignKind::kForwardPolicyDrop, SignKind::kIpvsByMark}) {
    const std::vector<Finding> findings = SurveyOf({{kind, name, name}});
    ASSERT_EQ(findings.size(), 1U);
    const std::string text = Describe(findings[0]);
    EXPECT_EQ(text::Escape(text), text);
    EXPECT_LT(text.size(), 250U);
  }
}

TEST_F(SurveyTest, StatusHasEachNeighbourWithTheVerdictOnEachMode) {
  settings_.neighbours.accept = {"azure-npm"};
  const auto findings = SurveyOf({npm_, {SignKind::kLink, "cilium_host", ""}});
  const auto status = ViewOf(findings, settings_, std::nullopt).neighbours;
  ASSERT_EQ(status.size(), 3U);
  EXPECT_EQ(status[0].name, "azure-npm");
  EXPECT_EQ(status[0].kind, "PolicyEngine");
  EXPECT_THAT(status[0].modes,
              ElementsAre(Pair("iptables", "Fine"), Pair("ipvs", "Accepted"),
                          Pair("nftables", "Fine"), Pair("userspace", "Accepted")));
  EXPECT_EQ(status[1].name, "cilium");
  EXPECT_THAT(status[1].modes, Contains(Pair("ipvs", "Refused")));
  EXPECT_THAT(status[1].modes, Contains(Pair("userspace", "Refused")));
  EXPECT_THAT(status[1].message, HasSubstr("interface cilium_host"));
  EXPECT_EQ(status[2].name, "masquerade-mark");
  EXPECT_THAT(status[2].modes, Contains(Pair("ipvs", "Fine")));
}

TEST_F(SurveyTest, TheViewHasTheRefusalsOfTheModeThatServes) {
  const auto findings = SurveyOf({npm_});
  EXPECT_TRUE(ViewOf(findings, settings_, std::nullopt).known);
  EXPECT_THAT(ViewOf(findings, settings_, std::nullopt).refusals, IsEmpty());
  EXPECT_THAT(ViewOf(findings, settings_, Mode::kIptables).refusals, IsEmpty());
  EXPECT_THAT(ViewOf(findings, settings_, Mode::kIpvs).refusals,
              ElementsAre(HasSubstr("azure-npm")));
}

TEST_F(SurveyTest, NoMessageIsLongerThanTheSchemaTakes) {
  std::vector<Sign> all;
  for (const SignPattern& pattern : PatternsOf(Neighbours()))
    all.push_back(SignOf(pattern));
  settings_.ipvs.strict_arp = true;
  settings_.iptables.masquerade_bit = settings_.nftables.masquerade_bit = 15;
  const auto status = ViewOf(SurveyOf(all), settings_, std::nullopt).neighbours;
  EXPECT_EQ(status.size(), Neighbours().size());
  for (const kube::NeighbourStatus& neighbour : status)
    EXPECT_LE(neighbour.message.size(), kube::limits::kMaxNeighbourMessage) << neighbour.name;
}

}  // namespace
}  // namespace pointsman::agent
