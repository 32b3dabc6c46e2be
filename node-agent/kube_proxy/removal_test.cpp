#include "node-agent/kube_proxy/removal.h"

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <string>
#include <sys/wait.h>
#include <vector>

#include <gmock/gmock.h>
#include <unistd.h>

#include "kube/testing/eventually.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/neighbours/proxies.h"
#include "node-agent/testing/run_tool.h"
#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent::kube_proxy {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::RunTool;
using testing::TryTool;

class KubeProxyRemovalTest : public FreshNetnsTest {
 protected:
  std::vector<std::string> Remove() {
    told_.clear();
    return RemoveLeftovers({.modules_root = "",
                            .others = [](const netlink::IpvsServer&) { return false; },
                            .drain_timeout = std::chrono::seconds(0),
                            .tell = [this](const std::string& what) { told_.push_back(what); }},
                           {});
  }
  std::vector<std::string> told_;
};

TEST_F(KubeProxyRemovalTest, WhereNothingIsItSaysSo) {
  EXPECT_THAT(Remove(), IsEmpty());
  EXPECT_THAT(told_, ElementsAre("nothing of kube-proxy's is here"));
}

TEST_F(KubeProxyRemovalTest, RulesOfEachVariantGo) {
  std::vector<std::string> variants;
  for (const char* variant : {"legacy", "nft"}) {
    try {
      xtables::IptablesTool tool(net::Family::kIPv4, variant);
      testing::KubeProxy("10.96.0.10", 80, "10.244.0.3:8080").Sync(tool);
      variants.emplace_back(variant);
    } catch (const std::runtime_error&) {  // not this kernel's
    }
  }
  ASSERT_THAT(variants, Not(IsEmpty()));
  EXPECT_THAT(Remove(), IsEmpty());
  for (const std::string& variant : variants) {
    EXPECT_THAT(
        told_, Contains("iptables-" + variant + ", IPv4: removed 10 chains, and 12 jumps to them"));
    EXPECT_THAT(RunTool({"iptables-" + variant + "-save"}), Not(HasSubstr("KUBE-SERVICES")));
  }
}

// In a table of its own family of that name nothing is kube-proxy's.
TEST_F(KubeProxyRemovalTest, TablesOfNftablesModeGo) {
  if (TryTool({"nft", "add table ip kube-proxy"}) != 0) GTEST_SKIP() << "needs nf_tables";
  RunTool({"nft",
           "add chain ip kube-proxy services; add table ip6 kube-proxy; add table inet kube-proxy; "
           "add table ip mine"});
  EXPECT_THAT(Remove(), IsEmpty());
  EXPECT_THAT(told_, ElementsAre("removed nf_tables' table ip kube-proxy",
                                 "removed nf_tables' table ip6 kube-proxy"));
  EXPECT_EQ(RunTool({"nft", "list tables"}), "table inet kube-proxy\ntable ip mine\n");
}

// What says that a kube-proxy works here: neither a kubelet's chains nor ours do.
TEST_F(KubeProxyRemovalTest, TracesAreThoseOfEachMode) {
  const auto traces = [] { return Traces(""); };
  EXPECT_THAT(traces(), IsEmpty());
  std::vector<std::string> expected;
  for (const char* variant : {"legacy", "nft"}) {
    try {
      xtables::IptablesTool tool(net::Family::kIPv4, variant);
      tool.Restore("*nat\n:KUBE-MARK-MASQ - [0:0]\n:KUBE-POSTROUTING - [0:0]\nCOMMIT\n");
      EXPECT_EQ(traces(), expected);
      testing::KubeProxy("10.96.0.10", 80, "10.244.0.3:8080").Sync(tool);
      expected.push_back(std::string("chains of iptables-") + variant + ", IPv4");
      EXPECT_EQ(traces(), expected);
    } catch (const std::runtime_error&) {  // not this kernel's
    }
  }
  ASSERT_THAT(expected, Not(IsEmpty()));
  if (TryTool({"nft", "add table ip kube-proxy"}) == 0)
    expected.emplace_back("table ip kube-proxy of nf_tables");
  if (TryTool({"ip", "link", "add", "kube-ipvs0", "type", "dummy"}) == 0) {
    expected.emplace_back("interface kube-ipvs0");
    std::sort(expected.begin(), expected.end());
  }
  EXPECT_EQ(traces(), expected);
  EXPECT_THAT(Remove(), IsEmpty());
  EXPECT_THAT(traces(), IsEmpty());
}

// Beside Calico ours needs it in ipvs mode: it is not to go and to come again.
TEST_F(KubeProxyRemovalTest, TheInterfaceCanBecomeOurs) {
  if (TryTool({"ip", "link", "add", "kube-ipvs0", "type", "dummy"}) != 0)
    GTEST_SKIP() << "needs dummy interfaces";
  for (const char* address : {"10.96.0.1/32", "10.96.0.10/32"})
    RunTool({"ip", "address", "add", address, "dev", "kube-ipvs0"});
  const auto index = [] {
    const std::string shown = RunTool({"ip", "-o", "link", "show", "kube-ipvs0"});
    return shown.substr(0, shown.find(':'));
  };
  const std::string before = index();
  const auto take_over = [this] {
    told_.clear();
    return RemoveLeftovers({.modules_root = "",
                            .others = [](const netlink::IpvsServer&) { return false; },
                            .take_over_link = true,
                            .tell = [this](const std::string& what) { told_.push_back(what); }},
                           {});
  };
  EXPECT_THAT(take_over(), IsEmpty());
  EXPECT_THAT(told_, ElementsAre("took over interface kube-ipvs0, without its addresses"));
  EXPECT_EQ(index(), before);
  EXPECT_THAT(RunTool({"ip", "link", "show", "kube-ipvs0"}), HasSubstr("alias pointsman"));
  EXPECT_THAT(RunTool({"ip", "address", "show", "dev", "kube-ipvs0"}), Not(HasSubstr("10.96.")));
  EXPECT_THAT(Traces(""), IsEmpty());
  EXPECT_THAT(take_over(), IsEmpty());
  EXPECT_THAT(told_, ElementsAre("nothing of kube-proxy's is here"));
}

// By its name and its network namespace.
TEST_F(KubeProxyRemovalTest, AKubeProxyThatRunsIsSeen) {
  EXPECT_EQ(RunningKubeProxy(), 0);
  const std::filesystem::path directory =
      std::filesystem::temp_directory_path() / ("pm-kube-proxy-" + std::to_string(::getpid()));
  std::filesystem::create_directories(directory);
  const std::string program = directory / "kube-proxy";
  std::filesystem::copy_file("/bin/sleep", program);
  const pid_t child = ::fork();
  if (child == 0) {
    ::execl(program.c_str(), program.c_str(), "600", nullptr);
    ::_exit(127);
  }
  EXPECT_TRUE(Eventually([&] { return RunningKubeProxy() == child; }));
  ASSERT_TRUE(EnterFreshNetns());
  EXPECT_EQ(RunningKubeProxy(), 0) << "it is another node's";
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace pointsman::agent::kube_proxy
