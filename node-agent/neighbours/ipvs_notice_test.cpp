// Calico's Felix is told of ipvs mode by an interface, and its answer is read out of each kind of
// table that it may have: with the kernel's own.
#include "node-agent/neighbours/ipvs_notice.h"

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "node-agent/netlink/link.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/run_tool.h"

namespace pointsman::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::RunTool;
using testing::TryTool;

std::optional<netlink::Link> Find(const char* name) {
  netlink::Socket socket(NETLINK_ROUTE);
  return netlink::FindLink(socket, name);
}

bool HasDummies() {
  TryTool({"modprobe", "dummy"});
  if (TryTool({"ip", "link", "add", "try", "type", "dummy"}) != 0) return false;
  RunTool({"ip", "link", "del", "try"});
  return true;
}

class MarkerLinkTest : public FreshNetnsTest {
 protected:
  void SetUp() override {
    FreshNetnsTest::SetUp();
    if (IsSkipped()) return;
    if (!HasDummies()) GTEST_SKIP() << "this kernel has no dummy interfaces";
  }
  MarkerLink marker_{"kube-ipvs0", "kube-ipvs-pm0"};
};

TEST_F(MarkerLinkTest, IsMadeKnownAsOursAndRemoved) {
  EXPECT_FALSE(marker_.Present());
  marker_.Remove();
  marker_.Make();
  ASSERT_TRUE(marker_.Present());
  const netlink::Link made = *Find("kube-ipvs0");
  EXPECT_EQ(made.kind, "dummy");
  EXPECT_EQ(made.alias, MarkerLink::kAlias);
  EXPECT_FALSE(made.up);
  EXPECT_EQ(RunTool({"ip", "address", "show", "dev", "kube-ipvs0"}).find("inet"),
            std::string::npos);
  marker_.Make();
  EXPECT_EQ(Find("kube-ipvs0")->index, made.index) << "the same one";
  MarkerLink("kube-ipvs0", "kube-ipvs-pm0").Remove();  // another process
  EXPECT_FALSE(marker_.Present());
}

TEST_F(MarkerLinkTest, SomebodyElsesIsLeftAlone) {
  RunTool({"ip", "link", "add", "kube-ipvs0", "type", "dummy"});
  RunTool({"ip", "link", "set", "kube-ipvs0", "alias", "pointsman or not"});
  const netlink::Link theirs = *Find("kube-ipvs0");
  marker_.Make();
  marker_.Remove();
  ASSERT_TRUE(marker_.Present());
  EXPECT_EQ(Find("kube-ipvs0")->index, theirs.index);
  EXPECT_EQ(Find("kube-ipvs0")->alias, theirs.alias);
}

TEST_F(MarkerLinkTest, OneThatSomebodyPutAddressesOnIsTheirs) {
  std::vector<std::string> addresses{"10.96.0.1/32"};
  if (std::filesystem::exists("/proc/net/if_inet6")) addresses.emplace_back("fd00:96::1/128");
  for (const std::string& address : addresses) {
    marker_.Make();
    RunTool({"ip", "address", "add", address, "dev", "kube-ipvs0"});
    marker_.Remove();
    ASSERT_TRUE(marker_.Present()) << address;
    EXPECT_EQ(Find("kube-ipvs0")->alias, "");
    RunTool({"ip", "link", "del", "kube-ipvs0"});
  }
  // An address that the kernel gives is nobody's.
  marker_.Make();
  RunTool({"ip", "link", "set", "kube-ipvs0", "up"});
  marker_.Remove();
  EXPECT_FALSE(marker_.Present());
}

// Killed before it had its alias, or its name.
TEST_F(MarkerLinkTest, WhatAKilledProcessLeftIsNoHindranceAndGoes) {
  RunTool({"ip", "link", "add", "kube-ipvs-pm0", "type", "dummy"});
  marker_.Make();
  EXPECT_EQ(Find("kube-ipvs0")->alias, MarkerLink::kAlias);
  EXPECT_FALSE(Find("kube-ipvs-pm0"));
  RunTool({"ip", "link", "add", "kube-ipvs-pm0", "type", "dummy"});
  marker_.Remove();
  EXPECT_FALSE(Find("kube-ipvs-pm0"));
  EXPECT_FALSE(marker_.Present());
}

