#include "e2e/testbed/cluster.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <initializer_list>
#include <netinet/in.h>
#include <random>
#include <sstream>
#include <stdexcept>
#include <sys/stat.h>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "e2e/testbed/node/module_tree.h"
#include "e2e/testbed/node/virtual_machine.h"

namespace pointsman::e2e {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr const char* kUmlModules = "/usr/lib/uml/modules";
constexpr const char* kStateFile = "state.json";

std::string RandomHex(int words) {
  std::random_device random;
  std::string text;
  for (int i = 0; i < words; ++i)
    text += fmt::format("{:08x}", random());
  return text;
}

void WriteWhole(const fs::path& path, const std::string& text) {
  const fs::path temporary = path.string() + ".new";
  std::ofstream file(temporary, std::ios::trunc);
  file << text;
  file.close();
  if (!file) throw std::runtime_error("cannot write " + temporary.string());
  fs::rename(temporary, path);
}

std::string ReadWhole(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// The same over reboots, as with a real network card: neighbours remember it.
std::string MacAddress(const std::string& address) {
  return fmt::format("02:00:c0:a8:32:{:02x}", std::stoi(address.substr(address.rfind('.') + 1)));
}

std::string Tail(const std::string& text, std::size_t size) {
  return text.size() <= size ? text : "…" + text.substr(text.size() - size);
}

// A kubeconfig (the control plane writes JSON, which is YAML too) that goes to another address of
// the same server.
std::string WithServer(const std::string& kubeconfig, const std::string& server) {
  json config = json::parse(kubeconfig);
  config.at("clusters").at(0).at("cluster").at("server") = server;
  return config.dump(2) + "\n";
}

std::uint16_t FreeLoopbackPort() {
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  Endpoint any = MakeEndpoint("127.0.0.1", 0);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&any.address), any.size) != 0 ||
      getsockname(fd.get(), reinterpret_cast<sockaddr*>(&any.address), &any.size) != 0) {
    throw std::system_error(errno, std::generic_category(), "find a free port");
  }
  return ntohs(reinterpret_cast<const sockaddr_in*>(&any.address)->sin_port);
}

// "fd00:10:244:1::/64" → "fd00:10:244:1::"
std::string Prefix6(const std::string& cidr) {
  return cidr.substr(0, cidr.find('/'));
}

const Node& Find(const std::vector<Node>& nodes, std::string_view name) {
  for (const auto& node : nodes) {
    if (node.name() == name) return node;
  }
  throw std::invalid_argument("no node '" + std::string(name) + "' in this cluster");
}

}  // namespace

NodeOptions ParseNode(std::string_view text) {
  NodeOptions node;
  const auto mark = text.find('!');
  const std::string_view kind = text.substr(0, mark);
  if (kind == "uml") {
    node.kind = NodeKind::kUml;
  } else if (kind == "uml-no-modules") {
    node.kind = NodeKind::kUmlNoModules;
  } else if (kind == "vm") {
    node.kind = NodeKind::kVm;
  } else if (kind == "netns") {
    node.kind = NodeKind::kNetns;
  } else {
    throw std::invalid_argument("node kind '" + std::string(kind) +
                                "' is none of uml, uml-no-modules, vm, netns");
  }
  if (mark != std::string_view::npos) {
    if (node.kind != NodeKind::kUml && node.kind != NodeKind::kVm)
      throw std::invalid_argument("'" + std::string(text) +
                                  "': only uml and vm nodes can do without modules");
    std::istringstream list{std::string(text.substr(mark + 1))};
    for (std::string module; std::getline(list, module, '+');)
      node.without_modules.push_back(module);
  }
  return node;
}

std::string MissingForACluster(const std::vector<NodeOptions>& nodes) {
  if (geteuid() != 0) return "needs root";
  const auto has = [&](std::initializer_list<NodeKind> kinds) {
    return std::any_of(nodes.begin(), nodes.end(), [&](const NodeOptions& node) {
      return std::find(kinds.begin(), kinds.end(), node.kind) != kinds.end();
    });
  };
  if (has({NodeKind::kUml, NodeKind::kUmlNoModules}) && access("/usr/bin/linux.uml", X_OK) != 0)
    return "needs linux.uml (Debian package user-mode-linux)";
  const bool vm = has({NodeKind::kVm});
  if ((vm || has({NodeKind::kUml, NodeKind::kUmlNoModules})) && access("/dev/net/tun", R_OK) != 0)
    return "needs /dev/net/tun";
  return vm ? MissingForVirtualMachines() : "";
}

