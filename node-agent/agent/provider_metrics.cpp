#include "node-agent/agent/provider_metrics.h"

#include "kube/pointsman/node_proxy.h"

namespace pointsman::agent {
namespace {

prometheus::Family<prometheus::Gauge>& ProviderFamily(prometheus::Registry& registry,
                                                      const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
}

}  // namespace

ProviderMetrics::ProviderMetrics(prometheus::Registry& registry)
    : provider_(ProviderFamily(registry, "pointsman_agent_provider",
                               "1 for who is asked to program this node.")),
      stock_(ProviderFamily(registry, "pointsman_agent_stock_kube_proxy",
                            "1 for what the last look at a kube-proxy that the operator configures "
                            "has found.")),
      missing_(ProviderFamily(registry, "pointsman_agent_stock_kube_proxy_missing_service_ports",
                              "Service ports of which not all endpoints have been read back from "
                              "the kernel yet since that kube-proxy was given its configuration.")),
      bridge_(ProviderFamily(registry, "pointsman_agent_stock_kube_proxy_bridge",
                             "1 while rules of Pointsman's are to serve, from before that "
                             "kube-proxy's restart until it is verified.")),
      leftovers_(ProviderFamily(registry, "pointsman_agent_kube_proxy_leftovers",
                                "1 for how far what kube-proxy, or a former mode of it, left in "
                                "the kernel is removed.")) {}

void ProviderMetrics::Show(Family& family, Shown& shown, const prometheus::Labels& labels,
                           std::optional<double> value) {
  if (value) {
    prometheus::Gauge*& gauge = shown[labels];
    if (gauge == nullptr) gauge = &family.Add(labels);
    gauge->Set(*value);
  } else if (const auto gone = shown.extract(labels)) {
    family.Remove(gone.mapped());
  }
}

void ProviderMetrics::Set(const ProviderState& state) {
  const std::lock_guard lock(mutex_);
  for (const kube::Provider provider : {kube::Provider::kNodeAgent, kube::Provider::kKubeProxy}) {
    provider_.Add({{"provider", std::string(ToString(provider))}})
        .Set(state.provider == provider ? 1 : 0);
  }
  std::optional<double> value;
  for (const StockFinding found : kStockFindings) {
    if (state.found) value = state.found == found ? 1 : 0;
    Show(stock_, stock_shown_, {{"state", std::string(ToString(found))}}, value);
  }
  value.reset();
  if (state.missing_service_ports) value = static_cast<double>(*state.missing_service_ports);
  Show(missing_, missing_shown_, {}, value);
  value.reset();
  if (state.found) value = state.bridged ? 1 : 0;
  Show(bridge_, bridge_shown_, {}, value);
  value.reset();
  for (const char* leftovers :
       {kube::kKubeProxyDraining, kube::kKubeProxyNotRemoved, kube::kKubeProxyRemoved,
        kube::kKubeProxyReturned, kube::kKubeProxyRunning}) {
    if (!state.leftovers.empty()) value = state.leftovers == leftovers ? 1 : 0;
    Show(leftovers_, leftovers_shown_, {{"state", leftovers}}, value);
  }
}

}  // namespace pointsman::agent
