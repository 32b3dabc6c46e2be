#include "node-agent/contract/mode_under_test.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string_view>

#include <fmt/format.h>
#include <unistd.h>

#include "node-agent/contract/modes.h"
#include "node-agent/dataplane/family_parts.h"
#include "node-agent/testing/fresh_mounts.h"
#include "node-agent/testing/iptables_rules.h"
#include "node-agent/testing/iptables_wish.h"
#include "node-agent/testing/run_tool.h"
#include "node-agent/xtables/base_rules.h"

namespace pointsman::agent::testing {
namespace {

// IptablesTool looks there first.
constexpr char kToolsDirectory[] = "/usr/local/sbin";

std::string BrokenMark(net::Family family) {
  return fmt::format("{}/{}-is-broken", kToolsDirectory, net::ToString(family));
}

}  // namespace

void PrintTo(const Variant& variant, std::ostream* out) {
  *out << variant.name;
}

std::unique_ptr<ModeUnderTest> ModeUnderTest::Make(const Variant& variant) {
  if (::geteuid() != 0) throw std::runtime_error("needs root to make network namespaces");
  std::unique_ptr<ModeUnderTest> mode;
  switch (variant.mode) {
    case kube::Mode::kIptables:
      mode = MakeIptablesUnderTest();
      break;
    case kube::Mode::kIpvs:
      mode = MakeIpvsUnderTest();
      break;
    case kube::Mode::kNftables:
      return MakeNftablesUnderTest();
    case kube::Mode::kUserspace:
      mode = MakeUserspaceUnderTest();
      break;
  }
  mode->MakeTools(variant.tools);
  return mode;
}

void ModeUnderTest::MakeTools(const std::string& variant) {
  if (!variant.empty()) testing::WishVariant(variant);
  try {
    for (const net::Family family : {net::Family::kIPv4, net::Family::kIPv6})
      tools_.push_back(std::make_unique<xtables::IptablesTool>(family));
  } catch (...) {
    testing::WishVariant("");
    throw;
  }
  testing::WishVariant("");
  for (const auto& tool : tools_) {
    if (!variant.empty() && tool->variant() != variant)
      throw std::runtime_error("no iptables-" + variant);
  }
}

std::vector<xtables::IptablesTool*> ModeUnderTest::Tools(const std::vector<net::Family>& families) {
  std::vector<xtables::IptablesTool*> tools;
  tools.reserve(families.size());
  for (const net::Family family : families)
    tools.push_back(&Tool(family));
  return tools;
}

SyncResult ModeUnderTest::EnsureBase(const kube::ProxySettings& settings) {
  if (tools_.empty()) MakeTools("");
  SyncResult sum;
  for (const auto& tool : tools_) {
    AddPartOf(tool->family(), "base rules", sum,
              [&] { return xtables::BaseRules(*tool, settings.iptables.masquerade_bit).Ensure(); });
  }
  return sum;
}

std::string ModeUnderTest::IptablesRules() {
  std::string text;
  for (const auto& tool : tools_)
    text += RulesOf(*tool);
  return text;
}

void ModeUnderTest::AddForeignIptablesRules() {
  for (const auto& tool : tools_) {
    const char* const ip = tool->family() == net::Family::kIPv4 ? "10.0.0.1/32" : "fd00::1/128";
    tool->Restore(
        fmt::format("*nat\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n"
                    "-A KUBE-SERVICES -d {} -j RETURN\nCOMMIT\n"
                    "*filter\n:MINE - [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n"
                    "-A MINE -j RETURN\nCOMMIT\n",
                    ip));
  }
}

void ModeUnderTest::Break(net::Family family) {
  std::ofstream mark(BrokenMark(family));
  if (!mark) throw std::runtime_error("cannot write " + BrokenMark(family));
}

void ModeUnderTest::Mend(net::Family family) {
  std::filesystem::remove(BrokenMark(family));
}

void ReplaceTools() {
  EnterFreshMounts({kToolsDirectory});
  for (const net::Family family : {net::Family::kIPv4, net::Family::kIPv6}) {
    for (const char* variant : {"legacy", "nft"}) {
      const std::string name = fmt::format(
          "{}-{}-restore", family == net::Family::kIPv4 ? "iptables" : "ip6tables", variant);
      const std::string path = fmt::format("{}/{}", kToolsDirectory, name);
      std::ofstream(path) << fmt::format(
          "#!/bin/sh\n"
          "if [ -e {} ]; then echo 'refused by the test' >&2; exit 2; fi\n"
          "exec /usr/sbin/{} \"$@\"\n",
          BrokenMark(family), name);
      std::filesystem::permissions(path, std::filesystem::perms(0755));
    }
  }
}

std::string Difference(const std::string& a, const std::string& b) {
  std::istringstream lines_of_a(a);
  std::istringstream lines_of_b(b);
  std::string line_of_a;
  std::string line_of_b;
  while (true) {
    const bool more_a = static_cast<bool>(std::getline(lines_of_a, line_of_a));
    const bool more_b = static_cast<bool>(std::getline(lines_of_b, line_of_b));
    if (!more_a && !more_b) return {};
    if (more_a != more_b || line_of_a != line_of_b)
      return fmt::format("{}\nand\n{}", line_of_a, line_of_b);
  }
}

}  // namespace pointsman::agent::testing