std::string Node::PodAddress6(const std::string& ip) const {
  if (pod_cidr6().empty()) return "";
  return Prefix6(pod_cidr6()) + ip.substr(ip.rfind('.') + 1);
}

void Node::AddPodNetwork(const std::string& pod, const std::string& ip) const {
  if (pod_cidr().empty()) throw std::invalid_argument(name_ + " has no pods");
  const std::string gateway = pod_cidr().substr(0, pod_cidr().rfind('.')) + ".1";
  // Named after the last byte of the address, as that is unique on the node and interface names are
  // short.
  const std::string link = "pod" + ip.substr(ip.rfind('.') + 1);
  ExecOptions options;
  // hairpin: a pod that reaches itself by a Service comes back through the port it left by.
  options.input = "netns add " + pod + "\nlink add " + link + " type veth peer name eth0 netns " +
                  pod + "\nlink set " + link + " master pmbr0\nlink set " + link +
                  " type bridge_slave hairpin on\nlink set " + link + " up\n";
  Check({"ip", "-batch", "-"}, options);
  options.input = "link set lo up\naddr add " + ip +
                  "/24 dev eth0\nlink set eth0 up\nroute add default via " + gateway + "\n";
  if (!pod_cidr6().empty()) {
    // nodad: nobody else has it, and a second's wait for each pod is long.
    options.input += "addr add " + PodAddress6(ip) + "/64 dev eth0 nodad\nroute add default via " +
                     Prefix6(pod_cidr6()) + "1\n";
  }
  Check({"ip", "-n", pod, "-batch", "-"}, options);
}

std::string Node::AddRoutedPodNetwork(const std::string& pod, const std::string& ip) const {
  if (pod_cidr().empty()) throw std::invalid_argument(name_ + " has no pods");
  constexpr const char* kGateway = "169.254.1.1";  // nobody's: the node answers ARP for all
  constexpr const char* kGateway6 = "fe80::1";
  std::string link = kRoutedLinkPrefix + ip.substr(ip.rfind('.') + 1);
  const std::string ip6 = PodAddress6(ip);
  ExecOptions options;
  options.input = fmt::format(
      "netns add {0}\nlink add {1} type veth peer name eth0 netns {0}\nlink set {1} up\n"
      "route add {2}/32 dev {1}\nneigh add proxy {2} dev pmbr0\n",
      pod, link, ip);
  if (!ip6.empty()) {
    options.input += fmt::format(
        "addr add {2}/64 dev {0} nodad\nroute add {1}/128 dev {0}\n"
        "neigh add proxy {1} dev pmbr0\n",
        link, ip6, kGateway6);
  }
  Check({"ip", "-batch", "-"}, options);
  // Pods behind the bridge take it for one of theirs. The kernel would answer for it after a while
  // only.
  std::vector<std::string> sysctl{
      "sysctl", "-qw", fmt::format("net.ipv4.conf.{}.proxy_arp=1", link),
      fmt::format("net.ipv4.neigh.{}.proxy_delay=0", link), "net.ipv4.neigh.pmbr0.proxy_delay=0"};
  if (!ip6.empty())
    sysctl.insert(sysctl.end(),
                  {"net.ipv6.conf.pmbr0.proxy_ndp=1", "net.ipv6.neigh.pmbr0.proxy_delay=0"});
  Check(sysctl);
  options.input = fmt::format(
      "link set lo up\naddr add {0}/32 dev eth0\nlink set eth0 up\n"
      "route add {1} dev eth0 scope link\nroute add default via {1}\n",
      ip, kGateway);
  if (!ip6.empty()) {
    options.input += fmt::format(
        "addr add {}/128 dev eth0 nodad\nroute add default via {} dev eth0\n", ip6, kGateway6);
  }
  Check({"ip", "-n", pod, "-batch", "-"}, options);
  return link;
}

