// Runs this node's iptables-restore and iptables-save (legacy or nft variant, whichever the node's
// rules are in).
#pragma once

#include <string>
#include <string_view>

#include "kube/net/ip_address.h"

namespace pointsman::agent {

// Not thread-safe. Throws std::runtime_error with the tool's own message (and the line it names).
class IptablesTool {
 public:
  // Chooses the variant as kube-proxy's iptables-wrapper does: where the kubelet's hint chain
  // (KUBE-IPTABLES-HINT, KUBE-KUBELET-CANARY) or more rules are; $POINTSMAN_IPTABLES ("legacy" or
  // "nft") overrides. A kernel that does nat in only one of them decides by itself.
  explicit IptablesTool(net::Family family);

  // `iptables-restore --noflush -w`; `input` is whole tables, each with COMMIT.
  void Restore(std::string_view input);
  // `iptables-save -t table`, or with counters.
  std::string Save(std::string_view table);
  // "legacy" or "nft".
  std::string_view variant() const { return variant_; }
  bool has_random_fully() const { return random_fully_; }  // MASQUERADE --random-fully

 private:
  net::Family family_;
  std::string variant_;
  std::string restore_path_;
  std::string save_path_;
  bool random_fully_ = false;
};

}  // namespace pointsman::agent
