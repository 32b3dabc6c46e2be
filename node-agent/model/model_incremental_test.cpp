// Over random objects and events: the model that is changed step by step is the one that is made
// from scratch, and its deltas lead from one to the next.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <unordered_set>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "node-agent/model/model_builder.h"

namespace pointsman::agent {
namespace {

using Family = net::Family;

net::IpAddress Ip(const std::string& text) {
  return net::IpAddress::Parse(text).value();
}

// Few names and few addresses, so that objects meet.
class RandomCluster {
 public:
  explicit RandomCluster(uint32_t seed) : random_(seed) {}

  unsigned Below(unsigned limit) { return static_cast<unsigned>(random_() % limit); }
  bool Chance(unsigned percent) { return Below(100) < percent; }

  std::shared_ptr<const kube::Service> NextService(const std::string& ns, const std::string& name) {
    auto service = std::make_shared<kube::Service>();
    service->ns = ns;
    service->name = name;
    if (Chance(80)) service->created = kube::TimePoint(std::chrono::seconds(Below(3)));
    service->type = static_cast<kube::ServiceType>(Below(10) == 0 ? 3 : Below(3));
    if (Chance(90)) service->cluster_ips.push_back(Ip("10.96.0." + std::to_string(Below(6))));
    if (Chance(40)) service->cluster_ips.push_back(Ip("fd00::" + std::to_string(1 + Below(4))));
    service->headless = Chance(5);
    for (unsigned i = Below(4); i > 0; --i) {
      service->ports.push_back({Chance(20) ? "" : "p" + std::to_string(Below(3)),
                                static_cast<Protocol>(Below(3)), Port(80),
                                static_cast<uint16_t>(Chance(50) ? Port(30000) : 0)});
    }
    for (unsigned i = Below(3); i > 0; --i)
      service->external_ips.push_back(External());
    for (unsigned i = Below(3); i > 0; --i) {
      service->load_balancer_ingress.push_back({External(), Chance(20)});
    }
    if (Chance(20)) {
      service->source_ranges_given = true;
      if (Chance(80))
        service->load_balancer_source_ranges.push_back(net::IpPrefix::Parse("10.0.0.0/8").value());
    }
    service->client_ip_affinity = Chance(20);
    service->external_traffic_policy = static_cast<kube::TrafficPolicy>(Below(2));
    service->internal_traffic_policy = static_cast<kube::TrafficPolicy>(Below(2));
    service->health_check_node_port = static_cast<uint16_t>(Chance(50) ? 32000 : 0);
    service->has_service_proxy_name = Chance(5);
    service->headless_label = Chance(5);
    if (Chance(10)) service->problems.push_back("spec.x: odd");
    return service;
  }

  std::shared_ptr<const kube::EndpointSlice> NextSlice(const std::string& ns,
                                                       const std::string& name,
                                                       const std::string& service) {
    auto slice = std::make_shared<kube::EndpointSlice>();
    slice->ns = ns;
    slice->name = name;
    slice->service_name = service;
    slice->headless_label = Chance(3);
    slice->has_service_proxy_name = Chance(3);
    slice->fqdn = Chance(3);
    slice->family = Chance(30) ? Family::kIPv6 : Family::kIPv4;
    slice->strings = {"", "n1", "n2"};
    slice->hint_sets = {{}, {"z1"}, {"z1", "z2"}, {"n1"}, {"n2"}};
    for (unsigned i = Below(4); i > 0; --i) {
      slice->ports.push_back({Chance(20) ? "" : "p" + std::to_string(Below(3)),
                              static_cast<Protocol>(Below(3)),
                              static_cast<uint16_t>(Chance(5) ? 0 : Port(8080))});
    }
    const bool hints = Chance(40);
    for (unsigned i = Below(6); i > 0; --i) {
      kube::Endpoint& endpoint = slice->endpoints.emplace_back();
      endpoint.address = Ip((slice->family == Family::kIPv4 ? "10.1.0." : "fd00:1::") +
                            std::to_string(1 + Below(8)));
      endpoint.node_name = static_cast<uint16_t>(Below(3));
      endpoint.ready = Chance(60);
      endpoint.serving = Chance(70);
      endpoint.terminating = Chance(40);
      if (hints && Chance(90)) endpoint.zone_hints = static_cast<uint16_t>(1 + Below(2));
      if (hints && Chance(60)) endpoint.node_hints = static_cast<uint16_t>(3 + Below(2));
    }
    if (Chance(5)) slice->problems.push_back("endpoints: odd");
    return slice;
  }

  uint16_t Port(unsigned base) { return static_cast<uint16_t>(base + Below(3)); }
  net::IpAddress External() {
    static const char* const kPool[] = {"192.0.2.1",   "192.0.2.2", "10.96.0.1",
                                        "2001:db8::1", "fd00::1",   "127.0.0.1"};
    return Ip(kPool[Below(6)]);
  }

  std::mt19937 random_;
};

using Snapshot = std::map<ServicePortId, EntryPtr>;

Snapshot Of(const ServiceModel& model) {
  return {model.entries.begin(), model.entries.end()};
}

bool SameValues(const Snapshot& a, const Snapshot& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const auto& left, const auto& right) {
                      return left.first == right.first && *left.second == *right.second;
                    });
}

class Incremental : public testing::TestWithParam<uint32_t> {};

