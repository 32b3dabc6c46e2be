#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "e2e/control-plane/controllers/controller.h"
#include "e2e/control-plane/controllers/service_allocation.h"

namespace pointsman::e2e {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

Json ServiceJson(const std::string& name, const Json& spec) {
  return {{"apiVersion", "v1"},
          {"kind", "Service"},
          {"metadata", {{"name", name}, {"namespace", "default"}}},
          {"spec", spec}};
}

class Allocation : public testing::Test {
 protected:
  explicit Allocation(const std::string& cidrs = "10.96.0.0/29") {
    services_.plural = "services";
    services_.kind = "Service";
    ControllerOptions options;
    options.service_cidr = cidrs;
    options.node_port_last = 30002;
    InstallServiceAllocation(services_, store_, options);
  }

  Json Create(const std::string& name, const Json& spec, bool dry_run = false) {
    Json service = ServiceJson(name, spec);
    RequestInfo info;
    info.dry_run = dry_run;
    services_.allocate(service, nullptr, info);
    if (!dry_run) services_.after_write(nullptr, &service);
    return service["spec"];
  }
  Json Update(const std::string& name, const Json& old_spec, const Json& spec) {
    Json old = ServiceJson(name, old_spec);
    Json service = ServiceJson(name, spec);
    services_.allocate(service, &old, {});
    services_.after_write(&old, &service);
    return service["spec"];
  }
  void Remove(const std::string& name, const Json& spec) {
    Json old = ServiceJson(name, spec);
    services_.after_write(&old, nullptr);
  }
  std::string Refusal(const std::string& name, const Json& spec) {
    try {
      Create(name, spec);
    } catch (const StatusError& error) {
      return error.what();
    }
    return "";
  }

  Store store_{Store::Options{}};
  ResourceType services_;
};

Json Port(int port, int node_port = 0, const char* protocol = "TCP") {
  Json out = {{"port", port}, {"protocol", protocol}, {"name", protocol}};
  if (node_port) out["nodePort"] = node_port;
  return out;
}

TEST_F(Allocation, GivesEveryAddressOnceAndTakesItBack) {
  std::set<std::string> seen;
  Json last;
  // /29: 10.96.0.1 is default/kubernetes, .2 to .6 are free.
  for (int i = 0; i < 5; ++i) {
    last = Create("s" + std::to_string(i), {{"type", "ClusterIP"}});
    EXPECT_TRUE(seen.insert(last["clusterIP"]).second);
    EXPECT_EQ(last["clusterIPs"], Json::array({last["clusterIP"]}));
    EXPECT_EQ(last["ipFamilyPolicy"], "SingleStack");
    EXPECT_EQ(last["ipFamilies"], Json::array({"IPv4"}));
  }
  EXPECT_FALSE(seen.contains("10.96.0.1"));
  EXPECT_THAT(Refusal("full", {{"type", "ClusterIP"}}), HasSubstr("range is full"));
  Remove("s4", last);
  EXPECT_EQ(Create("again", {{"type", "ClusterIP"}})["clusterIP"], last["clusterIP"]);
}

TEST_F(Allocation, RefusesWhatIsTakenOrOutsideInTheServersWords) {
  Create("a", {{"clusterIP", "10.96.0.3"}});
  EXPECT_THAT(Refusal("b", {{"clusterIP", "10.96.0.3"}}),
              HasSubstr("spec.clusterIPs: Invalid value: [\"10.96.0.3\"]: failed to allocate IP "
                        "10.96.0.3: provided IP is already allocated"));
  EXPECT_THAT(Refusal("b", {{"clusterIP", "10.97.0.3"}}),
              HasSubstr("is not in the valid range. The range of valid IPs is 10.96.0.0/29"));
  EXPECT_THAT(Refusal("b", {{"ipFamilies", Json::array({"IPv6"})}}),
              HasSubstr("spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this "
                        "cluster"));
  EXPECT_THAT(Refusal("b", {{"ipFamilyPolicy", "RequireDualStack"}}),
              HasSubstr("this cluster is not configured for dual-stack services"));
}

TEST_F(Allocation, NodePortsFollowTheType) {
  Json a =
      Create("a", {{"type", "NodePort"}, {"ports", Json::array({Port(53), Port(53, 0, "UDP")})}});
  int node_port = a["ports"][0]["nodePort"];
  EXPECT_GE(node_port, 30000);
  EXPECT_EQ(a["ports"][1]["nodePort"], node_port) << "one number for both protocols";
  Json taken = Port(80, node_port);
  EXPECT_THAT(Refusal("b", {{"type", "NodePort"}, {"ports", Json::array({taken})}}),
              HasSubstr("spec.ports[0].nodePort: Invalid value: " + std::to_string(node_port) +
                        ": provided port is already allocated"));
  EXPECT_THAT(Refusal("b", {{"type", "NodePort"}, {"ports", Json::array({Port(80, 80)})}}),
              HasSubstr("The range of valid ports is 30000-30002"));
  Json plain = a;
  plain["type"] = "ClusterIP";
  for (auto& port : plain["ports"])
    port.erase("nodePort");
  Update("a", a, plain);
  EXPECT_EQ(Refusal("b", {{"type", "NodePort"}, {"ports", Json::array({taken})}}), "");
}

TEST_F(Allocation, ARefusedOrDryWriteKeepsNothing) {
  for (int i = 0; i < 20; ++i) {
    EXPECT_NE(Refusal("x", {{"type", "NodePort"}, {"ports", Json::array({Port(80, 80)})}}), "");
    Create("y", {{"type", "NodePort"}, {"ports", Json::array({Port(80)})}}, true);
  }
  for (int i = 0; i < 3; ++i) {
    Create("s" + std::to_string(i), {{"type", "NodePort"}, {"ports", Json::array({Port(80)})}});
  }
}

TEST_F(Allocation, HealthCheckPortsOfLocalLoadBalancers) {
  Json spec = Create("a", {{"type", "LoadBalancer"},
                           {"externalTrafficPolicy", "Local"},
                           {"ports", Json::array({Port(80)})}});
  EXPECT_GE(spec["healthCheckNodePort"], 30000);
  EXPECT_NE(spec["healthCheckNodePort"], spec["ports"][0]["nodePort"]);
  Json cluster = spec;
  cluster["externalTrafficPolicy"] = "Cluster";
  EXPECT_FALSE(Update("a", spec, cluster).contains("healthCheckNodePort"));
}

TEST_F(Allocation, HeadlessAndExternalNameHoldNothing) {
  EXPECT_EQ(Create("h", {{"clusterIP", "None"}, {"selector", {{"a", "b"}}}})["clusterIPs"],
            Json::array({"None"}));
  EXPECT_EQ(Create("h2", {{"clusterIP", "None"}})["ipFamilies"], Json::array({"IPv4", "IPv6"}));
  EXPECT_FALSE(Create("e", {{"type", "ExternalName"}}).contains("clusterIP"));
}

class DualStackAllocation : public Allocation {
 protected:
  DualStackAllocation() : Allocation("10.96.0.0/24,fd00::/112") {}
};

TEST_F(DualStackAllocation, FollowsThePolicy) {
  Json two = Create("a", {{"ipFamilyPolicy", "PreferDualStack"}});
  EXPECT_THAT(two["clusterIPs"].get<std::vector<std::string>>(),
              ElementsAre(StartsWith("10.96.0."), StartsWith("fd00::")));
  Json six = Create("b", {{"ipFamilies", Json::array({"IPv6"})}});
  EXPECT_THAT(six["clusterIP"].get<std::string>(), StartsWith("fd00::"));
  EXPECT_EQ(six["ipFamilyPolicy"], "SingleStack");
  Json wider = six;
  wider["ipFamilyPolicy"] = "RequireDualStack";
  EXPECT_EQ(Update("b", six, wider)["clusterIPs"][0], six["clusterIP"]);
  Json narrow = two;
  narrow["ipFamilyPolicy"] = "SingleStack";
  EXPECT_EQ(Update("a", two, narrow)["clusterIPs"], Json::array({two["clusterIP"]}));
}

class Slices : public testing::Test {
 protected:
  Slices() : controller_(MakeEndpointSliceController(store_, Emulation{})) {}

