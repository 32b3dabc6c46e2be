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

Json bootstrapObject(const char* apiVersion, const char* kind, const char* name,
                     Json rest = Json::object()) {
  rest["apiVersion"] = apiVersion;
  rest["kind"] = kind;
  rest["metadata"]["name"] = name;
  return rest;
}

}  // namespace

void bootstrap(ApiServer& api, const Store& store, const std::string& kubernetesIp, int port) {
  for (const char* ns : {"default", "kube-system", "kube-public", "kube-node-lease"}) {
    api.ensure(bootstrapObject("v1", "Namespace", ns));
  }
  for (const auto& [resource, role] : bootstrapRoles()) {
    if (!store.get(resource, "", role["metadata"].value("name", ""))) api.ensure(role);
  }
  api.ensure(bootstrapObject("scheduling.k8s.io/v1", "PriorityClass", "system-cluster-critical",
                             {{"value", 2000000000}}));
  api.ensure(bootstrapObject("scheduling.k8s.io/v1", "PriorityClass", "system-node-critical",
                             {{"value", 2000001000}}));
  Json kubernetes = bootstrapObject("v1", "Service", "kubernetes");
  kubernetes["metadata"]["namespace"] = "default";
  kubernetes["metadata"]["labels"] = {{"component", "apiserver"}, {"provider", "kubernetes"}};
  kubernetes["spec"] = {
      {"type", "ClusterIP"},
      {"clusterIP", kubernetesIp},
      {"ports", {{{"name", "https"}, {"protocol", "TCP"}, {"port", 443}, {"targetPort", port}}}}};
  api.ensure(kubernetes);
}

std::string firstServiceIp(const std::string& cidrs) {
  const std::string cidr = cidrs.substr(0, cidrs.find(','));
  std::string address = cidr.substr(0, cidr.find('/'));
  const auto dot = address.rfind('.');
  if (dot != std::string::npos) return address.substr(0, dot + 1) + "1";
  return address + "1";
}

void preload(ApiServer& api, const std::filesystem::path& file) {
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
          api.ensure(Json::parse(lines[n].second));
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
