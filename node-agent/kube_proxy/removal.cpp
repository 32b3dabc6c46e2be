#include "node-agent/kube_proxy/removal.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <system_error>

#include <fmt/format.h>

#include "kube/process/kernel_module.h"
#include "node-agent/kube_proxy/names.h"
#include "node-agent/kube_proxy/rules.h"
#include "node-agent/netlink/nft_list.h"
#include "node-agent/nf_tables/connection.h"
#include "node-agent/nf_tables/transaction.h"
#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent::kube_proxy {
namespace {

namespace fs = std::filesystem;

std::vector<net::Family> NftTables(const std::string& modules_root) {
  std::vector<net::Family> families;
  if (kube::KernelHasModule("nf_tables", modules_root) == false) return families;
  netlink::Socket socket(NETLINK_NETFILTER);
  netlink::ForEachNftTable(
      socket, [&] { families.clear(); },
      [&](const netlink::NftTableName& table) {
        if (table.name != kNftTable) return;
        const std::string_view family = netlink::NftFamilyName(table.family);
        if (family == "ip") families.push_back(net::Family::kIPv4);
        if (family == "ip6") families.push_back(net::Family::kIPv6);
      });
  return families;
}

std::string_view NftName(net::Family family) {
  return family == net::Family::kIPv4 ? "ip" : "ip6";
}

class Removal {
 public:
  Removal(const RemovalOptions& options, const std::stop_token& stop)
      : options_(options), stop_(stop), virtual_servers_(options.others) {}

  std::vector<std::string> Run() {
    const bool ipvs = options_.running != kube::Mode::kIpvs;
    if (ipvs) {
      std::vector<netlink::IpvsServer> servers;
      if (!Try("virtual servers of IPVS", [&] { servers = virtual_servers_.Find(); }))
        return failed_;
      if (!servers.empty() && !(KeepSources() && Drain(servers))) return failed_;
      Try("virtual servers of IPVS", [&] { RemoveServers(servers); });
      Try("interface kube-ipvs0", [&] { ReleaseLink(); });
    }
    Try("rules of iptables", [&] { RemoveIptables(); });
    if (options_.running != kube::Mode::kNftables) Try("nf_tables", [&] { RemoveNftables(); });
    if (ipvs) Try("ipsets", [&] { RemoveIpsets(); });
    return failed_;
  }
  // Was there anything that was removed?
  bool something() const { return something_; }

 private:
  void Tell(const std::string& what) {
    something_ = true;
    options_.tell(what);
  }
  template <typename Work>
  bool Try(std::string_view what, const Work& work) {
    try {
      work();
      return true;
    } catch (const std::exception& error) {
      failed_.push_back(fmt::format("{}: {}", what, error.what()));
      return false;
    }
  }

  bool KeepSources() {
    return Try("addresses of kube-ipvs0", [] { KeepAddressesFromBeingSources(); });
  }
  // False: told to stop.
  bool Drain(const std::vector<netlink::IpvsServer>& servers) {
    constexpr std::chrono::milliseconds kPoll{250};
    const auto deadline = options_.time.Now() + options_.drain_timeout;
    uint64_t told = 0;
    while (true) {
      uint64_t open = 0;
      if (!Try("connections of IPVS", [&] { open = virtual_servers_.Open(servers); })) return false;
      if (open == 0) return true;
      const auto left = std::chrono::ceil<std::chrono::seconds>(deadline - options_.time.Now());
      if (left.count() <= 0) {
        options_.tell(fmt::format("{} connections through kube-proxy's {} virtual servers end now",
                                  open, servers.size()));
        return true;
      }
      if (open != told)
        options_.tell(fmt::format(
            "kube-proxy's {} virtual servers still have {} connections; waiting for {} s at most",
            servers.size(), open, left.count()));
      told = open;
      if (!options_.time.Sleep(kPoll, stop_)) {
        failed_.emplace_back("told to stop; nothing was removed");
        return false;
      }
    }
  }

  void RemoveServers(const std::vector<netlink::IpvsServer>& servers) {
    if (servers.empty()) return;
    const std::vector<std::string> failed = virtual_servers_.Remove(servers);
    failed_.insert(failed_.end(), failed.begin(), failed.end());
    Tell(fmt::format("removed {} virtual servers of IPVS", servers.size() - failed.size()));
  }

