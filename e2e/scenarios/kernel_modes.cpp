#include "e2e/scenarios/kernel_modes.h"

namespace pointsman::e2e {

std::set<std::string> ModesIn(const Node& node) {
  std::set<std::string> modes;
  const auto has = [](const std::string& text, const char* what) {
    return text.find(what) != std::string::npos;
  };
  const std::string rules = node.Check({"iptables-save"}) + node.Check({"iptables-legacy-save"});
  if (has(rules, "POINTSMAN-IPT-")) modes.insert("iptables");
  if (has(rules, "POINTSMAN-USP-")) modes.insert("userspace");
  if (has(rules, "POINTSMAN-NFT-")) modes.insert("nftables");
  const std::string tables = node.Check({"nft", "list", "tables"});
  if (has(tables, " pointsman\n")) modes.insert("nftables");
  // A kernel that does not have them now has nothing in them, and a tool that asks loads them.
  const std::string servers =
      node.Check({"sh", "-c", "if [ -e /proc/net/ip_vs ]; then ipvsadm -Sn; fi"});
  const std::string sets =
      node.Check({"sh", "-c", "if [ -d /sys/module/ip_set ]; then ipset list -n; fi"});
  if (has(rules, "POINTSMAN-IPVS-") || has(tables, " pointsman-ipvs\n") || !servers.empty() ||
      has(sets, "PM-IPVS-") || has(node.Check({"ip", "-o", "link"}), "kube-ipvs"))
    modes.insert("ipvs");
  return modes;
}

}  // namespace pointsman::e2e
