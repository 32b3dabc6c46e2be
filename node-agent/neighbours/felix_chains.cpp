#include "node-agent/neighbours/felix_chains.h"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>

#include "kube/process/kernel_module.h"
#include "node-agent/neighbours/legacy_chains.h"
#include "node-agent/netlink/nft_chain.h"
#include "node-agent/xtables/legacy_table.h"

namespace pointsman::agent {
namespace {

constexpr std::array kFamilies{net::Family::kIPv4, net::Family::kIPv6};
constexpr const char* kTable = "filter";
constexpr const char* kOwnTable = "calico";
constexpr const char* kOwnPrefix = "filter-";

}  // namespace

std::vector<FelixPlace> FelixChains::Read() {
  std::vector<FelixPlace> places;
  if (kube::KernelHasModule("nf_tables", modules_root_).value_or(true)) ReadNft(places);
  for (size_t i = 0; i < kFamilies.size(); ++i) {
    const net::Family family = kFamilies[i];
    if (!xtables::LegacyTablesInUse(family).contains(kTable)) {
      legacy_[i] = {};
      continue;
    }
    if (family == net::Family::kIPv4)
      ReadLegacy<xtables::LegacyIpv4>(family, legacy_[i]);
    else
      ReadLegacy<xtables::LegacyIpv6>(family, legacy_[i]);
    if (legacy_[i].place) places.push_back(*legacy_[i].place);
  }
  return places;
}

void FelixChains::ReadNft(std::vector<FelixPlace>& places) const {
  netlink::Socket socket(NETLINK_NETFILTER);
  const auto read = [&](net::Family family, const char* table, std::string_view prefix,
                        std::string where) {
    const netlink::NftChain chain =
        netlink::ReadNftChain(socket, family, table, fmt::format("{}{}", prefix, kInput));
    if (chain.rules == 0) return;
    const std::string asked = fmt::format("{}{}", prefix, kForwardCheck);
    const bool knows =
        std::find(chain.targets.begin(), chain.targets.end(), asked) != chain.targets.end();
    places.push_back({std::move(where), knows});
  };
  for (const net::Family family : kFamilies) {
    read(family, kTable, "",
         fmt::format("table {} of iptables-nft, {}", kTable, net::ToString(family)));
    read(family, kOwnTable, kOwnPrefix,
         fmt::format("table {} {} of nf_tables", family == net::Family::kIPv4 ? "ip" : "ip6",
                     kOwnTable));
  }
}

template <typename Types>
void FelixChains::ReadLegacy(net::Family family, Seen& seen) const {
  const UniqueFd socket = xtables::LegacyTableSocket(family);
  std::vector<char> now;
  const auto changed = [&](const typename Types::Info& info) {
    if (info.size > kLargestLegacyTable) {
      throw std::runtime_error(
          fmt::format("table {} of iptables-legacy, {}, has {} bytes, and no "
                      "more than {} are read",
                      kTable, net::ToString(family), info.size, kLargestLegacyTable));
    }
    const auto* bytes = reinterpret_cast<const char*>(&info);
    now.assign(bytes, bytes + sizeof info);
    return seen.info != now;
  };
  const auto rules = xtables::ReadLegacyTable<Types>(socket.get(), kTable, changed);
  if (!rules) return;
  std::optional<FelixPlace> place;
  bool inside = false;
  for (size_t at = 0; const auto* rule = rules->At(at); at += rule->next_offset) {
    const std::string_view begun = rules->ChainBegunBy(*rule);
    if (!begun.empty()) {
      inside = begun == kInput;
      if (inside)
        place = {fmt::format("table {} of iptables-legacy, {}", kTable, net::ToString(family))};
    } else if (inside && rules->TargetChain(*rule) == kForwardCheck) {
      place->knows_ipvs = true;
    }
  }
  seen = {std::move(now), std::move(place)};
}

}  // namespace pointsman::agent
