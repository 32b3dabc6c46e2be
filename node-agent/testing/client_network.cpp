#include "node-agent/testing/client_network.h"

#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "node-agent/sysctl/sysctl.h"
#include "node-agent/testing/fresh_mounts.h"
#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent::testing {

namespace {

// For as many as steady clients make in two minutes, for which connection tracking remembers each:
// the kernel's own bound is by its memory. Before a network namespace of one's own, which cannot
// set it.
void MakeRoomForConnections() {
  constexpr const char* kMax = "net.netfilter.nf_conntrack_max";
  constexpr int kRoom = 200'000;
  TryTool({"modprobe", "nf_conntrack"});  // where it is not built in
  const std::optional<std::string> now = ReadSysctl(kMax);
  if (now && std::stoi(*now) < kRoom) WriteSysctl(kMax, std::to_string(kRoom));
}

}  // namespace

void ClientNetworkTest::SetUp() {
  MakeRoomForConnections();
  FreshNetnsTest::SetUp();
  if (IsSkipped()) return;
  EnterFreshMounts({"/run"});
  RunTool({"ip", "link", "set", "lo", "up"});
  RunTool({"sysctl", "-qw", "net.ipv4.ip_forward=1"});
  network_.emplace();
  for (int pod = 1; pod <= 5; ++pod) {
    network_->AddHost(fmt::format("pod{}", pod), fmt::format("10.244.{}.2", pod),
                      fmt::format("10.244.{}.1", pod));
  }
  network_->AddHost("outside", "192.168.77.2", "192.168.77.1");
  network_->Serve("pod4", "10.244.4.2", 8080);
  network_->Serve("pod5", "10.244.5.2", 8080);
  ServicePortEntry web =
      MakeEntry("web", kube::Protocol::kTcp, "10.96.0.10", 80,
                {MakeBackend("10.244.4.2", 8080), MakeBackend("10.244.5.2", 8080)});
  web.node_port = kNodePort.port;
  maker_.Put(web);
  maker_.model.node.node_port_addresses = {kNodePort.ip};
  maker_.model.node.every_address = false;
}

void ClientNetworkTest::TearDown() {
  network_.reset();
}

void ClientNetworkTest::Tool(const std::string& line) {
  std::vector<std::string> words;
  std::istringstream text(line);
  for (std::string word; text >> word;)
    words.push_back(word);
  RunTool(words);
}

void ClientNetworkTest::Iptables(const std::string& line) {
  const xtables::IptablesTool tool(net::Family::kIPv4);
  Tool(fmt::format("iptables-{} {}", tool.variant(), line));
}

bool ClientNetworkTest::Await(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

}  // namespace pointsman::agent::testing
