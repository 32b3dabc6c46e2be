#include "node-agent/testing/dual_stack_network.h"

#include <string>

#include <fmt/format.h>

#include "node-agent/sysctl/sysctl.h"
#include "node-agent/testing/run_tool.h"

namespace pointsman::agent::testing {

net::IpAddress DualStackNetwork::PodIp(int k, net::Family family) {
  return net::IpAddress::Parse(family == net::Family::kIPv4 ? fmt::format("10.244.{}.2", k)
                                                            : fmt::format("fd00:244:{:x}::2", k))
      .value();
}

DualStackNetwork::DualStackNetwork(int pods) {
  // User-Mode Linux has IPv6 as a module; where it is built in there is nothing to load.
  TryTool({"modprobe", "ipv6"});
  constexpr char kEverywhere[] = "::";
  // The links' own addresses would wait a second for duplicates, and neighbours be unknown till
  // then.
  const auto no_waiting = [] { WriteSysctl("net.ipv6.conf.default.accept_dad", "0"); };
  outside_.Run(no_waiting);
  node_.Run([&] {
    no_waiting();
    // `v4`, `v6`: the network, without the host's number.
    const auto wire = [](const std::string& link, const NetNamespace& peer, const std::string& v4,
                         const std::string& v6) {
      IpTool(
          fmt::format("link add {0} type veth peer name eth0 netns {1}\n"
                      "addr add {2}1/24 dev {0}\n"
                      "addr add {3}1/64 dev {0} nodad\n"
                      "link set {0} up\n",
                      link, peer.path(), v4, v6));
      peer.Run([&] {
        IpTool(
            fmt::format("addr add {0}2/24 dev eth0\n"
                        "addr add {1}2/64 dev eth0 nodad\n"
                        "link set eth0 up\n"
                        "route add default via {0}1\n"
                        "route add default via {1}1\n",
                        v4, v6));
      });
    };
    // Every refusal is to be seen, and redirects use up the rate at which the node may send them.
    WriteSysctl("net.ipv4.icmp_ratelimit", "0");
    WriteSysctl("net.ipv6.icmp.ratelimit", "0");
    WriteSysctl("net.ipv4.conf.all.send_redirects", "0");
    WriteSysctl("net.ipv4.conf.default.send_redirects", "0");
    wire("outside", outside_, "192.168.77.", "fd00:77::");
    for (int k = 0; k < pods; ++k) {
      pods_.push_back(std::make_unique<NetNamespace>());
      pods_.back()->Run(no_waiting);
      wire(fmt::format("pod{}", k), *pods_.back(), fmt::format("10.244.{}.", k),
           fmt::format("fd00:244:{:x}::", k));
      servers_.Serve(*pods_.back(), fmt::format("pod{}", k), kEverywhere, 8080);
    }
    WriteSysctl("net.ipv4.ip_forward", "1");
    WriteSysctl("net.ipv6.conf.all.forwarding", "1");
    // Without a route the node itself could not send to a Service's address at all.
    IpTool("route add default via 192.168.77.2\nroute add default via fd00:77::2\n");
  });
  servers_.Serve(node_, "node", kEverywhere, 8080);
  for (const char* loopback : {"127.0.0.1", "::1"})
    servers_.Serve(node_, "loopback", loopback, 8081);
}

void DualStackNetwork::AddPathPastNode(int k) {
  const NetNamespace& there = pod(k);
  const auto take_from_anywhere = [](const char* link) {
    WriteSysctl("net.ipv4.conf.all.rp_filter", "0");
    WriteSysctl(fmt::format("net.ipv4.conf.{}.rp_filter", link), "0");
  };
  outside_.Run([&] {
    IpTool(
        fmt::format("link add past type veth peer name past netns {}\n"
                    "addr add 10.99.0.1/30 dev past\n"
                    "addr add fd00:99::1/64 dev past nodad\n"
                    "link set past up\n",
                    there.path()));
    take_from_anywhere("eth0");
  });
  there.Run([&] {
    IpTool(
        "addr add 10.99.0.2/30 dev past\n"
        "addr add fd00:99::2/64 dev past nodad\n"
        "link set past up\n");
    take_from_anywhere("past");
  });
  outside_.Run([&] {
    IpTool(fmt::format(
        "route add {}/32 via 10.99.0.2 src 192.168.77.2\n"
        "route add {}/128 via fd00:99::2 src fd00:77::2\n",
        PodIp(k, net::Family::kIPv4).ToString(), PodIp(k, net::Family::kIPv6).ToString()));
  });
}

}  // namespace pointsman::agent::testing