  void Settle() {
    for (const char* resource : {"nodes", "pods", "services", "discovery.k8s.io/endpointslices"}) {
      if (!watched_.contains(resource)) {
        Snapshot snapshot;
        watched_[resource] = store_.ListAndWatch(resource, snapshot);
        for (const auto& object : snapshot.objects) {
          controller_->OnEvent(resource, nullptr, object);
        }
      }
    }
    for (auto& [resource, subscription] : watched_) {
      while (auto event = subscription->TryNext()) {
        controller_->OnEvent(resource, event->previous,
                             event->type == EventType::kDeleted ? nullptr : event->object);
      }
    }
    controller_->Work();
  }

  void AddPod(const std::string& name, const std::string& ip, bool ready, int http_port = 8080) {
    Json port = {{"name", "http"}, {"containerPort", http_port}};
    Json container = {{"name", "c"}, {"ports", Json::array({port})}};
    Json condition = {{"type", "Ready"}, {"status", ready ? "True" : "False"}};
    store_.Create("pods", {{"kind", "Pod"},
                           {"metadata",
                            {{"name", name}, {"namespace", "default"}, {"labels", {{"app", "a"}}}}},
                           {"spec", {{"nodeName", "n1"}, {"containers", Json::array({container})}}},
                           {"status", {{"podIP", ip}, {"conditions", Json::array({condition})}}}});
  }
  void AddService(const Json& ports) {
    store_.Create("services", ServiceJson("web", {{"selector", {{"app", "a"}}},
                                                  {"clusterIP", "10.96.0.9"},
                                                  {"ipFamilies", Json::array({"IPv4"})},
                                                  {"ports", ports}}));
  }
  std::vector<Json> All() {
    std::vector<Json> out;
    for (const auto& object : store_.List("discovery.k8s.io/endpointslices").objects) {
      out.push_back(object->Parse());
    }
    return out;
  }

