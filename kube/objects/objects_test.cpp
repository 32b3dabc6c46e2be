#include <algorithm>
#include <random>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "kube/objects/endpoint_slice.h"
#include "kube/objects/node.h"
#include "kube/objects/service.h"
#include "kube/text/text.h"

namespace pointsman::kube {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

net::IpAddress Ip(const std::string& text) {
  return net::IpAddress::Parse(text).value();
}
net::IpPrefix Cidr(const std::string& text) {
  return net::IpPrefix::Parse(text).value();
}

// As a real API server (1.31) sends it, with what we do not read in between.
constexpr const char* kService = R"({
  "kind": "Service", "apiVersion": "v1",
  "metadata": {
    "name": "web", "namespace": "shop", "uid": "0d9b8b1c-3f5e-4f0e-9d35-2a1f3c9b8a77",
    "resourceVersion": "123456", "creationTimestamp": "2026-01-02T03:04:05Z",
    "labels": {"app": "web", "service.kubernetes.io/service-proxy-name": "other",
               "service.kubernetes.io/headless": ""},
    "annotations": {"note": "a \"quoted\" \u00e9 }]{[", "pointsman.io/ipvs-scheduler": "lc",
                    "pointsman.io/ipvs-scheduler-flags": "sh-port",
                    "service.kubernetes.io/topology-aware-hints": "auto"},
    "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {"f:ports": [{}, []]}}}]},
  "spec": {
    "type": "LoadBalancer", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"],
    "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack",
    "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": "web", "nodePort": 30080},
              {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 5353, "nodePort": 30053},
              {"name": "sig", "protocol": "SCTP", "port": 3868, "targetPort": 3868}],
    "selector": {"app": "web"}, "externalIPs": ["192.0.2.1", "2001:db8::1"],
    "loadBalancerSourceRanges": ["198.51.100.7/24", " 2001:db8:1::/48 "],
    "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}},
    "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local",
    "healthCheckNodePort": 32000, "publishNotReadyAddresses": true,
    "trafficDistribution": "PreferClose"},
  "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1", "ipMode": "VIP"},
    {"ip": "203.0.113.2", "ipMode": "Proxy"}, {"hostname": "lb.example"}, {"ip": "203.0.113.3"}]}}})";

void ExpectTheService(const Service& service) {
  EXPECT_THAT(service.problems, IsEmpty());
  EXPECT_EQ(service.Key(), "shop/web");
  EXPECT_EQ(service.uid, "0d9b8b1c-3f5e-4f0e-9d35-2a1f3c9b8a77");
  EXPECT_EQ(service.resource_version, "123456");
  EXPECT_EQ(FormatTime(service.created), "2026-01-02T03:04:05Z");
  EXPECT_EQ(service.type, ServiceType::kLoadBalancer);
  EXPECT_THAT(service.cluster_ips, ElementsAre(Ip("10.96.0.7"), Ip("fd00::7")));
  EXPECT_FALSE(service.headless);
  ASSERT_EQ(service.ports.size(), 3u);
  EXPECT_EQ(service.ports[0].name, "http");
  EXPECT_EQ(service.ports[0].protocol, Protocol::kTcp);
  EXPECT_EQ(service.ports[0].port, 80);
  EXPECT_EQ(service.ports[0].node_port, 30080);
  EXPECT_EQ(service.ports[1].protocol, Protocol::kUdp);
  EXPECT_EQ(service.ports[2].protocol, Protocol::kSctp);
  EXPECT_EQ(service.ports[2].node_port, 0);
  EXPECT_THAT(service.external_ips, ElementsAre(Ip("192.0.2.1"), Ip("2001:db8::1")));
  EXPECT_TRUE(service.source_ranges_given);
  EXPECT_THAT(service.load_balancer_source_ranges,
              ElementsAre(Cidr("198.51.100.0/24"), Cidr("2001:db8:1::/48")));
  EXPECT_TRUE(service.client_ip_affinity);
  EXPECT_EQ(service.affinity_timeout, std::chrono::seconds(600));
  EXPECT_EQ(service.external_traffic_policy, TrafficPolicy::kLocal);
  EXPECT_EQ(service.internal_traffic_policy, TrafficPolicy::kLocal);
  EXPECT_EQ(service.health_check_node_port, 32000);
  EXPECT_TRUE(service.has_service_proxy_name);
  EXPECT_TRUE(service.headless_label);
  EXPECT_EQ(service.ipvs_scheduler, "lc");
  EXPECT_EQ(service.ipvs_scheduler_flags, "sh-port");
  ASSERT_EQ(service.load_balancer_ingress.size(), 3u);
  EXPECT_EQ(service.load_balancer_ingress[0].ip, Ip("203.0.113.1"));
  EXPECT_FALSE(service.load_balancer_ingress[0].proxy_mode);
  EXPECT_TRUE(service.load_balancer_ingress[1].proxy_mode);
  EXPECT_FALSE(service.load_balancer_ingress[2].proxy_mode);
}

