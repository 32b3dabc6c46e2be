#include "bench/agent/api_load.h"

#include <sstream>
#include <thread>

#include <fmt/format.h>

namespace pointsman::bench {
namespace {

using kube::Json;
using Clock = std::chrono::steady_clock;

constexpr const char* kNamespace = "default";
constexpr int kWriters = 4;

std::string Name(uint32_t service) {
  return "bench-" + std::to_string(service);
}
net::IpAddress ServiceIp(uint32_t service) {
  return net::IpAddress::V4(0x0a604000U + service);  // 10.96.64.0 and on
}
net::IpAddress EndpointIp(uint32_t service, uint32_t endpoint) {
  return net::IpAddress::V4(0x0b000000U + service * 16 + endpoint + 1);
}

Json ServiceObject(uint32_t service) {
  return {{"apiVersion", "v1"},
          {"kind", "Service"},
          {"metadata", {{"name", Name(service)}, {"labels", {{"app", Name(service)}}}}},
          {"spec",
           {{"type", "ClusterIP"},
            {"clusterIP", ServiceIp(service).ToString()},
            {"ports",
             {{{"name", "http"},
               {"protocol", "TCP"},
               {"port", ApiLoad::kServicePort},
               {"targetPort", ApiLoad::kEndpointPort}}}}}}};
}

}  // namespace

ApiLoad::ApiLoad(kube::Client& api, std::filesystem::path watch_log, uint32_t endpoints)
    : api_(api), watch_log_(std::move(watch_log)), endpoints_(endpoints) {}

// As the EndpointSlice controller of a cluster writes them.
Json ApiLoad::Slice(uint32_t service, bool last_ready) const {
  Json endpoints = Json::array();
  for (uint32_t i = 0; i < endpoints_; ++i) {
    const bool ready = i + 1 < endpoints_ || last_ready;
    endpoints.push_back(
        {{"addresses", {EndpointIp(service, i).ToString()}},
         {"conditions", {{"ready", ready}, {"serving", ready}, {"terminating", false}}},
         {"targetRef",
          {{"kind", "Pod"},
           {"namespace", kNamespace},
           {"name", fmt::format("{}-6d4cf56db6-{:05}", Name(service), i)},
           {"uid", fmt::format("c0ffee00-5d3b-4a57-9d61-{:012}", service * 16 + i)}}},
         {"nodeName", fmt::format("worker-{}", (service + i) % 100)},
         {"zone", fmt::format("zone-{}", i % 3)}});
  }
  return {{"apiVersion", "discovery.k8s.io/v1"},
          {"kind", "EndpointSlice"},
          {"metadata",
           {{"name", Name(service) + "-x7k2p"},
            {"labels",
             {{"app", Name(service)},
              {"kubernetes.io/service-name", Name(service)},
              {"endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io"}}},
            {"annotations",
             {{"endpoints.kubernetes.io/last-change-trigger-time", "2026-01-02T03:04:05Z"}}}}},
          {"addressType", "IPv4"},
          {"endpoints", std::move(endpoints)},
          {"ports", {{{"name", "http"}, {"protocol", "TCP"}, {"port", kEndpointPort}}}}};
}

void ApiLoad::Grow(uint32_t count) {
  std::atomic<uint32_t> next{count_};
  std::mutex mutex;
  std::string failed;
  {
    std::vector<std::jthread> writers;
    writers.reserve(kWriters);
    for (int i = 0; i < kWriters; ++i) {
      writers.emplace_back([&] {
        try {
          for (uint32_t service = next++; service < count; service = next++) {
            api_.Create(kube::resources::kServices, kNamespace, ServiceObject(service));
            api_.Create(kube::resources::kEndpointSlices, kNamespace, Slice(service, true));
          }
        } catch (const std::exception& error) {
          const std::lock_guard lock(mutex);
          failed = error.what();
          next = count;
        }
      });
    }
  }
  if (!failed.empty()) throw std::runtime_error(failed);
  count_ = std::max(count_, count);
}

ReadinessChange ApiLoad::Plan(uint32_t service) const {
  ReadinessChange change;
  change.service = ServiceIp(service);
  change.endpoint = EndpointIp(service, endpoints_ - 1);
  change.ready = not_ready_.contains(service);
  return change;
}

void ApiLoad::Apply(uint32_t service, ReadinessChange& change) {
  const Json slice = Slice(service, change.ready);
  const Json after =
      api_.Patch(kube::resources::kEndpointSlices, kNamespace, Name(service) + "-x7k2p",
                 kube::PatchType::kMerge, {{"endpoints", slice.at("endpoints")}});
  change.resource_version =
      std::stoull(after.at("metadata").at("resourceVersion").get<std::string>());
  if (change.ready)
    not_ready_.erase(service);
  else
    not_ready_[service] = true;
}

Clock::time_point ApiLoad::SentAt(uint64_t resource_version, const std::string& user) {
  if (!log_.is_open()) log_.open(watch_log_);
  const Clock::time_point deadline = Clock::now() + std::chrono::seconds(10);
  while (true) {
    if (const auto found = sent_at_.find({user, resource_version}); found != sent_at_.end())
      return Clock::time_point(std::chrono::nanoseconds(found->second));
    std::string more;
    if (std::getline(log_, more)) {
      line_ += more;
      if (log_.eof()) continue;  // the rest of the line comes later
      std::istringstream words(line_);
      int64_t at = 0;
      std::string resource;
      std::string name;
      uint64_t version = 0;
      words >> at >> resource >> name >> version;
      if (resource == "endpointslices") sent_at_[{name, version}] = at;
      line_.clear();
      continue;
    }
    log_.clear();
    if (Clock::now() > deadline) {
      throw std::runtime_error("the API server did not send version " +
                               std::to_string(resource_version) + " to " + user);
    }
    // What another process appends to a file gives no notice.
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace pointsman::bench
