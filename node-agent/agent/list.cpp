#include "node-agent/agent/list.h"

#include <algorithm>
#include <array>
#include <exception>
#include <optional>
#include <tuple>
#include <utility>

#include <spdlog/spdlog.h>

#include "kube/text/text.h"
#include "node-agent/agent/cleanup.h"
#include "node-agent/iptables/iptables_family.h"
#include "node-agent/ipvs/listing.h"
#include "node-agent/kube_proxy/served.h"
#include "node-agent/nftables/listing.h"
#include "node-agent/userspace/listing.h"
#include "node-agent/userspace/userspace_dataplane.h"
#include "node-agent/xtables/listing.h"

namespace pointsman::agent {
namespace {

constexpr std::array kFamilies{net::Family::kIPv4, net::Family::kIPv6};

std::string Place(const net::IpAddress& ip, uint16_t port) {
  return fmt::format("{}{}{}:{}", ip.is_v4() ? "" : "[", ip.ToString(), ip.is_v4() ? "" : "]",
                     port);
}

std::string FrontendPlace(const ListedService& service) {
  if (service.address) return Place(*service.address, service.port);
  return fmt::format("{}:{}", service.family == net::Family::kIPv4 ? "*" : "[*]", service.port);
}

void Append(const ListedService& service, std::string& text) {
  text += fmt::format("{:<5} {:<28} {}", service.protocol, FrontendPlace(service),
                      service.service.empty() ? "-" : text::Escape(service.service));
  if (!service.address) text += "  node port";
  if (!service.scheduler.empty()) text += "  " + text::Escape(service.scheduler);
  if (!service.note.empty()) text += "  " + service.note;
  if (!service.refused.empty()) text += "  " + service.refused;
  text += "\n";
  for (const ListedBackend& backend : service.backends) {
    text += fmt::format("  ->  {}", Place(backend.ip, backend.port));
    if (backend.weight) text += fmt::format("  weight {}", *backend.weight);
    if (backend.active) text += fmt::format("  active {}", *backend.active);
    if (backend.inactive) text += fmt::format("  inactive {}", *backend.inactive);
    text += "\n";
  }
}

// What was read of each mode, and what could not be.
class Lister {
 public:
  Lister(std::ostream& out, ListFormat format) : out_(out), json_(format == ListFormat::kJson) {
    if (json_) out_ << R"({"services": [)";
  }

  void List(std::string_view mode, const std::function<std::vector<ListedService>()>& read) {
    try {
      const std::vector<ListedService> services = read();
      if (services.empty()) return;
      if (json_) {
        PrintJson(mode, services);
      } else {
        out_ << (any_ ? "\n" : "") << ListingText(mode, services);
      }
      any_ = true;
    } catch (const std::exception& error) {
      Problem(fmt::format("{} mode could not be read: {}", mode, error.what()));
    }
  }
  void Problem(const std::string& problem) {
    spdlog::error("{}", problem);
    failed_ = true;
  }
  int Finish() {
    if (json_) {
      out_ << "\n]}\n";
    } else if (!any_ && !failed_) {
      out_ << "no Service of Pointsman's is in this node's kernel\n";
    }
    return failed_ ? 1 : 0;
  }

 private:
  void PrintJson(std::string_view mode, const std::vector<ListedService>& services) {
    bool first = !any_;
    for (const ListedService& service : services) {
      // Names come from the kernel, which takes any bytes.
      out_ << (std::exchange(first, false) ? "\n" : ",\n")
           << ListedJson(mode, service)
                  .dump(-1, ' ', /*ensure_ascii=*/true, nlohmann::json::error_handler_t::replace);
    }
  }