// Writes `value` with the fields of every object in random order.
std::string Shuffled(const json& value, std::mt19937& random) {
  std::string text;
  if (value.is_object()) {
    std::vector<std::string> keys;
    for (const auto& [key, unused] : value.items())
      keys.push_back(key);
    std::shuffle(keys.begin(), keys.end(), random);
    for (const std::string& key : keys) {
      text += (text.empty() ? "" : ", ") + json(key).dump() + " : " + Shuffled(value[key], random);
    }
    return "{" + text + "}";
  }
  if (value.is_array()) {
    for (const json& element : value)
      text += (text.empty() ? "" : ",") + Shuffled(element, random);
    return "[ " + text + " ]";
  }
  return value.dump(-1, ' ', /*ensure_ascii=*/true);
}

TEST(DecodeService, ReadsEveryField) {
  ExpectTheService(DecodeService(kService));
}

TEST(DecodeService, FieldsComeInAnyOrder) {
  std::mt19937 random(7);
  const json object = json::parse(kService);
  for (int i = 0; i < 200; ++i)
    ExpectTheService(DecodeService(Shuffled(object, random)));
}

TEST(DecodeService, DefaultsOfAnOldServer) {
  // 1.19: no clusterIPs, no internalTrafficPolicy, no ipMode. A list item has no kind.
  const Service service = DecodeService(
      R"({"metadata":{"name":"a","namespace":"b"},"spec":{"clusterIP":"10.0.0.1","ports":[{"port":80}]},
          "status":{"loadBalancer":{}}})");
  EXPECT_THAT(service.cluster_ips, ElementsAre(Ip("10.0.0.1")));
  EXPECT_EQ(service.type, ServiceType::kClusterIp);
  EXPECT_EQ(service.ports.at(0).protocol, Protocol::kTcp);
  EXPECT_EQ(service.internal_traffic_policy, TrafficPolicy::kCluster);
  EXPECT_EQ(service.affinity_timeout, std::chrono::hours(3));
  EXPECT_FALSE(service.has_service_proxy_name);
  EXPECT_EQ(service.created, TimePoint::max()) << "not known: younger than any other";
}

TEST(DecodeService, ACreationTimestampThatIsNoneMakesAServiceTheYoungest) {
  const auto with = [](const std::string& created) {
    return DecodeService(R"({"metadata":{"name":"a","namespace":"b","creationTimestamp":)" +
                         created + "}}");
  };
  EXPECT_EQ(FormatTime(with(R"("9999-12-31T23:59:59Z")").created), "9999-12-31T23:59:59Z");
  EXPECT_EQ(FormatTime(with(R"("0000-01-01T00:00:00Z")").created), "0000-01-01T00:00:00Z");
  EXPECT_THAT(with("null").problems, IsEmpty());
  for (const char* bad : {R"("")", R"("-001-01-01T00:00:00Z")", R"("0000-01-01T00:00:00+00:01")",
                          R"("99999-01-01T00:00:00Z")", R"("2026-02-30T00:00:00Z")",
                          R"("yesterday")", "-1", "1e300", "{}"}) {
    const Service service = with(bad);
    EXPECT_EQ(service.created, TimePoint::max()) << bad;
    EXPECT_THAT(service.problems, ElementsAre(testing::HasSubstr("metadata.creationTimestamp: ")))
        << bad;
  }
}

TEST(DecodeService, HeadlessHasNoClusterIp) {
  const Service service = DecodeService(
      R"({"metadata":{"name":"a","namespace":"b"},"spec":{"clusterIPs":["None"],"clusterIP":"None"}})");
  EXPECT_TRUE(service.headless);
  EXPECT_THAT(service.cluster_ips, IsEmpty());
  EXPECT_THAT(service.problems, IsEmpty());
}