  Store store_{Store::Options{}};
  std::unique_ptr<Controller> controller_;
  std::map<std::string, std::unique_ptr<Subscription>> watched_;
};

const Json& NamedPort() {
  static const Json& port =
      *new Json{{"name", "http"}, {"port", 80}, {"targetPort", "http"}, {"protocol", "TCP"}};
  return port;
}

TEST_F(Slices, HoldThePodsOfTheSelector) {
  store_.Create("nodes", {{"metadata",
                           {{"name", "n1"}, {"labels", {{"topology.kubernetes.io/zone", "z1"}}}}}});
  AddPod("p1", "10.0.0.1", true);
  AddPod("p2", "10.0.0.2", false);
  AddService(Json::array({NamedPort()}));
  Settle();
  auto slices = All();
  ASSERT_EQ(slices.size(), 1U);
  const Json& slice = slices[0];
  EXPECT_THAT(slice["metadata"]["name"].get<std::string>(), StartsWith("web-"));
  EXPECT_EQ(slice["metadata"]["labels"]["kubernetes.io/service-name"], "web");
  EXPECT_EQ(slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"],
            "endpointslice-controller.k8s.io");
  EXPECT_EQ(slice["ports"], Json::parse(R"([{"name":"http","port":8080,"protocol":"TCP"}])"));
  ASSERT_EQ(slice["endpoints"].size(), 2U);
  std::map<std::string, Json> by_ip;
  for (const auto& endpoint : slice["endpoints"])
    by_ip[endpoint["addresses"][0]] = endpoint;
  EXPECT_EQ(by_ip["10.0.0.1"]["conditions"],
            Json::parse(R"({"ready":true,"serving":true,"terminating":false})"));
  EXPECT_EQ(by_ip["10.0.0.2"]["conditions"]["ready"], false);
  EXPECT_EQ(by_ip["10.0.0.1"]["nodeName"], "n1");
  EXPECT_EQ(by_ip["10.0.0.1"]["zone"], "z1");
  EXPECT_EQ(by_ip["10.0.0.1"]["targetRef"]["name"], "p1");
  Json endpoints = store_.Get("endpoints", "default", "web")->Parse();
  EXPECT_EQ(endpoints["subsets"][0]["addresses"][0]["ip"], "10.0.0.1");
  EXPECT_EQ(endpoints["subsets"][0]["notReadyAddresses"][0]["ip"], "10.0.0.2");

  auto version = store_.ResourceVersion();
  Settle();
  Settle();
  EXPECT_EQ(store_.ResourceVersion(), version) << "nothing changed, so nothing is written";
}

TEST_F(Slices, ATerminatingPodStillServes) {
  AddPod("p1", "10.0.0.1", true);
  AddService(Json::array({NamedPort()}));
  Settle();
  store_.Modify("pods", "default", "p1", [](Json& pod) {
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z";
    return true;
  });
  Settle();
  EXPECT_EQ(All()[0]["endpoints"][0]["conditions"],
            Json::parse(R"({"ready":false,"serving":true,"terminating":true})"));
  store_.Remove("pods", "default", "p1");
  Settle();
  auto slices = All();
  ASSERT_EQ(slices.size(), 1U) << "an empty slice says that there are no endpoints";
  EXPECT_TRUE(slices[0]["endpoints"].empty());
  store_.Remove("services", "default", "web");
  Settle();
  EXPECT_TRUE(All().empty());
}

TEST_F(Slices, SplitAtAHundredAndByNamedPort) {
  for (int i = 1; i <= 150; ++i) {
    AddPod("p" + std::to_string(i), "10.0.1." + std::to_string(i), true);
  }
  AddPod("other", "10.0.2.1", true, 9090);
  AddService(Json::array({NamedPort()}));
  Settle();
  std::multiset<size_t> sizes;
  for (const auto& slice : All())
    sizes.insert(slice["endpoints"].size());
  EXPECT_THAT(sizes, ElementsAre(1U, 50U, 100U));

  // One pod less: one slice is written, the others stay as they are.
  std::map<std::string, std::string> before;
  for (const auto& slice : All()) {
    before[slice["metadata"]["name"]] = slice["metadata"]["resourceVersion"];
  }
  store_.Remove("pods", "default", "p7");
  Settle();
  int written = 0;
  for (const auto& slice : All()) {
    written += before[slice["metadata"]["name"]] != slice["metadata"]["resourceVersion"] ? 1 : 0;
  }
  EXPECT_EQ(written, 1);
}

TEST_F(Slices, WhatSomebodyElseChangedIsPutRight) {
  AddPod("p1", "10.0.0.1", true);
  AddService(Json::array({NamedPort()}));
  Settle();
  std::string name = All()[0]["metadata"]["name"];
  store_.Modify("discovery.k8s.io/endpointslices", "default", name, [](Json& slice) {
    slice["endpoints"] = Json::array();
    return true;
  });
  Settle();
  EXPECT_EQ(All()[0]["endpoints"].size(), 1U);
  store_.Remove("discovery.k8s.io/endpointslices", "default", name);
  Settle();
  ASSERT_EQ(All().size(), 1U);
  EXPECT_EQ(All()[0]["endpoints"].size(), 1U);
}

}  // namespace
}  // namespace pointsman::e2e
