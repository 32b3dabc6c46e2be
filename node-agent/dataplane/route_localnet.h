// net.ipv4.conf.all.route_localnet: without it the kernel does not let node ports answer on
// 127.0.0.1. It also lets packets for 127.0.0.0/8 in from outside, so a mode that needs it has a
// rule that guards against them (CVE-2020-8558). The comment of that rule remembers whether we have
// switched the parameter on, so that it is restored by whichever process removes the rule.
#pragma once

#include <string_view>

#include "node-agent/dataplane/dataplane.h"

namespace pointsman::agent {

// Not thread-safe. The parameter is that of the calling thread's network namespace.
class RouteLocalnet {
 public:
  static constexpr char kName[] = "net.ipv4.conf.all.route_localnet";

  // Does this rule say that we have switched it on? `rule`: its comment, or all of it as
  // iptables-save prints it. Also true of what earlier versions wrote.
  static bool IsMark(std::string_view rule);

  // Is it needed by the node ports of `family`? IPv6 has nothing like it.
  void Want(net::Family family, const NodeNetwork& node) {
    wanted_ = family == net::Family::kIPv4 && node.localhost_node_ports;
  }
  bool wanted() const { return wanted_; }
  // `marked`: the kernel has a rule of ours that IsMark.
  void Learn(bool marked) { ours_ = ours_ || marked; }
  // Of the rule that guards it; "": none is needed. After PrepareGuard.
  std::string_view guard_comment() const;

  // Before the rules are written: finds out whose it is, or restores it when it is not wanted any
  // more, before the guard goes. What fails is a problem in `result`.
  void PrepareGuard(SyncResult& result);
  // After the rules are written.
  void SwitchOn(SyncResult& result) const;
  // Before the guard goes: off again, if we have switched it on.
  void Restore(SyncResult& result);

 private:
  bool wanted_ = false;
  // It was off before us. Beside the mark in the kernel, in case something else deletes that.
  bool ours_ = false;
};

}  // namespace pointsman::agent