TEST(DecodeService, NullIsAbsent) {
  const Service service = DecodeService(
      R"({"metadata":{"name":"a","namespace":"b","labels":null,"annotations":null},"spec":{"clusterIP":null,
          "clusterIPs":null,"ports":null,"externalIPs":null,"type":null,"externalTrafficPolicy":null,
          "sessionAffinityConfig":null,"healthCheckNodePort":null,"publishNotReadyAddresses":null},
          "status":null})");
  EXPECT_THAT(service.problems, IsEmpty());
}

TEST(DecodeService, AnUnusableValueIsNamedAndLeftOut) {
  const Service service = DecodeService(
      R"({"metadata":{"name":"a","namespace":"b","labels":[]},"spec":{"type":"Odd","clusterIPs":["x","10.0.0.1","10.0.0.2"],
          "externalIPs":["1.2.3.4",5,"example.org"],"sessionAffinity":"Maybe","healthCheckNodePort":70000,
          "loadBalancerSourceRanges":["10.0.0.0"],"externalTrafficPolicy":"Global",
          "sessionAffinityConfig":{"clientIP":{"timeoutSeconds":-1}},
          "ports":[{"port":80},{"port":"http"},{"port":0},{"port":81,"protocol":"ICMP"},{"port":82.5}]},
          "status":{"loadBalancer":{"ingress":[{"ip":"lb"}]}}})");
  EXPECT_EQ(service.ports.size(), 1u);
  EXPECT_THAT(service.cluster_ips, ElementsAre(Ip("10.0.0.1")));
  EXPECT_THAT(service.external_ips, ElementsAre(Ip("1.2.3.4")));
  EXPECT_TRUE(service.source_ranges_given);
  EXPECT_THAT(service.load_balancer_source_ranges, IsEmpty());
  EXPECT_EQ(service.affinity_timeout, std::chrono::hours(3));
  EXPECT_THAT(
      service.problems,
      testing::UnorderedElementsAre(
          HasSubstr("metadata.labels: "), HasSubstr("spec.type: "),
          HasSubstr("spec.clusterIPs[0]: not an IP address: \"x\""),
          HasSubstr("spec.clusterIPs[2]: a second address of family IPv4"),
          HasSubstr("spec.externalIPs[1]: "), HasSubstr("spec.externalIPs[2]: not an IP"),
          HasSubstr("spec.sessionAffinity: "), HasSubstr("spec.healthCheckNodePort: "),
          HasSubstr("spec.loadBalancerSourceRanges[0]: not a CIDR"),
          HasSubstr("spec.externalTrafficPolicy: "),
          HasSubstr("spec.sessionAffinityConfig.clientIP.timeoutSeconds: "),
          HasSubstr("spec.ports[1].port: is not a number"), HasSubstr("spec.ports[2].port: "),
          HasSubstr("spec.ports[3].protocol: "), HasSubstr("spec.ports[4].port: "),
          HasSubstr("status.loadBalancer.ingress[0].ip: ")));
}

TEST(DecodeService, ProblemsAreBounded) {
  json object = json::parse(R"({"metadata":{"name":"a","namespace":"b"}})");
  for (int i = 0; i < 5000; ++i)
    object["spec"]["externalIPs"].push_back("x");
  EXPECT_LT(DecodeService(object.dump()).problems.size(), 30u);
}

TEST(DecodeService, ReadsAddressesAsKubeProxyDoes) {
  // k8s.io/utils/net ParseIPSloppy: addresses stored before Go 1.17 stay valid.
  const Service service = DecodeService(
      R"({"metadata":{"name":"a","namespace":"b"},"spec":{"externalIPs":["010.000.1.001","::ffff:10.0.0.9"],
          "loadBalancerSourceRanges":["010.1.0.0/16"]}})");
  EXPECT_THAT(service.external_ips, ElementsAre(Ip("10.0.1.1"), Ip("10.0.0.9")));
  EXPECT_THAT(service.load_balancer_source_ranges, ElementsAre(Cidr("10.1.0.0/16")));
}

