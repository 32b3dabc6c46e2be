// Who programs this node, and how far a stock kube-proxy is that does, as metrics show it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "kube/pointsman/provider.h"

namespace pointsman::agent {

// What a look at a stock kube-proxy has found (StockKubeProxy).
enum class StockFinding : uint8_t {
  kCannotRun,    // this kernel cannot run the mode
  kNoAnswer,     // of its /proxyMode or /healthz
  kOtherMode,    // it runs another mode
  kNotReadBack,  // the kernel does not have all endpoints of all Services
  kVerified,     // it does
};
inline constexpr std::array kStockFindings = {StockFinding::kCannotRun, StockFinding::kNoAnswer,
                                              StockFinding::kOtherMode, StockFinding::kNotReadBack,
                                              StockFinding::kVerified};

constexpr std::string_view ToString(StockFinding found) {
  switch (found) {
    case StockFinding::kCannotRun:
      return "CannotRun";
    case StockFinding::kNoAnswer:
      return "NoAnswer";
    case StockFinding::kOtherMode:
      return "OtherMode";
    case StockFinding::kNotReadBack:
      return "NotReadBack";
    case StockFinding::kVerified:
      break;
  }
  return "Verified";
}

struct ProviderState {
  std::optional<kube::Provider> provider;  // nullopt: none is asked for
  // With KubeProxy: see StockKubeProxy.
  std::optional<StockFinding> found;
  std::optional<size_t> missing_service_ports;
  bool bridged = false;  // rules of ours are to serve while it restarts
  // How far what kube-proxy left is removed (kube::KubeProxyStatus::state); "": that is not asked
  // for.
  std::string leftovers;
};

}  // namespace pointsman::agent
