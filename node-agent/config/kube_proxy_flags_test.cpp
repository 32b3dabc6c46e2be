#include "node-agent/config/kube_proxy_flags.h"

#include <stdexcept>

#include <gmock/gmock.h>

namespace pointsman::agent {
namespace {

using testing::Contains;
using testing::HasSubstr;

std::string Refusal(const KubeProxyFlagValues& values) {
  try {
    ConfigurationFromFlags(values);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  ADD_FAILURE() << "accepted";
  return "";
}

TEST(KubeProxyFlags, SetTheFieldsTheyStandFor) {
  const KubeProxyConfiguration config =
      ConfigurationFromFlags({{"--proxy-mode", "ipvs"},
                              {"--cluster-cidr", "10.244.0.0/16"},
                              {"--ipvs-scheduler", "wlc"},
                              {"--ipvs-exclude-cidrs", "10.0.0.0/8,192.168.0.0/16"},
                              {"--ipvs-strict-arp", "true"},
                              {"--masquerade-all", "true"},
                              {"--iptables-masquerade-bit", "15"},
                              {"--conntrack-tcp-timeout-established", "2h"},
                              {"--nodeport-addresses", "10.0.0.0/8"},
                              {"--oom-score-adj", "-998"},
                              {"--kube-api-qps", "7.5"},
                              {"--bind-address-hard-fail", "1"}});
  EXPECT_EQ(config.settings.mode, kube::Mode::kIpvs);
  ASSERT_EQ(config.settings.cluster_cidrs.size(), 1U);
  EXPECT_EQ(config.settings.cluster_cidrs[0].ToString(), "10.244.0.0/16");
  EXPECT_EQ(config.settings.ipvs.scheduler, "wlc");
  EXPECT_EQ(config.settings.ipvs.exclude_cidrs.size(), 2U);
  EXPECT_TRUE(config.settings.ipvs.strict_arp);
  EXPECT_TRUE(config.settings.iptables.masquerade_all);
  EXPECT_TRUE(config.settings.nftables.masquerade_all);
  EXPECT_EQ(config.settings.iptables.masquerade_bit, 15);
  EXPECT_EQ(config.settings.conntrack.tcp_established_timeout, std::chrono::hours(2));
  EXPECT_EQ(config.settings.node_port_addresses.size(), 1U);
  EXPECT_EQ(config.oom_score_adj, -998);
  EXPECT_DOUBLE_EQ(config.qps, 7.5);
  EXPECT_TRUE(config.bind_address_hard_fail);
}

TEST(KubeProxyFlags, ABadValueNamesTheFlagAndTheField) {
  EXPECT_THAT(Refusal({{"--proxy-mode", "fast"}}), HasSubstr("--proxy-mode: mode: \"fast\""));
  EXPECT_THAT(Refusal({{"--proxy-mode", "ipvs"}, {"--ipvs-exclude-cidrs", "10.0.0.0/8,x"}}),
              HasSubstr("--ipvs-exclude-cidrs: ipvs.excludeCIDRs[1]"));
  EXPECT_THAT(Refusal({{"--conntrack-min", "many"}}), HasSubstr("--conntrack-min: conntrack.min"));
  EXPECT_THAT(Refusal({{"--masquerade-all", "perhaps"}}),
              HasSubstr("--masquerade-all: iptables.masqueradeAll"));
  EXPECT_THAT(Refusal({{"--profiling", "perhaps"}}), HasSubstr("--profiling: enableProfiling"));
  EXPECT_THAT(Refusal({{"--write-config-to", "/tmp/x"}}), HasSubstr("--config"));
}

TEST(KubeProxyFlags, AnEmptyValueIsOneThatWasNotGiven) {
  const KubeProxyConfiguration config = ConfigurationFromFlags({{"--cluster-cidr", ""},
                                                                {"--proxy-mode", ""},
                                                                {"--detect-local-mode", ""},
                                                                {"--pod-bridge-interface", ""},
                                                                {"--nodeport-addresses", ""},
                                                                {"--ipvs-scheduler", ""},
                                                                {"--feature-gates", ""},
                                                                {"--write-config-to", ""},
                                                                {"--init-only", "false"}});
  EXPECT_EQ(config.settings, ConfigurationFromFlags({}).settings);
  // But a number, a time or a word is none (pflag).
  EXPECT_THAT(Refusal({{"--conntrack-min", ""}}), HasSubstr("--conntrack-min: conntrack.min"));
  EXPECT_THAT(Refusal({{"--iptables-sync-period", ""}}), HasSubstr("iptables.syncPeriod"));
}

TEST(KubeProxyFlags, NumbersAreWrittenAsInGo) {
  const KubeProxyConfiguration config =
      ConfigurationFromFlags({{"--conntrack-min", "0x10"},
                              {"--conntrack-max-per-core", "1_000"},
                              {"--kube-api-qps", "1e2"}});
  EXPECT_EQ(config.settings.conntrack.min, 16);
  EXPECT_EQ(config.settings.conntrack.max_per_core, 1000);
  EXPECT_EQ(config.qps, 100);
}

TEST(KubeProxyFlags, IgnoredOnesAreSaid) {
  const KubeProxyConfiguration config =
      ConfigurationFromFlags({{"--logtostderr", "true"}, {"--feature-gates", "A=true"}});
  EXPECT_THAT(config.notes, Contains(HasSubstr("--logtostderr")));
  EXPECT_THAT(config.notes, Contains(HasSubstr("--feature-gates")));
  EXPECT_THAT(ConfigurationFromFlags({{"--profiling", "true"}}).notes,
              Contains(testing::StartsWith("--profiling: enableProfiling: ")));
}

TEST(KubeProxyFlags, BesideAFileTheyAreIgnoredAsInKubeProxy) {
  const auto notes = NotesOnIgnoredFlags({{"--proxy-mode", "ipvs"}});
  ASSERT_EQ(notes.size(), 1U);
  EXPECT_THAT(notes[0], HasSubstr("--proxy-mode is ignored"));
  EXPECT_THAT(notes[0], HasSubstr("set mode in the file"));
  EXPECT_THROW(NotesOnIgnoredFlags({{"--init-only", "true"}}), std::invalid_argument);
}

TEST(KubeProxyFlags, AZeroOfEveryKindIsRead) {
  for (const KubeProxyFlag& flag : KubeProxyFlags()) {
    EXPECT_TRUE(flag.name.starts_with("--")) << flag.name;
    EXPECT_FALSE(flag.fields.empty()) << flag.name;
    if (flag.kind == KubeProxyFlag::Kind::kBool) {
      EXPECT_NO_THROW(ConfigurationFromFlags({{std::string(flag.name), "false"}})) << flag.name;
    }
    if (flag.kind == KubeProxyFlag::Kind::kNumber) {
      EXPECT_NO_THROW(ConfigurationFromFlags({{std::string(flag.name), "0"}})) << flag.name;
    }
  }
}

}  // namespace
}  // namespace pointsman::agent
