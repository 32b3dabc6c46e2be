#include "node-agent/xtables/family_rules.h"

#include <unordered_set>

#include <fmt/format.h>

#include "node-agent/model/ip_protocol.h"
#include "node-agent/xtables/base_rules.h"
#include "node-agent/xtables/forward_accept.h"
#include "node-agent/xtables/jump_order.h"

namespace pointsman::agent::xtables {
namespace {

using Text = std::back_insert_iterator<std::string>;

// Packets whose source became their own destination: an endpoint that reached itself. Classic BPF
// over the IP header: ld [12]; tax; ld [16]; jeq x, accept.
constexpr std::string_view kSourceIsDestination4 =
    "6,32 0 0 12,7 0 0 0,32 0 0 16,29 0 1 0,6 0 0 65535,6 0 0 0";
// The same for the four words of an IPv6 address: 8/24, 12/28, 16/32, 20/36.
constexpr std::string_view kSourceIsDestination6 =
    "18,32 0 0 8,7 0 0 0,32 0 0 24,29 0 13 0,32 0 0 12,7 0 0 0,32 0 0 28,29 0 9 0,"
    "32 0 0 16,7 0 0 0,32 0 0 32,29 0 5 0,32 0 0 20,7 0 0 0,32 0 0 36,29 0 1 0,"
    "6 0 0 65535,6 0 0 0";

}  // namespace

FamilyRules::Names::Names(std::string_view prefix)
    : services(fmt::format("{}SERVICES", prefix)),
      node_ports(fmt::format("{}NODEPORTS", prefix)),
      hairpin(fmt::format("{}HAIRPIN", prefix)),
      reject(fmt::format("{}REJECT", prefix)),
      reject_ports(fmt::format("{}REJECT-NP", prefix)),
      forward(fmt::format("{}FORWARD", prefix)),
      invalid(fmt::format("{}INVALID", prefix)),
      guard(fmt::format("{}GUARD", prefix)),
      health(fmt::format("{}HEALTH", prefix)) {}

void FamilyRules::NameJumps() {
  auto text = [](std::string_view what, const std::string& chain) {
    return fmt::format("-m comment --comment \"pointsman: {}\" -j {}", what, chain);
  };
  auto add = [](Table& table, std::string_view builtin, std::string rule, JumpPlace place,
                bool new_connections = false) {
    table.jumps.push_back({std::string(builtin), {std::move(rule), place}, new_connections});
  };
  for (const ExtraChain& chain : extra_) {
    for (const auto& [builtin, jump] : chain.jumps)
      (chain.table == "nat" ? nat_ : filter_).jumps.push_back({builtin, jump, false});
  }
  for (const char* builtin : {"PREROUTING", "OUTPUT"})
    add(nat_, builtin, text("services", names_.services), JumpPlace::kBeforeProxies, true);
  for (const char* builtin : {"INPUT", "FORWARD", "OUTPUT"}) {
    add(filter_, builtin, "-m conntrack --ctstate NEW " + text("no endpoints", names_.reject),
        JumpPlace::kStays, true);
  }
  if (rules_.flavour.sends_on) {
    add(nat_, "POSTROUTING", text("hairpin", names_.hairpin), JumpPlace::kStays);
    for (const char* builtin : {"INPUT", "OUTPUT"})
      add(filter_, builtin, text("guard", names_.guard), JumpPlace::kStays);
    if (GuardsAgainstInvalid()) {
      // A packet that conntrack finds invalid would go out without its NAT undone, and the client
      // would reset the connection (kubernetes#74839). That concerns answers of Services'
      // endpoints. Other traffic may be invalid and right: that of which this node sees one
      // direction only (kubernetes#94861).
      add(filter_, "FORWARD",
          "-m conntrack --ctstate INVALID " + text("invalid answers", names_.invalid),
          JumpPlace::kStays);
    }
    filter_.jumps.push_back({"FORWARD", ForwardJump(names_.forward), false});
  }
  add(filter_, "INPUT", text("health", names_.health), JumpPlace::kBehindPolicies);
}

std::map<std::string_view, std::vector<Jump>> FamilyRules::Table::ByBuiltin() const {
  std::map<std::string_view, std::vector<Jump>> by_builtin;
  for (const TableJump& jump : jumps)
    by_builtin[jump.builtin].push_back(jump.jump);
  return by_builtin;
}

struct FamilyRules::Change {
  enum class Kind { kMissing, kDifferent, kUnknown, kJumps } kind;
  std::string_view table;
  std::string_view object;  // chain
};

// Chains are named before the rules that jump to them and deleted after.
class FamilyRules::Writer {
 public:
  explicit Writer(std::string_view table) : table_(table) {}

