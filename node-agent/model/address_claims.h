// Which Service has which address: an address with port and protocol can lead to one Service only.
#pragma once

#include <compare>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kube/net/ip_address.h"
#include "kube/objects/service.h"

namespace pointsman::agent {

// A node port is the unspecified address of its family.
struct ServiceAddress {
  net::IpAddress ip;
  uint16_t port = 0;
  kube::Protocol protocol = kube::Protocol::kTcp;
  auto operator<=>(const ServiceAddress&) const = default;
};

struct ServiceAddressHash {
  size_t operator()(const ServiceAddress& address) const noexcept;
};

// The lower one wins. The API server gives a cluster IP and a node port to one Service only; a load
// balancer's address is written by a controller; external IPs are whatever a user wrote, and must
// not take traffic away from others (CVE-2020-8554).
enum class ClaimRank : uint8_t { kAllocated, kLoadBalancer, kExternal };

struct AddressClaim {
  ServiceAddress address;
  ClaimRank rank = ClaimRank::kAllocated;
  auto operator<=>(const AddressClaim&) const = default;
};

// Owners are told apart by pointer and ordered by created() and key(); all three must stay as long
// as the claim. Between claims of the same rank the owner that was created first wins, of those of
// the same second the first name: the same on every node and after every restart, and who comes
// later takes nothing, whatever its name. (kube-proxy leaves it to chance; the rule is that of the
// Gateway API for routes in conflict.) Not thread-safe.
template <typename Owner>
class AddressClaims {
 public:
  // Calls `affected(owner)` for every other claimant of the address: it may have won or lost it.
  template <typename F>
  void Add(const AddressClaim& claim, Owner* owner, F&& affected) {
    const Claimant claimant{owner, claim.rank};
    const auto [slot, fresh] = winners_.try_emplace(claim.address, claimant);
    if (fresh) return;
    std::vector<Claimant>& all = contested_[claim.address];
    if (all.empty()) all.push_back(slot->second);
    for (const Claimant& other : all)
      affected(other.owner);
    all.push_back(claimant);
    if (Before(claimant, slot->second)) slot->second = claimant;
  }

  template <typename F>
  void Remove(const AddressClaim& claim, Owner* owner, F&& affected) {
    const auto contest = contested_.find(claim.address);
    if (contest == contested_.end()) {
      winners_.erase(claim.address);
      return;
    }
    std::vector<Claimant>& all = contest->second;
    std::erase_if(all, [owner](const Claimant& claimant) { return claimant.owner == owner; });
    Claimant best = all.front();
    for (const Claimant& other : all) {
      affected(other.owner);
      if (Before(other, best)) best = other;
    }
    winners_[claim.address] = best;
    if (all.size() == 1) contested_.erase(contest);
  }

  // nullptr: nobody claims it.
  Owner* Winner(const ServiceAddress& address) const {
    const auto found = winners_.find(address);
    return found == winners_.end() ? nullptr : found->second.owner;
  }

 private:
  struct Claimant {
    Owner* owner;
    ClaimRank rank;
  };
  static bool Before(const Claimant& a, const Claimant& b) {
    if (a.rank != b.rank) return a.rank < b.rank;
    if (a.owner->created() != b.owner->created()) return a.owner->created() < b.owner->created();
    return std::string_view(a.owner->key()) < std::string_view(b.owner->key());
  }

  std::unordered_map<ServiceAddress, Claimant, ServiceAddressHash> winners_;
  // All claimants of the addresses that have more than one.
  std::unordered_map<ServiceAddress, std::vector<Claimant>, ServiceAddressHash> contested_;
};

}  // namespace pointsman::agent
