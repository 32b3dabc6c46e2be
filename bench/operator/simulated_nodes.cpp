#include "bench/operator/simulated_nodes.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "kube/objects/object_json.h"
#include "kube/time/rfc3339.h"

namespace pointsman::bench {
namespace {

using kube::ConditionStatus;
using kube::Json;
using kube::NodeProxy;

// As an agent in ipvs mode reports them.
constexpr const char* kModules[] = {
    "ip_vs",         "ip_vs_rr", "ip_vs_wrr",   "ip_vs_sh",           "nf_conntrack",
    "xt_set",        "ip_set",   "xt_comment",  "xt_conntrack",       "ip_set_hash_ip",
    "xt_MASQUERADE", "xt_mark",  "iptable_nat", "ip_set_hash_ipport", "ip_set_hash_ipportnet"};
constexpr const char* kSysctls[] = {"net.ipv4.ip_forward",
                                    "net.ipv4.vs.conntrack",
                                    "net.ipv4.vs.conn_reuse_mode",
                                    "net.ipv4.vs.expire_nodest_conn",
                                    "net.ipv4.vs.expire_quiescent_template",
                                    "net.ipv4.conf.all.arp_ignore",
                                    "net.ipv4.conf.all.arp_announce",
                                    "net.ipv4.conf.all.route_localnet",
                                    "net.netfilter.nf_conntrack_max",
                                    "net.netfilter.nf_conntrack_tcp_timeout_established",
                                    "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
                                    "net.netfilter.nf_conntrack_tcp_be_liberal"};

void FillKernel(kube::NodeProxyStatus& status) {
  status.kernel_release = "6.1.0-37-cloud-amd64";
  status.modules.clear();
  for (const char* module : kModules)
    status.modules.push_back({module, "LoadedNow"});
  status.sysctls.clear();
  for (const char* sysctl : kSysctls)
    status.sysctls.push_back({sysctl, "1"});
  status.services = 1234;
  status.endpoints = 12'345;
  status.agent_version = "0.1.0";
  status.last_sync = kube::NowRfc3339();
}

kube::NodeProxyStatus StatusFor(const NodeProxy& proxy) {
  kube::NodeProxyStatus status = proxy.status;
  FillKernel(status);
  status.observed_generation = proxy.generation;
  const auto set = [&](const char* type, bool value, const char* reason, std::string message) {
    kube::SetCondition(status.conditions,
                       {type, value ? ConditionStatus::kTrue : ConditionStatus::kFalse, reason,
                        std::move(message), "", proxy.generation},
                       kube::NowRfc3339());
  };
  status.candidate.reset();
  if (const auto& asked = proxy.spec.candidate) {
    status.candidate =
        kube::CandidateStatus{asked->revision, std::string(kube::ToString(asked->mode)), true, ""};
  }
  if (proxy.spec.removed) {
    status.active_mode.clear();
    set("Ready", false, "Removed", "this node's rules are out of the kernel");
  } else if (proxy.spec.revision > 0) {
    const std::string mode(kube::ToString(proxy.spec.settings.mode));
    status.active_mode = mode;
    status.observed_revision = proxy.spec.revision;
    set("PreflightPassed", true, "PreflightPassed", "the kernel can run " + mode);
    set("ModulesLoaded", true, "ModulesLoaded", "every module that " + mode + " needs is loaded");
    set("RulesSynced", true, "Synced", "1234 Services with 12345 endpoints are in the kernel");
    set("ServicesAccepted", true, "AllAccepted", "all Services are served as specified");
    set("Ready", true, "Serving", "Services are served in mode " + mode);
    set("Degraded", false, "DesiredModeActive", "the node runs the desired mode");
  }
  return status;
}

// The same but for the time, which alone is no news.
bool SameReport(kube::NodeProxyStatus a, const kube::NodeProxyStatus& b) {
  a.last_sync = b.last_sync;
  return a == b;
}

}  // namespace

Json NodeObject(int number) {
  const std::string name =
      fmt::format("ip-10-{}-{}.eu-central-1.compute.internal", number / 250, number % 250);
  Json labels = {{"kubernetes.io/hostname", name},
                 {"kubernetes.io/os", "linux"},
                 {"kubernetes.io/arch", "amd64"},
                 {"node.kubernetes.io/instance-type", "m6i.4xlarge"},
                 {"topology.kubernetes.io/region", "eu-central-1"},
                 {"topology.kubernetes.io/zone", fmt::format("eu-central-1{}", "abc"[number % 3])}};
  for (int i = 0; i < 14; ++i)
    labels[fmt::format("example.com/label-{}", i)] = fmt::format("value-{}-of-the-node-pool", i);
  Json conditions = Json::array();
  for (const char* type : {"MemoryPressure", "DiskPressure", "PIDPressure", "Ready"}) {
    conditions.push_back({{"type", type},
                          {"status", type == std::string("Ready") ? "True" : "False"},
                          {"reason", "KubeletHasSufficientResources"},
                          {"message", "the kubelet has what it needs, and posts its status"},
                          {"lastHeartbeatTime", "2026-01-01T00:00:00Z"},
                          {"lastTransitionTime", "2026-01-01T00:00:00Z"}});
  }
  Json images = Json::array();
  for (int i = 0; i < 50; ++i) {
    const std::string image = fmt::format("registry.example.com/team-{}/service-{}", i % 7, i);
    images.push_back({{"names",
                       {image + "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef01234567",
                        image + ":v1.2.3"}},
                      {"sizeBytes", 123456789}});
  }
  return {{"apiVersion", "v1"},
          {"kind", "Node"},
          {"metadata", {{"name", name}, {"labels", std::move(labels)}}},
          {"spec", {{"podCIDR", fmt::format("10.{}.{}.0/24", 100 + number / 250, number % 250)}}},
          {"status",
           {{"addresses",
             {{{"type", "InternalIP"},
               {"address", fmt::format("10.{}.{}.9", number / 250, number % 250)}}}},
            {"conditions", std::move(conditions)},
            {"images", std::move(images)}}}};
}

SimulatedNodes::SimulatedNodes(kube::Client& client, int writers) : client_(client) {
  informer_ = std::make_unique<kube::Informer<NodeProxy>>(
      client, kube::resources::kNodeProxies, kube::ReflectorOptions{},
      [](std::string_view text) { return kube::NodeProxyFromJson(kube::ParseObject(text)); },
      [](const NodeProxy& proxy) { return proxy.name; },
      [](const NodeProxy& a, const NodeProxy& b) {
        return a.resource_version == b.resource_version;
      });
  informer_->AddHandler([this](const auto&, const auto& after) {
    if (after) queue_.Add(after->name);
  });
  informer_->Start();
  for (int i = 0; i < writers; ++i)
    workers_.emplace_back([this] { Work(); });
}

SimulatedNodes::~SimulatedNodes() {
  queue_.ShutDown();
  workers_.clear();
}

void SimulatedNodes::Work() {
  while (const auto name = queue_.Get()) {
    try {
      Answer(*name);
      queue_.Forget(*name);
    } catch (const std::exception& error) {
      ++failures_;
      spdlog::debug("{}: {}", *name, error.what());
      queue_.AddRateLimited(*name);
    }
    queue_.Done(*name);
  }
}

void SimulatedNodes::Answer(const std::string& name) {
  const auto proxy = informer_->Get(name);
  if (!proxy) return;
  const kube::NodeProxyStatus status = StatusFor(*proxy);
  if (SameReport(status, proxy->status)) return;
  Json patch = ToJson(status);
  if (!status.candidate) patch["candidate"] = nullptr;
  client_.Patch(kube::resources::kNodeProxies, "", name, kube::PatchType::kMerge,
                {{"status", std::move(patch)}}, "status", "pointsman-node-agent");
  ++reports_;
}

}  // namespace pointsman::bench
