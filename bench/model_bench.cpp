// How fast Services and EndpointSlices are decoded, resolved and updated, and what they take in
// memory. Objects look as a current API server sends them, 10 endpoints to a Service.
#include <fstream>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <malloc.h>

#include "kube/objects/endpoint_slice.h"
#include "kube/objects/service.h"
#include "node-agent/model/model_builder.h"

namespace pointsman::agent {
namespace {

constexpr int kEndpoints = 10;

std::string ServiceName(int i) {
  return "benchmark-service-" + std::to_string(i);
}
std::string SliceName(int i) {
  return ServiceName(i) + "-x7k2p";
}

std::string ServiceJson(int i) {
  const std::string ip = fmt::format("10.96.{}.{}", i / 250, i % 250 + 1);
  return fmt::format(
      R"({{"metadata":{{"name":"{0}","namespace":"benchmark","uid":"8f9c2c1e-5d3b-4a57-9d61-{1:012d}","resourceVersion":"{2}","creationTimestamp":"2026-01-02T03:04:05Z","labels":{{"app":"{0}"}},"managedFields":[{{"manager":"kubectl-create","operation":"Update","apiVersion":"v1","time":"2026-01-02T03:04:05Z","fieldsType":"FieldsV1","fieldsV1":{{"f:metadata":{{"f:labels":{{".":{{}},"f:app":{{}}}}}},"f:spec":{{"f:internalTrafficPolicy":{{}},"f:ports":{{".":{{}},"k:{{\"port\":80,\"protocol\":\"TCP\"}}":{{".":{{}},"f:name":{{}},"f:port":{{}},"f:protocol":{{}},"f:targetPort":{{}}}}}},"f:selector":{{}},"f:sessionAffinity":{{}},"f:type":{{}}}}}}}}]}},"spec":{{"ports":[{{"name":"http","protocol":"TCP","port":80,"targetPort":8080}}],"selector":{{"app":"{0}"}},"clusterIP":"{3}","clusterIPs":["{3}"],"type":"ClusterIP","sessionAffinity":"None","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","internalTrafficPolicy":"Cluster"}},"status":{{"loadBalancer":{{}}}}}})",
      ServiceName(i), i, 100000 + i, ip);
}

// `ready` of the first endpoint: what a rollout changes.
std::string SliceJson(int i, bool ready = true) {
  std::string endpoints;
  for (int e = 0; e < kEndpoints; ++e) {
    const int n = i * kEndpoints + e;
    endpoints += fmt::format(
        R"({}{{"addresses":["10.{}.{}.{}"],"conditions":{{"ready":{},"serving":true,"terminating":false}},"targetRef":{{"kind":"Pod","namespace":"benchmark","name":"{}-{:05d}","uid":"c0ffee00-5d3b-4a57-9d61-{:012d}"}},"nodeName":"node-{}","zone":"zone-{}"}})",
        e == 0 ? "" : ",", 128 + n / 62500, n / 250 % 250, n % 250 + 1,
        e == 0 && !ready ? "false" : "true", ServiceName(i), e, n, n % 50, n % 3);
  }
  return fmt::format(
      R"({{"metadata":{{"name":"{0}","generateName":"{1}-","namespace":"benchmark","uid":"deadbeef-5d3b-4a57-9d61-{2:012d}","resourceVersion":"{3}","generation":7,"creationTimestamp":"2026-01-02T03:04:05Z","labels":{{"app":"{1}","endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io","kubernetes.io/service-name":"{1}"}},"annotations":{{"endpoints.kubernetes.io/last-change-trigger-time":"2026-01-02T03:04:05Z"}},"ownerReferences":[{{"apiVersion":"v1","kind":"Service","name":"{1}","uid":"8f9c2c1e-5d3b-4a57-9d61-{2:012d}","controller":true,"blockOwnerDeletion":true}}]}},"addressType":"IPv4","endpoints":[{4}],"ports":[{{"name":"http","port":8080,"protocol":"TCP"}}]}})",
      SliceName(i), ServiceName(i), i, 200000 + i, endpoints);
}

