#include "node-agent/neighbours/ipvs_notice.h"

#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/fmt/fmt.h>

#include "node-agent/netlink/link.h"

namespace pointsman::agent {
namespace {

bool FelixIsInEbpfMode() {
  netlink::Socket socket(NETLINK_ROUTE);
  return netlink::FindLink(socket, IpvsNotice::kFelixEbpf).has_value();
}

}  // namespace

bool IpvsNotice::IsLookedFor() {
  return !FelixIsInEbpfMode() && !chains_.Read().empty();
}

std::string IpvsNotice::Tell(bool serves) {
  if (FelixIsInEbpfMode()) {
    marker_.Remove();
    return "";
  }
  std::vector<std::string> knows;
  std::vector<std::string> knows_not;
  for (FelixPlace& place : chains_.Read())
    (place.knows_ipvs ? knows : knows_not).push_back(std::move(place.where));
  if (knows.empty() && knows_not.empty()) return "";
  if (!marker_.Present()) {
    // It has not noticed yet that an earlier one went. What it has now says nothing of what it will
    // have when it has started again, and an interface made now may be missed.
    if (!serves && !knows.empty()) {
      return fmt::format(
          "Calico's Felix still has chain {} ({}), though there is no interface {}: it has to take "
          "that away first; see the log of calico-node on this node",
          FelixChains::kForwardCheck, fmt::join(knows, "; "), kMarker);
    }
    marker_.Make();
  }
  if (knows_not.empty()) return "";
  return fmt::format(
      "Calico's Felix has no chain {} yet ({}), without which no NetworkPolicy holds for Service "
      "traffic in ipvs mode; it writes it when it has started again, which it does for interface "
      "{}: see the log of calico-node on this node, and remove chains cali-… that are left over",
      FelixChains::kForwardCheck, fmt::join(knows_not, "; "), kMarker);
}

}  // namespace pointsman::agent