void Node::RemovePodNetwork(const std::string& pod) const {
  Check({"ip", "netns", "del", pod});
}

Cluster::Cluster(ClusterOptions options) : options_(std::move(options)), token_(RandomHex(4)) {
  if (!options_.dir.is_absolute()) throw std::invalid_argument("dir must be an absolute path");
  if (options_.bin_dir.empty()) {
    const char* from_environment =
        getenv("POINTSMAN_BIN_DIR");  // NOLINT(concurrency-mt-unsafe): nothing writes it
    options_.bin_dir = from_environment != nullptr ? from_environment : POINTSMAN_BIN_DIR;
  }
  if (options_.nodes.size() > 200)
    throw std::invalid_argument("at most 200 nodes fit the underlay");
  for (std::size_t i = 0; i < options_.nodes.size(); ++i) {
    auto& node = options_.nodes[i];
    if (node.name.empty()) node.name = "node-" + std::to_string(i + 1);
    auto machine = std::make_unique<Machine>();
    machine->options = node;
    machine->addresses.address = "192.168.50." + std::to_string(11 + i);
    machine->addresses.pod_cidr = "10.244." + std::to_string(i + 1) + ".0/24";
    if (node.kind != NodeKind::kUmlNoModules) {  // IPv6 is a module there
      machine->addresses.address6 = "fd00:50::" + std::to_string(11 + i);
      machine->addresses.pod_cidr6 = "fd00:10:244:" + std::to_string(i + 1) + "::/64";
    }
    machine->uplink = "node" + std::to_string(i + 1);
    machines_.push_back(std::move(machine));
  }
  auto outside = std::make_unique<Machine>();
  outside->options.name = "outside";
  outside->options.kind = NodeKind::kNetns;
  outside->addresses.address = kOutsideAddress;
  outside->addresses.address6 = kOutsideAddress6;
  outside->uplink = "outside";
  machines_.push_back(std::move(outside));
  for (auto& machine : machines_)
    machine->dir = options_.dir / "nodes" / machine->options.name;
}

Cluster::~Cluster() {
  try {
    Stop();
  } catch (const std::exception& error) {
    spdlog::error("cluster in {}: {}", options_.dir.string(), error.what());
  }
}

void Cluster::Start() {
  fs::create_directories(options_.dir);
  // A mount point of the nodes' kernels, whose root is this machine's.
  fs::create_directories("/lib/modules");
  sandbox_ = std::make_unique<Sandbox>(Program("pointsman-node-init").string());
  net_ns_ = std::make_shared<UniqueFd>(fcntl(sandbox_->net_ns(), F_DUPFD_CLOEXEC, 3));
  for (auto& machine : machines_) {
    Node node(machine->options.name, machine->addresses,
              NodeClient(net_ns_, machine->addresses.address, token_));
    if (machine->options.name == "outside") {
      outside_ = std::make_unique<Node>(std::move(node));
    } else {
      nodes_.push_back(std::move(node));
    }
  }
  SetUpUnderlay();
  for (auto& machine : machines_)
    Boot(*machine);
  for (auto& machine : machines_)
    AwaitBoot(*machine, machine->options.name == "outside" ? outside_->client()
                                                           : node(machine->options.name).client());
  WriteState();
}

void Cluster::Stop() {
  if (!sandbox_) return;
  sandbox_->KillAll();
  KillControlPlane();
  for (auto& machine : machines_)
    machine->process.Kill();
  sandbox_.reset();
  net_ns_.reset();
  nodes_.clear();
  outside_.reset();
  fs::remove(options_.dir / kStateFile);
}

void Cluster::RunIp(const std::string& batch) const {
  SpawnOptions options;
  options.argv = {"ip", "-batch", "-"};
  options.net_ns = sandbox_->net_ns();
  const RunResult result = Run(options, batch);
  if (result.exit != 0)
    throw std::runtime_error("ip failed in the cluster's network: " + result.out + batch);
}

