#include "node-agent/model/local_policies.h"

#include <gtest/gtest.h>

namespace pointsman::agent {
namespace {

EntryPtr Entry(const BackendChoice& internal, const BackendChoice& external) {
  ServicePortEntry entry;
  entry.internal = internal;
  entry.external = external;
  return std::make_shared<const ServicePortEntry>(std::move(entry));
}

TEST(LocalPolicies, CountWhatIsDroppedAndNothingElse) {
  const BackendChoice dropped{.when_empty = BackendChoice::WhenEmpty::kDrop};
  const BackendChoice refused;
  BackendChoice served = dropped;
  served.backends.push_back({net::IpAddress::Parse("10.244.1.1").value(), 80, true});

  LocalPolicies policies;
  policies.Apply({.changes = {{nullptr, Entry(dropped, dropped)},
                              {nullptr, Entry(refused, dropped)},
                              {nullptr, Entry(served, served)}}});
  EXPECT_EQ(policies.without_internal(), 1U);
  EXPECT_EQ(policies.without_external(), 2U);
  // The first gets a local endpoint, the second goes, the third loses its own.
  policies.Apply({.changes = {{Entry(refused, dropped), nullptr},
                              {Entry(dropped, dropped), Entry(served, served)},
                              {Entry(served, served), Entry(dropped, refused)}}});
  EXPECT_EQ(policies.without_internal(), 1U);
  EXPECT_EQ(policies.without_external(), 0U);
}

}  // namespace
}  // namespace pointsman::agent
