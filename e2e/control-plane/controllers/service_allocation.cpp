// Cluster IPs, node ports and health check node ports, given out when a Service is written: the
// rules of kube-apiserver's service REST storage (KEP-563 for dual stack).
#include "e2e/control-plane/controllers/service_allocation.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "kube/net/ip_address.h"

namespace pointsman::e2e {
namespace {

using net::Family;
using net::IpAddress;
using net::IpPrefix;

std::string OwnerOf(const Json& service) {
  return service["metadata"].value("namespace", "") + "/" + service["metadata"].value("name", "");
}

FieldError Invalid(std::string field, const Json& value, const std::string& why) {
  return {std::move(field), "FieldValueInvalid", "Invalid value: " + value.dump() + ": " + why};
}

IpAddress Plus(const IpPrefix& prefix, uint64_t offset) {
  std::array<uint8_t, 16> bytes{};
  size_t size = prefix.address().size();
  std::memcpy(bytes.data(), prefix.address().data(), size);
  for (size_t i = size; i-- > 0 && offset > 0; offset >>= 8) {
    uint64_t sum = bytes[i] + (offset & 0xff);
    bytes[i] = static_cast<uint8_t>(sum);
    if (sum > 0xff) offset += 0x100;
  }
  return IpAddress::FromBytes(bytes.data(), size);
}

// What one Service holds.
struct Holdings {
  std::set<IpAddress> addresses;
  std::set<int> ports;
};

Holdings HoldingsOf(const Json& service) {
  Holdings out;
  const Json spec = service.value("spec", Json::object());
  for (const auto& text : spec.value("clusterIPs", Json::array())) {
    if (auto address = IpAddress::Parse(text.get<std::string>())) out.addresses.insert(*address);
  }
  if (auto address = IpAddress::Parse(spec.value("clusterIP", ""))) {
    out.addresses.insert(*address);
  }
  for (const auto& port : spec.value("ports", Json::array())) {
    if (int number = port.value("nodePort", 0)) out.ports.insert(number);
  }
  if (int number = spec.value("healthCheckNodePort", 0)) out.ports.insert(number);
  return out;
}

class Allocator {
 public:
  explicit Allocator(const ControllerOptions& options)
      : first_port_(options.node_port_first), last_port_(options.node_port_last) {
    std::string rest = options.service_cidr;
    while (!rest.empty()) {
      size_t comma = rest.find(',');
      auto cidr = IpPrefix::Parse(rest.substr(0, comma));
      if (!cidr) throw std::invalid_argument("serviceCidr: " + options.service_cidr);
      cidrs_.push_back(*cidr);
      rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
    }
    if (cidrs_.empty() || cidrs_.size() > 2 ||
        (cidrs_.size() == 2 && cidrs_[0].family() == cidrs_[1].family())) {
      throw std::invalid_argument("serviceCidr takes one CIDR, or one of each family: " +
                                  options.service_cidr);
    }
    // The first address belongs to default/kubernetes.
    addresses_[Plus(cidrs_[0], 1)] = "default/kubernetes";
  }

  void Hold(const Json& service) {
    std::lock_guard lock(mutex_);
    Holdings holdings = HoldingsOf(service);
    for (const auto& address : holdings.addresses)
      addresses_[address] = OwnerOf(service);
    for (int port : holdings.ports)
      ports_[port] = OwnerOf(service);
  }

  // Gives back what `had` holds and `keeps` (may be null) does not.
  void Release(const Json& had, const Json* keeps) {
    std::lock_guard lock(mutex_);
    ReleaseLocked(OwnerOf(had), HoldingsOf(had), keeps ? HoldingsOf(*keeps) : Holdings{});
  }

  void Allocate(Json& service, const Json* old, const RequestInfo& info) {
    std::lock_guard lock(mutex_);
    owner_ = OwnerOf(service);
    Holdings before = old ? HoldingsOf(*old) : Holdings{};
    Holdings taken = before;
    auto give_back = [&] {
      Holdings all = HoldingsOf(service);
      all.addresses.insert(taken.addresses.begin(), taken.addresses.end());
      all.ports.insert(taken.ports.begin(), taken.ports.end());
      ReleaseLocked(owner_, all, before);
    };
    std::vector<FieldError> errors;
    try {
      Json& spec = service["spec"];
      Families(spec, old, errors);
      if (errors.empty()) Addresses(spec, taken, errors);
      if (errors.empty()) Ports(spec, taken, errors);
    } catch (...) {
      give_back();
      throw;
    }
    if (!errors.empty() || info.dry_run) give_back();
    if (!errors.empty()) {
      throw Invalid("", "Service", service["metadata"].value("name", ""), errors);
    }
  }

 private:
  void ReleaseLocked(const std::string& owner, const Holdings& had, const Holdings& keeps) {
    for (const auto& address : had.addresses) {
      auto found = addresses_.find(address);
      if (found != addresses_.end() && found->second == owner &&
          !keeps.addresses.contains(address) && owner != "default/kubernetes") {
        addresses_.erase(found);
      }
    }
    for (int port : had.ports) {
      auto found = ports_.find(port);
      if (found != ports_.end() && found->second == owner && !keeps.ports.contains(port)) {
        ports_.erase(found);
      }
    }
  }

