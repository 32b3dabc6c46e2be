// API servers as processes of a test: pointsman-control-plane, and a real etcd with kube-apiserver.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "e2e/testbed/process.h"

namespace pointsman::e2e {

// Not thread-safe. The destructor kills it.
class ApiServerProcess {
 public:
  virtual ~ApiServerProcess() = default;

  // Returns when it is ready; the same address again after a Stop. Throws std::runtime_error with
  // the end of its log when it ends or is not ready within a minute.
  virtual void Start() = 0;
  // Ends it with `signal`, and returns how it ended ("exit status 0").
  virtual std::string Stop(int signal) = 0;

  const std::string& url() const { return url_; }
  // Of a member of system:masters.
  std::filesystem::path AdminKubeconfig() const { return directory_ / "admin.kubeconfig"; }
  // Writes the kubeconfig of a client certificate and returns its path.
  std::filesystem::path UserKubeconfig(const std::string& user, const std::string& group) const;

 protected:
  explicit ApiServerProcess(std::filesystem::path directory) : directory_(std::move(directory)) {}
  std::filesystem::path PkiDirectory() const { return directory_ / "pki"; }
  // Waits until /readyz answers 200.
  void AwaitReady(Process& server, const std::filesystem::path& log) const;

  const std::filesystem::path directory_;
  std::string url_;
};

// Whether the server of the tests is a whole control plane, or the API alone, which is what a
// kube-apiserver is: nothing writes but who asks.
enum class WithControllers : std::uint8_t { kYes, kNo };

// pointsman-control-plane in the clothes of a minor version ("1.20").
std::unique_ptr<ApiServerProcess> MakeOwnApiServer(
    const std::filesystem::path& directory, const std::string& version,
    WithControllers controllers = WithControllers::kYes);

// The programs etcd and kube-apiserver of the directory `assets`, as envtest's users have them in
// KUBEBUILDER_ASSETS. Throws std::invalid_argument naming what is not there.
std::unique_ptr<ApiServerProcess> MakeRealApiServer(const std::filesystem::path& directory,
                                                    const std::filesystem::path& assets);

}  // namespace pointsman::e2e