// `count` times `piece`.
std::string Times(size_t count, const char* piece) {
  std::string text;
  for (size_t i = 0; i < count; ++i)
    text += piece;
  return text;
}

TEST(DecodeService, TrimsSourceRangesAsTheApiServerDoes) {
  // strings.TrimSpace: also what is no ASCII blank, such as U+00A0 from a web page.
  json object = json::parse(R"({"metadata":{"name":"a","namespace":"b"}})");
  object["spec"]["loadBalancerSourceRanges"] = {Times(25, "\u3000") + "10.0.0.0/8",
                                                "\u00a010.1.0.0/16\u0085", " \t010.2.0.0/16\n",
                                                "::ffff:10.3.0.0/112\u2029"};
  const Service service = DecodeService(object.dump());
  EXPECT_THAT(service.problems, IsEmpty());
  EXPECT_THAT(service.load_balancer_source_ranges,
              ElementsAre(Cidr("10.0.0.0/8"), Cidr("10.1.0.0/16"), Cidr("10.2.0.0/16"),
                          Cidr("10.3.0.0/16")));
}

TEST(DecodeService, ReadsClusterIpsInTheSpellingsOfOlderClusters) {
  const Service service = DecodeService(
      R"({"metadata":{"name":"a","namespace":"b"},"spec":{"clusterIP":"010.096.000.010",
          "clusterIPs":["010.096.000.010","fd00:0010::00001"]},
          "status":{"loadBalancer":{"ingress":[{"ip":"192.000.002.001"}]}}})");
  EXPECT_THAT(service.problems, IsEmpty());
  EXPECT_THAT(service.cluster_ips, ElementsAre(Ip("10.96.0.10"), Ip("fd00:10::1")));
  ASSERT_EQ(service.load_balancer_ingress.size(), 1u);
  EXPECT_EQ(service.load_balancer_ingress[0].ip, Ip("192.0.2.1"));
}

