#include "node-agent/contract/userspace_under_test.h"

#include <filesystem>
#include <stdexcept>

#include <stdlib.h>

#include "node-agent/contract/modes.h"
#include "node-agent/testing/run_tool.h"
#include "node-agent/userspace/testing/forwarder_program.h"

namespace pointsman::agent::testing {

UserspaceUnderTest::UserspaceUnderTest()
    : ModeUnderTest({.keeps_source = false,
                     .needs_route_localnet = false,
                     .cluster_ip_streams_outlive_removal = false,
                     .node_port_streams_outlive_removal = false,
                     .damage_is_one_difference = true}) {
  // User-Mode Linux loads what nothing asks for by name only when told.
  TryTool({"modprobe", "nf_conntrack_netlink"});
  char name[] = "/tmp/pointsman-usp.XXXXXX";
  if (::mkdtemp(name) == nullptr) throw std::runtime_error("cannot make a directory in /tmp");
  directory_ = name;
}

UserspaceUnderTest::~UserspaceUnderTest() {
  std::filesystem::remove_all(directory_);
}

std::unique_ptr<UserspaceDataplane> UserspaceUnderTest::MakeVersion(
    const std::string& version, const kube::ProxySettings& settings,
    const std::vector<net::Family>& families) {
  return std::make_unique<UserspaceDataplane>(
      settings,
      UserspaceDataplane::Options{.forwarder_program = testing::ForwarderProgram(),
                                  .run_directory = run_directory(),
                                  .version = version},
      Tools(families));
}

std::string UserspaceUnderTest::Kernel() {
  return IptablesRules() + RunTool({"ip", "route", "show", "table", "local"}) +
         RunTool({"ip", "-6", "route", "show", "table", "local"});
}

std::string UserspaceUnderTest::KernelWithoutChoices() {
  const std::string text = Kernel();
  std::string kept;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at) + 1;
    const std::string line = text.substr(at, end - at);
    if (line.find("-A POINTSMAN-USP-INPUT -p ") == std::string::npos)
      kept += line.substr(0, line.find("--to-destination ")) + "\n";
    at = end;
  }
  return kept;
}

void UserspaceUnderTest::AddForeign() {
  AddForeignIptablesRules();
  RunTool({"ip", "route", "add", "local", "198.18.0.0/24", "dev", "lo"});
}

std::vector<ModeUnderTest::Damage> UserspaceUnderTest::Damages() {
  const auto restore = [this](const char* what, net::Family family, const char* input) {
    return Damage{what, [this, family, input] { Tool(family).Restore(input); }};
  };
  constexpr net::Family kIPv4 = net::Family::kIPv4;
  return {
      restore("the Services' rules are gone", kIPv4, "*nat\n-F POINTSMAN-USP-SERVICES\nCOMMIT\n"),
      restore("the way out is gone", kIPv4, "*nat\n-F POINTSMAN-USP-OWN\nCOMMIT\n"),
      restore("the forwarder is open", kIPv4, "*filter\n-F POINTSMAN-USP-INPUT\nCOMMIT\n"),
      restore("the guard of IPv6 is gone", net::Family::kIPv6,
              "*filter\n-F POINTSMAN-USP-GUARD\nCOMMIT\n"),
      restore("the kernel's own chain is empty", kIPv4, "*filter\n-F OUTPUT\nCOMMIT\n"),
      {"the slots' route is gone",
       [] {
         RunTool({"ip", "route", "del", "local", "240.112.0.0/14", "dev", "lo"});
       }},
      {"the slots' route of IPv6 is gone",
       [] {
         RunTool({"ip", "-6", "route", "del", "local", "fd70:6f69:6e74:736d::/110", "dev", "lo",
                  "table", "local"});
       }},
  };
}

std::unique_ptr<ModeUnderTest> MakeUserspaceUnderTest() {
  return std::make_unique<UserspaceUnderTest>();
}

}  // namespace pointsman::agent::testing
