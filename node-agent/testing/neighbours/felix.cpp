#include "node-agent/testing/neighbours/felix.h"

#include <arpa/inet.h>
#include <array>
#include <linux/rtnetlink.h>
#include <stdexcept>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <utility>

#include <poll.h>

#include "base/throw_errno.h"
#include "node-agent/netlink/link.h"
#include "node-agent/netlink/socket.h"
#include "node-agent/xtables/iptables_tool.h"
#include "node-agent/xtables/save_reader.h"

namespace pointsman::agent::testing {
namespace {

bool SeesIpvs() {
  netlink::Socket socket(NETLINK_ROUTE);
  return netlink::FindLink(socket, "kube-ipvs0").has_value();
}

// What is on its way: the interfaces are looked at anyway.
void Forget(int fd) {
  std::array<char, 65536> messages{};
  while (::recv(fd, messages.data(), messages.size(), MSG_DONTWAIT) > 0) {
  }
}

}  // namespace

Felix::Felix(Settings settings)
    : settings_(std::move(settings)), stop_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!stop_) ThrowErrno("eventfd");
  Write(SeesIpvs());
  thread_ = std::thread([this] { Loop(); });
}

Felix::~Felix() {
  ::eventfd_write(stop_.get(), 1);
  thread_.join();
}

void Felix::Hang(bool hangs) {
  hangs_ = hangs;
}

bool Felix::Wait(int fd, std::chrono::milliseconds longest) const {
  std::array<pollfd, 2> items{{{stop_.get(), POLLIN, 0}, {fd, POLLIN, 0}}};
  ::poll(items.data(), fd < 0 ? 1 : 2, static_cast<int>(longest.count()));
  return items[0].revents == 0;
}

bool Felix::KnowsIpvs() {
  const std::lock_guard lock(mutex_);
  return knows_ipvs_;
}

void Felix::Loop() {
  constexpr std::chrono::milliseconds kHangCheck{20};
  netlink::Socket links(NETLINK_ROUTE);
  links.Join(RTNLGRP_LINK);
  while (true) {
    Forget(links.fd());
    const bool sees = SeesIpvs();
    if (sees == KnowsIpvs() || hangs_) {
      if (!Wait(links.fd(), kHangCheck)) return;
      continue;
    }
    if (!Wait(-1, settings_.start)) return;
    Write(sees);
  }
}

Neighbour Felix::Rules(bool for_ipvs) const {
  return for_ipvs ? CalicoForIpvs(settings_.family, settings_.policies, settings_.link_prefix,
                                  settings_.node, settings_.inserts)
                  : Calico(settings_.family, settings_.policies, settings_.link_prefix,
                           settings_.inserts);
}

void Felix::SetPolicies(PodPolicies policies) {
  const std::lock_guard lock(mutex_);
  settings_.policies = std::move(policies);
  xtables::IptablesTool(settings_.family).Restore(Rules(knows_ipvs_).chains);
}

void Felix::LookAgain() {
  const std::lock_guard lock(mutex_);
  WriteLocked(knows_ipvs_);
}

void Felix::Write(bool for_ipvs) {
  const std::lock_guard lock(mutex_);
  WriteLocked(for_ipvs);
}

void Felix::WriteLocked(bool for_ipvs) {
  xtables::IptablesTool tool(settings_.family);
  Rules(for_ipvs).Sync(tool);
  if (!for_ipvs && knows_ipvs_) {
    std::vector<std::string> chains{"cali-forward-check", "cali-set-endpoint-mark",
                                    "cali-forward-endpoint-mark", "cali-from-endpoint-mark"};
    for (size_t i = 0; i < settings_.policies.size(); ++i)
      chains.push_back("cali-sm-pod" + std::to_string(i));
    std::string text = "*filter\n";
    for (const std::string& chain : chains)
      text += ":" + chain + " - [0:0]\n";
    for (const std::string& chain : chains)
      text += "-X " + chain + "\n";
    tool.Restore(text + "COMMIT\n");
  }
  knows_ipvs_ = for_ipvs;
  ++writes_;
}

void Felix::RemoveRules(net::Family family) {
  xtables::IptablesTool tool(family);
  std::string flush;
  std::string removal;
  tool.SaveLines("filter", [&](std::string_view text) {
    using Kind = xtables::SavedLine::Kind;
    const xtables::SavedLine line = xtables::ParseSavedLine(text);
    const bool own = line.name.starts_with("cali-");
    if (line.kind == Kind::kChain && own) {
      flush += ":" + std::string(line.name) + " - [0:0]\n";
      removal += "-X " + std::string(line.name) + "\n";
    } else if (line.kind == Kind::kRule && !own && line.rule.find("-j cali-") != line.rule.npos) {
      flush += "-D " + std::string(line.name) + " " + std::string(line.rule) + "\n";
    }
  });
  if (!removal.empty()) tool.Restore("*filter\n" + flush + removal + "COMMIT\n");
}

}  // namespace pointsman::agent::testing
