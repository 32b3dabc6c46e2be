// Runs this node's iptables-restore and iptables-save (legacy or nft variant, whichever the node's
// rules are in).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "kube/net/ip_address.h"
#include "node-agent/xtables/jump_order.h"
#include "node-agent/xtables/xt_match.h"

namespace pointsman::agent::xtables {

// A table of iptables-nft's that iptables-nft-save does not print, since somebody has put rules
// into it that only nft(8) knows. What is in it is not known then, so it must not be written to
// either.
class IncompatibleTable : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Works in the network namespace of the calling thread. Not thread-safe. Throws std::runtime_error
// with the tool's own message (and the text of the line it names), std::system_error when the tool
// cannot be started.
class IptablesTool {
 public:
  // Chooses the variant as kube-proxy's iptables-wrapper does: where the kubelet's hint chain
  // (KUBE-IPTABLES-HINT, KUBE-KUBELET-CANARY) or more rules are; $POINTSMAN_IPTABLES ("legacy" or
  // "nft") overrides. A kernel that does nat in only one of them decides by itself; where nothing
  // decides it is legacy, which is many times faster with thousands of Services. Throws
  // IncompatibleTable where nft would have to be looked at to decide and cannot be.
  explicit IptablesTool(net::Family family);
  // That variant, "legacy" or "nft", whichever this node's rules are in.
  IptablesTool(net::Family family, std::string_view variant);

  // `iptables-restore --noflush -w 5`; `input` is whole tables, each with COMMIT. Somebody holds
  // the xtables lock for longer, or the tool hangs (kube::ChildLimits): an error too.
  void Restore(std::string_view input);
  // The same; the input is the pieces, one after the other.
  void Restore(std::span<const std::string_view> pieces);
  // `iptables-save -t table`. Throws IncompatibleTable.
  std::string Save(std::string_view table);
  // The same, line by line without the newline: a big table never is in memory as a whole. The
  // view is valid during the call; comments ("# …") are left out. `table` "": all tables that the
  // kernel has, each begun by its line "*nat".
  void SaveLines(std::string_view table, const std::function<void(std::string_view)>& on_line);

  net::Family family() const { return family_; }
  // "legacy" or "nft".
  std::string_view variant() const { return variant_; }
  // Calls of Restore that failed.
  uint64_t restore_failures() const { return restore_failures_; }
  bool Is(XtablesVariant variant) const {
    return (variant_ == "legacy") == (variant == XtablesVariant::kLegacy);
  }
  // For what is found at each look and is to be in the log once: is it another message than the
  // last?
  bool IsNews(const std::string& message) { return std::exchange(said_, message) != message; }
  bool has_random_fully() const { return random_fully_; }  // MASQUERADE --random-fully
  // Has the kernel that match ("recent")? Throws std::system_error when it cannot be asked.
  bool KernelHasMatch(std::string_view name) const;
  // What is known of others' agents on this node, in table filter: for all who write with this
  // tool, one after the other.
  const std::shared_ptr<KnownKeepers>& last_keepers() const { return last_keepers_; }

 private:
  net::Family family_;
  std::string variant_;
  std::string restore_path_;
  std::string save_path_;
  bool random_fully_ = false;
  uint64_t restore_failures_ = 0;
  std::string said_;
  std::shared_ptr<KnownKeepers> last_keepers_ = std::make_shared<KnownKeepers>();
};

}  // namespace pointsman::agent::xtables