// A problem goes into conditions, Events and the log: whole characters, bounded, on one line.
TEST(DecodeService, AProblemIsTextThatCanBeReported) {
  for (const char* piece : {"\u3000", "é", "\U0001f600", "\x1b[2J", "\n", "\u202e", "x"}) {
    for (size_t shift = 0; shift < 4; ++shift) {
      const std::string odd = std::string(shift, 'a') + Times(100, piece);
      json object = json::parse(R"({"metadata":{"name":"a","namespace":"b"}})");
      object["spec"] = {{"clusterIPs", {odd}},
                        {"externalIPs", {odd}},
                        {"loadBalancerSourceRanges", {odd}},
                        {"type", odd},
                        {"sessionAffinity", odd}};
      object["metadata"]["annotations"] = {{"pointsman.io/ipvs-scheduler", Times(100'000, piece)}};
      const Service service = DecodeService(object.dump());
      EXPECT_EQ(service.problems.size(), 6u);
      EXPECT_EQ(service.ipvs_scheduler, "");
      for (const std::string& problem : service.problems) {
        EXPECT_TRUE(text::IsValidUtf8(problem));
        EXPECT_NO_THROW(json(problem).dump());
        EXPECT_LT(problem.size(), 512u);
        EXPECT_EQ(problem, text::Escape(problem));
      }
    }
  }
}

TEST(DecodeService, RefusesWhatIsNoService) {
  const auto refused = [](std::string_view text, const std::string& why) {
    try {
      DecodeService(text);
      ADD_FAILURE() << "accepted: " << text;
    } catch (const std::invalid_argument& error) {
      EXPECT_THAT(error.what(), HasSubstr(why)) << text;
    }
  };
  refused("", "JSON");
  refused("[]", "JSON");
  refused("nonsense", "JSON");
  refused("null", "JSON");
  refused(R"({"kind":"Pod","metadata":{"name":"a","namespace":"b"}})", "kind");
  refused(R"({"metadata":{"namespace":"b"}})", "metadata.name");
  refused(R"({"metadata":{"name":"b"}})", "metadata.namespace");
  refused(R"({"metadata":{"name":"a","namespace":"b"}} {})", "JSON");
  refused(R"({"metadata":{"name":"a","namespace":"b"},"spec":nul})", "JSON");
  refused("{\"metadata\":{\"name\":\"a\xff\",\"namespace\":\"b\"}}", "JSON");
}

template <typename Decode>
void ExpectNoPrefixAccepted(const std::string& text, Decode decode) {
  for (size_t length = 0; length < text.size(); ++length) {
    // A heap block of exactly this size, so that a sanitizer sees any read beyond it.
    const std::vector<char> prefix(text.begin(), text.begin() + static_cast<ptrdiff_t>(length));
    EXPECT_THROW(decode({prefix.data(), prefix.size()}), std::invalid_argument) << length;
  }
}

template <typename Decode>
void ExpectNoCrashOnDamage(const std::string& text, Decode decode) {
  std::mt19937 random(11);
  const std::string bytes = "{}[]\",:0\\ nx\x01\xff";
  size_t refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string damaged = text;
    for (unsigned changes = 1 + random() % 3; changes > 0; --changes) {
      damaged[random() % damaged.size()] = bytes[random() % bytes.size()];
    }
    try {
      decode(damaged);
    } catch (const std::invalid_argument&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 1000u);
}

constexpr const char* kSlice = R"({
  "addressType": "IPv4", "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
  "endpoints": [
    {"addresses": ["10.1.0.1"], "conditions": {"ready": true, "serving": true, "terminating": false},
     "nodeName": "n1", "zone": "z1", "targetRef": {"kind": "Pod", "name": "web-1"},
     "hints": {"forZones": [{"name": "z1"}, {"name": "z0"}], "forNodes": [{"name": "n1"}]}},
    {"addresses": ["10.1.0.2", "10.1.0.99"], "conditions": {"ready": false, "serving": true, "terminating": true},
     "nodeName": "n2", "zone": "z1", "hints": {"forZones": [{"name": "z0"}, {"name": "z1"}]}},
    {"addresses": ["10.1.0.3"], "conditions": {}, "nodeName": "n1"}],
  "metadata": {"name": "web-abc", "namespace": "shop", "resourceVersion": "9",
     "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-02T03:04:05Z", "x": "y"},
     "labels": {"kubernetes.io/service-name": "web", "endpointslice.kubernetes.io/managed-by": "x"}},
  "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "", "port": null, "protocol": "UDP"}]})";

void ExpectTheSlice(const EndpointSlice& slice) {
  EXPECT_EQ(slice.last_change_trigger, ParseTime("2026-01-02T03:04:05Z"));
  EXPECT_THAT(slice.problems, IsEmpty());
  EXPECT_EQ(slice.Key(), "shop/web-abc");
  EXPECT_EQ(slice.service_name, "web");
  EXPECT_EQ(slice.resource_version, "9");
  EXPECT_EQ(slice.family, net::Family::kIPv4);
  ASSERT_EQ(slice.ports.size(), 2u);
  EXPECT_EQ(slice.ports[0].name, "http");
  EXPECT_EQ(slice.ports[0].port, 8080);
  EXPECT_EQ(slice.ports[1].protocol, Protocol::kUdp);
  EXPECT_EQ(slice.ports[1].port, 0);
  ASSERT_EQ(slice.endpoints.size(), 3u);
  const auto text = [&](uint16_t index) { return slice.strings.at(index); };
  const Endpoint& first = slice.endpoints[0];
  EXPECT_EQ(first.address, Ip("10.1.0.1"));
  EXPECT_TRUE(first.ready && first.serving && !first.terminating);
  EXPECT_EQ(text(first.node_name), "n1");
  EXPECT_EQ(text(first.zone), "z1");
  EXPECT_THAT(slice.hint_sets.at(first.zone_hints), ElementsAre("z0", "z1"));
  EXPECT_THAT(slice.hint_sets.at(first.node_hints), ElementsAre("n1"));
  const Endpoint& second = slice.endpoints[1];
  EXPECT_TRUE(!second.ready && second.serving && second.terminating);
  EXPECT_EQ(second.zone_hints, first.zone_hints);
  EXPECT_EQ(second.node_hints, 0);
  const Endpoint& third = slice.endpoints[2];
  EXPECT_TRUE(third.ready && third.serving && !third.terminating);
  EXPECT_EQ(third.zone, 0);
  EXPECT_EQ(third.zone_hints, 0);
  EXPECT_EQ(slice.strings.size(), 4u);  // "", n1, z1, n2
  EXPECT_EQ(slice.hint_sets.size(), 3u);
}

TEST(DecodeEndpointSlice, ReadsEveryFieldInAnyOrder) {
  ExpectTheSlice(DecodeEndpointSlice(kSlice));
  std::mt19937 random(7);
  json object = json::parse(kSlice);
  for (int i = 0; i < 200; ++i) {
    const EndpointSlice slice = DecodeEndpointSlice(Shuffled(object, random));
    EXPECT_THAT(slice.problems, IsEmpty());
    EXPECT_EQ(slice.endpoints.size(), 3u);
    EXPECT_EQ(slice.strings.size(), 4u);
    EXPECT_EQ(slice.hint_sets.size(), 3u);
  }
}

TEST(DecodeEndpointSlice, ATriggerTimeThatCannotBeReadIsNoProblem) {
  const EndpointSlice slice = DecodeEndpointSlice(
      R"({"metadata":{"name":"a","namespace":"b","annotations":
          {"endpoints.kubernetes.io/last-change-trigger-time":"yesterday"}},"addressType":"IPv4"})");
  EXPECT_FALSE(slice.last_change_trigger);
  EXPECT_THAT(slice.problems, IsEmpty());
}

