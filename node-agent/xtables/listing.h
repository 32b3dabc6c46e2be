// The Services as iptables rules have them, read back.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "node-agent/dataplane/listed_service.h"
#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent::xtables {

// Takes the lines of iptables-save, of any tables and in any order. Not thread-safe.
class ListingReader {
 public:
  // `prefix`: of the mode's chains; it outlives this.
  ListingReader(std::string_view prefix, net::Family family) : prefix_(prefix), family_(family) {}

  void AddLine(std::string_view line);
  // By address, node ports last.
  std::vector<ListedService> Take();

 private:
  struct Chain {
    std::string service;
    std::vector<ListedBackend> backends;
    std::vector<std::string> next;  // chains that it goes on to
  };
  struct Way {
    ListedService listed;  // without what its chain says
    std::string chain;     // "": it is refused
  };
  struct Rule;

  bool IsServiceChain(std::string_view chain) const;
  bool IsDispatchChain(std::string_view chain) const;
  void AddToChain(std::string_view chain, const Rule& rule);
  void AddWay(const Rule& rule);
  // What it says, and those that it goes on to.
  void Collect(const std::string& chain, std::set<std::string>& seen, ListedService& into) const;

  const std::string_view prefix_;
  const net::Family family_;
  std::map<std::string, Chain, std::less<>> chains_;
  std::vector<Way> ways_;
};

std::vector<ListedService> ListServices(IptablesTool& tool, std::string_view prefix);

}  // namespace pointsman::agent::xtables
