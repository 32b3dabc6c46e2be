#include "node-agent/dataplane/binding_collector.h"

#include <memory>

#include <gtest/gtest.h>

namespace pointsman::agent {
namespace {

using namespace std::chrono_literals;

EntryPtr Entry() {
  ServicePortEntry entry;
  entry.affinity_timeout = 60s;
  return std::make_shared<const ServicePortEntry>(entry);
}

ClientBinding Binding(const EntryPtr& entry, uint32_t client, uint16_t port) {
  return {entry, net::IpAddress::V4(client), net::IpAddress::V4(0x0a010001), port};
}

TEST(BindingCollector, OfOneClientTheNewestCounts) {
  const EntryPtr entry = Entry();
  BindingCollector collector;
  collector.Add(Binding(entry, 1, 80), 5'200ms);
  collector.Add(Binding(entry, 1, 81), 5'400ms);
  collector.Add(Binding(entry, 1, 82), 5'300ms);
  collector.Add(Binding(Entry(), 1, 83), 5'300ms);  // another Service port
  const std::vector<ClientBinding> bindings = collector.Take();
  ASSERT_EQ(bindings.size(), 2U);
  EXPECT_EQ(bindings[0].backend_port, 81);
  EXPECT_EQ(bindings[0].left, 6s);
  EXPECT_EQ(bindings[1].backend_port, 83);
}

TEST(BindingCollector, TimesAreWithinTheServices) {
  const EntryPtr entry = Entry();
  BindingCollector collector;
  collector.Add(Binding(entry, 1, 80), 1ms);
  collector.Add(Binding(entry, 2, 80), 61s);
  const std::vector<ClientBinding> bindings = collector.Take();
  EXPECT_EQ(bindings.at(0).left, 1s);
  EXPECT_EQ(bindings.at(1).left, 60s);
}

TEST(BindingCollector, FullItTakesNoOtherClientButRenewsThoseItHas) {
  const EntryPtr entry = Entry();
  BindingCollector collector(1);
  collector.Add(Binding(entry, 1, 80), 5s);
  EXPECT_TRUE(collector.full());
  collector.Add(Binding(entry, 2, 81), 9s);
  collector.Add(Binding(entry, 1, 82), 9s);
  const std::vector<ClientBinding> bindings = collector.Take();
  ASSERT_EQ(bindings.size(), 1U);
  EXPECT_EQ(bindings[0].backend_port, 82);
}

}  // namespace
}  // namespace pointsman::agent