  void Write(std::string_view chain, std::string_view rules) {
    declared_.emplace_back(chain);
    rules_ += rules;
    ++chains_;
    rule_count_ += static_cast<uint64_t>(std::count(rules.begin(), rules.end(), '\n'));
  }
  // Emptied first: the kernel refuses to delete a chain with rules.
  void Delete(std::string_view chain) {
    declared_.emplace_back(chain);
    fmt::format_to(Text(deletions_), "-X {}\n", chain);
    ++chains_;
  }
  void Unjump(std::string_view builtin, std::string_view rule) {
    fmt::format_to(Text(jumps_), "-D {} {}\n", builtin, rule);
    ++rule_count_;
  }
  void Place(std::string_view builtin, const JumpChanges& changes) {
    changes.Render(builtin, jumps_);
    rule_count_ += changes.writes();
  }
  bool empty() const { return chains_ == 0 && rule_count_ == 0; }
  uint64_t writes() const { return chains_ + rule_count_; }
  // Names from the last to the first: iptables-nft-restore keeps its chains sorted in a list in
  // which it looks for each new one's place from the front (nft_cache_add_chain). In the order of
  // the alphabet 10,000 cost it 7 s of comparing names.
  std::string Declarations() const {
    std::vector<std::string_view> names(declared_.begin(), declared_.end());
    std::sort(names.begin(), names.end(), std::greater<>());
    std::string text = fmt::format("*{}\n", table_);
    for (const std::string_view name : names)
      fmt::format_to(Text(text), ":{} - [0:0]\n", name);
    return text;
  }
  // What follows the declarations.
  std::array<std::string_view, 4> parts() const { return {rules_, jumps_, deletions_, "COMMIT\n"}; }