void Cluster::SetUpUnderlay() {
  std::string batch =
      "link set lo up\nlink add underlay type bridge\nlink set underlay up\naddr add " +
      std::string(kControlPlaneAddress) + "/24 dev underlay\naddr add " + kControlPlaneAddress6 +
      "/64 dev underlay nodad\n";
  for (const auto& machine : machines_) {
    if (machine->options.kind == NodeKind::kNetns) continue;
    // Kept across reboots of the node; its kernel opens it by name.
    batch += "tuntap add dev " + machine->uplink + " mode tap\nlink set " + machine->uplink +
             " master underlay up\n";
  }
  RunIp(batch);
}

json Cluster::NodeConfig(const Machine& machine) const {
  const NodeKind kind = machine.options.kind;
  const bool uml = kind == NodeKind::kUml || kind == NodeKind::kUmlNoModules;
  const Node::Addresses& own = machine.addresses;
  const bool outside = own.pod_cidr.empty();
  const std::string interface = uml ? "vec0" : "eth0";
  std::string batch = "link set lo up\naddr add " + own.address + "/24 dev " + interface +
                      "\nlink set " + interface + " up\n";
  if (!own.address6.empty())
    batch += "addr add " + own.address6 + "/64 dev " + interface + " nodad\n";
  if (!outside) {
    batch += "link add pmbr0 type bridge\naddr add " +
             own.pod_cidr.substr(0, own.pod_cidr.rfind('.')) +
             ".1/24 dev pmbr0\nlink set pmbr0 up\n";
    if (!own.pod_cidr6.empty())
      batch += "addr add " + Prefix6(own.pod_cidr6) + "1/64 dev pmbr0 nodad\n";
    for (const auto& other : machines_) {
      if (other.get() == &machine || other->addresses.pod_cidr.empty()) continue;
      batch += "route add " + other->addresses.pod_cidr + " via " + other->addresses.address + "\n";
      if (!own.pod_cidr6.empty() && !other->addresses.pod_cidr6.empty())
        batch +=
            "route add " + other->addresses.pod_cidr6 + " via " + other->addresses.address6 + "\n";
    }
    // Nobody forwards there. But like any real node's kernel it needs some route to a Service's
    // address, or a connection fails before OUTPUT's DNAT rules see it.
    batch += std::string("route add default via ") + kControlPlaneAddress + "\n";
    if (!own.address6.empty())
      batch += std::string("route add default via ") + kControlPlaneAddress6 + "\n";
  }
  std::string modules;
  std::vector<std::string> keep = {options_.dir.string(), options_.bin_dir.string()};
  json before_network = json::array();
  if (kind == NodeKind::kUml || kind == NodeKind::kVm) {
    const fs::path all = uml ? fs::path(kUmlModules) : FindVirtualMachineKernel().modules;
    modules = machine.options.without_modules.empty()
                  ? all
                  : ModulesWithout(all, machine.options.without_modules, machine.dir);
    keep.push_back(all.string());  // which a node without some of them has links to
    before_network.push_back({"modprobe", "-a", "ipv6", "bridge", "br_netfilter", "veth"});
  } else if (kind == NodeKind::kNetns && fs::exists("/lib/modules")) {
    modules = "/lib/modules";
  }
  const std::vector<std::string> tmpfs = {"/run", "/tmp", "/var/tmp", "/var/log", "/var/lib/misc"};
  json config = {
      {"ownKernel", kind != NodeKind::kNetns},
      {"name", machine.options.name},
      {"address", own.address},
      {"interface", interface},
      {"token", token_},
      {"modules", modules},
      {"tmpfs", tmpfs},
      {"keep", keep},
      {"beforeNetwork", before_network},
      {"commands", json::array({{{"argv", {"ip", "-batch", "-"}}, {"stdin", batch}}})},
  };
  // Whoever sends a packet for a Service's address to a node would be redirected to the default
  // route, which is on the same network here: real routers and load balancers are elsewhere. The
  // kernel's limit for ICMP errors counts redirects too (in IPv6 none can be switched off), so that
  // a REJECT would seem a DROP: each error is sent.
  config["sysctls"] = {{"net/ipv4/conf/all/accept_redirects", "0"},
                       {"net/ipv4/conf/" + interface + "/accept_redirects", "0"},
                       {"net/ipv6/conf/" + interface + "/accept_redirects", "0"},
                       {"net/ipv4/conf/all/send_redirects", "0"},
                       {"net/ipv4/conf/" + interface + "/send_redirects", "0"},
                       {"net/ipv4/icmp_ratelimit", "0"},
                       {"net/ipv6/icmp/ratelimit", "0"}};
  if (!outside) {
    // As on a real node with a bridge CNI; rp_filter 2 (loose) is systemd's default.
    config["sysctls"].update({{"net/ipv4/ip_forward", "1"},
                              {"net/ipv4/conf/all/rp_filter", "2"},
                              {"net/ipv4/conf/default/rp_filter", "2"},
                              {"net/ipv6/conf/all/forwarding", "1"},
                              {"net/bridge/bridge-nf-call-iptables", "1"},
                              {"net/bridge/bridge-nf-call-ip6tables", "1"}});
  }
  return config;
}

