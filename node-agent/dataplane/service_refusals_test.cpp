#include "node-agent/dataplane/service_refusals.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pointsman::agent {
namespace {

using testing::ElementsAre;

ServicePortId Id(const std::string& name, const std::string& port) {
  return {"default", name, port, Protocol::kTcp, net::Family::kIPv4};
}

TEST(ServiceRefusals, OneWarningAServiceHoweverMuchIsRefused) {
  ServiceRefusals refusals;
  for (int i = 0; i < 1'000'000; ++i)
    refusals.Add(Id("web", "http"), "Hash is full");
  refusals.Add(Id("web", "https"), "Hash is full");
  refusals.Add(Id("db", ""), "left alone");
  EXPECT_EQ(refusals.entries(), 3U);
  EXPECT_THAT(refusals.Warnings(),
              ElementsAre(ServiceWarning{"default", "db", "default/db/TCP/IPv4: left alone"},
                          ServiceWarning{"default", "web",
                                         "default/web:http/TCP/IPv4: Hash is full (and 1000000 "
                                         "more of this Service)"}));
}

TEST(ServiceRefusals, PartsAddUp) {
  ServiceRefusals all;
  all.Add(Id("web", "http"), "first");
  ServiceRefusals part;
  part.Add(Id("web", "http"), "second");
  part.Add(Id("db", ""), "third");
  all.Add(part);
  EXPECT_THAT(all.Warnings(),
              ElementsAre(ServiceWarning{"default", "db", "default/db/TCP/IPv4: third"},
                          ServiceWarning{"default", "web",
                                         "default/web:http/TCP/IPv4: first (and 1 more of this "
                                         "Service)"}));
  all.Forget(Id("web", "http"));
  EXPECT_EQ(all.entries(), 1U);
}

}  // namespace
}  // namespace pointsman::agent
