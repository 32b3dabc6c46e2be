#include "kube/objects/endpoint_slice.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "kube/objects/json_reader.h"

namespace pointsman::kube {
namespace {

using Value = JsonReader::Value;

class EndpointSliceDecoder {
 public:
  explicit EndpointSliceDecoder(EndpointSlice& slice) : slice_(slice), reader_(&slice.problems) {}

  void Decode(std::string_view json) {
    ReadDocument(json, "EndpointSlice", reader_, [this](std::string_view key, Value value) {
      if (key == "metadata") {
        Metadata(value);
      } else if (key == "addressType") {
        AddressType(value);
      } else if (key == "ports") {
        reader_.Array(value, [this](Value port) { Port(port); });
      } else if (key == "endpoints") {
        reader_.Array(value, [this](Value endpoint) { ReadEndpoint(endpoint); });
      }
    });
    Finish();
  }

 private:
  void Metadata(Value value) {
    reader_.Object(value, [this](std::string_view key, Value field) {
      if (key == "name") {
        reader_.Assign(field, slice_.name);
      } else if (key == "namespace") {
        reader_.Assign(field, slice_.ns);
      } else if (key == "resourceVersion") {
        reader_.Assign(field, slice_.resource_version);
      } else if (key == "annotations") {
        reader_.Object(field, [this](std::string_view annotation, Value text) {
          if (annotation != "endpoints.kubernetes.io/last-change-trigger-time") return;
          // It is for a metric only: one that cannot be read is no problem of the Service's.
          if (const auto time = reader_.String(text)) slice_.last_change_trigger = ParseTime(*time);
        });
      } else if (key == "labels") {
        reader_.Object(field, [this](std::string_view label, Value text) {
          if (label == "kubernetes.io/service-name") {
            reader_.Assign(text, slice_.service_name);
          } else if (label == "service.kubernetes.io/service-proxy-name") {
            slice_.has_service_proxy_name = true;
          } else if (label == "service.kubernetes.io/headless") {
            slice_.headless_label = true;
          }
        });
      }
    });
  }

  void AddressType(Value value) {
    const auto text = reader_.String(value);
    if (!text) return;
    if (*text == "IPv4") {
      slice_.family = net::Family::kIPv4;
    } else if (*text == "IPv6") {
      slice_.family = net::Family::kIPv6;
    } else if (*text == "FQDN") {
      slice_.fqdn = true;
    } else {
      reader_.Problem("is not IPv4, IPv6 or FQDN");
      unknown_type_ = true;
    }
  }