TEST(DecodeEndpointSlice, V1beta1TakesNodeAndZoneFromTheTopology) {
  const EndpointSlice slice = DecodeEndpointSlice(
      R"({"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1beta1","metadata":{"name":"a","namespace":"b"},
          "addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"],"conditions":{"ready":true},
          "topology":{"topology.kubernetes.io/zone":"z1","kubernetes.io/hostname":"n1","x":"y"}}],"ports":null})");
  ASSERT_EQ(slice.endpoints.size(), 1u);
  EXPECT_EQ(slice.strings.at(slice.endpoints[0].node_name), "n1");
  EXPECT_EQ(slice.strings.at(slice.endpoints[0].zone), "z1");
}

TEST(DecodeEndpointSlice, FqdnSlicesHaveNothingToProxy) {
  const EndpointSlice slice = DecodeEndpointSlice(
      R"({"metadata":{"name":"a","namespace":"b"},"endpoints":[{"addresses":["example.org"]}],"addressType":"FQDN"})");
  EXPECT_TRUE(slice.fqdn);
  EXPECT_THAT(slice.endpoints, IsEmpty());
  EXPECT_THAT(slice.problems, IsEmpty());
}

// A real API server takes them.
TEST(DecodeEndpointSlice, LeavesOutPortsThatAreNone) {
  const EndpointSlice slice = DecodeEndpointSlice(
      R"({"metadata":{"name":"a","namespace":"b"},"addressType":"IPv4","ports":[{"name":"big","port":70000},
          {"name":"negative","port":-1},{"name":"zero","port":0},{"port":65536,"name":"one-more"},
          {"name":"text","port":"http"},{"name":"last","port":65535},{"name":"all","port":null},{"name":"none"}]})");
  std::vector<std::string> ports;
  for (const EndpointPort& port : slice.ports)
    ports.push_back(port.name.str() + " " + std::to_string(port.port));
  EXPECT_THAT(ports, ElementsAre("last 65535", "all 0", "none 0"));
  EXPECT_THAT(
      slice.problems,
      ElementsAre(HasSubstr("ports[0].port: is not a whole number from 1 to 65535"),
                  HasSubstr("ports[1].port: is not"), HasSubstr("ports[2].port: is not"),
                  HasSubstr("ports[3].port: is not"), HasSubstr("ports[4].port: is not a number")));
}

TEST(DecodeEndpointSlice, LeavesOutAddressesOfTheOtherFamily) {
  // kube-proxy: "incorrect IP version" (endpointslicecache.go addEndpoints).
  const EndpointSlice slice = DecodeEndpointSlice(
      R"({"metadata":{"name":"a","namespace":"b"},"endpoints":[{"addresses":["fd00::1"]},{"addresses":["10.0.0.1"]},
          {"addresses":["bad"]},{"addresses":[]},{}],"addressType":"IPv6"})");
  ASSERT_EQ(slice.endpoints.size(), 1u);
  EXPECT_EQ(slice.endpoints[0].address, Ip("fd00::1"));
  EXPECT_THAT(slice.problems,
              testing::UnorderedElementsAre(HasSubstr("endpoints[2].addresses[0]: not an IP"),
                                            HasSubstr("1 addresses are not of addressType IPv6")));
}

