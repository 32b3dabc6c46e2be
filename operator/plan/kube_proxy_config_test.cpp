#include "operator/plan/kube_proxy_config.h"

#include <filesystem>
#include <fstream>
#include <iterator>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kube/config/yaml_json.h"
#include "kube/pointsman/limits.h"
#include "kube/pointsman/proxy_configuration.h"

namespace pointsman::op {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

kube::ProxySettings Settings(const char* spec) {
  std::vector<kube::FieldError> errors;
  const auto parsed = kube::ProxyConfigurationSpecFromJson(json::parse(spec), errors);
  EXPECT_TRUE(errors.empty()) << kube::Summarize(errors);
  return parsed.settings;
}

template <typename F>
std::string Refusal(F&& what) {
  try {
    what();
    return "accepted";
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
}

constexpr const char* kHead =
    "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

std::string Rendered(const std::string& rest, const char* spec, std::optional<int> minor = {}) {
  const kube::ProxySettings settings = Settings(spec);
  const json asked = AskedFields(settings, nullptr);
  CheckKubeProxyCan(settings, asked, kHead + rest, minor);
  const std::string text = WithAsked(kHead + rest, asked);
  EXPECT_TRUE(SaysAsked(text, asked));
  EXPECT_EQ(text.substr(0, std::string(kHead).size()), kHead);
  return text.substr(std::string(kHead).size());
}

// The template's spec as kubeadm makes it, shortened.
json Kubeadm() {
  return json::parse(R"json({
    "containers": [{"name": "kube-proxy", "image": "registry.k8s.io/kube-proxy:v1.31.2",
      "command": ["/usr/local/bin/kube-proxy", "--config=/var/lib/kube-proxy/config.conf",
                  "--hostname-override=$(NODE_NAME)"],
      "volumeMounts": [{"mountPath": "/var/lib/kube-proxy", "name": "kube-proxy"},
                       {"mountPath": "/run/xtables.lock", "name": "xtables-lock"},
                       {"mountPath": "/lib/modules", "name": "lib-modules", "readOnly": true}]}],
    "volumes": [{"name": "kube-proxy", "configMap": {"name": "kube-proxy", "defaultMode": 420}},
                {"name": "xtables-lock", "hostPath": {"path": "/run/xtables.lock"}},
                {"name": "lib-modules", "hostPath": {"path": "/lib/modules"}}]
})json");
}

TEST(KubeProxyFile, IsFoundWhereInstallersPutIt) {
  EXPECT_EQ(FindKubeProxyFile(Kubeadm()), (KubeProxyFile{"kube-proxy", "config.conf", 31}));
  json eks = Kubeadm();
  eks["containers"][0]["command"] = {"kube-proxy", "--v=2",
                                     "--config=/var/lib/kube-proxy-config/config"};
  eks["containers"][0]["image"] = "602.dkr.ecr/eks/kube-proxy:v1.29.0-minimal-eksbuild.1";
  eks["containers"][0]["volumeMounts"] = {
      {{"mountPath", "/var/lib/kube-proxy/"}, {"name", "kubeconfig"}},
      {{"mountPath", "/var/lib/kube-proxy-config/"}, {"name", "config"}}};
  eks["volumes"] = {{{"name", "kubeconfig"}, {"configMap", {{"name", "kube-proxy"}}}},
                    {{"name", "config"}, {"configMap", {{"name", "kube-proxy-config"}}}}};
  EXPECT_EQ(FindKubeProxyFile(eks), (KubeProxyFile{"kube-proxy-config", "config", 29}));

  json other = Kubeadm();
  other["containers"][0]["command"] = {"kube-proxy"};
  other["containers"][0]["args"] = {"--config", "/etc/kp.yaml"};
  other["containers"][0]["image"] = "registry:5000/kube-proxy@sha256:00";
  other["containers"][0]["volumeMounts"] = {
      {{"mountPath", "/etc"}, {"name", "etc"}},
      {{"mountPath", "/etc/kp.yaml"}, {"name", "kube-proxy"}, {"subPath", "deep.yaml"}}};
  other["volumes"][0]["configMap"]["items"] = {{{"key", "k"}, {"path", "deep.yaml"}}};
  EXPECT_EQ(FindKubeProxyFile(other), (KubeProxyFile{"kube-proxy", "k", std::nullopt}));
}

TEST(KubeProxyFile, WhatCannotBeChangedIsSaidWithARemedy) {
  const auto refusal = [](const json& spec) { return Refusal([&] { FindKubeProxyFile(spec); }); };
  json flags = Kubeadm();  // AKS
  flags["containers"][0]["command"] = {"kube-proxy", "--proxy-mode=ipvs"};
  EXPECT_THAT(refusal(flags), HasSubstr("has the flag --config"));
  EXPECT_THAT(refusal(json::object()), HasSubstr("--config"));
  json host = Kubeadm();
  host["volumes"][0] = {{"name", "kube-proxy"}, {"hostPath", {{"path", "/etc"}}}};
  EXPECT_THAT(refusal(host), HasSubstr("volume \"kube-proxy\", which is no ConfigMap's"));
  json none = Kubeadm();
  none["containers"][0]["volumeMounts"] = json::array();
  EXPECT_THAT(refusal(none), HasSubstr("\"/var/lib/kube-proxy/config.conf\" is in no volume"));
  json items = Kubeadm();
  items["volumes"][0]["configMap"]["items"] = {{{"key", "k"}, {"path", "another"}}};
  EXPECT_THAT(refusal(items), HasSubstr("no key of ConfigMap \"kube-proxy\""));
  for (const char* odd : {"null", "1", "[]", R"({"containers": 1})",
                          R"({"containers": [1, {"command": [1, "--config=/a"]}]})"})
    EXPECT_NE(refusal(json::parse(odd)), "accepted");
}

TEST(KubeProxyFile, Mode) {
  EXPECT_EQ(ModeOfKubeProxyFile(std::string(kHead) + "mode: ipvs\n"), kube::Mode::kIpvs);
  EXPECT_EQ(ModeOfKubeProxyFile(std::string(kHead) + "mode: \"\"\n"), kube::Mode::kIptables);
  EXPECT_EQ(ModeOfKubeProxyFile(kHead), kube::Mode::kIptables);
  for (const char* mode : {"mode: userspace\n", "mode: kernelspace\n", "mode: [ipvs]\n"})
    EXPECT_THAT(Refusal([&] { ModeOfKubeProxyFile(std::string(kHead) + mode); }),
                HasSubstr("mode: is none of"));
  EXPECT_THAT(Refusal([] { ModeOfKubeProxyFile("kind: KubeletConfiguration\n"); }),
              HasSubstr("is no KubeProxyConfiguration"));
}

TEST(KubeProxyFile, OnlyTheModeIsAskedForByDefault) {
  EXPECT_EQ(AskedFields(Settings(R"({"mode": "nftables"})"), nullptr),
            json({{"mode", "nftables"}}));
  const auto settings = Settings(R"({"mode": "ipvs", "fallbackModes": [],
      "handover": {"drainTimeout": "1s"}, "modules": {"policy": "RequireLoaded"},
      "userspace": {"udpIdleTimeout": "1s"}, "ipvs": {"scheduler": "lc", "syncPeriod": "30s"},
      "conntrack": {"min": 0}})");
  EXPECT_EQ(
      AskedFields(settings, nullptr),
      json::parse(R"({"mode": "ipvs", "ipvs": {"scheduler": "lc"}, "conntrack": {"min": 0}})"));
}

