// A stock control plane for a test cluster, in place of the tests' own: etcd, kube-apiserver,
// kube-controller-manager and kube-scheduler of somebody's choice. What the scenarios show on it
// holds with Kubernetes' own controllers, defaults and races.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "e2e/testbed/process.h"

namespace pointsman::e2e {

struct RealControlPlaneOptions {
  std::filesystem::path programs;  // a directory with the four, as a release has them
  std::filesystem::path dir;       // its data and logs, kept over restarts
  std::filesystem::path pki;       // as e2e/control-plane/pki has it; made if missing
  std::string address;             // in the sandbox's network
  std::uint16_t port = 0;          // there
  std::uint16_t local_port = 0;    // of 127.0.0.1 of this machine, for its own clients
  std::string service_cidr = "10.96.0.0/16";
};

// Not thread-safe. The destructor kills it.
class RealControlPlane {
 public:
  // Throws std::invalid_argument naming the program that is not there; `socat`, which brings this
  // machine's clients into the sandbox, is looked for in PATH.
  explicit RealControlPlane(RealControlPlaneOptions options);

  // Returns when /readyz answers; throws std::runtime_error with the end of a log when it does not.
  void Start(const Sandbox& sandbox);
  void Kill();  // -9; what is in etcd stays
  bool Running() { return api_server_.Running(); }

 private:
  Process SpawnLogged(const Sandbox& sandbox, const std::string& program,
                      std::vector<std::string> arguments) const;

  RealControlPlaneOptions options_;
  Process etcd_, api_server_, controllers_, scheduler_, entrance_;
};

}  // namespace pointsman::e2e