// kubernetes#100895: stored by older clusters, read as decimal; a mapped address is the IPv4 one.
TEST(DecodeEndpointSlice, ReadsAddressesInTheSpellingsOfOlderClusters) {
  const EndpointSlice slice = DecodeEndpointSlice(
      R"({"metadata":{"name":"a","namespace":"b"},"addressType":"IPv4","endpoints":[
          {"addresses":["010.244.001.005"]},{"addresses":["::ffff:10.244.1.6"]}]})");
  EXPECT_THAT(slice.problems, IsEmpty());
  ASSERT_EQ(slice.endpoints.size(), 2u);
  EXPECT_EQ(slice.endpoints[0].address, Ip("10.244.1.5"));
  EXPECT_EQ(slice.endpoints[1].address, Ip("10.244.1.6"));
}

TEST(DecodeEndpointSlice, AProblemIsTextThatCanBeReported) {
  json object = json::parse(kSlice);
  object["endpoints"][0]["addresses"][0] = "a" + Times(40, "\u3000");
  const EndpointSlice slice = DecodeEndpointSlice(object.dump());
  ASSERT_EQ(slice.problems.size(), 1u);
  EXPECT_NO_THROW(json(slice.problems[0]).dump());
  EXPECT_EQ(slice.endpoints.size(), 2u);
}

TEST(DecodeEndpointSlice, AnEndpointIsSmall) {
  EXPECT_LE(sizeof(Endpoint), 28u);
}

TEST(DecodeEndpointSlice, NoPartOfATextIsAccepted) {
  ExpectNoPrefixAccepted(kSlice, [](std::string_view text) { DecodeEndpointSlice(text); });
  ExpectNoPrefixAccepted(kService, [](std::string_view text) { DecodeService(text); });
}

TEST(DecodeEndpointSlice, DamagedTextIsRefusedOrReported) {
  ExpectNoCrashOnDamage(kSlice, [](std::string_view text) { DecodeEndpointSlice(text); });
  ExpectNoCrashOnDamage(kService, [](std::string_view text) { DecodeService(text); });
}

TEST(DecodeNode, ReadsEveryField) {
  const Node node = DecodeNode(
      R"({"status":{"nodeInfo":{"architecture":"arm64","kubeletVersion":"v1.36.2+k3s1"},
          "conditions":[{"status":"Unknown","type":"DiskPressure"},{"status":"True","type":"Ready"}],
          "addresses":[{"address":"10.0.0.5","type":"InternalIP"},{"type":"InternalIP","address":"fd00::5"},
            {"type":"Hostname","address":"n1"},{"type":"ExternalIP","address":"192.0.2.5"}]},
          "spec":{"podCIDR":"10.244.1.0/24","podCIDRs":["10.244.1.0/24","fd00:1::/64"],
            "taints":[{"effect":"NoSchedule","key":"ToBeDeletedByClusterAutoscaler","value":"1"}]},
          "metadata":{"uid":"u","resourceVersion":"3","name":"n1","deletionTimestamp":"2026-01-01T00:00:00Z",
            "labels":{"topology.kubernetes.io/zone":"z1"}},"kind":"Node"})");
  EXPECT_THAT(node.problems, IsEmpty());
  EXPECT_EQ(node.name, "n1");
  EXPECT_EQ(node.uid, "u");
  EXPECT_EQ(node.resource_version, "3");
  EXPECT_EQ(node.Zone(), "z1");
  EXPECT_THAT(node.internal_ips, ElementsAre(Ip("10.0.0.5"), Ip("fd00::5")));
  EXPECT_THAT(node.external_ips, ElementsAre(Ip("192.0.2.5")));
  EXPECT_THAT(node.pod_cidrs, ElementsAre(Cidr("10.244.1.0/24"), Cidr("fd00:1::/64")));
  EXPECT_TRUE(node.ready);
  EXPECT_THAT(node.taints, ElementsAre(Taint{"ToBeDeletedByClusterAutoscaler", "1", "NoSchedule"}));
  EXPECT_TRUE(node.deleting);
  EXPECT_TRUE(node.to_be_deleted);
  EXPECT_EQ(node.kubelet_version, "v1.36.2+k3s1");
}

