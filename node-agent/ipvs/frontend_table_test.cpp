#include "node-agent/ipvs/frontend_table.h"

#include <array>
#include <random>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node-agent/model/ip_protocol.h"
#include "node-agent/testing/model_maker.h"

namespace pointsman::agent::ipvs {
namespace {

using agent::testing::Ip;
using agent::testing::MakeBackend;
using agent::testing::MakeEntry;
using agent::testing::ModelMaker;

bool All(const ServicePortEntry&) {
  return true;
}

FrontendTable Made(const ServiceModel& model) {
  FrontendTable table;
  for (const auto& [id, entry] : model.entries)
    table.Add(entry);
  return table;
}

bool Same(const FrontendTable& a, const FrontendTable& b) {
  return a.all().size() == b.all().size() &&
         std::all_of(a.all().begin(), a.all().end(), [&](const auto& item) {
           const Frontend& one = item.second;
           const Frontend* two = b.Find(item.first);
           return two != nullptr && one.entry == two->entry && one.source == two->source &&
                  one.address == two->address && one.vip == two->vip &&
                  one.terminating == two->terminating;
         });
}

// One of few Services, each with an external IP of its own, of which three share an internal
// address.
ServicePortEntry Service(std::mt19937& random) {
  const auto below = [&](uint32_t limit) { return random() % limit; };
  constexpr std::array kBlocks{"199", "203", "207"};
  const auto n = static_cast<int>(below(9));
  ServicePortEntry entry =
      MakeEntry("s" + std::to_string(n), kube::Protocol::kTcp, "10.96.0." + std::to_string(n), 80,
                {MakeBackend("10.244.0.2", 8080)});
  // Now and then it was deleted and made again.
  entry.created = kube::TimePoint(std::chrono::seconds(n * 5 % 9 + (below(4) == 0 ? 9 : 0)));
  if (below(4) != 0)
    entry.external_ips = {Ip(std::string(kBlocks[n % 3]) + ".0.113." + std::to_string(n / 3))};
  entry.external_local = below(2) != 0;
  entry.affinity_timeout = std::chrono::seconds(below(3));
  return entry;
}

TEST(FrontendTable, AfterAChangeItIsAsOneThatIsMade) {
  std::mt19937 random(1);  // NOLINT(cert-msc51-cpp): the same each time
  ModelMaker maker;
  FrontendTable table;
  int kept = 0;
  int made = 0;
  for (int step = 0; step < 3000; ++step) {
    const ServicePortEntry entry = Service(random);
    const ModelDelta delta = random() % 4 == 0 ? maker.Remove(entry.id) : maker.Put(entry);
    if (!table.ChangesShared(delta, All) && table.Change(delta, All)) {
      ++kept;
    } else {
      table = Made(maker.model);
      ++made;
    }
    ASSERT_TRUE(Same(table, Made(maker.model))) << "step " << step;
  }
  EXPECT_GT(kept, 300);
  EXPECT_GT(made, 300);
}

TEST(FrontendTable, AChangeSaysWhatWasThereBefore) {
  ModelMaker maker;
  FrontendTable table;
  ServicePortEntry entry =
      MakeEntry("web", kube::Protocol::kTcp, "10.96.0.1", 80, {MakeBackend("10.244.0.2", 8080)});
  const FrontendKey key{Ip("10.96.0.1"), 80, IpProtocol(kube::Protocol::kTcp)};
  auto touched = table.Change(maker.Put(entry), All);
  ASSERT_TRUE(touched);
  ASSERT_EQ(touched->size(), 1U);
  EXPECT_FALSE(touched->at(key));
  const EntryPtr first = table.Find(key)->entry;
  touched = table.Change(maker.Put(entry), All);
  EXPECT_EQ(touched->at(key)->entry, first);
  EXPECT_NE(table.Find(key)->entry, first);
  touched = table.Change(maker.Remove(entry.id), All);
  EXPECT_TRUE(touched->at(key));
  EXPECT_EQ(table.Find(key), nullptr);
  // Its connections have not ended, and it comes back.
  table.AddTerminating(key, *touched->at(key));
  touched = table.Change(maker.Put(entry), All);
  EXPECT_TRUE(touched->at(key)->terminating);
  EXPECT_FALSE(table.Find(key)->terminating);
}

}  // namespace
}  // namespace pointsman::agent::ipvs
