#include "node-agent/contract/nftables_under_test.h"

#include <array>
#include <linux/netfilter.h>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <string_view>

#include <fmt/format.h>

#include "node-agent/contract/modes.h"
#include "node-agent/nf_tables/kernel_table.h"
#include "node-agent/nftables/kernel_support.h"
#include "node-agent/nftables/layout.h"
#include "node-agent/nftables/nftables_dataplane.h"

namespace pointsman::agent::testing {
namespace {

using net::Family;

constexpr Family kFamilies[] = {Family::kIPv4, Family::kIPv6};
constexpr char kForeignTable[] = "kube-proxy";
// NFT_TABLE_F_OWNER of linux/netfilter/nf_tables.h since 5.12.
constexpr uint32_t kOwner = 2;

// Throws std::runtime_error when the kernel refuses it.
void Commit(nft::Connection& connection, nft::Transaction& transaction) {
  for (const nft::Refusal& refusal : connection.Commit(transaction))
    throw std::runtime_error(refusal.object + ": " + refusal.message);
}

const nft::SetDefinition& Set(nft::SetId id) {
  return nft::SetsOf(Family::kIPv4)[static_cast<size_t>(id)];
}

class NftablesUnderTest final : public ModeUnderTest {
 public:
  NftablesUnderTest() : ModeUnderTest({.random_steps = 120, .random_seeds = 3}) {
    for (const Family family : kFamilies) {
      if (!nft::MissingFeatures(family).empty())
        throw std::runtime_error("this kernel cannot run mode nftables");
    }
  }

  std::unique_ptr<Dataplane> MakeDataplane(const kube::ProxySettings& settings,
                                           const std::vector<Family>& families) override {
    return std::make_unique<NftablesDataplane>(settings, families,
                                               std::vector<xtables::IptablesTool*>{});
  }
  std::string Kernel() override {
    std::string text;
    for (const Family family : kFamilies) {
      text += NftablesSnapshot(family);
      nft::Connection connection;
      const nft::KernelTable theirs = nft::ReadTable(connection, family, kForeignTable);
      text += fmt::format("theirs {} {} {} {}\n", theirs.present, theirs.sets.size(),
                          theirs.chains.size(),
                          theirs.chains.empty() ? 0 : theirs.chains.begin()->second.rules.size());
    }
    return text;
  }
  void AddForeign() override {
    nft::Connection connection;
    for (const Family family : kFamilies) {
      nft::Transaction others(family, kForeignTable);
      others.AddTable();
      for (const nft::SetDefinition& set : nft::SetsOf(family))
        others.AddSet(set);
      others.AddChain({"nat-prerouting", nft::Hook{"nat", NF_INET_PRE_ROUTING, -100}, {}});
      others.AppendRule("nat-prerouting", nft::RuleBuilder(family).Accept().Build("theirs"));
      Commit(connection, others);
    }
  }
  // The table belongs to another socket.
  void Break(Family family) override {
    std::optional<nft::Connection>& owner = Owner(family);
    owner.emplace();
    nft::Transaction take(family, nft::kTable);
    if (nft::ReadTable(*owner, family, nft::kTable).present) take.DeleteTable();
    take.AddTable(kOwner);
    Commit(*owner, take);
  }
  // With its owner's socket the kernel takes the table away.
  void Mend(Family family) override { Owner(family).reset(); }

