// Objects that are within what the API takes, and whose parts multiply.
#include "node-agent/model/service_bounds.h"

#include <memory>
#include <string>

#include <gmock/gmock.h>

#include "node-agent/model/model_builder.h"

namespace pointsman::agent {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class ServiceBoundsTest : public testing::Test {
 protected:
  static net::IpAddress External(uint32_t i) { return net::IpAddress::V4(0xcb000000U + i); }

  static kube::Service MakeService(const std::string& name, size_t ports) {
    kube::Service service;
    service.ns = "ns";
    service.name = name;
    service.type = kube::ServiceType::kLoadBalancer;
    service.cluster_ips = {net::IpAddress::V4(0x0a600000U + static_cast<uint32_t>(name.size()))};
    for (size_t i = 0; i < ports; ++i) {
      service.ports.push_back(
          {"p" + std::to_string(i), Protocol::kTcp, static_cast<uint16_t>(i + 1), 0});
    }
    return service;
  }
  // Of `endpoints` addresses from 10.0.0.0 on, all on n2.
  static kube::EndpointSlice MakeSlice(const std::string& name, const std::string& service,
                                       size_t ports, uint32_t first, uint32_t endpoints) {
    kube::EndpointSlice slice;
    slice.ns = "ns";
    slice.name = name;
    slice.service_name = service;
    slice.strings.push_back("n2");
    slice.strings.push_back("n1");
    for (size_t i = 0; i < ports; ++i)
      slice.ports.push_back(
          {"p" + std::to_string(i), Protocol::kTcp, static_cast<uint16_t>(i + 1)});
    for (uint32_t i = 0; i < endpoints; ++i) {
      kube::Endpoint& endpoint = slice.endpoints.emplace_back();
      endpoint.address = net::IpAddress::V4(0x0a000000U + first + i);
      endpoint.node_name = 1;
    }
    return slice;
  }
  void Set(kube::Service service) {
    const std::string key = service.Key();
    builder_.SetService(key, std::make_shared<const kube::Service>(std::move(service)));
  }
  void Set(kube::EndpointSlice slice) {
    const std::string key = slice.Key();
    builder_.SetEndpointSlice(key, std::make_shared<const kube::EndpointSlice>(std::move(slice)));
  }
  EntryPtr Find(const std::string& service, const std::string& port) {
    const auto found =
        builder_.model().entries.find({"ns", service, port, Protocol::kTcp, net::Family::kIPv4});
    return found == builder_.model().entries.end() ? nullptr : found->second;
  }
  std::vector<std::string> Problems() {
    std::vector<std::string> texts;
    for (const ModelProblem& problem : builder_.problems())
      texts.push_back(problem.kind + " " + problem.key + ": " + problem.message);
    return texts;
  }

