#include "e2e/testbed/api_readiness.h"

#include <algorithm>
#include <exception>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <thread>

#include <fmt/format.h>

#include "kube/config/config.h"
#include "kube/http/transport.h"

namespace pointsman::e2e {
namespace {

constexpr std::chrono::milliseconds kReadyPoll{50};
constexpr std::size_t kShownLog = 4000;  // bytes of it in an error

std::string EndOfLog(const std::filesystem::path& log) {
  std::ifstream in(log, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  return text.substr(text.size() - std::min(text.size(), kShownLog));
}

}  // namespace

void AwaitReadyApi(const std::filesystem::path& kubeconfig, Process& server,
                   const std::filesystem::path& log, std::chrono::seconds timeout) {
  const auto transport = kube::MakeTransport(kube::LoadKubeconfig(kubeconfig));
  kube::HttpRequest request;
  request.method = "GET";
  request.target = "/readyz";
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    std::string why;
    try {
      const auto response = transport->Send(request);
      if (response.status == 200) return;
      why = response.body;
    } catch (const std::exception& error) {
      why = error.what();  // it does not listen yet
    }
    if (!server.Running())
      throw std::runtime_error(fmt::format("{} ended ({}); its log: {}", server.name(),
                                           server.HowEnded(), EndOfLog(log)));
    if (std::chrono::steady_clock::now() > deadline)
      throw std::runtime_error(
          fmt::format("{} is not ready: {}; its log: {}", server.name(), why, EndOfLog(log)));
    // A server gives no notice when it begins to listen.
    std::this_thread::sleep_for(kReadyPoll);
  }
}

}  // namespace pointsman::e2e
