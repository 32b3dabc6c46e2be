#include "e2e/control-plane/testing/api_server_process.h"

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <netinet/in.h>
#include <stdexcept>
#include <sys/socket.h>
#include <system_error>
#include <utility>

#include <signal.h>
#include <unistd.h>

#include "e2e/control-plane/pki/pki.h"
#include "e2e/testbed/api_readiness.h"
#include "e2e/testbed/real_api_server.h"
#include "e2e/traffic/socket.h"

namespace pointsman::e2e {
namespace {

constexpr std::chrono::minutes kStartTimeout{1};
constexpr std::chrono::seconds kStopTimeout{30};

// A port of 127.0.0.1 that nothing listens at now.
std::uint16_t FreePort() {
  const UniqueFd probe(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (!probe.valid() || bind(probe.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      getsockname(probe.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    throw std::system_error(errno, std::generic_category(), "a free port of 127.0.0.1");
  }
  return ntohs(address.sin_port);
}

std::string StopProcess(Process& process, int signal) {
  process.Signal(signal);
  if (!process.WaitFor(kStopTimeout)) {
    process.Kill();
    throw std::runtime_error(process.name() + " did not end within 30 s of signal " +
                             std::to_string(signal));
  }
  return process.HowEnded();
}

class OwnApiServer : public ApiServerProcess {
 public:
  OwnApiServer(const std::filesystem::path& directory, std::string version,
               WithControllers controllers)
      : ApiServerProcess(directory),
        version_(std::move(version)),
        controllers_(controllers),
        port_(FreePort()) {}

  void Start() override {
    url_ = "https://127.0.0.1:" + std::to_string(port_);
    const std::filesystem::path log = directory_ / "server.log";
    SpawnOptions options;
    options.argv = {POINTSMAN_CONTROL_PLANE,
                    "--data-dir",
                    directory_ / "data",
                    "--pki-dir",
                    PkiDirectory(),
                    "--listen",
                    "127.0.0.1:" + std::to_string(port_),
                    "--emulate-version",
                    version_,
                    "--log-level",
                    "debug"};
    if (controllers_ == WithControllers::kNo) options.argv.emplace_back("--no-controllers");
    options.log = log;
    // The certificate authority is there before the server, which else makes it.
    Pki::WritePrivate(
        AdminKubeconfig(),
        Pki(PkiDirectory()).ClientKubeconfig(url_, "kubernetes-admin", {"system:masters"}));
    process_ = Spawn(options);
    AwaitReady(process_, log);
  }

  std::string Stop(int signal) override { return StopProcess(process_, signal); }

 private:
  const std::string version_;
  const WithControllers controllers_;
  const std::uint16_t port_;
  Process process_;
};

class RealApiServer : public ApiServerProcess {
 public:
  RealApiServer(const std::filesystem::path& directory, std::filesystem::path assets)
      : ApiServerProcess(directory),
        assets_(std::move(assets)),
        etcd_port_(FreePort()),
        port_(FreePort()) {
    for (const char* program : {"etcd", "kube-apiserver"}) {
      if (access((assets_ / program).c_str(), X_OK) != 0)
        throw std::invalid_argument("KUBEBUILDER_ASSETS: " + (assets_ / program).string() +
                                    " is no program");
    }
  }

  void Start() override {
    url_ = "https://127.0.0.1:" + std::to_string(port_);
    const std::string etcd_url = "http://127.0.0.1:" + std::to_string(etcd_port_);
    const Pki pki(PkiDirectory());
    pki.IssueServer({"localhost", "127.0.0.1", "kubernetes.default.svc"});
    Pki::WritePrivate(AdminKubeconfig(),
                      pki.ClientKubeconfig(url_, "kubernetes-admin", {"system:masters"}));
    etcd_ = SpawnLogged("etcd", EtcdFlags(directory_ / "etcd", etcd_url, "http://127.0.0.1:0"));
    std::vector<std::string> flags = KubeApiServerFlags(
        pki, {.etcd_url = etcd_url, .url = url_, .port = port_, .dir = directory_});
    flags.insert(flags.end(),
                 {"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
                  "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount"});
    process_ = SpawnLogged("kube-apiserver", flags);
    AwaitReady(process_, directory_ / "kube-apiserver.log");
  }

  std::string Stop(int signal) override {
    std::string ended = StopProcess(process_, signal);
    StopProcess(etcd_, SIGTERM);
    return ended;
  }

 private:
  Process SpawnLogged(const std::string& program, const std::vector<std::string>& arguments) const {
    SpawnOptions options;
    options.argv = {assets_ / program};
    options.argv.insert(options.argv.end(), arguments.begin(), arguments.end());
    options.log = directory_ / (program + ".log");
    return Spawn(options);
  }

  const std::filesystem::path assets_;
  const std::uint16_t etcd_port_;
  const std::uint16_t port_;
  Process etcd_;
  Process process_;  // ends before etcd_
};

}  // namespace

std::filesystem::path ApiServerProcess::UserKubeconfig(const std::string& user,
                                                       const std::string& group) const {
  std::filesystem::path file = directory_ / (user + ".kubeconfig");
  const RunResult minted =
      Run({.argv = {POINTSMAN_CONTROL_PLANE, "kubeconfig", "--pki-dir", PkiDirectory(), "--user",
                    user, "--group", group, "--server", url_, "--out", file}});
  if (minted.exit != 0)
    throw std::runtime_error("pointsman-control-plane kubeconfig: " + minted.out);
  return file;
}

void ApiServerProcess::AwaitReady(Process& server, const std::filesystem::path& log) const {
  AwaitReadyApi(AdminKubeconfig(), server, log, kStartTimeout);
}

std::unique_ptr<ApiServerProcess> MakeOwnApiServer(const std::filesystem::path& directory,
                                                   const std::string& version,
                                                   WithControllers controllers) {
  return std::make_unique<OwnApiServer>(directory, version, controllers);
}

std::unique_ptr<ApiServerProcess> MakeRealApiServer(const std::filesystem::path& directory,
                                                    const std::filesystem::path& assets) {
  return std::make_unique<RealApiServer>(directory, assets);
}

}  // namespace pointsman::e2e
