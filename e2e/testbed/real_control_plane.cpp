#include "e2e/testbed/real_control_plane.h"

#include <chrono>
#include <iterator>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "e2e/control-plane/pki/pki.h"
#include "e2e/testbed/api_readiness.h"
#include "e2e/testbed/real_api_server.h"

namespace pointsman::e2e {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::minutes kReadyTimeout{3};
constexpr const char* kEtcd = "http://127.0.0.1:2379";

}  // namespace

RealControlPlane::RealControlPlane(RealControlPlaneOptions options) : options_(std::move(options)) {
  for (const char* program :
       {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}) {
    if (access((options_.programs / program).c_str(), X_OK) != 0)
      throw std::invalid_argument((options_.programs / program).string() + " is no program");
  }
}

void RealControlPlane::Start(const Sandbox& sandbox) {
  fs::create_directories(options_.dir);
  const Pki pki(options_.pki);
  pki.IssueServer(
      {"localhost", "127.0.0.1", options_.address, "10.96.0.1", "kubernetes.default.svc"});
  const std::string url = fmt::format("https://{}:{}", options_.address, options_.port);
  const fs::path admin = options_.pki / "admin.kubeconfig";
  Pki::WritePrivate(admin, pki.ClientKubeconfig(url, "kubernetes-admin", {"system:masters"}));
  etcd_ = SpawnLogged(sandbox, "etcd",
                      EtcdFlags(options_.dir / "etcd", kEtcd, "http://127.0.0.1:2380"));
  std::vector<std::string> flags = KubeApiServerFlags(pki, {.etcd_url = kEtcd,
                                                            .url = url,
                                                            .port = options_.port,
                                                            .dir = options_.dir,
                                                            .service_cidr = options_.service_cidr});
  flags.insert(flags.end(), {"--bind-address=0.0.0.0", "--advertise-address=" + options_.address,
                             "--authorization-mode=Node,RBAC"});
  api_server_ = SpawnLogged(sandbox, "kube-apiserver", std::move(flags));
  entrance_ = Spawn(
      {.argv = {"socat",
                fmt::format("TCP-LISTEN:{},bind=127.0.0.1,fork,reuseaddr", options_.local_port),
                fmt::format("EXEC:nsenter --net={} socat STDIO TCP\\:{}\\:{}",
                            sandbox.NetworkNamespacePath(), options_.address, options_.port)},
       .log = options_.dir / "socat.log"});
  const fs::path local = options_.dir / "admin.kubeconfig";
  Pki::WritePrivate(local,
                    pki.ClientKubeconfig(fmt::format("https://127.0.0.1:{}", options_.local_port),
                                         "kubernetes-admin", {"system:masters"}));
  AwaitReadyApi(local, api_server_, options_.dir / "kube-apiserver.log", kReadyTimeout);
  const std::vector<std::string> client = {fmt::format("--kubeconfig={}", admin.string()),
                                           "--leader-elect=false"};
  std::vector<std::string> arguments = client;
  arguments.push_back(
      fmt::format("--service-account-private-key-file={}", pki.ServerKey().string()));
  arguments.push_back(fmt::format("--root-ca-file={}", pki.CaCertificate().string()));
  arguments.push_back(fmt::format("--cert-dir={}", options_.dir.string()));
  controllers_ = SpawnLogged(sandbox, "kube-controller-manager", std::move(arguments));
  scheduler_ = SpawnLogged(sandbox, "kube-scheduler", client);
}

void RealControlPlane::Kill() {
  for (Process* process : {&scheduler_, &controllers_, &entrance_, &api_server_, &etcd_})
    process->Kill();
}

Process RealControlPlane::SpawnLogged(const Sandbox& sandbox, const std::string& program,
                                      std::vector<std::string> arguments) const {
  SpawnOptions spawn;
  spawn.argv = {options_.programs / program};
  spawn.argv.insert(spawn.argv.end(), std::make_move_iterator(arguments.begin()),
                    std::make_move_iterator(arguments.end()));
  spawn.log = options_.dir / (program + ".log");
  spawn.pid_ns = sandbox.pid_ns();
  spawn.net_ns = sandbox.net_ns();
  return Spawn(spawn);
}

}  // namespace pointsman::e2e