  std::vector<Damage> Damages() override {
    const auto damage = [](const char* what, std::function<void(nft::Transaction&)> work) {
      return Damage{what, [work = std::move(work)] {
                      nft::Connection connection;
                      nft::Transaction transaction(Family::kIPv4, nft::kTable);
                      work(transaction);
                      Commit(connection, transaction);
                    }};
    };
    const auto accept = [] { return nft::RuleBuilder(Family::kIPv4).Accept().Build(); };
    return {
        damage("an entrance is empty", [](auto& t) { t.FlushChain(nft::kPrerouting); }),
        damage("the Services' rules are gone", [](auto& t) { t.FlushChain(nft::kServicesChain); }),
        damage("a rule more", [=](auto& t) { t.AppendRule("postrouting", accept()); }),
        damage("another rule in its place",
               [](auto& t) {
                 t.FlushChain("forward");
                 t.AppendRule("forward", nft::RuleBuilder(Family::kIPv4).CtState(2).Drop().Build());
               }),
        damage("a chain that is not ours",
               [](auto& t) {
                 t.AddChain({"stranger", nft::Hook{"filter", NF_INET_FORWARD, 5}, {}});
                 t.AppendRule("stranger", nft::RuleBuilder(Family::kIPv4).Drop().Build());
               }),
        damage("chains that name one another",
               [](auto& t) {
                 t.AddChain({"one", {}, {}});
                 t.AddChain({"two", {}, {}});
                 t.AppendRule("one", nft::RuleBuilder(Family::kIPv4).Jump("two").Build());
               }),
        damage("an element that no Service has",
               [](auto& t) {
                 t.AddElement(Set(nft::SetId::kEndpoints),
                              {std::string(12, 'x'), std::string(8, 'y')});
               }),
        damage("endpoints are gone", [](auto& t) { t.FlushSet("endpoints"); }),
        damage("Services are gone", [](auto& t) { t.FlushSet("services"); }),
        damage("ranges are gone", [](auto& t) { t.FlushSet("source-ranges"); }),
        damage("a set that is not ours",
               [](auto& t) {
                 nft::SetDefinition stranger = Set(nft::SetId::kNodeAddresses);
                 stranger.name = "stranger";
                 t.AddSet(stranger);
               }),
        damage("the table is gone", [](auto& t) { t.DeleteTable(); }),
        damage("it is all of another kind",
               [](auto& t) {
                 t.DeleteTable();
                 t.AddTable();
                 nft::SetDefinition other = Set(nft::SetId::kEndpoints);
                 other.key_size = 8;
                 t.AddSet(other);
                 t.AddChain({std::string(nft::kPrerouting),
                             nft::Hook{"nat", NF_INET_PRE_ROUTING, -100},
                             {}});
               }),
    };
  }

 private:
  std::optional<nft::Connection>& Owner(Family family) {
    return owners_[family == Family::kIPv4 ? 0 : 1];
  }
  std::array<std::optional<nft::Connection>, 2> owners_;
};

}  // namespace

std::string NftablesSnapshot(Family family) {
  nft::Connection connection;
  const nft::KernelTable table = nft::ReadTable(connection, family, nft::kTable);
  if (!table.present) return "no table\n";
  const auto hex = [](std::string_view bytes) {
    std::string text;
    for (const char byte : bytes)
      text += fmt::format("{:02x}", static_cast<uint8_t>(byte));
    return text;
  };
  std::string text;
  for (const auto& [name, chain] : table.chains) {
    text += fmt::format("chain {} {} {} {} {} {}\n", name, chain.base, chain.type, chain.hook,
                        chain.priority, chain.policy);
    for (const nft::KernelRule& rule : chain.rules)
      text += fmt::format("  {} {}\n", hex(rule.expressions), rule.comment);
  }
  for (const auto& [name, set] : table.sets) {
    text += fmt::format("set {} {} {} {} {}\n", name, set.flags, set.key_size, set.data_type,
                        set.data_size);
    if (name == "affinity") continue;
    std::multiset<std::string> elements;
    nft::ReadElements(
        connection, family, nft::kTable, name, [&] { elements.clear(); },
        [&](const nft::KernelElement& element) {
          elements.insert(
              fmt::format("  {} {} {}\n", hex(element.key), hex(element.data), element.plain));
          return true;
        });
    for (const std::string& element : elements)
      text += element;
  }
  return text;
}

std::unique_ptr<ModeUnderTest> MakeNftablesUnderTest() {
  return std::make_unique<NftablesUnderTest>();
}

}  // namespace pointsman::agent::testing
