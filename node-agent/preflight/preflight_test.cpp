#include "node-agent/preflight/preflight.h"

#include <filesystem>
#include <fstream>
#include <linux/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <thread>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sched.h>
#include <unistd.h>

#include "node-agent/preflight/kernel_probes.h"
#include "node-agent/preflight/required_modules.h"
#include "node-agent/testing/fresh_netns.h"

namespace pointsman::agent {
namespace {

using kube::Mode;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::Not;

std::string StateOf(const PreflightResult& result, const std::string& name) {
  for (const kube::ModuleStatus& module : result.modules) {
    if (module.name == name) return module.state;
  }
  return "not looked at";
}

bool HasLoadableModules() {
  return ::access("/proc/modules", F_OK) == 0;
}

TEST(RequiredModules, ReadsKernelReleases) {
  EXPECT_EQ(ParseKernelVersion("6.1.0-18-amd64"), (KernelVersion{6, 1}));
  EXPECT_EQ(ParseKernelVersion("4.18.0-553.el8_10.x86_64"), (KernelVersion{4, 18}));
  EXPECT_EQ(ParseKernelVersion("5.13-rc1"), (KernelVersion{5, 13}));
  EXPECT_EQ(ParseKernelVersion("plan9"), (KernelVersion{0, 0}));
}

TEST(RequiredModules, ConntrackHasItsOldNameOnOldKernels) {
  kube::ProxySettings settings;
  EXPECT_THAT(RequiredModules(Mode::kIpvs, settings, {4, 18}), Contains("nf_conntrack_ipv4"));
  EXPECT_THAT(RequiredModules(Mode::kIpvs, settings, {4, 18}), Not(Contains("nf_conntrack")));
  EXPECT_THAT(RequiredModules(Mode::kIpvs, settings, {4, 19}), Contains("nf_conntrack"));
  EXPECT_THAT(NftTableModules({4, 19}), Contains("nft_chain_nat_ipv4"));
}

TEST(RequiredModules, IpvsNeedsItsScheduler) {
  kube::ProxySettings settings;
  settings.ipvs.scheduler = "wlc";
  EXPECT_THAT(RequiredModules(Mode::kIpvs, settings, {6, 1}), Contains("ip_vs_wlc"));
  EXPECT_THAT(RequiredModules(Mode::kIptables, settings, {6, 1}), Not(Contains("ip_vs")));
}

class PreflightTest : public FreshNetnsTest {};

TEST_F(PreflightTest, IptablesPasses) {
  PreflightResult result = RunPreflight(Mode::kIptables, {}, true);
  EXPECT_TRUE(result.passed) << result.message;
  EXPECT_EQ(result.reason, "PreflightPassed");
  EXPECT_THAT(result.modules,
              Each(Field(&kube::ModuleStatus::state, AnyOf("Builtin", "Loaded", "LoadedNow"))));
}

TEST_F(PreflightTest, NftablesPassesWhereItsRulesAreAccepted) {
  if (!KernelHasFacility("nft_chain_nat")) {
    // User-Mode Linux' kernel: it says so, and the node falls back.
    PreflightResult result = RunPreflight(Mode::kNftables, {}, true);
    EXPECT_FALSE(result.passed);
    EXPECT_EQ(result.reason, "ModuleMissing");
    EXPECT_THAT(result.message, HasSubstr("nft_chain_nat"));
    return;
  }
  PreflightResult result = RunPreflight(Mode::kNftables, {}, true);
  EXPECT_TRUE(result.passed) << result.message;
}

TEST(IpvsSctp, TheKernelsConfigurationTells) {
  const std::filesystem::path file =
      std::filesystem::temp_directory_path() / fmt::format("pm-config-{}", ::getpid());
  const auto says = [&](std::string_view text) {
    std::ofstream(file) << text;
    return IpvsHasSctp({"/does/not/exist", file.string()});
  };
  EXPECT_EQ(says("CONFIG_IP_VS=m\nCONFIG_IP_VS_PROTO_TCP=y\nCONFIG_IP_VS_PROTO_SCTP=y\n"), true);
  EXPECT_EQ(says("CONFIG_IP_VS=m\n# CONFIG_IP_VS_PROTO_SCTP is not set\n"), false);
  // The kernel's own word where no file knows: no IPVS here, or one with SCTP.
  EXPECT_NE(says("CONFIG_NET=y\n"), false);
  std::filesystem::remove(file);
}

TEST_F(PreflightTest, WhatMostServicesDoWithoutIsNotRequired) {
  for (const char* module : {"xt_recent", "xt_bpf"}) {
    EXPECT_THAT(RequiredModules(Mode::kIptables, {}, {6, 1}), Not(Contains(module)));
    EXPECT_THAT(OptionalModules(Mode::kIptables, false),
                Contains(Field(&OptionalModule::name, module)));
  }
  EXPECT_THAT(OptionalModules(Mode::kNftables, true),
              Contains(Field(&OptionalModule::name, "nft_fib_ipv6")));
  EXPECT_TRUE(OptionalModules(Mode::kNftables, false).empty());
}

TEST_F(PreflightTest, ExtraModulesOnlyWarn) {
  kube::ProxySettings settings;
  settings.modules.extra = {"no_such_module"};
  PreflightResult result = RunPreflight(Mode::kIptables, settings, true);
  EXPECT_TRUE(result.passed) << result.message;
  ASSERT_EQ(result.warnings.size(), 1U);
  EXPECT_THAT(result.warnings[0], HasSubstr("no_such_module"));
  EXPECT_EQ(StateOf(result, "no_such_module"), "Missing");
}

TEST_F(PreflightTest, KernelWithoutModulesIsAskedItself) {
  if (HasLoadableModules()) GTEST_SKIP() << "this kernel has loadable modules";
  if (KernelHasFacility("ip_vs")) GTEST_SKIP() << "this kernel has ip_vs built in";
  PreflightResult result = RunPreflight(Mode::kIpvs, {}, true);
  EXPECT_FALSE(result.passed);
  EXPECT_EQ(result.reason, "ModuleMissing");
  EXPECT_THAT(result.message, HasSubstr("has no ip_vs, ip_vs_rr"));
  EXPECT_THAT(result.message, HasSubstr("without loadable modules"));
  EXPECT_THAT(result.message, Not(HasSubstr("ip_set")));
  EXPECT_EQ(StateOf(result, "ip_vs"), "Missing");
  EXPECT_EQ(StateOf(result, "ip_set_hash_ipport"), "Builtin");
  EXPECT_EQ(StateOf(result, "nf_conntrack"), "Builtin");
}

TEST_F(PreflightTest, ProbesTellWhatIsThereFromWhatIsNot) {
  if (HasLoadableModules()) GTEST_SKIP() << "this kernel has loadable modules";
  // Seen in this kernel's configuration: nf_tables with these, no ip_vs, no dummy.
  for (const char* there : {"nft_masq", "nft_nat", "nft_ct", "xt_statistic", "xt_bpf",
                            "ip_set_hash_netport", "iptable_nat"}) {
    EXPECT_TRUE(KernelHasFacility(there)) << there;
  }
  for (const char* absent : {"ip_vs", "ip_vs_rr", "nft_zebra", "xt_zebra", "zebra"}) {
    EXPECT_FALSE(KernelHasFacility(absent)) << absent;
  }
}

// The rest needs a kernel whose modules may be loaded at will: a test kernel.
class ModuleTest : public FreshNetnsTest {
 protected:
  void SetUp() override {
    FreshNetnsTest::SetUp();
    if (IsSkipped()) return;
    if (!HasLoadableModules() || ::access("/usr/lib/uml/modules", F_OK) != 0 ||
        !std::filesystem::exists("/lib/modules/" +
                                 RunPreflight(Mode::kIptables, {}, false).kernel_release)) {
      GTEST_SKIP() << "needs a kernel with its modules in /lib/modules";
    }
  }
};

TEST_F(ModuleTest, EverySchedulerLoads) {
  for (const char* scheduler :
       {"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "sed", "nq", "fo", "ovf"}) {
    kube::ProxySettings settings;
    settings.ipvs.scheduler = scheduler;
    const std::string module = std::string("ip_vs_") + scheduler;
    PreflightResult look = RunPreflight(Mode::kIpvs, settings, false);
    EXPECT_TRUE(look.passed) << look.message;
    EXPECT_EQ(StateOf(look, module), "Loadable");
    PreflightResult load = RunPreflight(Mode::kIpvs, settings, true);
    EXPECT_TRUE(load.passed) << load.message;
    EXPECT_EQ(StateOf(load, module), "LoadedNow");
    EXPECT_EQ(StateOf(RunPreflight(Mode::kIpvs, settings, true), module), "Loaded");
  }
}

TEST_F(ModuleTest, UnknownSchedulerIsNamed) {
  kube::ProxySettings settings;
  settings.ipvs.scheduler = "zebra";
  PreflightResult result = RunPreflight(Mode::kIpvs, settings, true);
  EXPECT_FALSE(result.passed);
  EXPECT_EQ(result.reason, "ModuleMissing");
  EXPECT_THAT(result.message, HasSubstr("has no ip_vs_zebra (neither built in"));
}

TEST_F(ModuleTest, WithoutTheModulesDirectoryIpvsIsMissing) {
  std::filesystem::path root = std::filesystem::temp_directory_path() / "pmi-empty-root";
  std::filesystem::create_directories(root);
  kube::ProxySettings settings;
  settings.ipvs.scheduler = "twos";  // no kernel here has it loaded
  PreflightResult result = RunPreflight(Mode::kIpvs, settings, true, root.string());
  EXPECT_FALSE(result.passed);
  EXPECT_EQ(result.reason, "ModuleMissing");
  EXPECT_EQ(StateOf(result, "ip_vs_twos"), "Missing");
  EXPECT_THAT(result.message, HasSubstr("does not exist: mount the host's /lib/modules"));
}

TEST_F(ModuleTest, RequireLoadedLoadsNothing) {
  kube::ProxySettings settings;
  settings.modules.policy = kube::ModulePolicy::kRequireLoaded;
  settings.modules.extra = {"sctp"};
  PreflightResult result = RunPreflight(Mode::kIptables, settings, true);
  EXPECT_EQ(StateOf(result, "sctp"), "Loadable");
  ASSERT_EQ(result.warnings.size(), 1U);
  EXPECT_THAT(result.warnings[0], HasSubstr("RequireLoaded"));
}

TEST_F(ModuleTest, DashesAndAliasesAreUnderstood) {
  kube::ProxySettings settings;
  settings.modules.extra = {"ip-vs", "ipt_recent"};
  PreflightResult result = RunPreflight(Mode::kIptables, settings, true);
  EXPECT_TRUE(result.warnings.empty());
}

TEST_F(ModuleTest, TheAdministratorsNoIsHonoured) {
  // modprobe.d of another root, whose /lib/modules is the real one.
  std::filesystem::path root = std::filesystem::temp_directory_path() / "pmi-root";
  std::filesystem::create_directories(root / "etc/modprobe.d");
  std::filesystem::create_directories(root / "lib");
  std::filesystem::create_directory_symlink("/lib/modules", root / "lib/modules");
  std::ofstream(root / "etc/modprobe.d/no.conf") << "blacklist tun\ninstall sctp /bin/true\n";
  kube::ProxySettings settings;
  settings.modules.extra = {"tun", "sctp"};
  PreflightResult result = RunPreflight(Mode::kIptables, settings, true, root.string());
  ASSERT_EQ(result.warnings.size(), 2U);
  EXPECT_THAT(result.warnings[0], HasSubstr("blacklisted"));
  EXPECT_THAT(result.warnings[1], HasSubstr("install sctp /bin/true"));
}

TEST_F(ModuleTest, WithoutTheCapabilityItSaysSo) {
  kube::ProxySettings settings;
  settings.modules.extra = {"sctp"};
  PreflightResult result;
  // What this thread starts has only what is in its bounding set.
  int dropped = -1;
  std::thread([&] {
    dropped = ::prctl(PR_CAPBSET_DROP, CAP_SYS_MODULE, 0, 0, 0);
    result = RunPreflight(Mode::kIptables, settings, true);
  }).join();
  ASSERT_EQ(dropped, 0);
  ASSERT_FALSE(result.warnings.empty());
  EXPECT_THAT(result.warnings.back(), HasSubstr("CAP_SYS_MODULE"));
}

}  // namespace
}  // namespace pointsman::agent
