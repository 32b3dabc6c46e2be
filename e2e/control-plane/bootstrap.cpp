#include "e2e/control-plane/bootstrap.h"

#include <atomic>
#include <cerrno>
#include <exception>
#include <fstream>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <spdlog/spdlog.h>

#include "e2e/control-plane/auth/authorizer.h"

namespace pointsman::e2e {
namespace {

constexpr int kWriters = 8;  // several share an fsync

Json BootstrapObject(const char* api_version, const char* kind, const char* name,
                     Json rest = Json::object()) {
  rest["apiVersion"] = api_version;
  rest["kind"] = kind;
  rest["metadata"]["name"] = name;
  return rest;
}

}  // namespace

void Bootstrap(ApiServer& api, const Store& store, const std::string& kubernetes_ip, int port) {
  for (const char* ns : {"default", "kube-system", "kube-public", "kube-node-lease"}) {
    api.Ensure(BootstrapObject("v1", "Namespace", ns));
  }
  for (const auto& [resource, role] : BootstrapRoles()) {
    if (!store.Get(resource, "", role["metadata"].value("name", ""))) api.Ensure(role);
  }
  api.Ensure(BootstrapObject("scheduling.k8s.io/v1", "PriorityClass", "system-cluster-critical",
                             {{"value", 2000000000}}));
  api.Ensure(BootstrapObject("scheduling.k8s.io/v1", "PriorityClass", "system-node-critical",
                             {{"value", 2000001000}}));
  Json kubernetes = BootstrapObject("v1", "Service", "kubernetes");
  kubernetes["metadata"]["namespace"] = "default";
  kubernetes["metadata"]["labels"] = {{"component", "apiserver"}, {"provider", "kubernetes"}};
  kubernetes["spec"] = {
      {"type", "ClusterIP"},
      {"clusterIP", kubernetes_ip},
      {"ports", {{{"name", "https"}, {"protocol", "TCP"}, {"port", 443}, {"targetPort", port}}}}};
  api.Ensure(kubernetes);
}

std::string FirstServiceIp(const std::string& cidrs) {
  const std::string cidr = cidrs.substr(0, cidrs.find(','));
  std::string address = cidr.substr(0, cidr.find('/'));
  const auto dot = address.rfind('.');
  if (dot != std::string::npos) return address.substr(0, dot + 1) + "1";
  return address + "1";
}

void Preload(ApiServer& api, const std::filesystem::path& file) {
  std::ifstream in(file);
  if (!in) throw std::system_error(errno, std::generic_category(), "open " + file.string());
  std::vector<std::pair<int, std::string>> lines;
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    if (!line.empty()) lines.emplace_back(number, std::move(line));
  }
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::string error;
  std::vector<std::jthread> writers;
  writers.reserve(kWriters);
  for (int i = 0; i < kWriters; ++i) {
    writers.emplace_back([&] {
      for (std::size_t n = next++; n < lines.size(); n = next++) {
        try {
          api.Ensure(Json::parse(lines[n].second));
        } catch (const std::exception& e) {
          const std::lock_guard lock(mutex);
          if (error.empty())
            error = file.string() + ":" + std::to_string(lines[n].first) + ": " + e.what();
          return;
        }
      }
    });
  }
  writers.clear();
  if (!error.empty()) throw std::runtime_error(error);
  spdlog::info("preloaded {} objects from {}", lines.size(), file.string());
}

}  // namespace pointsman::e2e
