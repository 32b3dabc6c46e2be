// A real Prometheus that scrapes a World's operator and agents, with the alert rules of
// manifests/monitoring, and the queries of the dashboard there.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "e2e/scenarios/world.h"
#include "e2e/testbed/process.h"
#include "kube/client/client.h"

namespace pointsman::e2e {

struct PanelQuery {
  int panel = 0;      // its id
  std::string title;  // its
  std::string ref;    // "A"
  std::string expression;
};
// What the titles of panels begin with that have data with provider KubeProxy alone.
inline constexpr const char* kStockKubeProxyPanels = "Stock kube-proxy: ";
// Of all panels, for all nodes.
std::vector<PanelQuery> DashboardQueries();

// Not thread-safe. With a World of kubelets it scrapes the Pods' ports, as the PodMonitors do.
class PrometheusServer {
 public:
  // "" or what is missing on this machine.
  static std::string Missing();

  // `world` outlives this and has started its operator and agents; the logs are in its folder.
  explicit PrometheusServer(World& world);

  // What promtool prints for an instant query: "LABELS => VALUE @[TIME]" for each series, if any.
  std::string Ask(const std::string& query);
  // There need not be data.
  bool Understands(const std::string& query);
  void AwaitData(const std::string& query);
  // The series of a range query: [{"metric": {…}, "values": [[time, "value"], …]}, …].
  kube::Json Range(const std::string& query, std::chrono::system_clock::time_point from,
                   std::chrono::system_clock::time_point to, std::chrono::seconds step);

 private:
  RunResult Promtool(std::vector<std::string> arguments);

  World& world_;
  Process process_;
};

}  // namespace pointsman::e2e
