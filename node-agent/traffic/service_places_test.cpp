#include "node-agent/traffic/service_places.h"

#include <gtest/gtest.h>

#include "node-agent/testing/model_maker.h"

namespace pointsman::agent {
namespace {

using testing::Ip;
using testing::MakeBackend;
using testing::MakeEntry;

TEST(ServicePlacesTest, EachAddressOfATcpServiceIsOne) {
  testing::ModelMaker maker;
  ServicePortEntry web =
      MakeEntry("web", Protocol::kTcp, "10.96.0.10", 80, {MakeBackend("10.244.1.2", 8080)});
  web.node_port = 30'080;
  web.external_ips = {Ip("192.0.2.7")};
  web.load_balancer_ips = {Ip("192.0.2.8")};
  maker.Put(web);
  maker.Put(MakeEntry("dns", Protocol::kUdp, "10.96.0.11", 53, {MakeBackend("10.244.1.2", 53)}));
  maker.model.node.node_port_addresses = {Ip("192.168.0.1"), Ip("fd00::1")};
  const ServicePlaces places(maker.model);
  maker.Remove(web.id);
  for (const net::IpPort& place : {net::IpPort{Ip("10.96.0.10"), 80},
                                   {Ip("192.0.2.7"), 80},
                                   {Ip("192.0.2.8"), 80},
                                   {Ip("192.168.0.1"), 30'080}}) {
    ASSERT_NE(places.Find(place), nullptr) << place.ToString();
    EXPECT_EQ(places.Find(place)->id.name, "web") << "though the model has lost it";
  }
  for (const net::IpPort& other : {net::IpPort{Ip("10.96.0.10"), 81},
                                   {Ip("10.96.0.11"), 53},
                                   {Ip("10.244.1.2"), 8080},
                                   {Ip("192.168.0.2"), 30'080},
                                   {Ip("192.168.0.1"), 80},
                                   {Ip("fd00::1"), 30'080}})
    EXPECT_EQ(places.Find(other), nullptr) << other.ToString();
  EXPECT_FALSE(places.empty());
  EXPECT_TRUE(ServicePlaces(maker.model).empty()) << "UDP alone";
}

}  // namespace
}  // namespace pointsman::agent