  void ReleaseLink() {
    if (options_.take_over_link) {
      if (TakeOverLink()) Tell("took over interface kube-ipvs0, without its addresses");
    } else if (RemoveLink()) {
      Tell("removed interface kube-ipvs0");
    }
  }

  void RemoveIptables() {
    for (const RulesPlace& place : FindRules(options_.modules_root)) {
      const std::string where =
          fmt::format("iptables-{}, {}", place.variant, net::ToString(place.family));
      Try(where, [&] {
        xtables::IptablesTool tool(place.family, place.variant);
        const RemovedRules removed = RemoveRules(tool, options_.running);
        for (const std::string& chain : removed.in_use)
          failed_.push_back(fmt::format("{}: {}", where, chain));
        for (const std::string& kept : removed.kept)
          options_.tell(fmt::format("{}: {}", where, kept));
        if (removed.chains + removed.jumps > 0)
          Tell(fmt::format("{}: removed {} chains, and {} jumps to them", where, removed.chains,
                           removed.jumps));
      });
    }
  }

  void RemoveNftables() {
    for (const net::Family family : NftTables(options_.modules_root)) {
      nft::Connection connection;
      nft::Transaction transaction(family, kNftTable);
      transaction.DeleteTable();
      const std::vector<nft::Refusal> refused = connection.Commit(transaction);
      if (refused.empty()) {
        Tell(fmt::format("removed nf_tables' table {} {}", NftName(family), kNftTable));
      } else if (refused.front().error != ENOENT) {
        failed_.push_back(
            fmt::format("{} of nf_tables: {}", refused.front().object, refused.front().message));
      }
    }
  }

  void RemoveIpsets() {
    if (kube::KernelHasModule("ip_set", options_.modules_root) == false) return;
    std::vector<std::string> in_use;
    if (const size_t destroyed = DestroyIpsets(in_use); destroyed > 0)
      Tell(fmt::format("destroyed {} ipsets", destroyed));
    failed_.insert(failed_.end(), in_use.begin(), in_use.end());
  }

  const RemovalOptions& options_;
  const std::stop_token& stop_;
  VirtualServers virtual_servers_;
  bool something_ = false;
  std::vector<std::string> failed_;
};

// Which network namespace that is; "": it has ended, or may not be seen.
std::string NetNamespaceOf(const fs::path& process) {
  std::error_code error;
  return fs::read_symlink(process / "ns/net", error).string();
}

}  // namespace

std::vector<std::string> RemoveLeftovers(const RemovalOptions& options,
                                         const std::stop_token& stop) {
  Removal removal(options, stop);
  std::vector<std::string> failed = removal.Run();
  if (failed.empty() && !removal.something()) options.tell("nothing of kube-proxy's is here");
  return failed;
}

uint64_t OpenConnections(const IsOthers& others, bool first) {
  VirtualServers virtual_servers(others);
  const std::vector<netlink::IpvsServer> servers = virtual_servers.Find();
  if (servers.empty()) return 0;
  if (first) KeepAddressesFromBeingSources();
  return virtual_servers.Open(servers);
}

std::vector<std::string> Traces(const std::string& modules_root) {
  std::vector<std::string> traces;
  for (const RulesPlace& place : FindRules(modules_root, IsTrace)) {
    traces.push_back(
        fmt::format("chains of iptables-{}, {}", place.variant, net::ToString(place.family)));
  }
  for (const net::Family family : NftTables(modules_root))
    traces.push_back(fmt::format("table {} {} of nf_tables", NftName(family), kNftTable));
  if (HasLink()) traces.emplace_back("interface kube-ipvs0");
  std::sort(traces.begin(), traces.end());
  return traces;
}

int RunningKubeProxy() {
  const std::string here = NetNamespaceOf("/proc/thread-self");
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    int pid = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (error != std::errc() || end != name.data() + name.size()) continue;
    std::ifstream comm(entry.path() / "comm");
    std::string command;
    if (std::getline(comm, command) && command == "kube-proxy" &&
        NetNamespaceOf(entry.path()) == here)
      return pid;
  }
  return 0;
}

}  // namespace pointsman::agent::kube_proxy
