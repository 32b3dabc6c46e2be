#include "node-agent/iptables/restore_checks.h"

#include <array>
#include <map>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <unordered_set>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <spdlog/fmt/fmt.h>

#include "kube/net/socket_address.h"
#include "kube/objects/endpoint_slice.h"
#include "kube/objects/service.h"
#include "kube/pointsman/proxy_settings.h"
#include "node-agent/dataplane/sync_problems.h"
#include "node-agent/iptables/iptables_dataplane.h"
#include "node-agent/model/model_builder.h"
#include "node-agent/model/service_hash.h"
#include "node-agent/xtables/base_rules.h"
#include "node-agent/xtables/chain_jump.h"
#include "node-agent/xtables/chain_names.h"
#include "node-agent/xtables/hint_chains.h"
#include "node-agent/xtables/save_reader.h"

namespace pointsman::agent::testing {
namespace {

void Expect(bool holds, const std::string& what) {
  if (!holds) throw std::logic_error(what);
}

kube::ProxySettings Settings() {
  kube::ProxySettings settings;
  settings.mode = kube::Mode::kIptables;
  settings.cluster_cidrs = {net::IpPrefix::Parse("10.244.0.0/16").value(),
                            net::IpPrefix::Parse("fd00:244::/32").value()};
  return settings;
}

NodeNetwork Node() {
  return {.node_name = "n1",
          .node_port_addresses = {net::IpAddress::Parse("192.0.2.1").value(),
                                  net::IpAddress::Parse("2001:db8::1").value()}};
}

// The objects of a list as far as they can be decoded.
class Objects {
 public:
  explicit Objects(std::string_view input) {
    const auto list = nlohmann::json::parse(input, nullptr, /*allow_exceptions=*/false);
    if (!list.is_object() || !list.contains("items") || !list["items"].is_array()) return;
    for (const auto& item : list["items"]) {
      try {
        Add(item);
      } catch (const std::invalid_argument&) {  // it is refused
      }
    }
  }
  void SetIn(ModelBuilder& model) const {
    for (const auto& [key, service] : services_)
      model.SetService(key, service);
    for (const auto& [key, slice] : slices_)
      model.SetEndpointSlice(key, slice);
  }
  void TakeServicesFrom(ModelBuilder& model) const {
    for (const auto& [key, service] : services_)
      model.SetService(key, nullptr);
  }

 private:
  void Add(const nlohmann::json& item) {
    if (item.is_object() && item.contains("endpoints")) {
      auto slice =
          std::make_shared<const kube::EndpointSlice>(kube::DecodeEndpointSlice(item.dump()));
      slices_[slice->Key()] = slice;
    } else {
      auto service = std::make_shared<const kube::Service>(kube::DecodeService(item.dump()));
      services_[service->Key()] = service;
    }
  }