  void Port(Value value) {
    EndpointPort port;
    bool usable = true;
    reader_.Object(value, [&](std::string_view key, Value field) {
      if (key == "name") {
        reader_.Assign(field, port.name);
      } else if (key == "port") {
        // The API server looks at no number here: controllers of EndpointSlices are trusted.
        const bool is_null = field.type() == simdjson::ondemand::json_type::null;
        const auto number = reader_.Int(field, 1, 65535);
        usable = usable && (number || is_null);
        port.port = static_cast<uint16_t>(number.value_or(0));
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
    if (usable) slice_.ports.push_back(std::move(port));
  }

  void ReadEndpoint(Value value) {
    Endpoint endpoint;
    bool has_address = false;
    std::string_view node_name;
    std::string_view zone;
    std::string_view topology_node;
    std::string_view topology_zone;
    reader_.Object(value, [&](std::string_view key, Value field) {
      if (key == "addresses") {
        bool first = true;
        reader_.Array(field, [&](Value text) {
          if (first) has_address = Address(text, endpoint.address);
          first = false;
        });
      } else if (key == "conditions") {
        Conditions(field, endpoint);
      } else if (key == "nodeName") {
        node_name = reader_.String(field).value_or("");
      } else if (key == "zone") {
        zone = reader_.String(field).value_or("");
      } else if (key == "hints") {
        Hints(field, endpoint);
      } else if (key == "topology") {
        reader_.Object(field, [&](std::string_view label, Value text) {
          if (label == "kubernetes.io/hostname") {
            topology_node = reader_.String(text).value_or("");
          } else if (label == "topology.kubernetes.io/zone") {
            topology_zone = reader_.String(text).value_or("");
          }
        });
      }
    });
    if (!has_address) return;
    endpoint.node_name = StringIndex(node_name.empty() ? topology_node : node_name);
    endpoint.zone = StringIndex(zone.empty() ? topology_zone : zone);
    slice_.endpoints.push_back(endpoint);
  }

  bool Address(Value value, net::IpAddress& target) {
    // addressType may come after the endpoints, so FQDN slices are told apart at the end; until
    // then a host name is no problem.
    const auto text = reader_.String(value);
    if (!text) return false;
    if (const auto address = net::IpAddress::ParseSloppy(*text)) {
      target = *address;
      return true;
    }
    if (first_bad_address_.empty()) {
      first_bad_address_ = reader_.Path() + ": not an IP address: " + text::Quote(*text);
    }
    return false;
  }

  void Conditions(Value value, Endpoint& endpoint) {
    reader_.Object(value, [&](std::string_view key, Value field) {
      const bool known = key == "ready" || key == "serving" || key == "terminating";
      if (!known) return;
      const auto flag = reader_.Bool(field);
      if (!flag) return;
      if (key == "ready") {
        endpoint.ready = *flag;
      } else if (key == "serving") {
        endpoint.serving = *flag;
      } else {
        endpoint.terminating = *flag;
      }
    });
  }

  void Hints(Value value, Endpoint& endpoint) {
    reader_.Object(value, [&](std::string_view key, Value field) {
      if (key == "forZones") {
        endpoint.zone_hints = HintSet(field);
      } else if (key == "forNodes") {
        endpoint.node_hints = HintSet(field);
      }
    });
  }

  // The index of the set of names in a list of {name: …}; 0 for an empty list.
  uint16_t HintSet(Value value) {
    std::vector<InternedString>& names = scratch_names_;
    names.clear();
    reader_.Array(value, [&](Value element) {
      reader_.Object(element, [&](std::string_view key, Value name) {
        if (key != "name") return;
        if (const auto text = reader_.String(name); text && !text->empty()) {
          names.emplace_back(*text);
        }
      });
    });
    if (names.empty()) return 0;
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    // Backwards: neighbours tend to have the same hints.
    auto& sets = slice_.hint_sets;
    for (size_t i = sets.size(); i-- > 1;) {
      if (sets[i] == names) return static_cast<uint16_t>(i);
    }
    if (sets.size() > std::numeric_limits<uint16_t>::max()) {
      reader_.Problem("more than 65,535 different sets of hints in one slice");
      return 0;
    }
    sets.emplace_back(names.begin(), names.end());
    return static_cast<uint16_t>(sets.size() - 1);
  }

  uint16_t StringIndex(std::string_view text) {
    if (text.empty()) return 0;
    auto& strings = slice_.strings;
    for (size_t i = strings.size(); i-- > 1;) {
      if (strings[i] == text) return static_cast<uint16_t>(i);
    }
    if (strings.size() > std::numeric_limits<uint16_t>::max()) {
      reader_.Problem("more than 65,535 different nodes and zones in one slice");
      return 0;
    }
    strings.emplace_back(text);
    return static_cast<uint16_t>(strings.size() - 1);
  }

  void Finish() {
    if (slice_.name.empty()) throw std::invalid_argument("metadata.name: required");
    if (slice_.ns.empty()) throw std::invalid_argument("metadata.namespace: required");
    auto& endpoints = slice_.endpoints;
    if (slice_.fqdn || unknown_type_) {
      endpoints.clear();
    } else {
      if (!first_bad_address_.empty()) slice_.problems.push_back(std::move(first_bad_address_));
      // kube-proxy leaves out addresses of the other family (endpointslicecache.go).
      const size_t other = std::erase_if(endpoints, [this](const Endpoint& endpoint) {
        return endpoint.address.family() != slice_.family;
      });
      if (other > 0) {
        slice_.problems.push_back("endpoints: " + std::to_string(other) +
                                  " addresses are not of addressType " +
                                  std::string(net::ToString(slice_.family)));
      }
    }
    slice_.ports.shrink_to_fit();
    endpoints.shrink_to_fit();
    slice_.strings.shrink_to_fit();
    slice_.hint_sets.shrink_to_fit();
    slice_.problems.shrink_to_fit();
  }

  EndpointSlice& slice_;
  JsonReader reader_;
  bool unknown_type_ = false;
  std::string first_bad_address_;
  std::vector<InternedString> scratch_names_;
};

}  // namespace

EndpointSlice DecodeEndpointSlice(std::string_view json) {
  EndpointSlice slice;
  EndpointSliceDecoder(slice).Decode(json);
  return slice;
}

}  // namespace pointsman::kube
