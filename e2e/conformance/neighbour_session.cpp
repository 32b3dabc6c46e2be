#include "e2e/conformance/neighbour_session.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <future>
#include <set>
#include <sstream>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <signal.h>
#include <spdlog/spdlog.h>

#include "e2e/conformance/wait.h"

namespace pointsman::e2e {
namespace {

using agent::testing::NeighbourSite;
using std::chrono_literals::operator""s;

constexpr milliseconds kFelixStart{20'000};
constexpr const char* kSiteFile = "/run/neighbour.json";

// All that a neighbour or the agent may have in a kernel, each line with the tool's name before it.
// Tables of iptables-nft are in its own tools' words.
constexpr const char* kReadKernel = R"(
for family in ip ip6; do
  for flavour in legacy nft; do
    ${family}tables-$flavour-save 2>/dev/null | sed "s/^/$family $flavour: /"
  done
  ${family%6} $([ $family = ip6 ] && echo -6) rule | sed "s/^/$family rule: /"
done
nft list tables | while read -r word family table; do
  case $table in filter|nat|mangle|raw|security) continue;; esac
  nft -s list table $family $table | sed "s/^/nft $family $table: /"
done
ip -o link | cut -d: -f2 | sed 's/^/link: /'
ip -o address | tr -s ' ' | cut -d ' ' -f 2-4 | sed 's/^/address: /'
ipset save | sed 's/^/ipset: /'
)";

// "ip legacy: :INPUT ACCEPT [12:3456]" → without the counters, which each packet changes. Empty:
// the line says nothing of who is there: a comment, or a builtin chain as the kernel makes it.
std::string WithoutCounters(const std::string& line) {
  const size_t colon = line.find(": ");
  const std::string rest = line.substr(colon + 2);
  if (rest.starts_with('#') || rest.starts_with('*') || rest == "COMMIT") return "";
  if (!rest.starts_with(':')) return line;
  if (rest.find(" ACCEPT [") != std::string::npos) return "";
  return line.substr(0, line.rfind(" ["));
}

// Has only the mode that serves rules of iptables? Where the agent begins with another one, until
// Felix knows of IPVS, that drains for a while.
bool HasOneMode(const std::vector<std::string>& state, kube::Mode mode) {
  struct Chains {
    kube::Mode of;
    std::string_view begin;
  };
  for (const Chains& chains : {Chains{kube::Mode::kIptables, ": :POINTSMAN-IPT-"},
                               Chains{kube::Mode::kIpvs, ": :POINTSMAN-IPVS-"},
                               Chains{kube::Mode::kUserspace, ": :POINTSMAN-USP-"}}) {
    if (chains.of != mode &&
        std::any_of(state.begin(), state.end(), [&chains](const std::string& line) {
          return line.find(chains.begin) != std::string::npos;
        }))
      return false;
  }
  return true;
}

// Without the sets, which change with Services.
std::vector<std::string> RulesOf(std::vector<std::string> state) {
  std::erase_if(state, [](const std::string& line) { return line.starts_with("ipset: "); });
  return state;
}

std::string Difference(const std::vector<std::string>& before,
                       const std::vector<std::string>& now) {
  std::string text;
  const auto only = [&](const auto& here, const auto& there, const char* sign) {
    for (const std::string& line : here) {
      if (std::find(there.begin(), there.end(), line) == there.end())
        text += fmt::format("  {} {}\n", sign, line);
    }
  };
  only(before, now, "-");
  only(now, before, "+");
  if (!text.empty()) return text;
  return fmt::format("  another order:\n{}\n", fmt::join(now, "\n"));
}

}  // namespace

NeighbourSession::NeighbourSession(Arena& arena, const agent::testing::KnownNeighbour& neighbour,
                                   net::Family family)
    : arena_(arena), neighbour_(neighbour), family_(family), name_(neighbour.name) {}

NeighbourSession::~NeighbourSession() {
  for (const OnNode& on : nodes_) {
    if (!on.felix) continue;
    try {
      on.node->client().Signal(*on.felix, SIGKILL);
    } catch (const std::exception& error) {
      spdlog::error("ending {} on {}: {}", name_, on.node->name(), error.what());
    }
  }
}

std::string NeighbourSession::CannotBe() const {
  if (neighbour_.needs_nf_tables && arena_.nodes_are_uml())
    return "the nodes' nf_tables has no NAT and no tables of family inet";
  return "";
}

