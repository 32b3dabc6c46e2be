#include "node-agent/model/model_builder.h"

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "kube/objects/endpoint_slice.h"

namespace pointsman::agent {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

using Family = net::Family;
using WhenEmpty = BackendChoice::WhenEmpty;

net::IpAddress Ip(const std::string& text) {
  return net::IpAddress::Parse(text).value();
}
net::IpPrefix Cidr(const std::string& text) {
  return net::IpPrefix::Parse(text).value();
}

// "ns/web" with 10.96.0.1:80 -> http.
kube::Service Web() {
  kube::Service service;
  service.ns = "ns";
  service.name = "web";
  service.cluster_ips = {Ip("10.96.0.1")};
  service.ports.push_back({"http", Protocol::kTcp, 80, 0});
  return service;
}

struct EndpointWords {
  std::string ip;
  std::string node = "n2";
  bool ready = true;
  bool serving = true;
  bool terminating = false;
};

kube::EndpointSlice Slice(const std::string& name, const std::vector<EndpointWords>& endpoints,
                          const std::string& service = "web") {
  kube::EndpointSlice slice;
  slice.ns = "ns";
  slice.name = name;
  slice.service_name = service;
  slice.ports.push_back({"http", Protocol::kTcp, 8080});
  for (const EndpointWords& words : endpoints) {
    kube::Endpoint& endpoint = slice.endpoints.emplace_back();
    endpoint.address = Ip(words.ip);
    slice.family = endpoint.address.family();
    slice.strings.push_back(words.node);
    endpoint.node_name = static_cast<uint16_t>(slice.strings.size() - 1);
    endpoint.ready = words.ready;
    endpoint.serving = words.serving;
    endpoint.terminating = words.terminating;
  }
  return slice;
}

class ModelBuilderTest : public testing::Test {
 protected:
  void Set(const kube::Service& service) {
    builder_.SetService(service.Key(), std::make_shared<const kube::Service>(service));
  }
  void Set(const kube::EndpointSlice& slice) {
    builder_.SetEndpointSlice(slice.Key(), std::make_shared<const kube::EndpointSlice>(slice));
  }
  // The only entry after an update.
  const ServicePortEntry& Entry() {
    builder_.Update();
    EXPECT_EQ(builder_.model().entries.size(), 1u);
    return *builder_.model().entries.begin()->second;
  }
  EntryPtr Find(const std::string& id) {
    for (const auto& [key, entry] : builder_.model().entries) {
      if (key.ToString() == id) return entry;
    }
    return nullptr;
  }
  std::vector<std::string> Problems() {
    std::vector<std::string> texts;
    for (const ModelProblem& problem : builder_.problems())
      texts.push_back(problem.kind + " " + problem.key + ": " + problem.message);
    return texts;
  }

