// The table of kube-proxy's choice of endpoints. Each case names where the rule is written.
#include "node-agent/model/endpoint_choice.h"

#include <gmock/gmock.h>

#include "node-agent/model/service_endpoints.h"

namespace pointsman::agent {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

net::IpAddress Ip(const std::string& text) {
  return net::IpAddress::Parse(text).value();
}

// An endpoint in a few words: its last address byte, then
//   L local   R ready   S serving+terminating   T terminating only   N not ready
//   z hinted for this zone   o hinted for another zone   n hinted for this node   m for another
struct Case {
  std::string source;
  std::vector<std::string> endpoints;
  std::vector<int> cluster;
  std::vector<int> local;
  bool any;
  std::vector<int> draining;
};

CandidateEndpoint Parse(const std::string& words) {
  size_t letters = 0;
  const int last = std::stoi(words, &letters);
  const auto has = [&](char letter) { return words.find(letter, letters) != std::string::npos; };
  CandidateEndpoint endpoint{};
  endpoint.backend = {net::IpAddress::V4(0x0a000000U + static_cast<uint32_t>(last)), 8080,
                      has('L')};
  endpoint.ready = has('R');
  endpoint.serving = has('R') || has('S');
  endpoint.terminating = has('S') || has('T');
  endpoint.hinted_zone = has('z');
  endpoint.has_zone_hints = has('z') || has('o');
  endpoint.hinted_node = has('n');
  endpoint.has_node_hints = has('n') || has('m');
  return endpoint;
}

std::vector<int> Last(const std::vector<Backend>& backends) {
  std::vector<int> last;
  last.reserve(backends.size());
  for (const Backend& backend : backends)
    last.push_back(static_cast<int>(backend.ip.v4_host_order() & 0xff));
  return last;
}

TEST(ChooseEndpoints, AsKubeProxy) {
  const std::vector<Case> cases{
      {"topology.go: no endpoints, nothing to choose", {}, {}, {}, false, {}},
      {"topology.go: all ready endpoints", {"1 R", "2 LR", "3 R"}, {1, 2, 3}, {2}, true, {}},
      {"types.go conditions.ready: not ready ones get no traffic",
       {"1 N", "2 LN", "3 R"},
       {3},
       {},
       true,
       {}},
      {"topology.go: only not ready ones is no endpoint", {"1 N", "2 LN"}, {}, {}, false, {}},
      {"KEP-1669: a terminating one gets no new traffic while one is ready",
       {"1 R", "2 LS"},
       {1},
       {2},
       true,
       {}},
      {"KEP-1669: the same, nothing local", {"1 R", "2 S", "3 T"}, {1}, {}, true, {2, 3}},
      {"KEP-1669: serving terminating ones when none is ready",
       {"1 S", "2 LS", "3 T", "4 N"},
       {1, 2},
       {2},
       true,
       {3}},
      {"KEP-1669: local falls back on its own", {"1 R", "2 LS", "3 LT"}, {1}, {2}, true, {3}},
      {"KEP-1669: terminating and no longer serving is none",
       {"1 LT", "2 T"},
       {},
       {},
       false,
       {1, 2}},
      {"KEP-2433: zone hints", {"1 Rz", "2 Ro", "3 LRz"}, {1, 3}, {3}, true, {}},
      {"KEP-2433: ignored when one ready endpoint has none",
       {"1 Rz", "2 Ro", "3 R"},
       {1, 2, 3},
       {},
       true,
       {}},
      {"topology.go: those not ready need no hint", {"1 Rz", "2 Ro", "3 N"}, {1}, {}, true, {}},
      {"KEP-2433: ignored when none is for this zone", {"1 Ro", "2 Ro"}, {1, 2}, {}, true, {}},
      {"KEP-3015: the node goes before the zone", {"1 Rzm", "2 LRzn", "3 Rom"}, {2}, {2}, true, {}},
      {"KEP-3015: no endpoint on this node, then the zone", {"1 Rzm", "2 Rom"}, {1}, {}, true, {}},
      {"KEP-3015: nor in the zone, then all", {"1 Rom", "2 Rom"}, {1, 2}, {}, true, {}},
      {"topology.go: node hints not everywhere, then the zone",
       {"1 Rzn", "2 Rz", "3 Ro"},
       {1, 2},
       {},
       true,
       {}},
      {"topology.go: topology never applies to Local", {"1 Rz", "2 LRo"}, {1}, {2}, true, {}},
      {"topology.go: nor to terminating ones", {"1 So", "2 Sz"}, {1, 2}, {}, true, {}},
      {"types.go publishNotReadyAddresses: ready while it terminates",
       {"1 RT", "2 R"},
       {1, 2},
       {},
       true,
       {}},
  };
  for (const Case& row : cases) {
    std::vector<CandidateEndpoint> endpoints;
    for (const std::string& words : row.endpoints)
      endpoints.push_back(Parse(words));
    const EndpointChoice choice = ChooseEndpoints(endpoints, true, true);
    EXPECT_EQ(Last(choice.cluster), row.cluster) << row.source;
    EXPECT_EQ(Last(choice.local), row.local) << row.source;
    EXPECT_EQ(choice.any, row.any) << row.source;
    EXPECT_EQ(Last(choice.draining), row.draining) << row.source;
    const EndpointChoice neither = ChooseEndpoints(endpoints, false, false);
    EXPECT_THAT(neither.cluster, IsEmpty());
    EXPECT_THAT(neither.local, IsEmpty());
    EXPECT_EQ(neither.any, row.any) << row.source;
  }
}

struct SliceBuilder {
  kube::EndpointSlice slice;
  explicit SliceBuilder(std::string name) {
    slice.ns = "ns";
    slice.name = std::move(name);
    slice.service_name = "svc";
    slice.ports.push_back({"http", Protocol::kTcp, 8080});
  }
  kube::Endpoint& Add(const std::string& ip, const std::string& node = "") {
    kube::Endpoint& endpoint = slice.endpoints.emplace_back();
    endpoint.address = Ip(ip);
    if (!node.empty()) {
      slice.strings.push_back(node);
      endpoint.node_name = static_cast<uint16_t>(slice.strings.size() - 1);
    }
    return endpoint;
  }
  uint16_t Hints(std::vector<kube::InternedString> names) {
    slice.hint_sets.push_back(std::move(names));
    return static_cast<uint16_t>(slice.hint_sets.size() - 1);
  }
  SlicePtr Done() const { return std::make_shared<const kube::EndpointSlice>(slice); }
};

constexpr NodeTopology kHere{"n1", "z1"};

TEST(ServiceEndpoints, MatchesPortNameAndProtocolAndFamily) {
  SliceBuilder v4("a");
  v4.slice.ports = {{"http", Protocol::kTcp, 8080},
                    {"http", Protocol::kUdp, 9090},
                    {"", Protocol::kTcp, 7070},
                    {"zero", Protocol::kTcp, 0}};
  v4.Add("10.0.0.2", "n1");
  v4.Add("10.0.0.1", "n2");
  SliceBuilder v6("b");
  v6.slice.family = net::Family::kIPv6;
  v6.Add("fd00::1");
  const std::vector<SlicePtr> slices{v4.Done(), v6.Done()};
  const auto backends = [&](net::Family family, std::string_view port, Protocol protocol) {
    std::vector<Backend> found;
    for (const auto& endpoint : ServiceEndpoints(slices, family, kHere).Of(port, protocol))
      found.push_back(endpoint.backend);
    return found;
  };
  EXPECT_THAT(
      backends(net::Family::kIPv4, "http", Protocol::kTcp),
      ElementsAre(Backend{Ip("10.0.0.1"), 8080, false}, Backend{Ip("10.0.0.2"), 8080, true}));
  EXPECT_THAT(
      backends(net::Family::kIPv4, "http", Protocol::kUdp),
      ElementsAre(Backend{Ip("10.0.0.1"), 9090, false}, Backend{Ip("10.0.0.2"), 9090, true}));
  EXPECT_EQ(backends(net::Family::kIPv4, "", Protocol::kTcp).size(), 2u);
  // endpointslicecache.go: "nil ports to mean all" is not supported.
  EXPECT_THAT(backends(net::Family::kIPv4, "zero", Protocol::kTcp), IsEmpty());
  EXPECT_THAT(backends(net::Family::kIPv4, "https", Protocol::kTcp), IsEmpty());
  EXPECT_THAT(backends(net::Family::kIPv6, "http", Protocol::kTcp),
              ElementsAre(Backend{Ip("fd00::1"), 8080, false, true}));
}

TEST(ServiceEndpoints, AnEndpointInTwoSlicesCountsOnceAtItsBest) {
  // endpointslicecache.go addEndpoints: local is favored. Readiness is ours: kube-proxy takes
  // whichever slice it comes by last.
  SliceBuilder a("a");
  a.Add("10.0.0.1").ready = false;
  a.Add("10.0.0.2", "n1").ready = false;
  a.Add("10.0.0.3");
  SliceBuilder b("b");
  b.Add("10.0.0.1");
  b.Add("10.0.0.2");
  b.Add("10.0.0.4").serving = false;
  for (const auto& slices : {std::vector{a.Done(), b.Done()}, std::vector{b.Done(), a.Done()}}) {
    const auto endpoints =
        ServiceEndpoints(slices, net::Family::kIPv4, kHere).Of("http", Protocol::kTcp);
    ASSERT_EQ(endpoints.size(), 4u);
    EXPECT_TRUE(endpoints[0].ready);
    EXPECT_TRUE(endpoints[1].backend.local);
    EXPECT_FALSE(endpoints[1].ready);
    EXPECT_FALSE(endpoints[3].serving);
  }
}

TEST(ServiceEndpoints, AnEndpointWithoutANodeMayBeHere) {
  SliceBuilder a("a");
  a.Add("10.0.0.1", "n1");
  a.Add("10.0.0.2", "n2");
  a.Add("10.0.0.3");
  const std::vector<SlicePtr> slices{a.Done()};
  const auto found = ServiceEndpoints(slices, net::Family::kIPv4, kHere).Of("http", Protocol::kTcp);
  ASSERT_EQ(found.size(), 3u);
  EXPECT_TRUE(found[0].backend.local && !found[0].backend.unplaced);
  EXPECT_FALSE(found[1].backend.local || found[1].backend.MayBeHere());
  // Not local: a Local traffic policy does not count on it.
  EXPECT_TRUE(!found[2].backend.local && found[2].backend.MayBeHere());
}

TEST(ServiceEndpoints, ReadsHintsForHere) {
  SliceBuilder a("a");
  a.Add("10.0.0.1").zone_hints = a.Hints({"z0", "z1"});
  a.Add("10.0.0.2").zone_hints = a.Hints({"z2"});
  a.Add("10.0.0.3").node_hints = a.Hints({"n0", "n1"});
  a.Add("10.0.0.4");
  const std::vector<SlicePtr> slices{a.Done()};
  auto found = ServiceEndpoints(slices, net::Family::kIPv4, kHere).Of("http", Protocol::kTcp);
  ASSERT_EQ(found.size(), 4u);
  EXPECT_TRUE(found[0].has_zone_hints && found[0].hinted_zone && !found[0].has_node_hints);
  EXPECT_TRUE(found[1].has_zone_hints && !found[1].hinted_zone);
  EXPECT_TRUE(found[2].has_node_hints && found[2].hinted_node && !found[2].has_zone_hints);
  EXPECT_FALSE(found[3].has_zone_hints || found[3].has_node_hints);
  // topology.go: "node is missing label".
  found = ServiceEndpoints(slices, net::Family::kIPv4, {"n1", ""}).Of("http", Protocol::kTcp);
  EXPECT_TRUE(found[0].has_zone_hints && !found[0].hinted_zone);
}

TEST(CountLocalReady, CountsAddressesOnceWhateverTheirPorts) {
  // endpointschangetracker.go LocalReadyEndpoints: a set of addresses of the whole Service.
  SliceBuilder a("a");
  a.Add("10.0.0.1", "n1");
  a.Add("10.0.0.2", "n1").ready = false;
  a.Add("10.0.0.3", "n2");
  SliceBuilder b("b");
  b.slice.ports = {{"dns", Protocol::kUdp, 53}};
  b.Add("10.0.0.1", "n1");
  b.Add("10.0.0.4", "n1");
  SliceBuilder portless("c");
  portless.slice.ports.clear();
  portless.Add("10.0.0.5", "n1");
  const std::vector<SlicePtr> slices{a.Done(), b.Done(), portless.Done()};
  EXPECT_EQ(CountLocalReady(slices, net::Family::kIPv4, kHere), 2);
  EXPECT_EQ(CountLocalReady(slices, net::Family::kIPv6, kHere), 0);
  EXPECT_EQ(CountLocalReady(slices, net::Family::kIPv4, {"n3", ""}), 0);
}

}  // namespace
}  // namespace pointsman::agent
