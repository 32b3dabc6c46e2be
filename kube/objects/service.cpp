#include "kube/objects/service.h"

#include <stdexcept>

#include "kube/objects/json_reader.h"

namespace pointsman::kube {
namespace {

using Value = JsonReader::Value;

constexpr int64_t kMaxPort = 65535;
// API validation: affinity timeout from 1 s to one day (pkg/apis/core/validation).
constexpr int64_t kMaxAffinitySeconds = 86400;
// More than any value of an annotation that is read here has.
constexpr size_t kMostOfAnnotation = 256;

class ServiceDecoder {
 public:
  explicit ServiceDecoder(Service& service) : service_(service), reader_(&service.problems) {}

  void Decode(std::string_view json) {
    ReadDocument(json, "Service", reader_, [this](std::string_view key, Value value) {
      if (key == "metadata") {
        Metadata(value);
      } else if (key == "spec") {
        Spec(value);
      } else if (key == "status") {
        Status(value);
      }
    });
    Finish();
  }

 private:
  void Metadata(Value value) {
    reader_.Object(value, [this](std::string_view key, Value field) {
      if (key == "name") {
        reader_.Assign(field, service_.name);
      } else if (key == "namespace") {
        reader_.Assign(field, service_.ns);
      } else if (key == "uid") {
        reader_.Assign(field, service_.uid);
      } else if (key == "resourceVersion") {
        reader_.Assign(field, service_.resource_version);
      } else if (key == "creationTimestamp") {
        Created(field);
      } else if (key == "labels") {
        reader_.Object(field, [this](std::string_view label, Value) {
          if (label == "service.kubernetes.io/service-proxy-name") {
            service_.has_service_proxy_name = true;
          } else if (label == "service.kubernetes.io/headless") {
            service_.headless_label = true;
          }
        });
      } else if (key == "annotations") {
        reader_.Object(field, [this](std::string_view name, Value text) {
          if (name == "pointsman.io/ipvs-scheduler") {
            Annotation(text, service_.ipvs_scheduler);
          } else if (name == "pointsman.io/ipvs-scheduler-flags") {
            Annotation(text, service_.ipvs_scheduler_flags);
          }
        });
      }
    });
  }

  void Created(Value value) {
    const auto text = reader_.String(value);
    if (!text) return;
    if (const auto time = ParseTime(*text)) {
      service_.created = *time;
    } else {
      reader_.Problem("is not a time: " + text::Quote(*text));
    }
  }

  // An annotation may be 256 KiB of anything. None of those read here means something that long.
  void Annotation(Value value, InternedString& target) {
    const auto text = reader_.String(value);
    if (!text) return;
    if (text->size() > kMostOfAnnotation) {
      reader_.Problem("has " + std::to_string(text->size()) +
                      " bytes and is left out: " + text::Quote(*text));
      return;
    }
    target = *text;
  }

  void Spec(Value value) {
    reader_.Object(value, [this](std::string_view key, Value field) {
      if (key == "clusterIP") {
        ClusterIp(field, single_cluster_ip_);
      } else if (key == "clusterIPs") {
        reader_.Array(field, [this](Value ip) { ClusterIp(ip, service_.cluster_ips); });
      } else if (key == "ports") {
        reader_.Array(field, [this](Value port) { Port(port); });
      } else if (key == "type") {
        Type(field);
      } else if (key == "externalIPs") {
        reader_.Array(field, [this](Value ip) {
          if (const auto address = reader_.Address(ip)) service_.external_ips.push_back(*address);
        });
      } else if (key == "loadBalancerSourceRanges") {
        reader_.Array(field, [this](Value range) {
          // Counts even when it is not understood: a list of ranges must never become "everyone".
          service_.source_ranges_given = true;
          if (const auto prefix = reader_.Prefix(range)) {
            service_.load_balancer_source_ranges.push_back(*prefix);
          }
        });
      } else if (key == "sessionAffinity") {
        if (const auto text = reader_.String(field)) {
          service_.client_ip_affinity = *text == "ClientIP";
          if (*text != "ClientIP" && *text != "None") reader_.Problem("is not None or ClientIP");
        }
      } else if (key == "sessionAffinityConfig") {
        reader_.Object(field, [this](std::string_view kind, Value config) {
          if (kind == "clientIP") AffinityTimeout(config);
        });
      } else if (key == "externalTrafficPolicy") {
        Policy(field, service_.external_traffic_policy);
      } else if (key == "internalTrafficPolicy") {
        Policy(field, service_.internal_traffic_policy);
      } else if (key == "healthCheckNodePort") {
        if (const auto port = reader_.Int(field, 0, kMaxPort)) {
          service_.health_check_node_port = static_cast<uint16_t>(*port);
        }
      }
    });
  }

  void AffinityTimeout(Value value) {
    reader_.Object(value, [this](std::string_view key, Value field) {
      if (key != "timeoutSeconds") return;
      if (const auto seconds = reader_.Int(field, 1, kMaxAffinitySeconds)) {
        service_.affinity_timeout = std::chrono::seconds(*seconds);
      }
    });
  }