  std::map<std::string, std::shared_ptr<const kube::Service>> services_;
  std::map<std::string, std::shared_ptr<const kube::EndpointSlice>> slices_;
};

// What iptables-save says of all tables.
struct Saved {
  std::unordered_set<std::string> dispatches;  // "10.96.0.10/32 tcp 80", node ports "tcp 30080"
  std::unordered_set<std::string> endpoints;   // chain and "10.244.1.7:8080"
  size_t of_services = 0;                      // rules with the name of a Service in a comment
};

// "" when the line has no such option.
std::string_view ValueOf(std::string_view line, std::string_view option) {
  const size_t at = line.find(option);
  if (at == std::string_view::npos) return {};
  line.remove_prefix(at + option.size());
  return line.substr(0, line.find(' '));
}

Saved Read(xtables::IptablesTool& tool) {
  static const std::set<std::string_view> kBuiltin{"PREROUTING", "INPUT", "FORWARD", "OUTPUT",
                                                   "POSTROUTING"};
  Saved saved;
  tool.SaveLines("", [&](std::string_view line) {
    if (line.starts_with('*') || line == "COMMIT") return;
    const bool chain = line.starts_with(':');
    Expect(chain || line.starts_with("-A "), fmt::format("a line of its own: '{}'", line));
    const std::string_view name = chain ? line.substr(1, line.find(' ') - 1) : ValueOf(line, "-A ");
    const bool ours = name.starts_with(xtables::kOurs) ||
                      (xtables::HintChains::IsHintChain(name) &&
                       (chain || xtables::HintChains::SaysOurs(xtables::ParseSavedLine(line))));
    Expect(ours || (kBuiltin.contains(name) &&
                    (chain || xtables::ChainJumpedTo(line).starts_with(xtables::kOurs))),
           fmt::format("neither ours nor a jump to ours: '{}'", line));
    if (chain) return;
    if (const std::string_view port = ValueOf(line, " --dport "); !port.empty()) {
      const std::string_view address = ValueOf(line, " -d ");
      saved.dispatches.insert(fmt::format("{}{}{} {}", address, address.empty() ? "" : " ",
                                          ValueOf(line, " -p "), port));
    }
    if (const std::string_view endpoint = ValueOf(line, " --to-destination "); !endpoint.empty())
      saved.endpoints.insert(fmt::format("{} {}", name, endpoint));
    if (line.find(" --comment \"pointsman ") != std::string_view::npos) ++saved.of_services;
  });
  return saved;
}

void ExpectIn(const ServicePortEntry& entry, const Saved& saved) {
  const std::string_view protocol = xtables::ProtocolName(entry.id.protocol);
  const auto dispatched = [&](const net::IpAddress& address) {
    const std::string wanted =
        fmt::format("{}/{} {} {}", address.ToString(), address.size() * 8, protocol, entry.port);
    Expect(saved.dispatches.contains(wanted),
           fmt::format("{}: no rule for {}", entry.id.ToString(), wanted));
  };
  dispatched(entry.cluster_ip);
  for (const auto* addresses : {&entry.external_ips, &entry.load_balancer_ips}) {
    for (const net::IpAddress& address : *addresses)
      dispatched(address);
  }
  Expect(entry.node_port == 0 ||
             saved.dispatches.contains(fmt::format("{} {}", protocol, entry.node_port)),
         fmt::format("{}: no rule for node port {}", entry.id.ToString(), entry.node_port));
  const std::string chain =
      xtables::ServiceChain(IptablesFamily::kChainPrefix, 'S', ServiceHash(entry.id));
  for (const Backend& backend : entry.internal.backends) {
    const std::string endpoint = net::IpPort{backend.ip, backend.port}.ToString();
    Expect(saved.endpoints.contains(fmt::format("{} {}", chain, endpoint)),
           fmt::format("{}: no rule that sends to {}", entry.id.ToString(), endpoint));
  }
}

}  // namespace

RestoreChecks::RestoreChecks() {
  for (xtables::IptablesTool* tool : {&v4_, &v6_})
    xtables::BaseRules(*tool, Settings().iptables.masquerade_bit).Ensure();
}

void RestoreChecks::Check(std::string_view input) {
  const auto synced = [](const SyncResult& result) {
    Expect(result.ok(), Describe(result.problems));
  };
  const Objects objects(input);
  ModelBuilder model("n1");
  model.SetNodeNetwork(Node());
  objects.SetIn(model);
  model.Update();
  IptablesDataplane dataplane(Settings(), {&v4_, &v6_});
  synced(dataplane.FullSync(model.model()));
  const VerifyResult verified = dataplane.Verify(model.model());
  Expect(verified.ok(), Describe(verified.differences));
  const std::array<Saved, 2> saved{Read(v4_), Read(v6_)};
  for (const auto& [id, entry] : model.model().entries)
    ExpectIn(*entry, saved[id.family == net::Family::kIPv4 ? 0 : 1]);

  objects.TakeServicesFrom(model);
  const ModelDelta delta = model.Update();
  synced(dataplane.Sync(model.model(), delta));
  for (xtables::IptablesTool* tool : {&v4_, &v6_})
    Expect(Read(*tool).of_services == 0, "something of a Service is left");
  synced(dataplane.Remove());
}

}  // namespace pointsman::agent::testing