void DecodeServices(benchmark::State& state) {
  const std::string json = ServiceJson(4321);
  for (auto _ : state)
    benchmark::DoNotOptimize(kube::DecodeService(json));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(json.size()));
}
BENCHMARK(DecodeServices);

void DecodeEndpointSlices(benchmark::State& state) {
  const std::string json = SliceJson(4321);
  for (auto _ : state)
    benchmark::DoNotOptimize(kube::DecodeEndpointSlice(json));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(json.size()));
}
BENCHMARK(DecodeEndpointSlices);

struct Objects {
  std::vector<std::shared_ptr<const kube::Service>> services;
  std::vector<std::shared_ptr<const kube::EndpointSlice>> slices;
};

Objects Decode(int count) {
  Objects objects;
  for (int i = 0; i < count; ++i) {
    objects.services.push_back(
        std::make_shared<const kube::Service>(kube::DecodeService(ServiceJson(i))));
    objects.slices.push_back(
        std::make_shared<const kube::EndpointSlice>(kube::DecodeEndpointSlice(SliceJson(i))));
  }
  return objects;
}

void Feed(ModelBuilder& builder, const Objects& objects) {
  for (const auto& service : objects.services)
    builder.SetService(service->Key(), service);
  for (const auto& slice : objects.slices)
    builder.SetEndpointSlice(slice->Key(), slice);
}

double HeapMegabytes() {
  const struct mallinfo2 info = mallinfo2();
  return static_cast<double>(info.uordblks + info.hblkhd) / 1e6;
}

double RssMegabytes() {
  std::ifstream statm("/proc/self/statm");
  size_t total = 0;
  size_t resident = 0;
  statm >> total >> resident;
  return static_cast<double>(resident) * 4096 / 1e6;
}

void FullBuild(benchmark::State& state) {
  const Objects objects = Decode(static_cast<int>(state.range(0)));
  for (auto _ : state) {
    auto builder = std::make_unique<ModelBuilder>("node-1");
    Feed(*builder, objects);
    benchmark::DoNotOptimize(builder->Update());
    state.PauseTiming();
    builder.reset();
    state.ResumeTiming();
  }
}
BENCHMARK(FullBuild)->Arg(1000)->Arg(10000)->Unit(benchmark::kMillisecond);

// From the watch event's text to the delta.
void OneChange(benchmark::State& state) {
  const int count = static_cast<int>(state.range(0));
  ModelBuilder builder("node-1");
  Feed(builder, Decode(count));
  builder.Update();
  const int changed = count / 2;
  const std::string events[] = {SliceJson(changed, false), SliceJson(changed, true)};
  const std::string key = "benchmark/" + SliceName(changed);
  size_t turn = 0;
  for (auto _ : state) {
    builder.SetEndpointSlice(key, std::make_shared<const kube::EndpointSlice>(
                                      kube::DecodeEndpointSlice(events[turn++ % 2])));
    const ModelDelta delta = builder.Update();
    if (delta.changes.size() != 1) state.SkipWithError("not one change");
  }
}
BENCHMARK(OneChange)->Arg(1000)->Arg(10000)->Unit(benchmark::kMicrosecond);

// Not a matter of time: what stays in memory.
void Memory(benchmark::State& state) {
  for (auto _ : state) {
    malloc_trim(0);
    const double heap_before = HeapMegabytes();
    const double rss_before = RssMegabytes();
    const Objects objects = Decode(static_cast<int>(state.range(0)));
    const double heap_objects = HeapMegabytes();
    ModelBuilder builder("node-1");
    Feed(builder, objects);
    builder.Update();
    malloc_trim(0);
    state.counters["objects_MB"] = heap_objects - heap_before;
    state.counters["model_MB"] = HeapMegabytes() - heap_objects;
    state.counters["rss_MB"] = RssMegabytes() - rss_before;
  }
}
BENCHMARK(Memory)->Arg(1000)->Arg(10000)->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace pointsman::agent

BENCHMARK_MAIN();
