#include "node-agent/agent/options.h"

#include <map>
#include <set>

#include <gmock/gmock.h>

#include "node-agent/config/doc_table.h"

namespace pointsman::agent {
namespace {

using testing::ContainerEq;
using testing::StartsWith;

std::optional<int> Parse(std::vector<std::string> arguments, Options& options) {
  std::string program = "pointsman-node-agent";
  std::vector<char*> argv{program.data()};
  for (std::string& argument : arguments)
    argv.push_back(argument.data());
  return ParseOptions(static_cast<int>(argv.size()), argv.data(), options);
}

std::vector<DocRow> Table() {
  return ReadDocTable(POINTSMAN_SOURCE_DIR "/docs/standalone.md", "| flag | here |");
}

// kube-proxy's flags that the agent has as its own -> a value; "": it stands alone.
const std::map<std::string, std::string>& OwnFlags() {
  static const std::map<std::string, std::string> flags{
      {"--cleanup", ""},
      {"--config", "/dev/null"},
      {"--healthz-bind-address", "127.0.0.1"},
      {"--healthz-port", "7"},
      {"--hostname-override", "node-7"},
      {"--kubeconfig", "/dev/null"},
      {"--logging-format", "json"},
      {"--master", "https://192.0.2.7"},
      {"--metrics-bind-address", "127.0.0.1"},
      {"--metrics-port", "7"},
      {"--v", "4"},
      {"--help", ""},
      {"--version", ""},
  };
  return flags;
}

std::string Join(const std::vector<std::string_view>& words) {
  std::string text;
  for (const std::string_view word : words)
    text += (text.empty() ? "" : ", ") + std::string(word);
  return text;
}

TEST(Options, TheTableHasEveryFlagAndWhatBecomesOfIt) {
  std::map<std::string, std::string> table;
  for (const DocRow& row : Table()) {
    EXPECT_TRUE(table.emplace(row.at(0), row.at(1)).second) << row.at(0) << " is there twice";
  }
  std::set<std::string> expected;
  for (const auto& [flag, value] : OwnFlags())
    expected.insert(flag);
  for (const KubeProxyFlag& flag : KubeProxyFlags()) {
    const std::string name(flag.name);
    expected.insert(name);
    switch (flag.kind) {
      case KubeProxyFlag::Kind::kIgnored:
        EXPECT_THAT(table[name], StartsWith("no effect")) << name;
        break;
      case KubeProxyFlag::Kind::kRefused:
        EXPECT_THAT(table[name], StartsWith("refused")) << name;
        break;
      default:
        EXPECT_EQ(table[name], Join(flag.fields)) << name;
    }
  }
  std::set<std::string> there;
  for (const auto& [flag, here] : table)
    there.insert(flag);
  EXPECT_THAT(there, ContainerEq(expected));
}

TEST(Options, EachFlagOfTheTableIsTaken) {
  for (const DocRow& row : Table()) {
    const std::string& name = row.at(0);
    const auto own = OwnFlags().find(name);
    if (own != OwnFlags().end()) {
      Options options;
      const auto code = Parse({own->second.empty() ? name : name + "=" + own->second}, options);
      const bool ends = name == "--help" || name == "--version";
      EXPECT_EQ(code, ends ? std::optional<int>(0) : std::nullopt) << name;
      continue;
    }
    std::string underscores = name.substr(2);
    std::replace(underscores.begin(), underscores.end(), '-', '_');
    for (const std::string& spelling : {name, "--" + underscores}) {
      Options options;
      EXPECT_EQ(Parse({spelling + "=true"}, options), std::nullopt) << spelling;
      EXPECT_TRUE(options.kube_proxy_flags.contains(name)) << spelling;
    }
  }
}

TEST(Options, UnderscoresOfValuesStay) {
  Options options;
  EXPECT_EQ(Parse({"--cluster_cidr=a_b", "--hostname_override", "node_7"}, options), std::nullopt);
  EXPECT_EQ(options.kube_proxy_flags["--cluster-cidr"], "a_b");
  EXPECT_EQ(options.node_name, "node_7");
}

// Command lines as they are found on nodes (reconstructed).
TEST(Options, CommandLinesOfProviders) {
  Options aks;
  EXPECT_EQ(Parse({"--conntrack-max-per-core=0", "--metrics-bind-address=0.0.0.0:10249",
                   "--kubeconfig=/dev/null", "--cluster-cidr=", "--detect-local-mode=ClusterCIDR",
                   "--pod-interface-name-prefix=", "--v=3"},
                  aks),
            std::nullopt);
  EXPECT_EQ(aks.verbosity, 3);
  EXPECT_EQ(aks.kube_proxy_flags["--pod-interface-name-prefix"], "");
  EXPECT_EQ(aks.kube_proxy_flags["--cluster-cidr"], "");
  const KubeProxyConfiguration configuration = ConfigurationFromFlags(aks.kube_proxy_flags);
  EXPECT_EQ(configuration.settings.conntrack.max_per_core, 0);
  EXPECT_EQ(configuration.settings.detect_local_mode, kube::DetectLocalMode::kNone);

  Options kops;
  EXPECT_EQ(Parse({"--conntrack-max-per-core=131072", "--hostname-override=i-0abc",
                   "--kubeconfig=/dev/null", "--master=https://127.0.0.1", "--oom-score-adj=-998",
                   "--v=2", "--metrics-bind-address=0.0.0.0:10249"},
                  kops),
            std::nullopt);
  EXPECT_EQ(ConfigurationFromFlags(kops.kube_proxy_flags).oom_score_adj, -998);

  Options rke;
  EXPECT_EQ(Parse({"--v=2", "--healthz-bind-address=0.0.0.0", "--cluster-cidr=10.42.0.0/16",
                   "--hostname-override=n1", "--kubeconfig=/dev/null"},
                  rke),
            std::nullopt);
  EXPECT_EQ(rke.healthz_bind_address, "0.0.0.0:10256");

  // k3s: what the user gives comes after the defaults.
  Options k3s;
  EXPECT_EQ(Parse({"--kubeconfig=/dev/zero", "--hostname-override=a", "--proxy-mode=iptables",
                   "--healthz-bind-address=127.0.0.1", "--nodeport-addresses=10.0.0.0/8", "--v=1",
                   "--kubeconfig=/dev/null", "--hostname-override=b", "--proxy-mode=ipvs",
                   "--ipvs-strict-arp=true", "--healthz-bind-address=", "--v=4",
                   "--nodeport-addresses=192.0.2.0/24,198.51.100.0/24"},
                  k3s)
                .value_or(0),
            0);
  EXPECT_EQ(k3s.node_name, "b");
  EXPECT_EQ(k3s.healthz_bind_address, "");
  EXPECT_EQ(k3s.verbosity, 4);
  EXPECT_EQ(k3s.kube_proxy_flags["--proxy-mode"], "ipvs");
  EXPECT_EQ(k3s.kube_proxy_flags["--nodeport-addresses"],
            "10.0.0.0/8,192.0.2.0/24,198.51.100.0/24");
}

TEST(Options, FlagsOfTheLogInEverySpelling) {
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"-v", "3"},
           {"-v=3"},
           {"-v3"},
           {"--v", "3"},
           {"--v=3", "--logtostderr", "--alsologtostderr=false", "--vmodule=proxier=4",
            "--add_dir_header", "--stderrthreshold=2", "--log_backtrace_at=", "--skip_headers=true",
            "--log_file_max_size=1800"}}) {
    Options options;
    EXPECT_EQ(Parse(arguments, options), std::nullopt) << arguments[0];
    EXPECT_EQ(options.verbosity, 3) << arguments[0];
  }
}

TEST(Options, AnEmptyValueIsOneThatWasNotGiven) {
  Options options;
  EXPECT_EQ(Parse({"--config=", "--kubeconfig=", "--master=", "--hostname-override=",
                   "--logging-format=", "--log-level=", "--metrics-bind-address="},
                  options),
            std::nullopt);
  EXPECT_EQ(options.config, "");
  EXPECT_EQ(options.kubeconfig, "");
  EXPECT_EQ(options.node_name, "");
  EXPECT_EQ(options.log_format, std::nullopt);
  EXPECT_EQ(options.log_level, std::nullopt);
  EXPECT_EQ(options.metrics_bind_address, "");  // off
  Options bad;
  EXPECT_NE(Parse({"--v="}, bad).value_or(0), 0);
  EXPECT_NE(Parse({"--masquerade-all="}, bad).value_or(0), 0);
}

TEST(Options, AFlagThatNobodyHasIsRefused) {
  Options options;
  EXPECT_NE(Parse({"--enable-dsr"}, options).value_or(0), 0);
}

}  // namespace
}  // namespace pointsman::agent
