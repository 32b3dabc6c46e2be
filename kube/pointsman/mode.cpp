#include "kube/pointsman/mode.h"

namespace pointsman::kube {

std::string_view ToString(Mode mode) {
  switch (mode) {
    case Mode::kUserspace:
      return "userspace";
    case Mode::kIptables:
      return "iptables";
    case Mode::kIpvs:
      return "ipvs";
    case Mode::kNftables:
      return "nftables";
  }
  return "";
}

std::optional<Mode> ParseMode(std::string_view text) {
  for (Mode mode : {Mode::kUserspace, Mode::kIptables, Mode::kIpvs, Mode::kNftables}) {
    if (ToString(mode) == text) return mode;
  }
  return std::nullopt;
}

}  // namespace pointsman::kube
