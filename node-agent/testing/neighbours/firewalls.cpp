#include "node-agent/testing/neighbours/firewalls.h"

#include <fmt/format.h>

namespace pointsman::agent::testing {
namespace {

using Keeps = NeighbourRule::Keeps;

std::string Reject(net::Family family) {
  return fmt::format("-j REJECT --reject-with {}", family == net::Family::kIPv4
                                                       ? "icmp-host-prohibited"
                                                       : "icmp6-adm-prohibited");
}

constexpr const char* kEstablished = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";

}  // namespace

Neighbour DockerUser(const std::string& refused) {
  return {.name = "DockerUser",
          .chains = fmt::format(
              "*filter\n"
              ":DOCKER-USER - [0:0]\n"
              ":DOCKER-FORWARD - [0:0]\n"
              ":DOCKER-CT - [0:0]\n"
              ":DOCKER - [0:0]\n"
              "-A DOCKER-USER -s {} -j DROP\n"
              "-A DOCKER-USER -j RETURN\n"
              "-A DOCKER-FORWARD -j DOCKER-CT\n"
              "-A DOCKER-FORWARD -o docker0 -j DOCKER\n"
              "-A DOCKER-FORWARD -i docker0 -j ACCEPT\n"
              "-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
              "-A DOCKER ! -i docker0 -o docker0 -j DROP\n"
              "COMMIT\n",
              refused),
          .rules = {{"filter", "FORWARD", "-j DOCKER-USER", Keeps::kFirst},
                    {"filter", "FORWARD", "-j DOCKER-FORWARD", Keeps::kThere}}};
}

Neighbour IptablesServices(net::Family family) {
  const char* icmp = family == net::Family::kIPv4 ? "icmp" : "ipv6-icmp";
  return {.name = "IptablesServices",
          .chains = "",
          .rules = {
              {"filter", "INPUT", kEstablished},
              {"filter", "INPUT", fmt::format("-p {} -j ACCEPT", icmp)},
              {"filter", "INPUT", "-i lo -j ACCEPT"},
              {"filter", "INPUT", "-p tcp -m conntrack --ctstate NEW -m tcp --dport 22 -j ACCEPT"},
              {"filter", "INPUT", Reject(family)},
              {"filter", "FORWARD", Reject(family)}}};
}

Neighbour Ufw(net::Family family) {
  const bool v4 = family == net::Family::kIPv4;
  // Its chains for IPv6 are called ufw6-….
  const std::string ufw = v4 ? "ufw" : "ufw6";
  const char* unreachable = v4 ? "icmp-port-unreachable" : "icmp6-port-unreachable";
  Neighbour neighbour{.name = "Ufw", .chains = "*filter\n", .rules = {}};
  for (const std::string builtin : {"INPUT", "FORWARD"}) {
    const char* lower = builtin == "INPUT" ? "input" : "forward";
    for (const char* step :
         {"before-logging", "before", "after", "after-logging", "reject", "track"}) {
      const std::string chain = fmt::format("{}-{}-{}", ufw, step, lower);
      neighbour.chains += fmt::format(":{} - [0:0]\n", chain);
      neighbour.rules.push_back({"filter", builtin, "-j " + chain});
    }
  }
  neighbour.chains += fmt::format(
      ":{0}-user-input - [0:0]\n"
      ":{0}-user-forward - [0:0]\n"
      ":{0}-not-local - [0:0]\n"
      "-A {0}-before-input -i lo -j ACCEPT\n"
      "-A {0}-before-input {1}\n"
      "-A {0}-before-input -m conntrack --ctstate INVALID -j DROP\n"
      "{2}"
      "-A {0}-before-input -j {0}-user-input\n"
      "-A {0}-not-local -m addrtype --dst-type LOCAL -j RETURN\n"
      "-A {0}-not-local -m addrtype --dst-type MULTICAST -j RETURN\n"
      "-A {0}-not-local -j DROP\n"
      "-A {0}-before-forward {1}\n"
      "-A {0}-before-forward -j {0}-user-forward\n"
      "-A {0}-user-input -p tcp -m tcp --dport 22 -j ACCEPT\n"
      "-A {0}-reject-input -j REJECT --reject-with {3}\n"
      "-A {0}-reject-forward -j REJECT --reject-with {3}\n"
      "COMMIT\n",
      ufw, kEstablished,
      v4 ? fmt::format("-A {0}-before-input -j {0}-not-local\n", ufw)
         : "-A ufw6-before-input -p ipv6-icmp -j ACCEPT\n",
      unreachable);
  return neighbour;
}

Neighbour FirewalldIptables(net::Family family, const std::string& link) {
  const std::string reject = Reject(family);
  const char* icmp = family == net::Family::kIPv4 ? "icmp" : "ipv6-icmp";
  Neighbour neighbour{.name = "FirewalldIptables", .chains = "*filter\n", .rules = {}};
  const auto zones = [&](const std::string& builtin, const std::string& zone,
                         const std::string& rest) {
    const std::string all = builtin + "_ZONES";
    neighbour.chains += fmt::format(
        ":{0} - [0:0]\n:{1}_public - [0:0]\n:{1}_public_allow - [0:0]\n:{1}_trusted - [0:0]\n"
        "-A {0} -i {2} -g {1}_trusted\n"
        "-A {0} -g {1}_public\n"
        "-A {1}_trusted -j ACCEPT\n"
        "-A {1}_public -j {1}_public_allow\n"
        "-A {1}_public -p {3} -j ACCEPT\n"
        "{4}"
        "-A {1}_public {5}\n",
        all, zone, link, icmp, rest, reject);
    neighbour.rules.insert(neighbour.rules.end(),
                           {{"filter", builtin, kEstablished},
                            {"filter", builtin, "-i lo -j ACCEPT"},
                            {"filter", builtin, "-j " + all},
                            {"filter", builtin, "-m conntrack --ctstate INVALID -j DROP"},
                            {"filter", builtin, reject}});
  };
  zones("INPUT", "IN", "-A IN_public_allow -p tcp -m tcp --dport 22 -j ACCEPT\n");
  zones("FORWARD", "FWDI", "");
  neighbour.chains += "COMMIT\n";
  return neighbour;
}

Neighbour FirewalldNft(const std::vector<std::string>& links) {
  std::string trusted;
  for (const std::string& link : links)
    trusted += fmt::format(" iifname \"{}\" accept;", link);
  const auto chain = [&](const char* hook, const std::string& zone) {
    return fmt::format(
        "  chain filter_{0} {{ type filter hook {0} priority 10; policy accept;"
        " ct state {{ established, related }} accept; ct status dnat accept;"
        " iifname \"lo\" accept; ct state invalid drop;{1}{2}"
        " reject with icmpx admin-prohibited; }}\n",
        hook, trusted, zone);
  };
  const std::string ssh = " tcp dport { 10, 22 } accept; meta l4proto { icmp, ipv6-icmp } accept;";
  return {.name = "FirewalldNft",
          .chains = "",
          .rules = {},
          .nft = "table inet firewalld {\n" + chain("input", ssh) + chain("forward", "") + "}\n",
          .nft_tables = {"inet firewalld"}};
}

}  // namespace pointsman::agent::testing
