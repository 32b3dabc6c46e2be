#include "node-agent/ipvs/strict_arp.h"

#include <array>
#include <linux/rtnetlink.h>
#include <set>

#include "node-agent/netlink/address.h"
#include "node-agent/netlink/link.h"
#include "node-agent/sysctl/sysctl.h"

namespace pointsman::agent::ipvs {
namespace {

struct Parameter {
  const char* name;
  const char* value;
};
constexpr std::array kParameters{Parameter{"arp_ignore", "1"}, Parameter{"arp_announce", "2"}};

// In sysctl's spelling a slash stands for a dot inside a name ("eth0/100").
std::string Name(std::string interface_name, const char* parameter) {
  for (char& c : interface_name) {
    if (c == '.') c = '/';
  }
  return "net.ipv4.conf." + interface_name + "." + parameter;
}

std::set<std::string> Interfaces(netlink::Socket& route) {
  std::set<int> with_arp;
  for (const netlink::Link& link : netlink::Links(route)) {
    if (link.arp && !link.loopback) with_arp.insert(link.index);
  }
  std::set<std::string> names;
  for (const netlink::InterfaceAddress& address : netlink::InterfaceAddresses(route)) {
    // A single address (/32) is how pod networks give a gateway to a pod's interface.
    if (address.address.is_v4() && address.prefix_length < 32 &&
        address.scope == RT_SCOPE_UNIVERSE && with_arp.contains(address.interface_index) &&
        !address.interface_name.empty())
      names.insert(address.interface_name);
  }
  return names;
}

void Write(const std::string& name, const std::string& value, SyncResult& result) {
  const SysctlResult written = WriteSysctl(name, value);
  if (!written.ok()) result.problems.push_back({"sysctl " + name, written.error});
  if (written.changed) ++result.kernel_writes;
}

}  // namespace

void StrictArp::Ensure(netlink::Socket& route, SyncResult& result) {
  names_.clear();
  for (const std::string& interface_name : Interfaces(route)) {
    for (const Parameter& parameter : kParameters) {
      const std::string name = Name(interface_name, parameter.name);
      names_.push_back(name);
      const SysctlResult written = WriteSysctl(name, parameter.value);
      if (!written.ok()) result.problems.push_back({"sysctl " + name, written.error});
      if (!written.changed) continue;
      ++result.kernel_writes;
      before_.try_emplace(name, written.old_value);
    }
  }
}

void StrictArp::Restore(netlink::Socket& route, SyncResult& result) {
  for (const std::string& interface_name : Interfaces(route)) {
    for (const Parameter& parameter : kParameters) {
      const std::string name = Name(interface_name, parameter.name);
      if (before_.contains(name) || ReadSysctl(name) != std::string(parameter.value)) continue;
      if (const auto value = ReadSysctl(Name("default", parameter.name)))
        Write(name, *value, result);
    }
  }
  for (const auto& [name, value] : before_) {
    if (ReadSysctl(name)) Write(name, value, result);  // the interface may be gone
  }
  before_.clear();
  names_.clear();
}

}  // namespace pointsman::agent::ipvs