// The parameter: "legacy" and "nft", of iptables; "calico", Felix's own table of nf_tables.
class FelixChainsTest : public FreshNetnsTest, public ::testing::WithParamInterface<std::string> {
 protected:
  void SetUp() override {
    FreshNetnsTest::SetUp();
    if (IsSkipped()) return;
    if (own_table() ? TryTool({"nft", "add", "table", "ip", "probe"}) != 0
                    : TryTool({"iptables-" + GetParam(), "-N", "PROBE"}) != 0)
      GTEST_SKIP() << "this kernel has no such tables";
  }
  bool own_table() const { return GetParam() == "calico"; }
  // As Felix writes it, as far as it is looked at.
  void Write(bool v4, bool for_ipvs) const {
    if (own_table()) {
      const std::string family = v4 ? "ip" : "ip6";
      RunTool({"nft", "add", "table", family, "calico"});
      for (const char* chain : {"filter-cali-INPUT", "filter-cali-forward-check"}) {
        RunTool({"nft", "add", "chain", family, "calico", chain});
        RunTool({"nft", "flush", "chain", family, "calico", chain});
      }
      if (for_ipvs)
        RunTool({"nft", "add", "rule", family, "calico", "filter-cali-INPUT", "counter", "jump",
                 "filter-cali-forward-check"});
      RunTool({"nft", "add", "rule", family, "calico", "filter-cali-INPUT", "accept"});
      return;
    }
    const std::string tool = (v4 ? "iptables-" : "ip6tables-") + GetParam();
    for (const char* chain : {"cali-INPUT", "cali-forward-check"}) {
      if (TryTool({tool, "-N", chain}) != 0) RunTool({tool, "-F", chain});
    }
    if (for_ipvs) RunTool({tool, "-A", "cali-INPUT", "-j", "cali-forward-check"});
    RunTool({tool, "-A", "cali-INPUT", "-j", "ACCEPT"});
    RunTool({tool, "-A", "cali-forward-check", "-j", "RETURN"});
  }
  std::string Where(bool v4) const {
    if (own_table()) return v4 ? "table ip calico of nf_tables" : "table ip6 calico of nf_tables";
    return "table filter of iptables-" + GetParam() + (v4 ? ", IPv4" : ", IPv6");
  }
};

TEST_P(FelixChainsTest, AreReadAsTheyAre) {
  FelixChains chains("");
  EXPECT_TRUE(chains.Read().empty());
  Write(true, false);
  auto places = chains.Read();
  ASSERT_EQ(places.size(), 1U);
  EXPECT_EQ(places[0].where, Where(true));
  EXPECT_FALSE(places[0].knows_ipvs) << "a chain that nobody asks is no answer";
  Write(true, true);
  places = chains.Read();
  ASSERT_EQ(places.size(), 1U);
  EXPECT_TRUE(places[0].knows_ipvs);
  Write(false, false);
  places = chains.Read();
  ASSERT_EQ(places.size(), 2U);
  EXPECT_EQ(places[1].where, Where(false));
  EXPECT_FALSE(places[1].knows_ipvs);
}

class IpvsNoticeTest : public FelixChainsTest {
 protected:
  void SetUp() override {
    FelixChainsTest::SetUp();
    if (!IsSkipped() && !HasDummies()) GTEST_SKIP() << "this kernel has no dummy interfaces";
  }
  MarkerLink marker_{IpvsNotice::kMarker, IpvsNotice::kMadeAs};
  IpvsNotice notice_{""};
};

TEST_P(IpvsNoticeTest, FelixIsToldAndItsAnswerAwaited) {
  EXPECT_EQ(notice_.Give(), "");
  EXPECT_EQ(notice_.Keep(), "");
  EXPECT_FALSE(marker_.Present()) << "nobody has to know";
  Write(true, false);
  Write(false, false);
  EXPECT_THAT(notice_.Give(), ::testing::AllOf(HasSubstr("cali-forward-check"),
                                               HasSubstr(Where(true)), HasSubstr(Where(false))));
  EXPECT_TRUE(marker_.Present());
  Write(true, true);
  EXPECT_THAT(notice_.Give(),
              ::testing::AllOf(::testing::Not(HasSubstr(Where(true))), HasSubstr(Where(false))));
  Write(false, true);
  EXPECT_EQ(notice_.Give(), "");
  notice_.TakeBack();
  EXPECT_FALSE(marker_.Present());
  EXPECT_THAT(notice_.Give(), HasSubstr("still has chain cali-forward-check"));
  EXPECT_FALSE(marker_.Present());
  EXPECT_EQ(notice_.Keep(), "") << "where ipvs mode serves it is made again at once";
  EXPECT_TRUE(marker_.Present());
}

TEST_P(IpvsNoticeTest, FelixInEbpfModeIsNotTold) {
  Write(true, false);
  EXPECT_NE(notice_.Give(), "");
  ASSERT_TRUE(marker_.Present());
  RunTool({"ip", "link", "add", IpvsNotice::kFelixEbpf, "type", "dummy"});
  EXPECT_EQ(notice_.Keep(), "");
  EXPECT_FALSE(marker_.Present()) << "it would start again and again";
  EXPECT_EQ(notice_.Give(), "");
  EXPECT_FALSE(marker_.Present());
}

INSTANTIATE_TEST_SUITE_P(Tables, IpvsNoticeTest, ::testing::Values("legacy", "nft", "calico"),
                         [](const auto& param) { return param.param; });
INSTANTIATE_TEST_SUITE_P(Tables, FelixChainsTest, ::testing::Values("legacy", "nft", "calico"),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace pointsman::agent
