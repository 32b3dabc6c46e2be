#include "e2e/conformance/case_words.h"

#include <algorithm>

#include <fmt/format.h>

namespace pointsman::e2e {
namespace {

net::Family Other(net::Family family) {
  return family == net::Family::kIPv4 ? net::Family::kIPv6 : net::Family::kIPv4;
}

// Addresses of load balancers, external IPs and the like: from the ranges for documentation, so
// that no real network has them. "lb-1" → 203.0.113.11, 2001:db8:1::11.
std::string DocumentationAddress(const std::string& name, net::Family family) {
  static const std::map<std::string, std::pair<std::string, std::string>> kPrefixes{
      {"lb-", {"203.0.113.1", "2001:db8:1::1"}},
      {"external-", {"198.51.100.1", "2001:db8:2::1"}},
      {"elsewhere-", {"192.0.2.1", "2001:db8:3::1"}},
  };
  for (const auto& [prefix, addresses] : kPrefixes) {
    if (name.starts_with(prefix) && name.size() == prefix.size() + 1 && std::isdigit(name.back()))
      return (family == net::Family::kIPv4 ? addresses.first : addresses.second) + name.back();
  }
  return "";
}

}  // namespace

CaseWords::CaseWords(Arena& arena, const CaseObjects& objects, net::Family family, std::string ns)
    : arena_(arena), objects_(objects), family_(family), namespace_(std::move(ns)) {}

std::string CaseWords::OfFamily(const Json& list, const std::string& what) const {
  for (const Json& item : list) {
    std::string address = item.is_object() ? item.value("ip", "") : item.get<std::string>();
    const bool v6 = address.find(':') != std::string::npos;
    if (!address.empty() && v6 == (family_ == net::Family::kIPv6)) return address;
  }
  throw std::invalid_argument(
      fmt::format("{}: the Service has no such address of family {}", what, FamilyName(family_)));
}

std::string CaseWords::Lookup(const std::string& name) const {
  if (name.starts_with("url:")) {
    const std::string inner = Lookup(name.substr(4));
    return inner.find(':') == std::string::npos ? inner : "[" + inner + "]";
  }
  // "pod-1a.v6": of that family, whatever is being run.
  std::string plain = name;
  net::Family family = family_;
  for (const auto& [suffix, of] :
       {std::pair{".v4", net::Family::kIPv4}, std::pair{".v6", net::Family::kIPv6},
        std::pair{".other", Other(family_)}}) {
    if (plain.ends_with(suffix)) {
      plain = plain.substr(0, plain.size() - std::string_view(suffix).size());
      family = of;
    }
  }
  const bool v4 = family == net::Family::kIPv4;
  if (plain == "FAMILY") return std::string(FamilyName(family));
  if (plain == "namespace") return namespace_;
  if (plain == "host-prefix") return v4 ? "32" : "128";
  if (plain == "outside") return v4 ? Cluster::kOutsideAddress : Cluster::kOutsideAddress6;
  if (plain == "outside-2") return v4 ? "192.168.50.3" : "fd00:50::3";
  if (plain == "outside-prefix") return v4 ? "24" : "64";
  if (plain == "node-extra") return v4 ? "192.168.50.111" : "fd00:50::111";
  if (plain == "control-plane")
    return v4 ? Cluster::kControlPlaneAddress : Cluster::kControlPlaneAddress6;
  if (plain == "pods-cidr") return v4 ? "10.244.0.0/16" : "fd00:10:244::/48";
  if (plain == "nodes-cidr") return v4 ? "192.168.50.0/24" : "fd00:50::/64";
  if (plain == "nobody-cidr") return v4 ? "192.0.2.0/24" : "2001:db8:3::/64";
  if (plain == "localhost") return v4 ? "127.0.0.1" : "::1";
  if (plain == "dns") return Arena::DnsAddress(family);
  if (plain == "host-port") return std::to_string(Arena::kHostPort);
  if (plain == "ip") return v4 ? "-4" : "-6";
  if (plain == "uplink") return arena_.uplink();
  if (plain == "traffic") return arena_.world().cluster().Program("pointsman-traffic");
  if (plain.ends_with("-gateway")) {
    const size_t size = plain.size() - std::string_view("-gateway").size();
    return arena_.NodeAddresses(plain.substr(0, size), family).at(1);
  }
  if (plain.ends_with("-pods-cidr")) {
    const Place node =
        arena_.At(plain.substr(0, plain.size() - std::string_view("-pods-cidr").size()));
    return v4 ? node.node->pod_cidr() : node.node->pod_cidr6();
  }
  if (std::string address = DocumentationAddress(plain, family); !address.empty()) return address;
  const size_t colon = plain.find(':');
  const std::string what = plain.substr(0, colon);
  if (what == "cluster-ip" && colon != std::string::npos)
    return OfFamily(
        objects_.Service(plain.substr(colon + 1)).at("spec").value("clusterIPs", Json::array()),
        name);
  if (what == "node-port" && colon != std::string::npos)
    return objects_.Service(plain.substr(colon + 1))
        .at("spec")
        .at("ports")
        .at(0)
        .at("nodePort")
        .dump();
  if (what == "health-check-node-port" && colon != std::string::npos)
    return objects_.Service(plain.substr(colon + 1)).at("spec").at("healthCheckNodePort").dump();
  const auto& nodes = StandingNodes();
  if (!NodeOfPod(plain).empty() || std::find(nodes.begin(), nodes.end(), plain) != nodes.end())
    return arena_.Address(plain, family);
  throw std::invalid_argument("$(" + name + ") is not known");
}

std::string CaseWords::Expand(const std::string& text) const {
  std::string out;
  size_t at = 0;
  for (size_t open = text.find("$("); open != std::string::npos; open = text.find("$(", at)) {
    const size_t close = text.find(')', open);
    if (close == std::string::npos) throw std::invalid_argument("\"" + text + "\": $( without )");
    out += text.substr(at, open - at) + Lookup(text.substr(open + 2, close - open - 2));
    at = close + 1;
  }
  return out + text.substr(at);
}

std::vector<std::string> CaseWords::ExpandEach(const std::vector<std::string>& texts) const {
  std::vector<std::string> out;
  out.reserve(texts.size());
  for (const std::string& text : texts)
    out.push_back(Expand(text));
  return out;
}

Json CaseWords::ExpandAll(const Json& value) const {
  if (value.is_string()) {
    const std::string expanded = Expand(value);
    return expanded;
  }
  Json out = value;
  if (value.is_object() || value.is_array()) {
    for (auto& item : out)
      item = ExpandAll(item);
  }
  return out;
}

}  // namespace pointsman::e2e
