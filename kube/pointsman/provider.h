// Who programs a node's kernel: Pointsman's agent, or a stock kube-proxy that Pointsman configures.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace pointsman::kube {

enum class Provider : uint8_t { kNodeAgent, kKubeProxy };

inline constexpr std::string_view kProviderWords = "NodeAgent, KubeProxy";

inline std::string_view ToString(Provider provider) {
  return provider == Provider::kKubeProxy ? "KubeProxy" : "NodeAgent";
}
inline std::optional<Provider> ParseProvider(std::string_view text) {
  if (text == "NodeAgent") return Provider::kNodeAgent;
  if (text == "KubeProxy") return Provider::kKubeProxy;
  return std::nullopt;
}

}  // namespace pointsman::kube
