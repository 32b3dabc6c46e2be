#include "e2e/control-plane/controllers/kubernetes_service.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

#include "kube/net/ip_address.h"

namespace pointsman::e2e {
namespace {

std::string FirstServiceAddress(const std::string& cidrs) {
  auto cidr = net::IpPrefix::Parse(cidrs.substr(0, cidrs.find(',')));
  if (!cidr) throw std::invalid_argument("serviceCidr: " + cidrs);
  std::array<uint8_t, 16> bytes{};
  size_t size = cidr->address().size();
  std::memcpy(bytes.data(), cidr->address().data(), size);
  ++bytes[size - 1];
  return net::IpAddress::FromBytes(bytes.data(), size).ToString();
}

void Put(Store& store, const ResourceName& resource, const Json& wanted) {
  std::string name = wanted["metadata"]["name"];
  if (!store.Get(resource, "default", name)) {
    store.Create(resource, wanted);
    return;
  }
  store.Modify(resource, "default", name, [&wanted](Json& object) {
    bool changed = false;
    for (const auto& [key, value] : wanted.items()) {
      if (key == "metadata" || key == "spec" || object.value(key, Json()) == value) continue;
      object[key] = value;
      changed = true;
    }
    return changed;
  });
}

}  // namespace

void EnsureKubernetesService(Store& store, const Emulation& emulation,
                             const ControllerOptions& options) {
  std::string ip = FirstServiceAddress(options.service_cidr);
  std::string family = ip.find(':') == std::string::npos ? "IPv4" : "IPv6";
  Json port = {{"name", "https"}, {"protocol", "TCP"}, {"port", options.advertise_port}};
  Json service_port = {{"name", "https"},
                       {"protocol", "TCP"},
                       {"port", 443},
                       {"targetPort", options.advertise_port}};
  Json labels = {{"component", "apiserver"}, {"provider", "kubernetes"}};
  Put(store, "services",
      {{"apiVersion", "v1"},
       {"kind", "Service"},
       {"metadata", {{"name", "kubernetes"}, {"namespace", "default"}, {"labels", labels}}},
       {"spec",
        {{"clusterIP", ip},
         {"clusterIPs", Json::array({ip})},
         {"ipFamilies", Json::array({family})},
         {"ipFamilyPolicy", "SingleStack"},
         {"internalTrafficPolicy", "Cluster"},
         {"ports", Json::array({service_port})},
         {"sessionAffinity", "None"},
         {"type", "ClusterIP"}}},
       {"status", {{"loadBalancer", Json::object()}}}});
  if (options.advertise_address.empty()) return;
  Json address = {{"ip", options.advertise_address}};
  Json subset = {{"addresses", Json::array({address})}, {"ports", Json::array({port})}};
  Put(store, "endpoints",
      {{"apiVersion", "v1"},
       {"kind", "Endpoints"},
       {"metadata",
        {{"name", "kubernetes"},
         {"namespace", "default"},
         {"labels", {{"endpointslice.kubernetes.io/skip-mirror", "true"}}}}},
       {"subsets", Json::array({subset})}});
  Json endpoint = {{"addresses", Json::array({options.advertise_address})},
                   {"conditions", {{"ready", true}}}};
  bool v6 = options.advertise_address.find(':') != std::string::npos;
  Put(store, "discovery.k8s.io/endpointslices",
      {{"apiVersion", emulation.AtLeast(21) ? "discovery.k8s.io/v1" : "discovery.k8s.io/v1beta1"},
       {"kind", "EndpointSlice"},
       {"metadata",
        {{"name", "kubernetes"},
         {"namespace", "default"},
         {"labels", {{"kubernetes.io/service-name", "kubernetes"}}}}},
       {"addressType", v6 ? "IPv6" : "IPv4"},
       {"endpoints", Json::array({endpoint})},
       {"ports", Json::array({port})}});
}

}  // namespace pointsman::e2e