// Whether a node that is not Ready ever was, and whether its kubelet still says so.
TEST(DecodeNode, NotReadyNodes) {
  const auto decode = [](const std::string& created, const std::string& condition) {
    return DecodeNode(R"({"status":{"conditions":[{"type":"Ready",)" + condition +
                      R"(}]},"metadata":{"name":"n1","creationTimestamp":")" + created + R"("}})");
  };
  struct Case {
    const char* condition;
    bool ready, silent, never_ready;
  };
  for (const Case& c : {
           Case{R"("status":"True","lastTransitionTime":"2026-01-01T00:00:30Z")", true, false,
                false},
           // Registered a moment ago.
           Case{R"("status":"False","lastTransitionTime":"2026-01-01T00:00:00Z")", false, false,
                true},
           // "NodeStatusNeverUpdated": after node-startup-grace-period.
           Case{R"("status":"Unknown","lastTransitionTime":"2026-01-01T00:01:00Z")", false, true,
                true},
           // By a kubelet whose clock is a little behind.
           Case{R"("status":"False","lastTransitionTime":"2025-12-31T23:59:30Z")", false, false,
                true},
           Case{R"("status":"False","lastTransitionTime":"2026-02-01T00:00:00Z")", false, false,
                false},
           Case{R"("status":"Unknown","lastTransitionTime":"2026-02-01T00:00:00Z")", false, true,
                false},
           Case{R"("status":"False")", false, false, true},
       }) {
    const Node node = decode("2026-01-01T00:00:00Z", c.condition);
    EXPECT_EQ(node.ready, c.ready) << c.condition;
    EXPECT_EQ(node.silent, c.silent) << c.condition;
    EXPECT_EQ(node.never_ready, c.never_ready) << c.condition;
  }
  const Node bare = DecodeNode(R"({"metadata":{"name":"n1"}})");
  EXPECT_TRUE(bare.never_ready) << "no kubelet has said anything yet";
  EXPECT_FALSE(bare.silent);
}

TEST(DecodeNode, ReadsAddressesInTheSpellingsOfOlderClusters) {
  const Node node = DecodeNode(
      R"({"metadata":{"name":"n1"},"spec":{"podCIDRs":["010.244.001.000/024","::ffff:10.244.2.0/120"]},
          "status":{"addresses":[{"type":"InternalIP","address":"010.000.000.005"},
                                 {"type":"ExternalIP","address":"::ffff:192.0.2.5"}]}})");
  EXPECT_THAT(node.problems, IsEmpty());
  EXPECT_THAT(node.internal_ips, ElementsAre(Ip("10.0.0.5")));
  EXPECT_THAT(node.external_ips, ElementsAre(Ip("192.0.2.5")));
  EXPECT_THAT(node.pod_cidrs, ElementsAre(Cidr("10.244.1.0/24"), Cidr("10.244.2.0/24")));
  EXPECT_THAT(
      DecodeNode(R"({"metadata":{"name":"n1"},"spec":{"podCIDR":"010.1.0.0/16"}})").pod_cidrs,
      ElementsAre(Cidr("10.1.0.0/16")));
}

TEST(DecodeNode, AProblemIsTextThatCanBeReported) {
  json object = json::parse(R"({"metadata":{"name":"n1"}})");
  object["status"]["addresses"] = {{{"type", "InternalIP"}, {"address", "a" + Times(40, "é")}}};
  object["spec"]["podCIDRs"] = {"a" + Times(40, "é")};
  const Node node = DecodeNode(object.dump());
  EXPECT_EQ(node.problems.size(), 2u);
  for (const std::string& problem : node.problems)
    EXPECT_NO_THROW(json(problem).dump());
}

TEST(DecodeNode, ABareNode) {
  const Node node =
      DecodeNode(R"({"metadata":{"name":"n1"},"spec":{"podCIDR":"10.0.0.0/24"},"status":{}})");
  EXPECT_EQ(node.Zone(), "");
  EXPECT_THAT(node.pod_cidrs, ElementsAre(Cidr("10.0.0.0/24")));
  EXPECT_FALSE(node.ready || node.deleting || node.to_be_deleted);
  EXPECT_THROW(DecodeNode("{}"), std::invalid_argument);
}

}  // namespace
}  // namespace pointsman::kube
