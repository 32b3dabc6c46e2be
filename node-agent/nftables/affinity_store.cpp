#include "node-agent/nftables/affinity_store.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include "node-agent/dataplane/binding_collector.h"
#include "node-agent/nf_tables/kernel_table.h"
#include "node-agent/nftables/affinity.h"
#include "node-agent/nftables/layout.h"

namespace pointsman::agent::nft {
namespace {

using std::chrono::seconds;

// An abort of that many costs little, and so does the rest of them when one is refused.
constexpr size_t kMaxClientsAtOnce = 1024;
// Each costs the kernel an RCU grace period, and finding one client takes up to 11 of them.
constexpr int kMaxRefusals = 1000;

const SetDefinition& AffinityMap(net::Family family) {
  return SetsOf(family)[static_cast<size_t>(SetId::kAffinity)];
}

// The elements of `affinity`, as ReadElements gives them, but kMostBindings at most: the kernel
// walks from the map's beginning for each 32 KB of a dump (nft_set_hash.c, nft_rhash_walk): 0.6 s
// for 100,000 clients, 4 s for 200,000, 17 s for 400,000.
void ForEachElement(net::Family family, const std::function<void()>& restart,
                    const std::function<void(const KernelElement&)>& each) {
  Connection connection;  // for this alone: the dump may be broken off
  size_t seen = 0;
  ReadElements(
      connection, family, kTable, AffinityMap(family).name,
      [&] {
        seen = 0;
        restart();
      },
      [&](const KernelElement& element) {
        if (seen++ == kMostBindings) {
          spdlog::debug("nftables {}: only {} clients are looked at", net::ToString(family),
                        kMostBindings);
          return false;
        }
        each(element);
        return true;
      });
}

// What is to be an element of `affinity`.
struct BoundClient {
  Element element;
  seconds left{0};
  enum class There : uint8_t {
    kNo,
    kYes,    // bound already
    kStale,  // the element leads where the Service's traffic may not go any more
  } there = There::kNo;
};

using Clients = std::vector<const BoundClient*>;

// Writes many clients in one transaction, and finds those that the kernel refuses.
class ClientWriter {
 public:
  ClientWriter(net::Family family, Connection& connection)
      : family_(family), connection_(connection) {}

  // Each of `clients` by `request`; one that is refused with an error of `expected` is left out.
  // Stops at any other error, or when there are too many refusals, and returns it. Counts those
  // that were done in `done`.
  std::optional<Refusal> Write(const Clients& clients, std::initializer_list<int> expected,
                               const std::function<void(Transaction&, const BoundClient&)>& request,
                               uint64_t& done) {
    // What is still to be tried, the next at the end.
    std::vector<std::span<const BoundClient* const>> parts{clients};
    while (!parts.empty()) {
      const auto part = parts.back();
      parts.pop_back();
      if (part.empty()) continue;
      if (part.size() > kMaxClientsAtOnce) {
        parts.push_back(part.subspan(kMaxClientsAtOnce));
        parts.push_back(part.first(kMaxClientsAtOnce));
        continue;
      }
      Transaction transaction(family_, kTable);
      for (const BoundClient* client : part)
        request(transaction, *client);
      const std::vector<Refusal> refusals = connection_.Commit(transaction);
      if (refusals.empty()) {
        done += part.size();
        continue;
      }
      if (--refusals_left_ < 0) return refusals.front();
      if (part.size() > 1) {
        // The kernel does not say which it was.
        parts.push_back(part.subspan(part.size() / 2));
        parts.push_back(part.first(part.size() / 2));
      } else if (std::find(expected.begin(), expected.end(), refusals.front().error) ==
                 expected.end()) {
        return refusals.front();
      }
    }
    return std::nullopt;
  }

 private:
  const net::Family family_;
  Connection& connection_;
  int refusals_left_ = kMaxRefusals;
};

// By key. What each is to lead to, and whether the kernel has it.
std::unordered_map<std::string, BoundClient> ClientsOf(const AffinityEndpoints& endpoints,
                                                       net::Family family,
                                                       const std::vector<ClientBinding>& bindings) {
  std::unordered_map<std::string, BoundClient> clients;
  std::vector<Element> elements;
  for (const ClientBinding& binding : bindings) {
    elements.clear();
    endpoints.AppendElements(binding, elements);
    for (const Element& element : elements) {
      const seconds left =
          std::clamp(binding.left, seconds(1), seconds(AffinitySeconds(*element.entry)));
      clients.try_emplace(std::string(element.Raw(AffinityMap(family)).key),
                          BoundClient{element, left});
    }
  }
  if (clients.empty()) return clients;
  ForEachElement(
      family,
      [&] {
        for (auto& [key, client] : clients)
          client.there = BoundClient::There::kNo;
      },
      [&](const KernelElement& element) {
        const auto found = clients.find(std::string(element.key));
        // The kernel takes one whose time has ended for none.
        if (found == clients.end() || element.expires.count() <= 0) return;
        ClientBinding binding;
        found->second.there = endpoints.Read(element.key, element.data, binding)
                                  ? BoundClient::There::kYes
                                  : BoundClient::There::kStale;
      });
  return clients;
}

}  // namespace

std::vector<ClientBinding> ReadAffinity(net::Family family, const ServiceModel& model,
                                        size_t most) {
  const AffinityEndpoints endpoints(model, family);
  BindingCollector bindings(most);
  if (endpoints.empty()) return {};
  // A client can have an element for each kind of traffic to a Service port.
  ForEachElement(
      family, [&] { bindings.clear(); },
      [&](const KernelElement& element) {
        ClientBinding binding;
        if (element.expires.count() > 0 && endpoints.Read(element.key, element.data, binding))
          bindings.Add(std::move(binding), element.expires);
      });
  return bindings.Take();
}

SyncResult WriteAffinity(net::Family family, const ServiceModel& model,
                         const std::vector<ClientBinding>& bindings, Connection& connection) {
  SyncResult result;
  const AffinityEndpoints endpoints(model, family);
  const auto clients = ClientsOf(endpoints, family, bindings);
  Clients add;
  Clients stale;
  for (const auto& [key, client] : clients) {
    if (client.there != BoundClient::There::kYes) add.push_back(&client);
    if (client.there == BoundClient::There::kStale) stale.push_back(&client);
  }
  // Should the map become full, those who have just been here are in it.
  std::sort(add.begin(), add.end(),
            [](const BoundClient* a, const BoundClient* b) { return a->left > b->left; });
  const SetDefinition& map = AffinityMap(family);
  ClientWriter writer(family, connection);
  uint64_t deleted = 0;
  uint64_t bound = 0;
  // In the meantime packets may have put their clients there or taken them away.
  std::optional<Refusal> refusal = writer.Write(
      stale, {ENOENT},
      [&map](Transaction& transaction, const BoundClient& client) {
        transaction.DeleteElement(map, {client.element.Raw(map).key, {}});
      },
      deleted);
  if (!refusal) {
    refusal = writer.Write(
        add, {EEXIST, EBUSY},  // older kernels say EBUSY of a key that has another value
        [&map](Transaction& transaction, const BoundClient& client) {
          transaction.AddExpiring(map, client.element.Raw(map),
                                  seconds(AffinitySeconds(*client.element.entry)), client.left);
        },
        bound);
  }
  result.kernel_writes = deleted + bound;
  if (refusal) {
    result.problems.push_back({fmt::format("nftables {} map {}", net::ToString(family), map.name),
                               fmt::format("sessionAffinity of {} clients could not be kept: {}",
                                           add.size() - bound, refusal->message)});
  }
  return result;
}

}  // namespace pointsman::agent::nft