  std::ostream& out_;
  const bool json_;
  bool any_ = false;
  bool failed_ = false;
};

void AppendTo(std::vector<ListedService>& all, std::vector<ListedService> more) {
  std::move(more.begin(), more.end(), std::back_inserter(all));
}

std::vector<ListedService> OfKubeProxy(const kube_proxy::Served& served) {
  std::vector<ListedService> services;
  services.reserve(served.size());
  for (const auto& [frontend, endpoints] : served) {
    ListedService service;
    service.protocol = ToString(frontend.protocol);
    service.family = frontend.ip.family();
    service.address = frontend.ip;
    service.port = frontend.port;
    for (const net::IpPort& endpoint : endpoints) {
      ListedBackend& backend = service.backends.emplace_back();
      backend.ip = endpoint.ip;
      backend.port = endpoint.port;
    }
    services.push_back(std::move(service));
  }
  std::sort(services.begin(), services.end(), [](const ListedService& a, const ListedService& b) {
    return std::tie(a.address, a.port, a.protocol) < std::tie(b.address, b.port, b.protocol);
  });
  return services;
}

// A kernel without such tables, or a node without the tools, has nothing of ours in them.
std::optional<xtables::IptablesTool> ToolOf(net::Family family) {
  try {
    return std::optional<xtables::IptablesTool>(std::in_place, family);
  } catch (const xtables::IncompatibleTable&) {
    throw;
  } catch (const std::exception& error) {
    spdlog::debug("iptables of {} is not looked at: {}",
                  family == net::Family::kIPv4 ? "IPv4" : "IPv6", error.what());
    return std::nullopt;
  }
}

}  // namespace

std::string ListingText(std::string_view mode, const std::vector<ListedService>& services) {
  std::string text = fmt::format("{} mode\n", mode);
  for (const ListedService& service : services)
    Append(service, text);
  return text;
}

nlohmann::json ListedJson(std::string_view mode, const ListedService& service) {
  using nlohmann::json;
  json listed = {
      {"mode", mode},
      {"protocol", service.protocol},
      {"family", net::ToString(service.address ? service.address->family() : service.family)},
      {"address", service.address ? json(service.address->ToString()) : json(nullptr)},
      {"port", service.port},
      {"service", service.service.empty() ? json(nullptr) : json(service.service)},
      {"endpoints", json::array()}};
  for (const auto& [field, value] : {std::pair("scheduler", &service.scheduler),
                                     {"note", &service.note},
                                     {"refused", &service.refused}}) {
    if (!value->empty()) listed[field] = *value;
  }
  for (const ListedBackend& backend : service.backends) {
    json endpoint = {{"address", backend.ip.ToString()}, {"port", backend.port}};
    for (const auto& [field, value] : {std::pair("weight", &backend.weight),
                                       {"active", &backend.active},
                                       {"inactive", &backend.inactive}}) {
      if (*value) endpoint[field] = **value;
    }
    listed["endpoints"].push_back(std::move(endpoint));
  }
  return listed;
}

int RunList(std::ostream& out, ListFormat format) {
  if (!MayChangeTheNetwork()) {
    spdlog::error(
        "--list needs root, or the capability CAP_NET_ADMIN: the kernel shows its rules "
        "to nobody else");
    return 1;
  }
  Lister lister(out, format);
  std::array<std::optional<xtables::IptablesTool>, 2> tools;
  for (size_t i = 0; i < kFamilies.size(); ++i) {
    try {
      tools[i] = ToolOf(kFamilies[i]);
    } catch (const std::exception& error) {
      lister.Problem(error.what());
    }
  }
  const auto of_rules = [&](const auto& list) {
    std::vector<ListedService> all;
    for (auto& tool : tools) {
      if (tool) AppendTo(all, list(*tool));
    }
    return all;
  };
  lister.List("ipvs", ipvs::ListServices);
  lister.List("iptables", [&] {
    return of_rules([](xtables::IptablesTool& tool) {
      return xtables::ListServices(tool, IptablesFamily::kChainPrefix);
    });
  });
  lister.List("nftables", [] {
    std::vector<ListedService> all;
    for (const net::Family family : kFamilies)
      AppendTo(all, nft::ListServices(family));
    return all;
  });
  std::vector<std::string> problems;
  lister.List("userspace", [&] {
    return of_rules([&](xtables::IptablesTool& tool) {
      return ListUserspaceServices(tool, UserspaceDataplane::Options{}.run_directory, problems);
    });
  });
  for (const std::string& problem : problems)
    lister.Problem(problem);
  // Where kube-proxy serves, alone or beside ours.
  for (const kube::Mode mode : {kube::Mode::kIptables, kube::Mode::kIpvs, kube::Mode::kNftables}) {
    lister.List(fmt::format("kube-proxy's {}", kube::ToString(mode)),
                [mode] { return OfKubeProxy(kube_proxy::ReadServed(mode, "")); });
  }
  return lister.Finish();
}

}  // namespace pointsman::agent