// Made at each boot: it takes milliseconds, and is of the kernel that is there now.
void Cluster::BootVm(Machine& machine, SpawnOptions spawn, const fs::path& config) const {
  const VirtualMachineKernel kernel = FindVirtualMachineKernel();
  const fs::path initramfs = machine.dir / "initramfs";
  WriteWhole(initramfs, MakeInitramfs(kernel, Program("pointsman-initramfs-init")));
  spawn.argv = VirtualMachineCommand(kernel, {.tap = machine.uplink,
                                              .mac = MacAddress(machine.addresses.address),
                                              .memory_mb = machine.options.memory_mb,
                                              .initramfs = initramfs,
                                              .shared = options_.dir,
                                              .init = Program("pointsman-node-init"),
                                              .config = config});
  machine.process = Spawn(spawn);
}

void Cluster::Boot(Machine& machine) {
  fs::create_directories(machine.dir);
  const fs::path config = machine.dir / "node.json";
  WriteWhole(config, NodeConfig(machine).dump(2));
  SpawnOptions spawn;
  spawn.log = machine.dir / "console.log";
  spawn.cwd = "/";
  spawn.pid_ns = sandbox_->pid_ns();
  spawn.mount_ns = sandbox_->mount_ns();
  const std::string init = Program("pointsman-node-init").string();
  if (machine.options.kind == NodeKind::kNetns) {
    spawn.argv = {init, "namespaces"};
    spawn.env["POINTSMAN_NODE_CONFIG"] = config;
    machine.process = Spawn(spawn);
    AwaitNetworkNamespace(machine);
    RunIp("link add " + machine.uplink + " type veth peer name eth0 address " +
          MacAddress(machine.addresses.address) + " netns " +
          std::to_string(machine.process.pid()) + "\nlink set " + machine.uplink +
          " master underlay up\n");
    return;
  }
  spawn.net_ns = sandbox_->net_ns();
  if (machine.options.kind == NodeKind::kVm) return BootVm(machine, spawn, config);
  spawn.argv = {"linux.uml",
                "mem=" + std::to_string(machine.options.memory_mb) + "M",
                "rootfstype=hostfs",
                "root=/dev/root",
                "rootflags=/",
                "rw",
                "init=" + init,
                "con=null",
                "con0=null,fd:1",
                "loglevel=4",
                "panic=1",
                "uml_dir=/run/uml",
                "umid=" + machine.options.name,
                "vec0:transport=tap,ifname=" + machine.uplink +
                    ",depth=128,gro=1,mac=" + MacAddress(machine.addresses.address),
                "POINTSMAN_NODE_CONFIG=" + config.string()};
  if (machine.options.host_cpu >= 0) {
    const std::string cpu = std::to_string(machine.options.host_cpu);
    spawn.argv.insert(spawn.argv.begin(), {"taskset", "-c", cpu});
  }
  machine.process = Spawn(spawn);
}

// The node's first process makes its namespaces after it was started.
void Cluster::AwaitNetworkNamespace(Machine& machine) const {
  struct stat ours {};
  struct stat its {};
  if (stat("/proc/self/ns/net", &ours) != 0)
    throw std::system_error(errno, std::generic_category(), "stat /proc/self/ns/net");
  const std::string path = "/proc/" + std::to_string(machine.process.pid()) + "/ns/net";
  const auto deadline = Clock::now() + options_.boot_timeout;
  while (stat(path.c_str(), &its) != 0 || its.st_ino == ours.st_ino) {
    if (machine.process.WaitFor(std::chrono::milliseconds(2)) || Clock::now() > deadline) {
      throw std::runtime_error("node " + machine.options.name + " has no namespaces (" +
                               machine.process.HowEnded() +
                               "); its console: " + Console(machine.options.name));
    }
  }
}