TEST(KubeProxyFile, AFieldThatGoesBackToItsDefaultIsAskedFor) {
  const auto before =
      Settings(R"({"mode": "ipvs", "ipvs": {"scheduler": "lc"}, "clusterCIDR": "10.0.0.0/8"})");
  EXPECT_EQ(
      AskedFields(Settings(R"({"mode": "ipvs", "ipvs": {"strictARP": true}})"), &before),
      json::parse(
          R"({"mode": "ipvs", "clusterCIDR": "", "ipvs": {"scheduler": "rr", "strictARP": true}})"));
}

TEST(KubeProxyFile, WhatItSaysAlreadyIsNotTouched) {
  EXPECT_EQ(Rendered("mode: ipvs\nipvs:\n  # why\n  syncPeriod: 1m # c\n  scheduler: rr\n",
                     R"({"mode": "ipvs", "ipvs": {"syncPeriod": "60s", "scheduler": "lc"}})"),
            "mode: ipvs\nipvs:\n  # why\n  syncPeriod: 1m # c\n  scheduler: lc\n");
  EXPECT_EQ(Rendered("mode: \"\"\n", R"({"mode": "iptables"})"), "mode: \"\"\n");
  EXPECT_EQ(Rendered("unknown: 1", R"({"mode": "nftables"})"), "unknown: 1\nmode: nftables\n");
}

