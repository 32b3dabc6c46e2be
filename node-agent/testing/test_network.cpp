#include "node-agent/testing/test_network.h"

#include "node-agent/testing/run_tool.h"

namespace pointsman::agent::testing {
namespace {

using std::chrono_literals::operator""ms;

}  // namespace

TestNetwork::~TestNetwork() {
  for (const std::string& host : hosts_) {
    servers_.Stop(host);  // while its clients can hear of it
    // The kernel ends a namespace and what is in it some time later; the next test has this name
    // too.
    TryTool({"ip", "link", "del", "v" + host});
    TryTool({"ip", "netns", "del", host});
  }
}

void TestNetwork::AddHost(const std::string& name, const std::string& ip,
                          const std::string& gateway) {
  RunTool({"ip", "netns", "add", name});
  hosts_.push_back(name);
  const std::string node_side = "v" + name;
  RunTool({"ip", "link", "add", node_side, "type", "veth", "peer", "name", "eth0", "netns", name});
  RunTool({"ip", "link", "set", node_side, "up"});
  RunTool({"ip", "-n", name, "link", "set", "lo", "up"});
  RunTool({"ip", "-n", name, "link", "set", "eth0", "up"});
  SetTimeWaitBuckets(name, kTimeWaitBuckets);
  AddAddress(name, ip, gateway);
}

void TestNetwork::SetTimeWaitBuckets(const std::string& host, int buckets) {
  RunTool({"ip", "netns", "exec", host, "sysctl", "-qw",
           "net.ipv4.tcp_max_tw_buckets=" + std::to_string(buckets)});
}

void TestNetwork::AddAddress(const std::string& name, const std::string& ip,
                             const std::string& gateway) {
  const bool v6 = ip.find(':') != std::string::npos;
  const std::string node_side = "v" + name;
  const std::string length = v6 ? "/128" : "/32";
  if (v6) {
    RunTool({"ip", "-6", "addr", "add", gateway + length, "dev", node_side, "nodad"});
    RunTool({"ip", "-n", name, "-6", "addr", "add", ip + length, "dev", "eth0", "nodad"});
  } else {
    RunTool({"ip", "addr", "add", gateway + length, "dev", node_side});
    RunTool({"ip", "-n", name, "addr", "add", ip + length, "dev", "eth0"});
  }
  const char* family = v6 ? "-6" : "-4";
  RunTool({"ip", family, "route", "add", ip + length, "dev", node_side});
  RunTool({"ip", "-n", name, family, "route", "add", gateway + length, "dev", "eth0"});
  RunTool({"ip", "-n", name, family, "route", "add", "default", "via", gateway, "dev", "eth0"});
}

NetNamespace TestNetwork::At(const std::string& host) {
  return host.empty() ? NetNamespace::Current() : NetNamespace::Named(host);
}

Reply AskTcp(const std::string& host, const std::string& ip, uint16_t port) {
  return Ask(TestNetwork::At(host), ip, port, {.timeout = 1500ms});
}

Reply AskUdp(const std::string& host, const std::string& ip, uint16_t port, uint16_t source_port) {
  return Ask(TestNetwork::At(host), ip, port,
             {.transport = Transport::kUdp, .timeout = 1000ms, .source_port = source_port});
}

}  // namespace pointsman::agent::testing
