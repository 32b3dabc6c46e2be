#include "node-agent/testing/neighbours/kube_proxy_process.h"

#include <csignal>
#include <cstdio>
#include <ctime>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "kube/config/yaml_json.h"
#include "kube/serve/retrying_http_server.h"
#include "node-agent/testing/run_tool.h"

namespace pointsman::agent::testing {
namespace {

bool LoadIpvs() {
  if (TryTool({"ipvsadm", "-Ln"}) != 0) return false;
  for (const char* module : {"ip_vs_rr", "dummy", "ip_set_hash_ip", "ip_set_hash_ipport",
                             "ip_set_hash_ipportip", "ip_set_bitmap_port"})
    TryTool({"modprobe", module});
  return true;
}

// What this kernel lacks for table "ip kube-proxy"; "": nothing. Nothing is written.
std::string WhyNotNftables() {
  std::string output;
  const int status = TryTool({"nft", "--check", R"(table ip kube-proxy-check {
  chain nat-prerouting { type nat hook prerouting priority -100; }
  chain nat-postrouting { type nat hook postrouting priority 100; masquerade fully-random; }
})"},
                             &output);
  return status == 0 ? "" : output;
}

std::string ModeToRun(const KubeProxyOptions& options) {
  std::string asked = options.file ? options.file->mode : options.mode;
  if (asked == "iptables") return asked;
  if (asked == "nftables") {
    if (const std::string why = WhyNotNftables(); !why.empty())
      throw std::runtime_error("nftables is not available on this host: " + why);
    return asked;
  }
  const bool ipvs = LoadIpvs();
  if (!ipvs && asked == "ipvs") throw std::runtime_error("can't use the IPVS proxier: no ip_vs");
  return ipvs ? "ipvs" : "iptables";
}

// `whole`: something may be there that was killed while it wrote.
void Write(const std::string& mode, const std::vector<ProxiedService>& services, bool whole) {
  if (mode == "iptables") {
    xtables::IptablesTool tool(net::Family::kIPv4);
    KubeProxyIptables(services).Sync(tool);
  } else if (mode == "ipvs") {
    if (whole || TryTool({"ip", "link", "show", "kube-ipvs0"}) != 0) MakeKubeProxyIpvs(services);
  } else if (whole || TryTool({"nft", "list map ip kube-proxy service-ips"}) != 0) {
    MakeKubeProxyNftables(services);
  }
}

// False: it is to be tried again. Others write to this kernel, too, and a tool that reads meanwhile
// can fail: iptables-save asks for the names of ipsets that have just gone.
bool Sync(const std::string& mode, const std::vector<ProxiedService>& services, bool whole) {
  try {
    Write(mode, services, whole);
    return true;
  } catch (const std::runtime_error& error) {
    std::fprintf(stderr, "sync failed, and is tried again: %s\n", error.what());
    return false;
  }
}

std::unique_ptr<kube::RetryingHttpServer> Serve(const std::string& address, const char* path,
                                                const std::string& body) {
  auto server = std::make_unique<kube::HttpServer>(address, 1);
  server->Handle(path, [body](const kube::ServedRequest&) {
    kube::ServedResponse response;
    response.body = body;
    return response;
  });
  return std::make_unique<kube::RetryingHttpServer>(std::move(server), path,
                                                    std::chrono::seconds(1));
}

std::string Address(const nlohmann::json& file, const char* field, const char* otherwise,
                    int port) {
  const std::string given = file.value(field, "");
  if (given.empty()) return fmt::format("{}:{}", otherwise, port);
  return given.find(':') == std::string::npos ? fmt::format("{}:{}", given, port) : given;
}

}  // namespace

KubeProxyFile ParseKubeProxyFile(std::string_view text) {
  const nlohmann::json file = kube::ParseYaml(text).value;
  if (!file.is_object() || file.value("kind", "") != "KubeProxyConfiguration" ||
      file.value("apiVersion", "") != "kubeproxy.config.k8s.io/v1alpha1")
    throw std::invalid_argument("no KubeProxyConfiguration of kubeproxy.config.k8s.io/v1alpha1");
  KubeProxyFile result;
  result.mode = file.value("mode", "");
  if (result.mode.empty()) result.mode = "iptables";
  if (result.mode != "iptables" && result.mode != "ipvs" && result.mode != "nftables")
    throw std::invalid_argument("mode: unknown proxy mode \"" + result.mode + "\"");
  result.healthz_bind_address = Address(file, "healthzBindAddress", "0.0.0.0", 10'256);
  result.metrics_bind_address = Address(file, "metricsBindAddress", "127.0.0.1", 10'249);
  result.cluster_cidr = file.value("clusterCIDR", "");
  return result;
}

void RunKubeProxy(const KubeProxyOptions& options) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT})
    sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const std::string mode = ModeToRun(options);
  const KubeProxyFile file =
      options.file.value_or(KubeProxyFile{mode, "0.0.0.0:10256", "127.0.0.1:10249", ""});
  const auto health = Serve(file.healthz_bind_address, "/healthz", "{}\n");
  const auto metrics = Serve(file.metrics_bind_address, "/proxyMode", mode);
  if (options.file && mode == "nftables") RemoveKubeProxyIptablesAndIpvs();
  if (options.file && mode != "nftables") RemoveKubeProxyNftables();
  // With conntrack.maxPerCore and min as they usually are. Where a network namespace has no such
  // setting of its own it stays as it is.
  TryTool({"sysctl", "-qw", "net.netfilter.nf_conntrack_max=131072"});
  std::unique_ptr<kube::HttpServer> ready;
  constexpr timespec kPeriod{.tv_sec = 1, .tv_nsec = 0};
  bool written = false;
  do {
    written = Sync(mode, options.services, !written) || written;
    const bool served = !options.file || !(health->waits() || metrics->waits());
    if (written && served && ready == nullptr) {
      ready = std::make_unique<kube::HttpServer>(fmt::format("0.0.0.0:{}", options.ready_port), 1);
      ready->Start();
    }
  } while (::sigtimedwait(&signals, nullptr, &kPeriod) < 0);
}

std::vector<ProxiedService> ParseProxiedServices(const std::string& text,
                                                 const std::string& node_ip,
                                                 const std::string& cluster_cidr) {
  std::vector<ProxiedService> services;
  for (const nlohmann::json& item : nlohmann::json::parse(text)) {
    ProxiedService service{.cluster_ip = item.at("clusterIP"),
                           .port = item.at("port"),
                           .endpoints = item.at("endpoints"),
                           .node_ip = node_ip,
                           .node_port = item.value("nodePort", uint16_t{0}),
                           .cluster_cidr = cluster_cidr,
                           .name = item.at("name"),
                           .port_name = item.value("portName", ""),
                           .protocol = item.at("protocol")};
    if (service.endpoints.empty())
      throw std::invalid_argument("Service " + service.name + " has no endpoints");
    services.push_back(std::move(service));
  }
  return services;
}

}  // namespace pointsman::agent::testing