 private:
  const std::string_view table_;
  std::vector<std::string> declared_;
  std::string rules_;
  std::string jumps_;
  std::string deletions_;
  uint64_t chains_ = 0;
  uint64_t rule_count_ = 0;
};

FamilyRules::FamilyRules(const kube::ProxySettings& settings, IptablesTool& tool,
                         const RuleFlavour& flavour, std::vector<ExtraChain> extra)
    : settings_(settings),
      rules_(settings, tool.family(), flavour),
      names_(flavour.prefix),
      extra_(std::move(extra)),
      tool_(tool),
      nat_addresses_(tool.family(), DispatchTree::Kind::kAddresses, flavour.prefix,
                     names_.services),
      nat_ports_(tool.family(), DispatchTree::Kind::kNodePorts, flavour.prefix, names_.node_ports),
      filter_addresses_(tool.family(), DispatchTree::Kind::kAddresses, flavour.prefix,
                        names_.reject),
      filter_ports_(tool.family(), DispatchTree::Kind::kNodePorts, flavour.prefix,
                    names_.reject_ports),
      keepers_(tool.last_keepers()),
      draining_(tool.family()) {
  NameJumps();
}

void FamilyRules::SetExtraText(std::string_view chain, std::string text) {
  for (ExtraChain& extra : extra_) {
    if (extra.name != chain || extra.text == text) continue;
    extra.text = std::move(text);
    synced_ = false;
    return;
  }
}

void FamilyRules::ForEachExtraChain(std::string_view table, const EachChain& each) const {
  for (const ExtraChain& extra : extra_) {
    if (extra.table == table) each(extra.name, extra.text);
  }
}

DispatchTree& FamilyRules::Tree(DispatchTable table) {
  switch (table) {
    case DispatchTable::kNatAddress:
      return nat_addresses_;
    case DispatchTable::kNatPort:
      return nat_ports_;
    case DispatchTable::kFilterAddress:
      return filter_addresses_;
    case DispatchTable::kFilterPort:
      break;
  }
  return filter_ports_;
}

void FamilyRules::Set(const Dispatch& dispatch) {
  Tree(dispatch.table).Set(dispatch.key, dispatch.action);
}

void FamilyRules::Erase(const Dispatch& dispatch) {
  Tree(dispatch.table).Erase(dispatch.key);
}

void FamilyRules::LookAtKernel() {
  looked_at_kernel_ = true;
  if (!rules_.flavour.sends_on) return;
  // What was missing may have been loaded since.
  if (!has_bpf_) has_bpf_ = tool_.KernelHasMatch("bpf");
  if (!rules_.keeps_affinity) rules_.keeps_affinity = tool_.KernelHasMatch("recent");
}

bool FamilyRules::GuardsAgainstInvalid() const {
  return rules_.flavour.sends_on && !settings_.conntrack.tcp_be_liberal;
}

std::vector<ServiceWarning> FamilyRules::Warnings() const {
  return shared_.AffinityWarnings();
}

void FamilyRules::Rebuild(const ServiceModel& model) {
  for (DispatchTree* tree : {&nat_addresses_, &nat_ports_, &filter_addresses_, &filter_ports_}) {
    tree->Clear();
  }
  if (!looked_at_kernel_) LookAtKernel();
  shared_ = SharedRules({.invalid = GuardsAgainstInvalid(),
                         .hairpin_addresses = rules_.flavour.sends_on && !has_bpf_,
                         .affinity_warnings = rules_.flavour.sends_on && !rules_.keeps_affinity});
  for (const auto& [id, entry] : model.entries) {
    if (id.family != family()) continue;
    for (const Dispatch& dispatch : DispatchesOf(*entry))
      Set(dispatch);
    shared_.Add(*entry, 1);
  }
  for (DispatchTree* tree : {&nat_addresses_, &nat_ports_, &filter_addresses_, &filter_ports_}) {
    tree->TakeChanges();
  }
  if (rules_.flavour.sends_on) localnet_.Want(family(), model.node);
}

std::vector<std::string> FamilyRules::Sysctls() const {
  std::vector<std::string> names;
  // Else the packets that go to pods go to the node itself first.
  if (rules_.flavour.sends_on)
    names.emplace_back(family() == net::Family::kIPv4 ? "net.ipv4.ip_forward"
                                                      : "net.ipv6.conf.all.forwarding");
  if (localnet_.wanted()) names.emplace_back(RouteLocalnet::kName);
  return names;
}

void FamilyRules::RenderEntrance(const DispatchTree& addresses, const DispatchTree& ports,
                                 const NodeNetwork& node, std::string& text) const {
  addresses.RenderTop(text);
  if (ports.empty()) return;
  if (node.every_address) {
    // Every address of the node, also those that come later.
    // IPv6 has no route_localnet: what is turned around on ::1 would get lost, where a refusal is
    // an answer (as kube-proxy).
    const char* not_loopback = "";
    if (family() == net::Family::kIPv6) {
      not_loopback = "! -d ::1/128 ";
    } else if (!node.localhost_node_ports) {
      not_loopback = "! -d 127.0.0.0/8 ";
    }
    fmt::format_to(Text(text), "-A {} {}-m addrtype --dst-type LOCAL -j {}\n", addresses.top(),
                   not_loopback, ports.top());
    return;
  }
  if (family() == net::Family::kIPv4 && node.localhost_node_ports)
    fmt::format_to(Text(text), "-A {} -d 127.0.0.0/8 -j {}\n", addresses.top(), ports.top());
  for (const net::IpAddress& address : node.node_port_addresses) {
    if (address.family() != family()) continue;
    fmt::format_to(Text(text), "-A {} -d {}/{} -j {}\n", addresses.top(), address.ToString(),
                   address.size() * 8, ports.top());
  }
}

void FamilyRules::RenderHairpin(std::string& text) const {
  const std::string masquerade =
      tool_.has_random_fully() ? "MASQUERADE --random-fully" : "MASQUERADE";
  if (!has_bpf_) {
    shared_.RenderHairpin(names_.hairpin, masquerade, text);
    return;
  }
  // One rule instead of one an endpoint. Not on lo: there the node talks to itself, which works as
  // it is.
  fmt::format_to(
      Text(text), "-A {} ! -o lo -m conntrack --ctstate DNAT -m bpf --bytecode \"{}\" -j {}\n",
      names_.hairpin,
      family() == net::Family::kIPv4 ? kSourceIsDestination4 : kSourceIsDestination6, masquerade);
}

void FamilyRules::RenderGuard(std::string& text) const {
  const std::string_view comment = localnet_.guard_comment();
  if (comment.empty()) return;
  // From outside, only what a node port's DNAT has turned around.
  fmt::format_to(Text(text),
                 "-A {} ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \"{}\" -m conntrack ! "
                 "--ctstate RELATED,ESTABLISHED,DNAT -j DROP\n",
                 names_.guard, comment);
}

void FamilyRules::ForEachNatChain(const EachChain& each) const {
  if (!rules_.flavour.sends_on) return;
  std::string text;
  RenderHairpin(text);
  each(names_.hairpin, text);
}

void FamilyRules::ForEachFilterChain(const EachChain& each) const {
  std::string text;
  auto emit = [&](std::string_view name) {
    each(name, text);
    text.clear();
  };
  if (rules_.flavour.sends_on) {
    RenderForwardRules(names_.forward, settings_.iptables.masquerade_bit, text);
    emit(names_.forward);
    if (GuardsAgainstInvalid()) {
      shared_.RenderInvalid(names_.invalid, text);
      emit(names_.invalid);
    }
    RenderGuard(text);
    emit(names_.guard);
  }
  shared_.RenderHealth(names_.health, text);
  emit(names_.health);
}

void FamilyRules::ForEachChain(const Table& table, const ServiceModel& model,
                               const EachChain& each) const {
  const bool nat = &table == &nat_;
  const DispatchTree& addresses = nat ? nat_addresses_ : filter_addresses_;
  const DispatchTree& ports = nat ? nat_ports_ : filter_ports_;
  std::string text;
  auto emit = [&](std::string_view name) {
    each(name, text);
    text.clear();
  };
  RenderEntrance(addresses, ports, model.node, text);
  emit(addresses.top());
  ports.RenderTop(text);
  emit(ports.top());
  if (nat) {
    ForEachNatChain(each);
  } else {
    ForEachFilterChain(each);
  }
  ForEachExtraChain(table.name, each);
  for (const DispatchTree* tree : {&addresses, &ports}) {
    tree->ForEachChain([&](const net::IpPrefix& prefix) {
      tree->Render(prefix, text);
      emit(tree->ChainOf(prefix));
    });
  }
  if (!nat) return;
  for (const auto& [id, entry] : model.entries) {
    if (id.family == family()) ForEachServiceChain(*entry, rules_, each);
  }
}

uint64_t FamilyRules::Compare(const Table& table, const KernelRules& kernel,
                              const ServiceModel& model, Writer& writer,
                              const std::function<void(const Change&)>& on_change) const {
  uint64_t rules_wanted = table.jumps.size();
  std::unordered_set<std::string> wanted;
  wanted.reserve(kernel.chains.size());
  auto compare = [&](std::string_view name, std::string_view text) {
    std::string key(name);
    auto found = kernel.chains.find(key);
    RuleHash hash;
    hash.AddText(text);
    rules_wanted += static_cast<uint64_t>(std::count(text.begin(), text.end(), '\n'));
    if (found == kernel.chains.end()) {
      on_change({Change::Kind::kMissing, table.name, name});
      writer.Write(name, text);
    } else if (found->second != hash) {
      on_change({Change::Kind::kDifferent, table.name, name});
      writer.Write(name, text);
    }
    wanted.insert(std::move(key));
  };
  ForEachChain(table, model, compare);
  for (const auto& [name, hash] : kernel.chains) {
    if (wanted.contains(name)) continue;
    on_change({Change::Kind::kUnknown, table.name, name});
    writer.Delete(name);
  }

  for (const auto& [builtin, jumps] : table.ByBuiltin()) {
    const JumpChanges changes = kernel.builtin.Place(builtin, jumps, keepers_);
    if (changes.empty()) continue;
    on_change(
        {changes.had_none ? Change::Kind::kMissing : Change::Kind::kJumps, table.name, builtin});
    writer.Place(builtin, changes);
  }
  return rules_wanted;
}

uint64_t FamilyRules::Restore(const Writer& nat, const Writer& filter) {
  std::vector<std::string_view> parts;
  std::array<std::string, 2> declarations;  // what `parts` points into
  size_t tables = 0;
  // nat first: a Service that gets its first endpoint is reachable before its REJECT goes, and what
  // nat has sent on does not meet a REJECT.
  for (const Writer* writer : {&nat, &filter}) {
    if (writer->empty()) continue;
    std::string& declared = declarations[tables++];
    declared = writer->Declarations();
    parts.push_back(declared);
    for (std::string_view part : writer->parts())
      parts.push_back(part);
  }
  if (parts.empty()) return 0;
  tool_.Restore(std::span<const std::string_view>(parts));
  return nat.writes() + filter.writes();
}

SyncResult FamilyRules::FullSync(const ServiceModel& model) {
  const bool had_synced = synced_;
  synced_ = false;
  SyncResult result;
  const KernelRules nat_kernel = ReadKernelRules(tool_, "nat", rules_.flavour.prefix);
  const KernelRules filter_kernel = ReadKernelRules(tool_, "filter", rules_.flavour.prefix);
  if (!nat_kernel.has_base) {
    result.kernel_writes +=
        BaseRules(tool_, settings_.iptables.masquerade_bit).Ensure().kernel_writes;
  }
  LookAtKernel();
  Rebuild(model);
  localnet_.Learn(filter_kernel.owns_route_localnet);
  localnet_.PrepareGuard(result);

  uint64_t repaired = 0;
  auto count = [&](const Change&) { ++repaired; };
  Writer nat("nat");
  Writer filter("filter");
  for (const auto& [builtin, jumps] : filter_.ByBuiltin())
    filter_kernel.builtin.Teach(builtin, jumps, keepers_);
  result.rules["nat"] = Compare(nat_, nat_kernel, model, nat, count);
  result.rules["filter"] = Compare(filter_, filter_kernel, model, filter, count);
  result.kernel_writes += Restore(nat, filter);
  // In a process that has just started, what differs may be the cluster's change and not damage.
  if (had_synced && !drained_) result.repaired = repaired;

  localnet_.SwitchOn(result);
  drained_ = false;
  synced_ = true;
  result.warnings = Warnings();
  return result;
}

void FamilyRules::AddTreeChanges(DispatchTree& tree, Writer& writer, bool& entrance) {
  DispatchTree::Changes changes = tree.TakeChanges();
  entrance = entrance || changes.top;
  std::string text;
  for (const net::IpPrefix& prefix : changes.write) {
    text.clear();
    tree.Render(prefix, text);
    writer.Write(tree.ChainOf(prefix), text);
  }
  for (const net::IpPrefix& prefix : changes.remove)
    writer.Delete(tree.ChainOf(prefix));
}

SyncResult FamilyRules::Sync(const ServiceModel& model, const ModelDelta& delta) {
  if (!synced_ || delta.node_changed) return FullSync(model).WithoutRepairs();
  synced_ = false;  // until all of it is in the kernel

  Writer nat("nat");
  Writer filter("filter");
  const bool had_nat_ports = !nat_ports_.empty();
  const bool had_filter_ports = !filter_ports_.empty();
  SharedRules shared(shared_.need());
  for (const EntryChange& change : delta.changes) {
    if (change.after && change.after->id.family == family()) shared.Add(*change.after, 1);
    if (change.before && change.before->id.family == family()) shared.Add(*change.before, -1);
  }
  const SharedRules::Changed changed = shared_.Apply(shared);
  // An address may go from one Service to another within a delta: all is erased before anything is
  // set.
  for (const EntryChange& change : delta.changes) {
    const EntryPtr& any = change.before ? change.before : change.after;
    if (!any || any->id.family != family() || !change.before) continue;
    std::vector<Dispatch> after;
    if (change.after) after = DispatchesOf(*change.after);
    for (const Dispatch& dispatch : DispatchesOf(*change.before)) {
      const bool stays = std::any_of(after.begin(), after.end(), [&](const Dispatch& other) {
        return other.table == dispatch.table && other.key == dispatch.key;
      });
      if (!stays) Erase(dispatch);
    }
  }
  std::map<std::string, std::string> before;
  for (const EntryChange& change : delta.changes) {
    const EntryPtr& any = change.before ? change.before : change.after;
    if (!any || any->id.family != family()) continue;
    before.clear();
    if (change.before) {
      ForEachServiceChain(
          *change.before, rules_,
          [&](std::string_view name, std::string_view text) { before.emplace(name, text); });
    }
    if (change.after) {
      for (const Dispatch& dispatch : DispatchesOf(*change.after))
        Set(dispatch);
      ForEachServiceChain(*change.after, rules_, [&](std::string_view name, std::string_view text) {
        auto found = before.find(std::string(name));
        if (found == before.end() || found->second != text) {
          nat.Write(name, text);
        }
        if (found != before.end()) before.erase(found);
      });
    }
    for (const auto& [name, text] : before)
      nat.Delete(name);
  }

  bool nat_entrance = had_nat_ports != !nat_ports_.empty();
  bool filter_entrance = had_filter_ports != !filter_ports_.empty();
  bool nat_ports_top = false;
  bool filter_ports_top = false;
  AddTreeChanges(nat_addresses_, nat, nat_entrance);
  AddTreeChanges(nat_ports_, nat, nat_ports_top);
  AddTreeChanges(filter_addresses_, filter, filter_entrance);
  AddTreeChanges(filter_ports_, filter, filter_ports_top);
  std::string text;
  auto write = [&](Writer& writer, std::string_view chain) {
    writer.Write(chain, text);
    text.clear();
  };
  if (nat_entrance) {
    RenderEntrance(nat_addresses_, nat_ports_, model.node, text);
    write(nat, names_.services);
  }
  if (nat_ports_top) {
    nat_ports_.RenderTop(text);
    write(nat, names_.node_ports);
  }
  if (filter_entrance) {
    RenderEntrance(filter_addresses_, filter_ports_, model.node, text);
    write(filter, names_.reject);
  }
  if (filter_ports_top) {
    filter_ports_.RenderTop(text);
    write(filter, names_.reject_ports);
  }
  if (changed.health) {
    shared_.RenderHealth(names_.health, text);
    write(filter, names_.health);
  }
  if (changed.invalid) {
    shared_.RenderInvalid(names_.invalid, text);
    write(filter, names_.invalid);
  }
  if (changed.hairpin) {
    RenderHairpin(text);
    write(nat, names_.hairpin);
  }
  SyncResult result;
  result.kernel_writes = Restore(nat, filter);
  result.warnings = Warnings();
  synced_ = true;
  return result;
}

VerifyResult FamilyRules::Verify(const ServiceModel& model) {
  VerifyResult result;
  auto note = [&](const Change& change) {
    std::string_view what;
    switch (change.kind) {
      case Change::Kind::kMissing:
        what = change.object.starts_with(rules_.flavour.prefix) ? "is missing"
                                                                : "has no jump to our chains";
        break;
      case Change::Kind::kDifferent:
        what = "has other rules than were written";
        break;
      case Change::Kind::kUnknown:
        what = "is ours by its name, but no Service asks for it";
        break;
      case Change::Kind::kJumps:
        what = "has jumps to our chains that are not as, or not where, they were put";
        break;
    }
    result.Differ(fmt::format("{} chain {} in table {}", net::ToString(family()), change.object,
                              change.table),
                  std::string(what));
  };
  // What is written is thrown away; the trees are those of the model or become so.
  if (!synced_) Rebuild(model);
  for (const Table* table : {&nat_, &filter_}) {
    const KernelRules kernel = ReadKernelRules(tool_, table->name, rules_.flavour.prefix);
    localnet_.Learn(kernel.owns_route_localnet);
    Writer writer(table->name);
    Compare(*table, kernel, model, writer, note);
    result.objects_checked += kernel.chains.size() + table->jumps.size();
  }
  return result;
}

DrainStatus FamilyRules::Drain(const ServiceModel& model) {
  // Where the kernel sends nothing on, somebody else knows the connections.
  if (drained_) return {.connections = rules_.flavour.sends_on ? draining_.Count() : 0};
  Writer nat("nat");
  Writer filter("filter");
  for (const Table* table : {&nat_, &filter_}) {
    const KernelRules kernel = ReadKernelRules(tool_, table->name, rules_.flavour.prefix);
    for (const auto& [builtin, rules] : kernel.builtin.OurJumps()) {
      for (const std::string& rule : rules) {
        const bool takes_new = std::any_of(
            table->jumps.begin(), table->jumps.end(),
            [&](const TableJump& jump) { return jump.new_connections && jump.jump.rule == rule; });
        if (takes_new) (table == &nat_ ? nat : filter).Unjump(builtin, rule);
      }
    }
  }
  if (!synced_) Rebuild(model);
  Restore(nat, filter);
  uint64_t connections = 0;
  if (rules_.flavour.sends_on)
    connections = draining_.Begin([this](const auto& flow) { return IsToService(flow); });
  drained_ = true;
  return {.connections = connections};
}

bool FamilyRules::IsToService(const netlink::ConntrackFlow& flow) const {
  const std::optional<Protocol> protocol = ServiceProtocol(flow.original.protocol);
  if (!protocol) return false;
  const uint16_t port = flow.original.destination_port;
  return nat_addresses_.Contains(flow.original.destination, *protocol, port) ||
         nat_ports_.ContainsPort(*protocol, port);
}

SyncResult FamilyRules::Remove() {
  synced_ = false;
  drained_ = false;
  SyncResult result;
  Writer nat("nat");
  Writer filter("filter");
  for (Writer* writer : {&nat, &filter}) {
    const KernelRules kernel =
        ReadKernelRules(tool_, writer == &nat ? "nat" : "filter", rules_.flavour.prefix);
    localnet_.Learn(kernel.owns_route_localnet);
    for (const auto& [builtin, rules] : kernel.builtin.OurJumps()) {
      for (const std::string& rule : rules)
        writer->Unjump(builtin, rule);
    }
    for (const auto& [chain, hash] : kernel.chains)
      writer->Delete(chain);
  }
  localnet_.Restore(result);
  result.kernel_writes = Restore(nat, filter);
  return result;
}

bool FamilyRules::Present() {
  return !ReadKernelRules(tool_, "nat", rules_.flavour.prefix).chains.empty() ||
         !ReadKernelRules(tool_, "filter", rules_.flavour.prefix).chains.empty();
}

}  // namespace pointsman::agent::xtables