NeighbourSite NeighbourSession::SiteOn(const std::string& node) const {
  const bool v4 = family_ == net::Family::kIPv4;
  NeighbourSite site;
  site.family = family_;
  site.node = arena_.NodeAddresses(node, family_);
  site.uplink = arena_.uplink();
  site.link_prefix = Node::kRoutedLinkPrefix;
  site.pods = v4 ? "10.244.0.0/16" : "fd00:10:244::/48";
  const Node& machine = arena_.world().cluster().node(node);
  site.node_pods = v4 ? machine.pod_cidr() : machine.pod_cidr6();
  site.nodes = v4 ? "192.168.50.0/24" : "fd00:50::/64";
  site.cluster_ips = v4 ? "10.96.0.0/16" : "fd00:10:96::/112";
  site.host_port = Arena::kHostPort;
  site.host_port_to = HostPort(arena_.Address(Arena::HostPortPod(node), family_), 8080);
  site.dns = Arena::DnsAddress(family_);
  site.dns_port = Arena::kNodePorts[0];
  for (const std::string& pod : RoutedPods()) {
    if (NodeOfPod(pod) != node) continue;
    site.policies.push_back({.pod = arena_.Address(pod, family_),
                             .link = arena_.LinkOf(pod),
                             .ingress_from = std::nullopt,
                             .egress_to = std::nullopt});
  }
  return site;
}

void NeighbourSession::PutSite(const OnNode& on) const {
  on.node->client().Put(kSiteFile, Json(on.site).dump());
}

std::string NeighbourSession::Run(const OnNode& on, const std::string& verb) const {
  return on.node->Check(
      {arena_.world().cluster().Program("pointsman-neighbour"), verb, name_, "--site", kSiteFile});
}

void NeighbourSession::Put(OnNode& on) const {
  PutSite(on);
  if (!neighbour_.felix) {
    Run(on, "put");
    return;
  }
  on.felix_log =
      arena_.dir() / fmt::format("{}-{}-{}.log", on.node->name(), name_, FamilyName(family_));
  const std::ofstream truncated(on.felix_log, std::ios::trunc);
  on.felix = on.node->client().Start(
      {arena_.world().cluster().Program("pointsman-neighbour"), "run", name_, "--site", kSiteFile},
      on.felix_log);
}

void NeighbourSession::AwaitFelix(const OnNode& on, const std::string& says) const {
  std::string text;
  arena_.world().Await(
      fmt::format("{} on {} says \"{}\"", name_, on.node->name(), says),
      [&] {
        std::ifstream file(on.felix_log);
        text.assign(std::istreambuf_iterator<char>(file), {});
        return text.find(says + "\n") != std::string::npos;
      },
      20s, [&] { return text; });
}

void NeighbourSession::EndFelix(OnNode& on) {
  if (!on.felix) return;
  const pid_t felix = *on.felix;
  on.node->client().Signal(felix, SIGTERM);
  arena_.world().Await(
      name_ + " ends", [&] { return !on.node->client().Status(felix).running; }, 15s);
  on.felix.reset();
}

std::vector<std::string> NeighbourSession::Look(const OnNode& on) {
  const Json looked = Json::parse(
      on.node->Check({arena_.world().cluster().Program("pointsman-neighbour"), "look"}));
  if (!looked.at("unread").empty())
    throw std::runtime_error("what is in the kernel of " + on.node->name() +
                             " could not be read: " + looked.at("unread").dump());
  const Json found = looked.value("found", Json::array());
  if (!neighbour_.row.empty() &&
      std::find(found.begin(), found.end(), Json(std::string(neighbour_.row))) == found.end())
    failures_.push_back(fmt::format("{} is in place on {}, and the agent's table knows it for {}",
                                    name_, on.node->name(), found.dump()));
  std::vector<std::string> refusals;
  for (const Json& refused : looked.at("modes").at(std::string(kube::ToString(arena_.mode()))))
    refusals.push_back(fmt::format("{}; to mend it: {}", refused.at("reason").get<std::string>(),
                                   refused.at("remedy").get<std::string>()));
  return refusals;
}

void NeighbourSession::PutInPlace() {
  for (const std::string& name : StandingNodes())
    nodes_.push_back({.node = &arena_.world().cluster().node(name), .site = SiteOn(name)});
  OnEach([&](OnNode& on) {
    on.before = Read(*on.node);
    Put(on);
  });
  for (const OnNode& on : nodes_) {
    if (on.felix) AwaitFelix(on, "ready");
  }
  OnEach([&](OnNode& on) {
    on.with = Read(*on.node);
    on.agent_log_begin = arena_.AgentLog(on.node->name(), std::string::npos).size();
  });
  // Both nodes are the same.
  refusals_ = Look(nodes_.front());
}

void NeighbourSession::StartAgents(Arena& arena) {
  // Both agents are to look again in turn, which the suite waits for.
  const Json often = {{"syncPeriod", "2s"}, {"minSyncPeriod", "1ms"}};
  Json changes = {{"iptables", often}, {"nftables", often}};
  if (arena.mode() == kube::Mode::kIpvs) changes["ipvs"] = often;
  arena.SetStandingChanges(changes);
  arena.UseConfiguration(Json::object());
}

