#include "node-agent/testing/neighbours/kube_proxy_process.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <netinet/in.h>
#include <optional>
#include <stdexcept>
#include <sys/socket.h>
#include <system_error>
#include <utility>

#include "base/unique_fd.h"
#include "node-agent/testing/neighbours/proxies.h"
#include "node-agent/testing/run_tool.h"

namespace pointsman::agent::testing {
namespace {

// Tried again as long as another process has the port.
class Port {
 public:
  Port(in_addr_t address, uint16_t port) : address_(address), port_(port) {}

  void Listen() {
    if (fd_.get() >= 0) return;
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int yes = 1;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port_);
    address.sin_addr.s_addr = htonl(address_);
    const bool bound =
        ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
        ::listen(fd.get(), 16) == 0;
    if (bound) {
      fd_ = std::move(fd);
    } else if (errno != EADDRINUSE) {
      throw std::system_error(errno, std::generic_category(), "listen on a port of kube-proxy's");
    }
  }

 private:
  const in_addr_t address_;
  const uint16_t port_;
  UniqueFd fd_;
};

bool LoadIpvs() {
  if (TryTool({"ipvsadm", "-Ln"}) != 0) return false;
  for (const char* module : {"ip_vs_rr", "dummy", "ip_set_hash_ip", "ip_set_hash_ipport",
                             "ip_set_hash_ipportip", "ip_set_bitmap_port"})
    TryTool({"modprobe", module});
  return true;
}

}  // namespace

void RunKubeProxy(const ProxiedService& service, const std::string& mode, uint16_t ready_port) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT})
    sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const bool ipvs = mode != "iptables" && LoadIpvs();
  if (!ipvs && mode == "ipvs") throw std::runtime_error("this kernel has no IPVS");
  const Neighbour rules = KubeProxy(service.cluster_ip, service.port, service.endpoints.at(0));
  std::array<Port, 2> ports{Port(INADDR_LOOPBACK, 10'249), Port(INADDR_ANY, 10'256)};
  Port ready(INADDR_ANY, ready_port);
  constexpr timespec kPeriod{.tv_sec = 1, .tv_nsec = 0};
  do {
    for (Port& port : ports)
      port.Listen();
    if (!ipvs) {
      xtables::IptablesTool tool(net::Family::kIPv4);
      rules.Sync(tool);
    } else if (TryTool({"ip", "link", "show", "kube-ipvs0"}) != 0) {
      MakeKubeProxyIpvs(service);
    }
    ready.Listen();
  } while (::sigtimedwait(&signals, nullptr, &kPeriod) < 0);
}

}  // namespace pointsman::agent::testing