  const IpPrefix* CidrOf(Family family) const {
    for (const auto& cidr : cidrs_) {
      if (cidr.family() == family) return &cidr;
    }
    return nullptr;
  }

  static Family ParseFamily(const Json& text) {
    return text == "IPv6" ? Family::kIPv6 : Family::kIPv4;
  }

  // Fills in ipFamilyPolicy, ipFamilies and the known part of clusterIPs.
  void Families(Json& spec, const Json* old, std::vector<FieldError>& errors) {
    if (spec.value("type", "ClusterIP") == "ExternalName") {
      for (const char* key : {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"}) {
        spec.erase(key);
      }
      return;
    }
    std::string ip = spec.value("clusterIP", "");
    Json ips = spec.value("clusterIPs", Json::array());
    if (ips.empty() && !ip.empty()) ips = Json::array({ip});
    bool headless = !ips.empty() && ips[0] == "None";
    Json families = spec.value("ipFamilies", Json::array());
    std::string policy = spec.value("ipFamilyPolicy", "");
    bool selector = !spec.value("selector", Json::object()).empty();
    if (policy.empty()) {
      bool both = families.size() == 2 || ips.size() == 2 || (headless && !selector);
      policy = both ? "RequireDualStack" : "SingleStack";
    }
    for (size_t i = 0; i < ips.size() && !headless; ++i) {
      auto address = IpAddress::Parse(ips[i].get<std::string>());
      if (!address) continue;  // refused by validation
      Json family = std::string(net::ToString(address->family()));
      if (i >= families.size()) families.push_back(family);
      if (families[i] != family) {
        errors.push_back(Invalid("spec.clusterIPs[" + std::to_string(i) + "]", ips[i],
                                 "expected an " + families[i].get<std::string>() +
                                     " value as indicated by `spec.ipFamilies[" +
                                     std::to_string(i) + "]`"));
      }
    }
    bool free_headless = headless && !selector;
    for (size_t i = 0; i < families.size(); ++i) {
      if (!free_headless && !CidrOf(ParseFamily(families[i]))) {
        errors.push_back(Invalid("spec.ipFamilies[" + std::to_string(i) + "]", families[i],
                                 "not configured on this cluster"));
      }
    }
    if (policy == "RequireDualStack" && cidrs_.size() < 2 && !free_headless) {
      errors.push_back(Invalid("spec.ipFamilyPolicy", policy,
                               "this cluster is not configured for dual-stack services"));
    }
    if (policy == "SingleStack" && (families.size() > 1 || ips.size() > 1)) {
      // Going down to one family keeps the first; asking for two of a new Service is a mistake.
      bool narrowed = old && (*old)["spec"].value("ipFamilyPolicy", "") != "SingleStack";
      if (!narrowed && families.size() > 1) {
        errors.push_back(Invalid("spec.ipFamilyPolicy", policy,
                                 "must be RequireDualStack or PreferDualStack when multiple "
                                 "'ipFamilies' are specified"));
      } else if (!narrowed) {
        errors.push_back(Invalid("spec.ipFamilyPolicy", policy,
                                 "must be RequireDualStack or PreferDualStack when multiple "
                                 "'clusterIPs' are specified"));
      }
      while (families.size() > 1)
        families.erase(1);
      while (ips.size() > 1)
        ips.erase(1);
    }
    if (families.empty()) families.push_back(std::string(net::ToString(cidrs_[0].family())));
    if (policy != "SingleStack" && families.size() == 1 && (cidrs_.size() == 2 || free_headless)) {
      families.push_back(families[0] == "IPv4" ? "IPv6" : "IPv4");
    }
    spec["ipFamilyPolicy"] = policy;
    spec["ipFamilies"] = std::move(families);
    if (!ips.empty()) {
      spec["clusterIPs"] = ips;
      spec["clusterIP"] = ips[0];
    }
  }

  void Addresses(Json& spec, Holdings& taken, std::vector<FieldError>& errors) {
    if (spec.value("type", "ClusterIP") == "ExternalName") return;
    Json ips = spec.value("clusterIPs", Json::array());
    if (!ips.empty() && ips[0] == "None") return;
    for (size_t i = 0; i < spec["ipFamilies"].size(); ++i) {
      Family family = ParseFamily(spec["ipFamilies"][i]);
      if (i < ips.size()) {
        auto text = ips[i].get<std::string>();
        auto address = IpAddress::Parse(text);
        std::string why;
        const IpPrefix* cidr = CidrOf(family);
        if (!address || !cidr || !cidr->Contains(*address)) {
          why = "the provided IP (" + text +
                ") is not in the valid range. The range of valid IPs is " +
                (cidr ? cidr->ToString() : "empty");
        } else if (auto held = addresses_.find(*address);
                   held != addresses_.end() && held->second != owner_) {
          why = "provided IP is already allocated";
        }
        if (!why.empty()) {
          errors.push_back(Invalid("spec.clusterIPs", ips,
                                   fmt::format("failed to allocate IP {}: {}", text, why)));
          return;
        }
        addresses_[*address] = owner_;
        taken.addresses.insert(*address);
      } else {
        IpAddress address = AnyAddress(*CidrOf(family));
        addresses_[address] = owner_;
        taken.addresses.insert(address);
        ips.push_back(address.ToString());
      }
    }
    spec["clusterIP"] = ips[0];
    spec["clusterIPs"] = std::move(ips);
  }

  IpAddress AnyAddress(const IpPrefix& cidr) {
    unsigned bits = (cidr.address().is_v4() ? 32U : 128U) - cidr.length();
    // The network's own and IPv4's broadcast address are not given out; 2^16 IPv6 addresses do.
    uint64_t count = (uint64_t{1} << std::min(bits, 20U)) - (cidr.address().is_v4() ? 2 : 1);
    if (bits < 2) count = 0;
    uint64_t start = count ? random_() % count : 0;
    for (uint64_t i = 0; i < count; ++i) {
      IpAddress address = Plus(cidr, 1 + (start + i) % count);
      if (!addresses_.contains(address)) return address;
    }
    throw InternalError("failed to allocate a serviceIP: range is full");
  }

  void Ports(Json& spec, Holdings& taken, std::vector<FieldError>& errors) {
    std::string type = spec.value("type", "ClusterIP");
    bool balancer = type == "LoadBalancer";
    bool wanted =
        type == "NodePort" || (balancer && spec.value("allocateLoadBalancerNodePorts", true));
    if (type == "NodePort" || balancer) {
      std::set<int> mine;  // one number may serve several protocols of one Service
      Json none = Json::array();
      Json& ports = spec.contains("ports") ? spec["ports"] : none;
      for (size_t i = 0; i < ports.size(); ++i) {
        if (int number = ports[i].value("nodePort", 0)) {
          TakePort(number, "spec.ports[" + std::to_string(i) + "].nodePort", taken, errors);
          mine.insert(number);
        }
      }
      std::map<int, std::pair<int, std::set<std::string>>> by_port;
      for (auto& port : ports) {
        int number = port.value("nodePort", 0);
        auto& [shared, protocols] = by_port[port.value("port", 0)];
        std::string protocol = port.value("protocol", "TCP");
        if (number == 0 && wanted) {
          // The same port in another protocol gets the same node port.
          number = shared && !protocols.contains(protocol) ? shared : AnyPort();
          port["nodePort"] = number;
          ports_[number] = owner_;
          taken.ports.insert(number);
        }
        if (number) {
          shared = number;
          protocols.insert(protocol);
        }
      }
    }
    bool checks = balancer && spec.value("externalTrafficPolicy", "") == "Local";
    if (!checks) {
      spec.erase("healthCheckNodePort");
    } else if (int number = spec.value("healthCheckNodePort", 0)) {
      TakePort(number, "spec.healthCheckNodePort", taken, errors);
    } else {
      number = AnyPort();
      spec["healthCheckNodePort"] = number;
      ports_[number] = owner_;
      taken.ports.insert(number);
    }
  }

  void TakePort(int number, const std::string& field, Holdings& taken,
                std::vector<FieldError>& errors) {
    auto held = ports_.find(number);
    if (held != ports_.end()) {
      if (held->second != owner_) {
        errors.push_back(Invalid(field, number, "provided port is already allocated"));
      }
      return;
    }
    if (number < first_port_ || number > last_port_) {
      errors.push_back(Invalid(field, number,
                               "provided port is not in the valid range. The range of valid ports "
                               "is " +
                                   std::to_string(first_port_) + "-" + std::to_string(last_port_)));
      return;
    }
    ports_[number] = owner_;
    taken.ports.insert(number);
  }

  int AnyPort() {
    int count = last_port_ - first_port_ + 1;
    int start = static_cast<int>(random_() % static_cast<unsigned>(count));
    for (int i = 0; i < count; ++i) {
      int number = first_port_ + (start + i) % count;
      if (!ports_.contains(number)) return number;
    }
    throw InternalError("failed to allocate a nodePort: range is full");
  }

  std::mutex mutex_;
  std::vector<IpPrefix> cidrs_;  // the primary family first
  int first_port_;
  int last_port_;
  std::map<IpAddress, std::string> addresses_;
  std::unordered_map<int, std::string> ports_;
  std::string owner_;  // of the Service that is being allocated for
  std::mt19937 random_{std::random_device{}()};
};

}  // namespace

void InstallServiceAllocation(ResourceType& services, Store& store,
                              const ControllerOptions& options) {
  auto allocator = std::make_shared<Allocator>(options);
  for (const auto& object : store.List(services.StoreName()).objects) {
    allocator->Hold(object->Parse());
  }
  services.allocate = [allocator](Json& object, const Json* old, const RequestInfo& info) {
    allocator->Allocate(object, old, info);
  };
  services.abandon = [allocator](const Json& object, const Json* old) {
    allocator->Release(object, old);
  };
  services.after_write = [allocator](const Json* old, const Json* now) {
    if (now) allocator->Hold(*now);
    if (old) allocator->Release(*old, now);
  };
}

}  // namespace pointsman::e2e