TEST_P(Incremental, IsTheSameAsFromScratch) {
  RandomCluster cluster(GetParam());
  ModelBuilder builder("n1");
  std::map<std::string, std::shared_ptr<const kube::Service>> services;
  std::map<std::string, std::shared_ptr<const kube::EndpointSlice>> slices;
  std::shared_ptr<kube::Node> node;
  NodeNetwork network{"n1", {}, true};
  bool masquerade_all = false;
  std::unordered_set<net::IpAddress> protected_addresses;
  Snapshot before;

  for (int step = 0; step < 400; ++step) {
    for (unsigned events = 1 + cluster.Below(4); events > 0; --events) {
      const std::string ns = cluster.Chance(50) ? "a" : "b";
      const std::string service = "s" + std::to_string(cluster.Below(3));
      switch (cluster.Below(12)) {
        case 0: {
          node = cluster.Chance(20) ? nullptr : std::make_shared<kube::Node>();
          if (node && cluster.Chance(80)) {
            node->labels["topology.kubernetes.io/zone"] = cluster.Chance(50) ? "z1" : "z2";
          }
          builder.SetNode(node);
          break;
        }
        case 1:
          network.localhost_node_ports = cluster.Chance(50);
          network.source_addresses.clear();
          if (cluster.Chance(50))
            network.source_addresses.push_back(Ip(cluster.Chance(50) ? "10.0.0.1" : "192.0.2.9"));
          builder.SetNodeNetwork(network);
          masquerade_all = cluster.Chance(50);
          builder.SetMasqueradeAll(masquerade_all);
          break;
        case 2:
          protected_addresses.clear();
          if (cluster.Chance(60)) protected_addresses.insert(cluster.External());
          builder.SetProtectedAddresses(protected_addresses);
          break;
        case 3:
        case 4:
        case 5:
        case 6: {
          const std::string key = fmt::format("{}/{}", ns, service);
          services[key] = cluster.Chance(25) ? nullptr : cluster.NextService(ns, service);
          builder.SetService(key, services[key]);
          break;
        }
        default: {
          const std::string name = "e" + std::to_string(cluster.Below(6));
          const std::string key = fmt::format("{}/{}", ns, name);
          slices[key] = cluster.Chance(25)
                            ? nullptr
                            : cluster.NextSlice(ns, name, cluster.Chance(95) ? service : "");
          builder.SetEndpointSlice(key, slices[key]);
          break;
        }
      }
    }
    if (cluster.Chance(30)) continue;  // several events in one update

    const ModelDelta delta = builder.Update();
    const Snapshot now = Of(builder.model());

    // The same objects in another order.
    ModelBuilder scratch("n1");
    std::vector<std::function<void()>> feed;
    feed.reserve(services.size() + slices.size() + 2);
    for (const auto& entry : services)
      feed.emplace_back([&scratch, &entry] { scratch.SetService(entry.first, entry.second); });
    for (const auto& entry : slices)
      feed.emplace_back(
          [&scratch, &entry] { scratch.SetEndpointSlice(entry.first, entry.second); });
    feed.emplace_back([&] { scratch.SetNode(node); });
    feed.emplace_back([&] { scratch.SetNodeNetwork(network); });
    feed.emplace_back([&] { scratch.SetMasqueradeAll(masquerade_all); });
    feed.emplace_back([&] { scratch.SetProtectedAddresses(protected_addresses); });
    std::shuffle(feed.begin(), feed.end(), cluster.random_);
    for (const auto& event : feed)
      event();
    scratch.Update();
    ASSERT_TRUE(SameValues(now, Of(scratch.model()))) << "step " << step;
    ASSERT_EQ(builder.problems(), scratch.problems()) << "step " << step;
    ASSERT_EQ(builder.model().service_count, scratch.model().service_count);
    ASSERT_EQ(builder.model().endpoint_count, scratch.model().endpoint_count);
    ASSERT_EQ(builder.model().node, scratch.model().node);
    ASSERT_FALSE(builder.HasChanges());

    // The delta leads from the model before to this one, and says nothing that is no change.
    for (const EntryChange& change : delta.changes) {
      ASSERT_TRUE(change.before || change.after);
      if (change.before) {
        const auto found = before.find(change.before->id);
        ASSERT_TRUE(found != before.end() && found->second == change.before);
        before.erase(found);
      }
      if (change.after) {
        ASSERT_FALSE(change.before && *change.before == *change.after);
        ASSERT_TRUE(before.emplace(change.after->id, change.after).second);
      }
    }
    ASSERT_TRUE(before == now) << "step " << step;  // also the same objects

    // No address leads to two entries, every list is as the header says.
    std::map<std::tuple<net::IpAddress, uint16_t, Protocol>, std::string> owners;
    for (const auto& [id, entry] : now) {
      const auto own = [&, &id = id](const net::IpAddress& ip, uint16_t port) {
        ASSERT_TRUE(owners.emplace(std::tuple(ip, port, id.protocol), id.ToString()).second)
            << id.ToString() << " " << ip.ToString() << " " << port;
      };
      own(entry->cluster_ip, entry->port);
      for (const net::IpAddress& ip : entry->external_ips)
        own(ip, entry->port);
      for (const net::IpAddress& ip : entry->load_balancer_ips)
        own(ip, entry->port);
      if (entry->node_port != 0) {
        own(Ip(id.family == Family::kIPv4 ? "0.0.0.0" : "::"), entry->node_port);
      }
      for (const auto* backends : {&entry->internal.backends, &entry->external.backends,
                                   &entry->external_from_node.backends, &entry->draining}) {
        ASSERT_TRUE(std::is_sorted(backends->begin(), backends->end()));
        ASSERT_TRUE(std::adjacent_find(backends->begin(), backends->end()) == backends->end());
        for (const Backend& backend : *backends)
          ASSERT_EQ(backend.ip.family(), id.family);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, Incremental, testing::Range(1U, 17U));

}  // namespace
}  // namespace pointsman::agent