// Each agent looks again whether all that is its own is in its place, in turn. Whose place is last
// is learnt once, by its look and then ours (docs/neighbours.md).
void NeighbourSession::ExpectAgreement() {
  const auto look = [&](OnNode& on) -> std::string {
    if (!on.felix) return Run(on, "sync");
    on.node->client().Signal(*on.felix, SIGUSR1);
    AwaitFelix(on, fmt::format("look {}", ++on.looks));
    return "";
  };
  for (OnNode& on : nodes_) {
    look(on);
    arena_.world().Await(
        on.node->name() + " has drained the mode that served first",
        [&] { return HasOneMode(Read(*on.node), arena_.mode()); }, 120s);
  }
  arena_.AwaitFullSyncs(1);
  for (OnNode& on : nodes_) {
    const KernelState before = RulesOf(Read(*on.node));
    const std::string said = look(on);
    const KernelState after = RulesOf(Read(*on.node));
    if (said == "wrote\n" || after != before)
      failures_.push_back(fmt::format("{} and the agent of {} move each other's rules:\n{}", name_,
                                      on.node->name(), Difference(before, after)));
  }
}

// In the place of kube-proxy the mode runs all the same, and the log has what the operator's
// cluster would be told.
void NeighbourSession::ExpectRefusalsAreSaid() {
  for (const OnNode& on : nodes_) {
    const std::string log =
        arena_.AgentLog(on.node->name(), std::string::npos).substr(on.agent_log_begin);
    for (const std::string& refusal : refusals_) {
      if (log.find(refusal + " (accepted)") == std::string::npos)
        failures_.push_back(
            fmt::format("the agent of {} did not say beside {}: \"{}\" (accepted); its log:\n{}",
                        on.node->name(), name_, refusal, log));
    }
    if (refusals_.empty() && log.find(" (accepted)") != std::string::npos)
      failures_.push_back(
          fmt::format("the agent of {} would refuse, and its table would not; its log:\n{}",
                      on.node->name(), log));
  }
}

void NeighbourSession::SetPolicies(const Policies& policies) {
  ++policies_;
  OnEach([&](OnNode& on) {
    if (!on.felix) Run(on, "remove");
    on.site = SiteOn(on.node->name());
    for (agent::testing::PodPolicy& pod : on.site.policies) {
      const auto found = policies.find(pod.pod);
      if (found == policies.end()) continue;
      pod.ingress_from = found->second.ingress_from;
      pod.egress_to = found->second.egress_to;
    }
    PutSite(on);
    if (on.felix) {
      on.node->client().Signal(*on.felix, SIGHUP);
    } else {
      Run(on, "put");
    }
  });
  for (const OnNode& on : nodes_) {
    if (on.felix) AwaitFelix(on, fmt::format("policies {}", policies_));
  }
}

void NeighbourSession::Reload() {
  OnEach([&](OnNode& on) { Run(on, "reload"); });
}

NeighbourSession::KernelState NeighbourSession::Read(const Node& node) const {
  std::istringstream lines(node.Check({"sh", "-c", kReadKernel}));
  KernelState state;
  for (std::string line; std::getline(lines, line);) {
    line = WithoutCounters(line);
    if (!line.empty()) state.push_back(line);
  }
  return state;
}

std::string NeighbourSession::Disturbed() const {
  std::string text;
  for (const OnNode& on : nodes_) {
    // Between its lines are the agent's.
    const std::set<std::string> its(on.with.begin(), on.with.end());
    KernelState still;
    for (const std::string& line : Read(*on.node)) {
      if (its.contains(line)) still.push_back(line);
    }
    if (still != on.with)
      text += fmt::format("what {} has on {} is not as it was:\n{}", name_, on.node->name(),
                          Difference(on.with, still));
  }
  return text;
}

void NeighbourSession::TakeAway() {
  OnEach([&](OnNode& on) {
    on.left = Read(*on.node);
    // Felix looks at what has gone, and starts again for it.
    if (on.felix)
      Eventually(kFelixStart, [&]() -> std::string {
        on.left = Read(*on.node);
        return on.left == on.with ? "" : "not yet";
      });
  });
  for (OnNode& on : nodes_)
    EndFelix(on);
  OnEach([&](OnNode& on) {
    Run(on, "remove");
    on.after = Read(*on.node);
  });
  for (const OnNode& on : nodes_) {
    if (on.left != on.with)
      failures_.push_back(
          fmt::format("on {} not all is as it was before the agent came, beside {}:\n{}",
                      on.node->name(), name_, Difference(on.with, on.left)));
    if (on.after != on.before)
      failures_.push_back(fmt::format("{} left something on {}:\n{}", name_, on.node->name(),
                                      Difference(on.before, on.after)));
  }
}

void NeighbourSession::OnEach(const std::function<void(OnNode&)>& work) {
  std::vector<std::future<void>> running;
  running.reserve(nodes_.size());
  for (OnNode& on : nodes_)
    running.push_back(std::async(std::launch::async, [&work, &on] { work(on); }));
  for (std::future<void>& one : running)
    one.wait();
  for (std::future<void>& one : running)
    one.get();
}

}  // namespace pointsman::e2e
