#include "node-agent/ipvs/affinity.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <unordered_map>
#include <utility>

#include <spdlog/spdlog.h>

#include "node-agent/dataplane/binding_collector.h"
#include "node-agent/ipvs/template_sync.h"
#include "node-agent/netlink/ipvs_templates.h"
#include "node-agent/netlink/source.h"

namespace pointsman::agent::ipvs {
namespace {

// A table of a million connections takes older kernels minutes to print.
constexpr auto kReadTime = std::chrono::seconds(2);

// The port of the only backend of `choice` at `ip`; nullopt: there is none, or there are several.
std::optional<uint16_t> OnlyPort(const BackendChoice& choice, const net::IpAddress& ip) {
  std::optional<uint16_t> port;
  for (const Backend& backend : choice.backends) {
    if (backend.ip != ip) continue;
    if (port) return std::nullopt;
    port = backend.port;
  }
  return port;
}

// What a template says of the clients of `frontends`; nullopt: nothing that counts. `usual_source`:
// the node's own.
std::optional<ClientBinding> BindingOf(const netlink::IpvsTemplate& t,
                                       const FrontendTable& frontends,
                                       const std::optional<net::IpAddress>& usual_source) {
  const bool ftp = t.port == 0;
  const Frontend* frontend = frontends.Find({t.address, ftp ? kFtpPort : t.port, t.protocol});
  if (frontend == nullptr) return std::nullopt;
  const ServicePortEntry& entry = *frontend->entry;
  if (entry.affinity_timeout.count() == 0) return std::nullopt;

  ClientBinding binding;
  binding.entry = frontend->entry;
  binding.client = t.client;
  // The node itself: to a VIP that is bound here it comes from the VIP, in no other mode.
  if (t.client == t.address && t.client.is_v4() && frontend->vip) {
    if (!usual_source) return std::nullopt;
    binding.client = *usual_source;
  }
  binding.backend_ip = t.destination;
  binding.backend_port = t.destination_port;
  if (ftp) {
    const auto port = OnlyPort(ChoiceOf(entry, frontend->source), t.destination);
    if (!port) return std::nullopt;
    binding.backend_port = *port;
  }
  if (!MayGoTo(entry, binding.backend_ip, binding.backend_port)) return std::nullopt;
  return binding;
}

// What IPVS is to be told of a binding at one frontend that its entry claims; nullopt: it is
// another's, or its traffic may not go to that backend.
std::optional<netlink::IpvsTemplate> TemplateOf(const ClientBinding& binding,
                                                const FrontendClaim& claim,
                                                const FrontendTable& frontends) {
  const auto place = frontends.FindClaim(binding.entry->id, claim);
  if (!place) return std::nullopt;
  const auto& [key, frontend] = *place;
  const ServicePortEntry& entry = *frontend->entry;
  if (entry.affinity_timeout.count() == 0 ||
      !Has(ChoiceOf(entry, claim.source), binding.backend_ip, binding.backend_port))
    return std::nullopt;
  netlink::IpvsTemplate t;
  t.protocol = key.protocol;
  t.client = binding.client;
  t.address = key.ip;
  t.port = key.port;
  t.destination = binding.backend_ip;
  t.destination_port = binding.backend_port;
  // Not what is left: IPVS renews a template with the time that it was made with.
  t.left = entry.affinity_timeout;
  return t;
}

}  // namespace

std::vector<ClientBinding> ReadAffinity(const FrontendTable& frontends,
                                        const std::optional<net::IpAddress>& usual_source) {
  BindingCollector collector;
  const auto deadline = std::chrono::steady_clock::now() + kReadTime;
  const bool all = netlink::ReadIpvsTemplates(deadline, [&](const netlink::IpvsTemplate& t) {
    // Longer than the Service's: while a connection is open or not forgotten, IPVS prolongs it.
    if (auto binding = BindingOf(t, frontends, usual_source))
      collector.Add(std::move(*binding), t.left);
  });
  std::vector<ClientBinding> bindings = collector.Take();
  if (!all) {
    spdlog::warn("IPVS's connections are too many to be read in time: only {} clients stay bound",
                 bindings.size());
  }
  return bindings;
}

SyncResult RestoreAffinity(netlink::Ipvs& ipvs, const FrontendTable& frontends,
                           const HostAddresses& host, const std::vector<ClientBinding>& bindings) {
  SyncResult result;
  std::vector<netlink::IpvsTemplate> templates;
  // Of the node itself, by its VIPs.
  std::vector<std::pair<std::chrono::seconds, netlink::IpvsTemplate>> own;
  std::unordered_map<net::IpAddress, std::optional<net::IpAddress>> sources;
  size_t ftp = 0;
  for (const ClientBinding& binding : bindings) {
    const bool node = host.Contains(binding.client);
    ForEachFrontend(*binding.entry, [&](const FrontendClaim& claim) {
      auto t = TemplateOf(binding, claim, frontends);
      if (!t) return;
      if (t->port == kFtpPort) {
        ++ftp;
        return;
      }
      templates.push_back(*t);
      const bool to_vip =
          claim.source == FrontendSource::kClusterIp && frontends.Find(claim.key)->vip;
      if (!node || !to_vip) return;
      const auto [from, unknown] = sources.try_emplace(t->address);
      if (unknown) from->second = netlink::SourceTo(t->address);
      if (!from->second || *from->second == binding.client) return;
      t->client = *from->second;
      own.emplace_back(binding.left, *t);
    });
  }
  // The node's addresses may be bound to different backends: the one with most time left counts.
  std::stable_sort(own.begin(), own.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  for (const auto& [left, t] : own)
    templates.push_back(t);
  if (!templates.empty()) MakeTemplates(ipvs, templates, result);
  if (ftp != 0) {
    result.problems.push_back(
        {"ipvs persistence",
         std::to_string(ftp) + " templates are not made: IPVS takes none for port 21"});
  }
  return result;
}

}  // namespace pointsman::agent::ipvs