  void ClusterIp(Value value, std::vector<net::IpAddress>& target) {
    const auto text = reader_.String(value);
    if (!text || text->empty()) return;
    if (*text == "None") {
      service_.headless = true;
      return;
    }
    const auto address = reader_.ParseAddress(*text);
    if (!address) return;
    for (const net::IpAddress& other : target) {
      if (other.family() == address->family()) {
        reader_.Problem("a second address of family " +
                        std::string(net::ToString(address->family())));
        return;
      }
    }
    target.push_back(*address);
  }

  void Port(Value value) {
    ServicePort port;
    bool usable = true;
    reader_.Object(value, [&](std::string_view key, Value field) {
      if (key == "name") {
        reader_.Assign(field, port.name);
      } else if (key == "port") {
        if (const auto number = reader_.Int(field, 1, kMaxPort)) {
          port.port = static_cast<uint16_t>(*number);
        }
      } else if (key == "nodePort") {
        if (const auto number = reader_.Int(field, 0, kMaxPort)) {
          port.node_port = static_cast<uint16_t>(*number);
        }
      } else if (key == "protocol") {
        const auto text = reader_.String(field);
        if (!text) return;
        if (const auto protocol = ParseProtocol(*text)) {
          port.protocol = *protocol;
        } else {
          usable = false;
          reader_.Problem("is not TCP, UDP or SCTP");
        }
      }
    });
    if (usable && port.port != 0) service_.ports.push_back(std::move(port));
  }

  void Type(Value value) {
    const auto text = reader_.String(value);
    if (!text) return;
    for (const ServiceType type : {ServiceType::kClusterIp, ServiceType::kNodePort,
                                   ServiceType::kLoadBalancer, ServiceType::kExternalName}) {
      if (*text == ToString(type)) {
        service_.type = type;
        return;
      }
    }
    reader_.Problem("is not a known Service type");
  }

  void Policy(Value value, TrafficPolicy& target) {
    const auto text = reader_.String(value);
    if (!text || text->empty()) return;
    if (*text == "Local") {
      target = TrafficPolicy::kLocal;
    } else if (*text == "Cluster") {
      target = TrafficPolicy::kCluster;
    } else {
      reader_.Problem("is not Cluster or Local");
    }
  }

  void Status(Value value) {
    reader_.Object(value, [this](std::string_view key, Value field) {
      if (key != "loadBalancer") return;
      reader_.Object(field, [this](std::string_view name, Value list) {
        if (name != "ingress") return;
        reader_.Array(list, [this](Value element) { Ingress(element); });
      });
    });
  }

  void Ingress(Value value) {
    std::optional<net::IpAddress> ip;
    bool proxy_mode = false;
    reader_.Object(value, [&](std::string_view key, Value field) {
      if (key == "ip") {
        ip = reader_.Address(field);
      } else if (key == "ipMode") {
        if (const auto text = reader_.String(field)) {
          // Not captured unless it is VIP, as kube-proxy decides it (pkg/proxy/util IsVIPMode).
          proxy_mode = *text != "VIP";
          if (*text != "VIP" && *text != "Proxy") reader_.Problem("is not VIP or Proxy");
        }
      }
    });
    if (ip) service_.load_balancer_ingress.push_back({*ip, proxy_mode});
  }

  void Finish() {
    if (service_.name.empty()) throw std::invalid_argument("metadata.name: required");
    if (service_.ns.empty()) throw std::invalid_argument("metadata.namespace: required");
    // clusterIPs is authoritative; servers before 1.20 have only clusterIP.
    if (service_.cluster_ips.empty()) service_.cluster_ips = std::move(single_cluster_ip_);
    if (service_.headless) service_.cluster_ips.clear();
    service_.cluster_ips.shrink_to_fit();
    service_.ports.shrink_to_fit();
    service_.external_ips.shrink_to_fit();
    service_.load_balancer_ingress.shrink_to_fit();
    service_.load_balancer_source_ranges.shrink_to_fit();
    service_.problems.shrink_to_fit();
  }

  Service& service_;
  JsonReader reader_;
  std::vector<net::IpAddress> single_cluster_ip_;
};

}  // namespace

std::string_view ToString(Protocol protocol) {
  switch (protocol) {
    case Protocol::kTcp:
      return "TCP";
    case Protocol::kUdp:
      return "UDP";
    case Protocol::kSctp:
      return "SCTP";
  }
  throw std::invalid_argument("Protocol: not a protocol");
}

std::optional<Protocol> ParseProtocol(std::string_view text) {
  for (const Protocol protocol : {Protocol::kTcp, Protocol::kUdp, Protocol::kSctp}) {
    if (text == ToString(protocol)) return protocol;
  }
  return std::nullopt;
}

std::string_view ToString(ServiceType type) {
  switch (type) {
    case ServiceType::kClusterIp:
      return "ClusterIP";
    case ServiceType::kNodePort:
      return "NodePort";
    case ServiceType::kLoadBalancer:
      return "LoadBalancer";
    case ServiceType::kExternalName:
      return "ExternalName";
  }
  throw std::invalid_argument("ServiceType: not a type");
}

Service DecodeService(std::string_view json) {
  Service service;
  ServiceDecoder(service).Decode(json);
  return service;
}

}  // namespace pointsman::kube