  ModelBuilder builder_{"n1"};
};

// 10^9 addresses with a port, 24 GB of claims, out of one object of 1.2 MB.
TEST_F(ServiceBoundsTest, AddressesTimesPorts) {
  kube::Service greedy = MakeService("greedy", 25'000);
  for (uint32_t i = 0; i < 40'000; ++i)
    greedy.external_ips.push_back(External(40'000 - i));
  greedy.load_balancer_ingress.push_back({External(70'000), false});
  Set(greedy);
  kube::Service web = MakeService("web", 1);
  web.external_ips = {External(90'000)};
  Set(web);
  builder_.Update();
  EXPECT_EQ(builder_.model().entries.size(), 25'001U) << "each port has its cluster IP";
  // 65,536 / 25,000: two, the load balancer's first.
  for (const char* port : {"p0", "p24999"}) {
    const EntryPtr entry = Find("greedy", port);
    ASSERT_NE(entry, nullptr);
    EXPECT_THAT(entry->load_balancer_ips, ElementsAre(External(70'000)));
    EXPECT_THAT(entry->external_ips, ElementsAre(External(1))) << "the lowest";
  }
  EXPECT_THAT(Find("web", "p0")->external_ips, ElementsAre(External(90'000)));
  EXPECT_THAT(Problems(),
              ElementsAre(HasSubstr("Service ns/greedy: 40001 IPv4 load balancer and external IPs "
                                    "with 25000 ports each are 1000025000 and more than the 65536 "
                                    "that one Service may have: the first 2 addresses")));
  // Within the bound nothing is left out.
  greedy.ports.resize(1);
  Set(greedy);
  builder_.Update();
  EXPECT_EQ(Find("greedy", "p0")->external_ips.size(), 40'000U);
  EXPECT_THAT(Problems(), testing::IsEmpty());
}

TEST_F(ServiceBoundsTest, SourceRangesTimesAddressesTimesPorts) {
  kube::Service greedy = MakeService("greedy", 1000);
  greedy.load_balancer_ingress.push_back({External(1), false});
  greedy.source_ranges_given = true;
  for (uint32_t i = 0; i < 1100; ++i) {
    greedy.load_balancer_source_ranges.push_back(
        net::IpPrefix(net::IpAddress::V4(0xc0000000U + i * 512), 24));
  }
  Set(greedy);
  builder_.Update();
  const EntryPtr entry = Find("greedy", "p999");
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->source_ranges.size(), kMostSourceRanges / 1000);
  EXPECT_EQ(entry->source_ranges.front().ToString(), "192.0.0.0/24");
  EXPECT_THAT(Problems(),
              ElementsAre(HasSubstr("spec.loadBalancerSourceRanges: 1100 ranges of IPv4 for 1 load "
                                    "balancer IPs and 1000 ports are 1100000 and more than the "
                                    "262144")));
}

// As many as the API allows in a slice. Looking through them for each port would take minutes.
TEST_F(ServiceBoundsTest, EndpointsTimesPorts) {
  constexpr size_t kPorts = 20'000;
  Set(MakeService("greedy", kPorts));
  for (uint32_t i = 0; i < 5; ++i)
    Set(MakeSlice("greedy-" + std::to_string(i), "greedy", kPorts, i * 1000, 1000));
  kube::EndpointSlice here = MakeSlice("here", "greedy", kPorts, 7000, 2);
  here.endpoints[0].node_name = 2;
  here.endpoints[1].node_name = 2;
  here.endpoints[1].ready = here.endpoints[1].serving = false;
  Set(here);
  builder_.Update();
  constexpr size_t kEach = kMostEndpointPorts / kPorts;
  EXPECT_LE(builder_.model().endpoint_count, kMostEndpointPorts);
  const EntryPtr entry = Find("greedy", "p19999");
  ASSERT_NE(entry, nullptr);
  ASSERT_EQ(entry->internal.backends.size(), kEach);
  EXPECT_EQ(entry->internal.backends.front().ip.ToString(), "10.0.0.0");
  // The one on this node is among them, for a Local policy needs it; one that is not ready is not.
  EXPECT_EQ(entry->internal.backends.back().ip.ToString(), "10.0.27.88");
  EXPECT_TRUE(entry->internal.backends.back().local);
  EXPECT_THAT(Problems(), ElementsAre(HasSubstr("Service ns/greedy: 5002 IPv4 endpoints with 20000 "
                                                "ports each are 100040000 and more than the "
                                                "262144 that one Service may have: 13 endpoints")));
}

// Each port on each address that another Service has is a problem.
TEST_F(ServiceBoundsTest, SentencesAboutOneService) {
  for (const char* name : {"first", "second"}) {
    kube::Service service = MakeService(name, 500);
    for (uint32_t i = 0; i < 100; ++i)
      service.external_ips.push_back(External(i));
    Set(service);
  }
  builder_.Update();
  const std::vector<std::string> problems = Problems();
  EXPECT_EQ(problems.size(), 21U);
  EXPECT_THAT(problems, testing::Contains(HasSubstr("and 49980 more of this kind")));
  EXPECT_TRUE(Find("second", "p0")->external_ips.empty());
  EXPECT_EQ(Find("first", "p0")->external_ips.size(), 100U);
}

}  // namespace
}  // namespace pointsman::agent