void Cluster::AwaitBoot(Machine& machine, const NodeClient& client) {
  // NOLINTNEXTLINE(clang-analyzer-deadcode.DeadStores): it does not see the path of the exception
  const auto deadline = Clock::now() + options_.boot_timeout;
  std::string last;
  for (;;) {
    try {
      client.Ping();
      return;
    } catch (const std::system_error& error) {
      last = error.what();  // not up yet, or never: the console says
    }
    const bool ended = !machine.process.Running();
    if (ended || Clock::now() > deadline) {
      throw std::runtime_error("node " + machine.options.name + " did not boot (" +
                               (ended ? machine.process.HowEnded() : last) +
                               "); its console: " + Tail(Console(machine.options.name), 4000));
    }
    // There is nothing to wait on before its network is up.
    machine.process.WaitFor(std::chrono::milliseconds(20));
  }
}

void Cluster::StartControlPlane() {
  if (control_plane_.Running()) throw std::logic_error("the control plane is running");
  const fs::path pki = options_.dir / "pki";
  const fs::path ready = options_.dir / "control-plane.ready";
  const fs::path log = options_.dir / "control-plane.log";
  // Kept over restarts: clients on this machine go on with their kubeconfig.
  if (api_port_ == 0) api_port_ = FreeLoopbackPort();
  if (!options_.real_control_plane.empty()) return StartRealControlPlane();
  fs::remove(ready);
  SpawnOptions spawn;
  spawn.argv = {Program("pointsman-control-plane"),
                "--data-dir",
                options_.dir / "data",
                "--listen",
                "127.0.0.1:" + std::to_string(api_port_),
                "--listen",
                sandbox_->NetworkNamespacePath() + "@" + kControlPlaneAddress + ":" +
                    std::to_string(kApiPort),
                "--pki-dir",
                pki,
                "--san",
                kControlPlaneAddress,
                "--san",
                "10.96.0.1",
                "--ready-file",
                ready};
  spawn.argv.insert(spawn.argv.end(), options_.control_plane_args.begin(),
                    options_.control_plane_args.end());
  spawn.log = log;
  spawn.pid_ns = sandbox_->pid_ns();
  control_plane_ = Spawn(spawn);
  const auto deadline = Clock::now() + std::chrono::seconds(20);
  while (!fs::exists(ready)) {
    if (control_plane_.WaitFor(std::chrono::milliseconds(10)) || Clock::now() > deadline) {
      throw std::runtime_error("the control plane is not ready (" + control_plane_.HowEnded() +
                               "); its log: " + Tail(ReadWhole(log), 4000));
    }
  }
  WriteKubeconfig();
}

void Cluster::StartRealControlPlane() {
  if (real_control_plane_ == nullptr)
    real_control_plane_ = std::make_unique<RealControlPlane>(
        RealControlPlaneOptions{.programs = options_.real_control_plane,
                                .dir = options_.dir / "control-plane",
                                .pki = options_.dir / "pki",
                                .address = kControlPlaneAddress,
                                .port = kApiPort,
                                .local_port = api_port_});
  real_control_plane_->Start(*sandbox_);
  WriteKubeconfig();
}

void Cluster::WriteKubeconfig() const {
  const std::string admin = ReadWhole(options_.dir / "pki" / "admin.kubeconfig");
  WriteWhole(Kubeconfig(), WithServer(admin, "https://127.0.0.1:" + std::to_string(api_port_)));
}

void Cluster::KillControlPlane() {
  if (real_control_plane_ != nullptr) return real_control_plane_->Kill();
  control_plane_.Kill();
}

namespace {

// $POINTSMAN_KUBECTL (the scripts fetch one: a fresh machine has none), else the one in PATH.
std::string KubectlProgram() {
  const char* const path = std::getenv("POINTSMAN_KUBECTL");  // NOLINT(concurrency-mt-unsafe)
  return path != nullptr && *path != '\0' ? path : "kubectl";
}

}  // namespace