TEST(KubeProxyFile, WhatKubeProxyWouldNotDoIsRefused) {
  const auto refusal = [](const char* spec, std::optional<int> minor, const char* rest = "") {
    return Refusal([&] { Rendered(rest, spec, minor); });
  };
  constexpr const char* kNftables = R"({"mode": "nftables"})";
  constexpr const char* kIpvs = R"({"mode": "ipvs"})";
  EXPECT_THAT(refusal(kNftables, 28), HasSubstr("nftables needs kube-proxy 1.29"));
  EXPECT_THAT(refusal(kNftables, 30), HasSubstr("featureGates: {NFTablesProxyMode: true}"));
  EXPECT_EQ(refusal(kNftables, 30, "featureGates: {NFTablesProxyMode: true}\n"), "accepted");
  EXPECT_EQ(refusal(kNftables, 31), "accepted");
  EXPECT_EQ(refusal(kNftables, std::nullopt), "accepted");
  EXPECT_EQ(refusal(kIpvs, 20), "accepted");
  EXPECT_EQ(refusal(kIpvs, 39), "accepted");
  EXPECT_THAT(refusal(kIpvs, 40), HasSubstr("KubeProxyIPVS: true"));
  EXPECT_THAT(refusal(kIpvs, 43), HasSubstr("no mode ipvs any more"));
  EXPECT_THAT(refusal(R"({"mode": "userspace"})", 20), HasSubstr("spec.mode"));
  EXPECT_THAT(refusal(R"({"mode": "ipvs", "ipvs": {"scheduler": "mh"}})", 30),
              HasSubstr("spec.ipvs.scheduler"));
  EXPECT_THAT(refusal(R"({"mode": "ipvs", "conntrack": {"tcpBeLiberal": true}})", 28),
              HasSubstr("spec.conntrack.tcpBeLiberal: needs kube-proxy 1.29"));
  EXPECT_THAT(refusal(R"({"mode": "ipvs", "nodePortAddresses": ["primary", "10.0.0.0/8"]})", 30),
              HasSubstr("spec.nodePortAddresses"));
}

// Files as they are found on nodes: mode ipvs → nftables and back leaves the bytes as they were,
// unless the file did not say its mode.
TEST(KubeProxyFile, FilesOfRealNodes) {
  size_t rendered = 0;
  for (const auto& entry : std::filesystem::directory_iterator(POINTSMAN_KUBE_PROXY_FILES)) {
    std::ifstream in(entry.path());
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    std::string there;
    try {
      there = WithAsked(text, {{"mode", "nftables"}});
    } catch (const std::invalid_argument&) {
      continue;
    }
    ++rendered;
    EXPECT_EQ(ModeOfKubeProxyFile(there), kube::Mode::kNftables) << entry;
    const json mode = kube::ParseYaml(text).value.value("mode", json());
    if (!mode.is_string() || mode.get_ref<const std::string&>().empty()) continue;
    EXPECT_EQ(WithAsked(there, {{"mode", mode}}), text) << entry;
  }
  EXPECT_GE(rendered, 15U);
}

TEST(KubeProxyFile, SaysWhereItsKubeProxyAnswers) {
  const auto at = [](const std::string& rest) { return AddressesOfKubeProxyFile(kHead + rest); };
  const KubeProxyAddresses both =
      at("healthzBindAddress: 0.0.0.0:10256\nmetricsBindAddress: '[::1]:10249'\n");
  EXPECT_EQ(both.healthz, "0.0.0.0:10256");
  EXPECT_EQ(both.metrics, "[::1]:10249");
  const std::string most(kube::limits::kMaxBindAddress, 'a');
  EXPECT_EQ(at("metricsBindAddress: " + most + "\n").metrics, most);
  EXPECT_EQ(at("metricsBindAddress: a" + most + "\n").metrics, "") << "no NodeProxy can have it";
  const KubeProxyAddresses none = at("healthzBindAddress: null\nmetricsBindAddress: 10249\n");
  EXPECT_EQ(none.healthz + none.metrics, "");
  EXPECT_EQ(AddressesOfKubeProxyFile("healthzBindAddress: 0.0.0.0:10256\n").healthz, "");
  EXPECT_EQ(AddressesOfKubeProxyFile("{").healthz, "");
}

}  // namespace
}  // namespace pointsman::op