  ModelBuilder builder_{"n1"};
};

std::vector<std::string> Ips(const BackendChoice& choice) {
  std::vector<std::string> ips;
  for (const Backend& backend : choice.backends)
    ips.push_back(backend.ip.ToString());
  return ips;
}

TEST_F(ModelBuilderTest, ResolvingAllAnewChangesNothingThatIsRight) {
  Set(Web());
  Set(Slice("web-a", {{"10.1.0.1"}}));
  builder_.Update();
  const EntryPtr before = Find("ns/web:http/TCP/IPv4");
  ASSERT_TRUE(before);
  builder_.ResolveAll();
  EXPECT_TRUE(builder_.HasChanges());
  EXPECT_TRUE(builder_.Update().empty());
  EXPECT_EQ(*Find("ns/web:http/TCP/IPv4"), *before);
}

TEST_F(ModelBuilderTest, AClusterIp) {
  Set(Slice("web-b", {{"10.1.0.2", "n1"}}));
  Set(Web());
  Set(Slice("web-a", {{"10.1.0.3"}, {"10.1.0.1"}}));
  EXPECT_TRUE(builder_.HasChanges());
  const ServicePortEntry& entry = Entry();
  EXPECT_FALSE(builder_.HasChanges());
  EXPECT_EQ(entry.id.ToString(), "ns/web:http/TCP/IPv4");
  EXPECT_EQ(entry.cluster_ip, Ip("10.96.0.1"));
  EXPECT_EQ(entry.port, 80);
  EXPECT_THAT(entry.internal.backends,
              ElementsAre(Backend{Ip("10.1.0.1"), 8080, false}, Backend{Ip("10.1.0.2"), 8080, true},
                          Backend{Ip("10.1.0.3"), 8080, false}));
  EXPECT_THAT(entry.external.backends, IsEmpty());  // nothing external leads here
  EXPECT_EQ(builder_.model().service_count, 1u);
  EXPECT_EQ(builder_.model().endpoint_count, 3u);
  EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(ModelBuilderTest, WhichServicesAreOurs) {
  // pkg/proxy/util ShouldSkipService; cmd/kube-proxy's label selector.
  kube::Service external_name = Web();
  external_name.type = kube::ServiceType::kExternalName;
  kube::Service headless = Web();
  headless.headless = true;
  headless.cluster_ips.clear();
  kube::Service other_proxy = Web();
  other_proxy.has_service_proxy_name = true;
  kube::Service empty_proxy_name = Web();
  empty_proxy_name.has_service_proxy_name = true;
  kube::Service headless_label = Web();
  headless_label.headless_label = true;
  kube::Service not_allocated = Web();
  not_allocated.cluster_ips.clear();
  Set(Slice("web-a", {{"10.1.0.1"}}));
  for (const kube::Service& service :
       {external_name, headless, other_proxy, empty_proxy_name, headless_label, not_allocated}) {
    Set(Web());
    builder_.Update();
    EXPECT_EQ(builder_.model().service_count, 1u);
    Set(service);
    const ModelDelta delta = builder_.Update();
    ASSERT_THAT(delta.changes, SizeIs(1));
    EXPECT_TRUE(delta.changes[0].before && !delta.changes[0].after);
    EXPECT_EQ(builder_.model().service_count, 0u);
    EXPECT_EQ(builder_.model().endpoint_count, 0u);
    EXPECT_THAT(builder_.model().entries, IsEmpty());
  }
}

TEST_F(ModelBuilderTest, SlicesThatAreNotOursDoNotCount) {
  Set(Web());
  kube::EndpointSlice labelled = Slice("a", {{"10.1.0.1"}});
  labelled.has_service_proxy_name = true;
  Set(labelled);
  kube::EndpointSlice headless = Slice("b", {{"10.1.0.2"}});
  headless.headless_label = true;
  Set(headless);
  kube::EndpointSlice orphan = Slice("c", {{"10.1.0.3"}}, "");
  Set(orphan);
  EXPECT_THAT(Ips(Entry().internal), IsEmpty());
  labelled.has_service_proxy_name = false;
  Set(labelled);
  EXPECT_THAT(Ips(Entry().internal), ElementsAre("10.1.0.1"));
}

TEST_F(ModelBuilderTest, ASliceCanGoToAnotherService) {
  kube::Service api = Web();
  api.name = "api";
  api.cluster_ips = {Ip("10.96.0.2")};
  Set(Web());
  Set(api);
  Set(Slice("a", {{"10.1.0.1"}}, "web"));
  builder_.Update();
  Set(Slice("a", {{"10.1.0.1"}}, "api"));
  EXPECT_THAT(builder_.Update().changes, SizeIs(2));
  EXPECT_THAT(Find("ns/web:http/TCP/IPv4")->internal.backends, IsEmpty());
  EXPECT_THAT(Find("ns/api:http/TCP/IPv4")->internal.backends, SizeIs(1));
  builder_.SetEndpointSlice("ns/a", nullptr);
  builder_.SetEndpointSlice("ns/never-there", nullptr);
  builder_.Update();
  EXPECT_THAT(Find("ns/api:http/TCP/IPv4")->internal.backends, IsEmpty());
}

TEST_F(ModelBuilderTest, NoEndpointsAnywhereIsRejected) {
  // pkg/proxy/iptables: "has no endpoints" REJECT, for each kind of address.
  kube::Service service = Web();
  service.type = kube::ServiceType::kLoadBalancer;
  service.ports[0].node_port = 30080;
  service.external_traffic_policy = kube::TrafficPolicy::kLocal;
  service.internal_traffic_policy = kube::TrafficPolicy::kLocal;
  Set(service);
  Set(Slice("a", {{"10.1.0.1", "n2", false}}));  // not ready
  const ServicePortEntry& entry = Entry();
  EXPECT_EQ(entry.internal.when_empty, WhenEmpty::kReject);
  EXPECT_EQ(entry.external.when_empty, WhenEmpty::kReject);
  EXPECT_EQ(entry.external_from_node.when_empty, WhenEmpty::kReject);
}

TEST_F(ModelBuilderTest, NoLocalEndpointUnderLocalIsDropped) {
  // pkg/proxy/iptables: "has no local endpoints" DROP; pods and the node itself reach the external
  // addresses nevertheless.
  kube::Service service = Web();
  service.type = kube::ServiceType::kNodePort;
  service.ports[0].node_port = 30080;
  service.external_traffic_policy = kube::TrafficPolicy::kLocal;
  Set(service);
  Set(Slice("a", {{"10.1.0.1", "n2"}}));
  {
    const ServicePortEntry& entry = Entry();
    EXPECT_TRUE(entry.external_local);
    EXPECT_THAT(Ips(entry.internal), ElementsAre("10.1.0.1"));
    EXPECT_THAT(Ips(entry.external), IsEmpty());
    EXPECT_EQ(entry.external.when_empty, WhenEmpty::kDrop);
    EXPECT_THAT(Ips(entry.external_from_node), ElementsAre("10.1.0.1"));
  }
  service.internal_traffic_policy = kube::TrafficPolicy::kLocal;
  Set(service);
  EXPECT_EQ(Entry().internal.when_empty, WhenEmpty::kDrop);
  Set(Slice("b", {{"10.1.0.9", "n1"}}));
  {
    const ServicePortEntry& entry = Entry();
    EXPECT_THAT(Ips(entry.internal), ElementsAre("10.1.0.9"));
    EXPECT_THAT(Ips(entry.external), ElementsAre("10.1.0.9"));
    EXPECT_THAT(Ips(entry.external_from_node), ElementsAre("10.1.0.1", "10.1.0.9"));
    EXPECT_EQ(builder_.model().endpoint_count, 2u);
  }
}

TEST_F(ModelBuilderTest, ExternalPolicyNeedsSomethingExternal) {
  // pkg/api/v1/service/util.go ExternalPolicyLocal.
  kube::Service service = Web();
  service.external_traffic_policy = kube::TrafficPolicy::kLocal;
  Set(service);
  Set(Slice("a", {{"10.1.0.1"}}));
  EXPECT_FALSE(Entry().external_local);
  service.external_ips = {Ip("192.0.2.1")};
  Set(service);
  EXPECT_TRUE(Entry().external_local);
}

TEST_F(ModelBuilderTest, TerminatingEndpointsDrain) {
  // KEP-1669 and design: what it has, it keeps.
  Set(Web());
  Set(Slice("a", {{"10.1.0.1"},
                  {"10.1.0.2", "n2", false, true, true},
                  {"10.1.0.3", "n2", false, false, true}}));
  EXPECT_THAT(Ips(Entry().internal), ElementsAre("10.1.0.1"));
  EXPECT_THAT(Entry().draining, ElementsAre(Backend{Ip("10.1.0.2"), 8080, false},
                                            Backend{Ip("10.1.0.3"), 8080, false}));
  Set(Slice("a", {{"10.1.0.2", "n2", false, true, true}, {"10.1.0.3", "n2", false, false, true}}));
  EXPECT_THAT(Ips(Entry().internal), ElementsAre("10.1.0.2"));
  EXPECT_THAT(Entry().draining, ElementsAre(Backend{Ip("10.1.0.3"), 8080, false}));
  // An address that is no longer in any slice is just gone.
  Set(Slice("a", {}));
  EXPECT_THAT(Entry().draining, IsEmpty());
}

TEST_F(ModelBuilderTest, ALoadBalancer) {
  kube::Service service = Web();
  service.type = kube::ServiceType::kLoadBalancer;
  service.cluster_ips = {Ip("10.96.0.1"), Ip("fd00::1")};
  service.ports[0].node_port = 30080;
  service.external_ips = {Ip("192.0.2.9"), Ip("192.0.2.1"), Ip("2001:db8::1"),
                          Ip("192.0.2.1"), Ip("10.96.0.1"), Ip("203.0.113.1")};
  service.load_balancer_ingress = {{Ip("203.0.113.1"), false},
                                   {Ip("203.0.113.2"), true},  // KEP-1860 ipMode: Proxy
                                   {Ip("2001:db8::99"), false}};
  service.load_balancer_source_ranges = {Cidr("198.51.100.0/24"), Cidr("198.51.100.128/25"),
                                         Cidr("10.0.0.0/8")};
  service.source_ranges_given = true;
  service.client_ip_affinity = true;
  service.affinity_timeout = std::chrono::seconds(600);
  service.external_traffic_policy = kube::TrafficPolicy::kLocal;
  service.health_check_node_port = 32000;
  service.ipvs_scheduler = "lc";
  service.ipvs_scheduler_flags = "x";
  Set(service);
  Set(Slice("a", {{"10.1.0.1", "n1"}, {"10.1.0.2", "n2"}, {"10.1.0.3", "n1"}}));
  Set(Slice("b", {{"fd00:1::1", "n2"}}));
  builder_.Update();
  ASSERT_THAT(builder_.model().entries, SizeIs(2));
  EXPECT_THAT(Problems(), IsEmpty());
  const EntryPtr v4 = Find("ns/web:http/TCP/IPv4");
  const EntryPtr v6 = Find("ns/web:http/TCP/IPv6");
  ASSERT_TRUE(v4 && v6);
  EXPECT_EQ(v4->node_port, 30080);
  EXPECT_THAT(v4->external_ips, ElementsAre(Ip("192.0.2.1"), Ip("192.0.2.9")));
  EXPECT_THAT(v4->load_balancer_ips, ElementsAre(Ip("203.0.113.1")));
  EXPECT_THAT(v4->source_ranges, ElementsAre(Cidr("10.0.0.0/8"), Cidr("198.51.100.0/24")));
  EXPECT_FALSE(v4->source_ranges_deny_all);
  EXPECT_EQ(v4->affinity_timeout, std::chrono::seconds(600));
  EXPECT_TRUE(v4->external_local);
  EXPECT_EQ(v4->health_check_node_port, 32000);
  EXPECT_EQ(v4->local_ready_endpoints, 2);
  EXPECT_EQ(v4->ipvs_scheduler, "lc");
  EXPECT_EQ(v4->ipvs_scheduler_flags, "x");
  EXPECT_EQ(v6->cluster_ip, Ip("fd00::1"));
  EXPECT_THAT(v6->external_ips, ElementsAre(Ip("2001:db8::1")));
  EXPECT_THAT(v6->load_balancer_ips, ElementsAre(Ip("2001:db8::99")));
  EXPECT_THAT(v6->source_ranges, IsEmpty());
  EXPECT_TRUE(v6->source_ranges_deny_all);
  EXPECT_THAT(Ips(v6->internal), ElementsAre("fd00:1::1"));
  EXPECT_EQ(v6->external.when_empty, WhenEmpty::kDrop);
  EXPECT_EQ(v6->local_ready_endpoints, 0);
  EXPECT_EQ(builder_.model().service_count, 1u);
  EXPECT_EQ(builder_.model().endpoint_count, 4u);
}

TEST_F(ModelBuilderTest, MasqueradeAllIsAboutClusterIps) {
  Set(Web());
  Entry();
  builder_.SetMasqueradeAll(false);
  EXPECT_FALSE(builder_.HasChanges());
  EXPECT_EQ(Entry().internal_masquerade, Masquerade::kOffCluster);
  EXPECT_EQ(Entry().ExternalMasquerade(), Masquerade::kAlways);
  builder_.SetMasqueradeAll(true);
  EXPECT_TRUE(builder_.HasChanges());
  EXPECT_EQ(Entry().internal_masquerade, Masquerade::kAlways);
  kube::Service local = Web();
  local.type = kube::ServiceType::kNodePort;
  local.ports[0].node_port = 30080;
  local.external_traffic_policy = kube::TrafficPolicy::kLocal;
  Set(local);
  EXPECT_EQ(Entry().internal_masquerade, Masquerade::kAlways);
  EXPECT_EQ(Entry().ExternalMasquerade(), Masquerade::kNever);
}

// pkg/proxy/iptables/proxier.go, allowFromNode.
TEST_F(ModelBuilderTest, TheNodeIsInTheSourceRangesByItsOwnAddress) {
  kube::Service service = Web();
  service.load_balancer_ingress = {{Ip("203.0.113.1"), false}};
  service.load_balancer_source_ranges = {Cidr("192.168.1.0/24")};
  service.source_ranges_given = true;
  Set(service);
  EXPECT_FALSE(Entry().node_in_source_ranges) << "nobody knows the node yet";
  NodeNetwork network{.node_name = "n1", .node_port_addresses = {Ip("192.168.1.5")}};
  builder_.SetNodeNetwork(network);
  EXPECT_FALSE(Entry().node_in_source_ranges) << "an address that answers node ports is no source";
  network.source_addresses = {Ip("192.168.1.5"), Ip("2001:db8::5")};
  builder_.SetNodeNetwork(network);
  EXPECT_TRUE(Entry().node_in_source_ranges);
  network.source_addresses = {Ip("192.168.2.5")};
  builder_.SetNodeNetwork(network);
  EXPECT_FALSE(Entry().node_in_source_ranges);
  service.load_balancer_source_ranges.push_back(Cidr("192.168.2.5/32"));
  Set(service);
  EXPECT_TRUE(Entry().node_in_source_ranges);
}

TEST_F(ModelBuilderTest, HealthCheckPortOnlyForLocalLoadBalancers) {
  // pkg/api/v1/service/util.go NeedsHealthCheck.
  kube::Service service = Web();
  service.ports[0].node_port = 30080;
  service.health_check_node_port = 32000;
  service.type = kube::ServiceType::kNodePort;
  service.external_traffic_policy = kube::TrafficPolicy::kLocal;
  Set(service);
  Set(Slice("a", {{"10.1.0.1", "n1"}}));
  EXPECT_EQ(Entry().health_check_node_port, 0);
  EXPECT_EQ(Entry().local_ready_endpoints, 0);
  service.type = kube::ServiceType::kLoadBalancer;
  service.external_traffic_policy = kube::TrafficPolicy::kCluster;
  Set(service);
  EXPECT_EQ(Entry().health_check_node_port, 0);
}

TEST_F(ModelBuilderTest, RangesThatWereNotUnderstoodDoNotOpenTheService) {
  kube::Service service = Web();
  service.load_balancer_ingress = {{Ip("203.0.113.1"), false}};
  service.source_ranges_given = true;
  service.problems = {"spec.loadBalancerSourceRanges[0]: not a CIDR"};
  Set(service);
  EXPECT_TRUE(Entry().source_ranges_deny_all);
  EXPECT_THAT(Problems(),
              ElementsAre("Service ns/web: spec.loadBalancerSourceRanges[0]: not a CIDR"));
}

// As kube-proxy: an endpoint port without a usable number is as good as none.
TEST_F(ModelBuilderTest, AnEndpointPortThatIsNoneLeadsNowhereAndIsSaidOfTheService) {
  Set(Web());
  for (const char* port : {"70000", "0", "-1", "null"}) {
    SCOPED_TRACE(port);
    const auto slice =
        kube::DecodeEndpointSlice(std::string(R"({"metadata":{"namespace":"ns","name":"a","labels":
            {"kubernetes.io/service-name":"web"}},"addressType":"IPv4",
            "endpoints":[{"addresses":["10.1.0.1"],"conditions":{"ready":true}}],
            "ports":[{"name":"http","protocol":"TCP","port":)") +
                                  port + "}]}");
    Set(slice);
    EXPECT_THAT(Entry().internal.backends, IsEmpty());
    if (std::string_view(port) == "null") {
      EXPECT_THAT(Problems(), IsEmpty()) << "the API's \"all ports\"";
      continue;
    }
    const std::string why = "ports[0].port: is not a whole number from 1 to 65535";
    EXPECT_THAT(Problems(), ElementsAre("EndpointSlice ns/a: " + why,
                                        "Service ns/web: 1 of its 1 EndpointSlices cannot be "
                                        "served as written: ns/a: " +
                                            why));
  }
}

TEST_F(ModelBuilderTest, OnePortForTcpAndUdp) {
  kube::Service service = Web();
  service.ports = {{"dns", Protocol::kUdp, 53, 0}, {"dns-tcp", Protocol::kTcp, 53, 0}};
  Set(service);
  kube::EndpointSlice slice = Slice("a", {{"10.1.0.1"}});
  slice.ports = {{"dns", Protocol::kUdp, 5353}, {"dns-tcp", Protocol::kTcp, 5354}};
  Set(slice);
  builder_.Update();
  EXPECT_EQ(Find("ns/web:dns/UDP/IPv4")->internal.backends.at(0).port, 5353);
  EXPECT_EQ(Find("ns/web:dns-tcp/TCP/IPv4")->internal.backends.at(0).port, 5354);
  EXPECT_EQ(builder_.model().service_count, 1u);
}

TEST_F(ModelBuilderTest, TheNodesZoneDecidesTopology) {
  kube::EndpointSlice slice = Slice("a", {{"10.1.0.1"}, {"10.1.0.2"}});
  slice.hint_sets = {{}, {"z1"}, {"z2"}};
  slice.endpoints[0].zone_hints = 1;
  slice.endpoints[1].zone_hints = 2;
  kube::Service local = Web();
  local.ports[0].node_port = 30080;
  Set(local);
  Set(slice);
  EXPECT_THAT(Ips(Entry().internal), SizeIs(2));  // zone not known
  auto node = std::make_shared<kube::Node>();
  node->name = "n1";
  node->labels["topology.kubernetes.io/zone"] = "z2";
  builder_.SetNode(node);
  EXPECT_THAT(Ips(Entry().internal), ElementsAre("10.1.0.2"));
  EXPECT_THAT(Ips(Entry().external), ElementsAre("10.1.0.2"));
  builder_.SetNode(node);
  EXPECT_FALSE(builder_.HasChanges());
  builder_.SetNode(nullptr);
  EXPECT_THAT(Ips(Entry().internal), SizeIs(2));
}

TEST_F(ModelBuilderTest, AnUpdateThatChangesNothingIsNoChange) {
  Set(Web());
  Set(Slice("a", {{"10.1.0.1"}}));
  const EntryPtr before = builder_.Update().changes.at(0).after;
  kube::Service service = Web();
  service.resource_version = "2";
  Set(service);
  Set(Slice("a", {}));
  Set(Slice("a", {{"10.1.0.1"}}));
  EXPECT_TRUE(builder_.HasChanges());
  EXPECT_TRUE(builder_.Update().empty());
  EXPECT_EQ(Find("ns/web:http/TCP/IPv4"), before);  // the same object
}

TEST_F(ModelBuilderTest, TheNodeNetwork) {
  NodeNetwork network;
  network.node_name = "n1";
  network.node_port_addresses = {Ip("192.0.2.1")};
  builder_.SetNodeNetwork(network);
  EXPECT_TRUE(builder_.HasChanges());
  EXPECT_TRUE(builder_.Update().node_changed);
  EXPECT_EQ(builder_.model().node, network);
  builder_.SetNodeNetwork(network);
  EXPECT_FALSE(builder_.HasChanges());
  EXPECT_TRUE(builder_.Update().empty());
}

TEST_F(ModelBuilderTest, OneOfTwoServicesGetsAnAddress) {
  kube::Service thief = Web();
  thief.name = "a-thief";
  thief.cluster_ips = {Ip("10.96.0.66")};
  thief.external_ips = {Ip("10.96.0.1"), Ip("192.0.2.1")};  // CVE-2020-8554
  thief.ports[0].node_port = 30080;
  kube::Service web = Web();
  web.external_ips = {Ip("192.0.2.1")};
  web.ports[0].node_port = 30080;
  Set(web);
  Set(thief);
  builder_.Update();
  EXPECT_EQ(Find("ns/web:http/TCP/IPv4")->cluster_ip, Ip("10.96.0.1"));
  EXPECT_THAT(Find("ns/web:http/TCP/IPv4")->external_ips, IsEmpty());
  EXPECT_EQ(Find("ns/web:http/TCP/IPv4")->node_port, 0);
  EXPECT_THAT(Find("ns/a-thief:http/TCP/IPv4")->external_ips, ElementsAre(Ip("192.0.2.1")));
  EXPECT_EQ(Find("ns/a-thief:http/TCP/IPv4")->node_port, 30080);
  EXPECT_THAT(Problems(), ElementsAre("Service ns/a-thief: external IP 10.96.0.1:80/TCP already "
                                      "leads to Service ns/web and is left out",
                                      "Service ns/web: external IP 192.0.2.1:80/TCP already leads "
                                      "to Service ns/a-thief and is left out",
                                      "Service ns/web: node port 30080/TCP already leads to "
                                      "Service ns/a-thief and is left out"));
  // When the winner goes, the other one gets it, though it was not touched.
  builder_.SetService("ns/a-thief", nullptr);
  EXPECT_THAT(builder_.Update().changes, SizeIs(2));
  EXPECT_THAT(Find("ns/web:http/TCP/IPv4")->external_ips, ElementsAre(Ip("192.0.2.1")));
  EXPECT_EQ(Find("ns/web:http/TCP/IPv4")->node_port, 30080);
  EXPECT_THAT(Problems(), IsEmpty());
}

// In a second there can be two, and a time that nobody knows is the latest.
TEST_F(ModelBuilderTest, TheOlderServiceKeepsAnAddressWhateverItsName) {
  const auto at = [](int seconds) { return kube::TimePoint(std::chrono::seconds(seconds)); };
  kube::Service old = Web();
  old.name = "old";
  old.cluster_ips = {Ip("10.96.0.66")};
  old.external_ips = {Ip("192.0.2.1")};
  old.load_balancer_ingress = {{Ip("192.0.2.2"), false}};
  old.ports[0].node_port = 30080;
  old.created = at(1000);
  kube::Service thief = old;
  thief.name = "a-thief";
  thief.cluster_ips = {Ip("10.96.0.67")};
  thief.created = at(1001);
  const auto expect_old_has_all = [&](const char* when) {
    builder_.Update();
    const EntryPtr entry = Find("ns/old:http/TCP/IPv4");
    EXPECT_THAT(entry->external_ips, ElementsAre(Ip("192.0.2.1"))) << when;
    EXPECT_THAT(entry->load_balancer_ips, ElementsAre(Ip("192.0.2.2"))) << when;
    EXPECT_EQ(entry->node_port, 30080) << when;
    EXPECT_EQ(entry->created, old.created) << when;
    EXPECT_THAT(Problems(), SizeIs(3)) << when;
    for (const std::string& problem : Problems())
      EXPECT_THAT(problem, HasSubstr("a-thief: ")) << when;
  };
  Set(old);
  Set(thief);
  expect_old_has_all("it comes later");
  builder_.SetService("ns/old", nullptr);
  builder_.Update();
  EXPECT_EQ(Find("ns/a-thief:http/TCP/IPv4")->node_port, 30080);
  Set(old);
  expect_old_has_all("as after a restart, the other way round");
  thief.created = kube::TimePoint::max();
  Set(thief);
  expect_old_has_all("not known when it was made");
  // It goes by age before it goes by name only.
  thief.created = old.created;
  Set(thief);
  builder_.Update();
  EXPECT_EQ(Find("ns/a-thief:http/TCP/IPv4")->node_port, 30080);
  // And by what kind of address it is before it goes by age.
  thief.external_ips = {Ip("192.0.2.2")};
  thief.load_balancer_ingress.clear();
  thief.created = at(1);
  Set(thief);
  builder_.Update();
  EXPECT_THAT(Find("ns/old:http/TCP/IPv4")->load_balancer_ips, ElementsAre(Ip("192.0.2.2")));
}

TEST_F(ModelBuilderTest, AClusterIpGoesFromOneServiceToTheNext) {
  // The API server gives a freed cluster IP to the next Service at once.
  Set(Web());
  builder_.Update();
  kube::Service next = Web();
  next.name = "next";
  Set(next);
  EXPECT_TRUE(Find("ns/web:http/TCP/IPv4"));
  builder_.SetService("ns/web", nullptr);
  const ModelDelta delta = builder_.Update();
  ASSERT_THAT(delta.changes, SizeIs(2));
  EXPECT_FALSE(delta.changes[0].after);  // what goes comes first
  EXPECT_FALSE(delta.changes[1].before);
  EXPECT_TRUE(Find("ns/next:http/TCP/IPv4"));
}

TEST_F(ModelBuilderTest, AddressesOfNodesAndOfTheApiServerAreRefused) {
  // kubernetes#66966, #75290, #104679.
  kube::Service service = Web();
  service.external_ips = {Ip("192.168.0.1"), Ip("127.0.0.1"), Ip("0.0.0.0"), Ip("192.0.2.1")};
  service.load_balancer_ingress = {{Ip("192.168.0.2"), false}, {Ip("224.0.0.1"), false}};
  Set(service);
  EXPECT_THAT(Entry().external_ips, ElementsAre(Ip("192.0.2.1"), Ip("192.168.0.1")));
  builder_.SetProtectedAddresses({Ip("192.168.0.1"), Ip("192.168.0.2"), Ip("10.96.0.1")});
  EXPECT_THAT(Entry().external_ips, ElementsAre(Ip("192.0.2.1")));
  EXPECT_THAT(Entry().load_balancer_ips, IsEmpty());
  EXPECT_THAT(
      Problems(),
      ElementsAre(HasSubstr("external IP 0.0.0.0 is the unspecified address"),
                  HasSubstr("external IP 127.0.0.1 is a loopback address"),
                  HasSubstr("external IP 192.168.0.1 is the address of a node or of the API"),
                  HasSubstr("load balancer IP 192.168.0.2 is the address of a node"),
                  HasSubstr("load balancer IP 224.0.0.1 is a multicast address")));
  builder_.SetProtectedAddresses({});
  EXPECT_THAT(Entry().load_balancer_ips, ElementsAre(Ip("192.168.0.2")));
}

TEST_F(ModelBuilderTest, PortsThatAreThereTwice) {
  kube::Service service = Web();
  service.ports.push_back({"http", Protocol::kTcp, 81, 0});
  service.ports.push_back({"again", Protocol::kTcp, 80, 0});
  Set(service);
  EXPECT_EQ(Entry().port, 80);
  EXPECT_THAT(Problems(), ElementsAre(HasSubstr("spec.ports: 80/TCP has the number or the name"),
                                      HasSubstr("spec.ports: 81/TCP")));
}

TEST_F(ModelBuilderTest, ANodePortThatIsThereTwice) {
  kube::Service service = Web();
  service.ports[0].node_port = 30080;
  service.ports.push_back({"more", Protocol::kTcp, 81, 30080});
  Set(service);
  builder_.Update();
  EXPECT_EQ(Find("ns/web:http/TCP/IPv4")->node_port, 30080);
  EXPECT_EQ(Find("ns/web:more/TCP/IPv4")->node_port, 0);
  EXPECT_THAT(Problems(), ElementsAre(HasSubstr("spec.ports: node port 30080/TCP")));
}

TEST_F(ModelBuilderTest, AKeyThatIsNotTheObjectsIsABug) {
  EXPECT_THROW(builder_.SetService("x/y", std::make_shared<const kube::Service>(Web())),
               std::invalid_argument);
  EXPECT_THROW(
      builder_.SetEndpointSlice("x/y", std::make_shared<const kube::EndpointSlice>(Slice("a", {}))),
      std::invalid_argument);
}

}  // namespace
}  // namespace pointsman::agent