RunResult Cluster::Kubectl(std::vector<std::string> args, const std::string& input,
                           std::chrono::milliseconds timeout) const {
  SpawnOptions spawn;
  spawn.argv = std::move(args);
  // Its discovery cache is by host and port, which other clusters have used before.
  spawn.argv.insert(spawn.argv.begin(),
                    {KubectlProgram(), "--cache-dir", (options_.dir / "kubectl-cache").string()});
  spawn.env["KUBECONFIG"] = Kubeconfig();
  return Run(spawn, input, timeout);
}

Cluster::Machine& Cluster::FindMachine(std::string_view name) {
  for (auto& machine : machines_) {
    if (machine->options.name == name) return *machine;
  }
  throw std::invalid_argument("no node '" + std::string(name) + "' in this cluster");
}

const Node& Cluster::node(std::string_view name) const {
  return Find(nodes_, name);
}

void Cluster::KillNode(std::string_view name) {
  Machine& machine = FindMachine(name);
  machine.process.Kill();
  if (machine.options.kind != NodeKind::kNetns) return;
  // The kernel takes the veth away some time after the last process of the namespace has ended; the
  // next boot makes one of the same name.
  SpawnOptions options;
  options.argv = {"ip", "link", "del", machine.uplink};
  options.net_ns = sandbox_->net_ns();
  const RunResult result = Run(options);
  if (result.exit != 0 && result.out.find("Cannot find device") == std::string::npos)
    throw std::runtime_error("removing " + machine.uplink + ": " + result.out);
}

void Cluster::BootNode(std::string_view name) {
  Machine& machine = FindMachine(name);
  if (machine.process.Running())
    throw std::logic_error("node " + std::string(name) + " is running");
  Boot(machine);
  AwaitBoot(machine, node(name).client());
}

bool Cluster::NodeRunning(std::string_view name) {
  return FindMachine(name).process.Running();
}

std::string Cluster::Console(std::string_view name) const {
  return ReadWhole(options_.dir / "nodes" / name / "console.log");
}

void Cluster::WriteState() const {
  json nodes = json::array();
  for (const auto& machine : machines_) {
    nodes.push_back({{"name", machine->options.name},
                     {"address", machine->addresses.address},
                     {"podCIDR", machine->addresses.pod_cidr},
                     {"address6", machine->addresses.address6},
                     {"podCIDR6", machine->addresses.pod_cidr6}});
  }
  WriteWhole(options_.dir / kStateFile,
             json{{"owner", getpid()},
                  {"ownerStart", ProcessStartTime(getpid()).value()},
                  {"sandbox", sandbox_->pid()},
                  {"sandboxStart", ProcessStartTime(sandbox_->pid()).value()},
                  {"token", token_},
                  {"nodes", nodes}}
                 .dump(2));
}

AttachedCluster::AttachedCluster(const fs::path& dir) {
  if (!fs::exists(dir / kStateFile)) throw std::runtime_error("no cluster in " + dir.string());
  const json state = json::parse(ReadWhole(dir / kStateFile));
  const pid_t sandbox = state.at("sandbox");
  owner_ = state.at("owner");
  if (ProcessStartTime(sandbox) != state.at("sandboxStart").get<std::uint64_t>() ||
      ProcessStartTime(owner_) != state.at("ownerStart").get<std::uint64_t>()) {
    throw std::runtime_error("the cluster in " + dir.string() + " has ended");
  }
  const std::string path = "/proc/" + std::to_string(sandbox) + "/ns/net";
  net_ns_ = std::make_shared<UniqueFd>(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!net_ns_->valid()) throw std::system_error(errno, std::generic_category(), "open " + path);
  for (const auto& node : state.at("nodes")) {
    nodes_.emplace_back(node.at("name"),
                        Node::Addresses{node.at("address"), node.at("podCIDR"), node.at("address6"),
                                        node.at("podCIDR6")},
                        NodeClient(net_ns_, node.at("address"), state.at("token")));
  }
}

const Node& AttachedCluster::node(std::string_view name) const {
  return Find(nodes_, name);
}

}  // namespace pointsman::e2e
