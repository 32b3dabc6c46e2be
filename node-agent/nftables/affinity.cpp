#include "node-agent/nftables/affinity.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cstring>

namespace pointsman::agent::nft {
namespace {

// Every key begins with the Service's number.
constexpr size_t kOwnerSize = 8;
constexpr size_t kPortSize = 4;  // with what pads it

std::string_view View(const Element& element, const SetDefinition& definition) {
  return {reinterpret_cast<const char*>(element.key.data()), definition.key_size};
}

// As values of `affinity` and the end of keys in `affinity-endpoints` have it.
std::string Endpoint(const net::IpAddress& ip, uint16_t port) {
  const uint16_t big = htons(port);
  std::string text(reinterpret_cast<const char*>(ip.data()), ip.size());
  text.append(reinterpret_cast<const char*>(&big), sizeof big);
  text.append(kPortSize - sizeof big, '\0');
  return text;
}

}  // namespace

AffinityEndpoints::AffinityEndpoints(const ServiceModel& model, net::Family family)
    : family_(family) {
  const SetDefinition& set = SetsOf(family)[static_cast<size_t>(SetId::kAffinityEndpoints)];
  std::vector<Element> elements;
  for (const auto& [id, entry] : model.entries) {
    if (id.family != family || entry->affinity_timeout.count() <= 0) continue;
    elements.clear();
    nft::AppendElements(*entry, elements);
    std::vector<std::string>& owners = owners_[id];
    for (const Element& element : elements) {
      if (element.set != SetId::kAffinityEndpoints) continue;
      const std::string_view key = View(element, set);
      entries_.emplace(key, entry);
      std::string owner(key.substr(0, kOwnerSize));
      if (std::find(owners.begin(), owners.end(), owner) == owners.end())
        owners.push_back(std::move(owner));
    }
  }
}

bool AffinityEndpoints::Read(std::string_view key, std::string_view data,
                             ClientBinding& binding) const {
  const size_t address = family_ == net::Family::kIPv4 ? 4 : 16;
  if (key.size() != kOwnerSize + address || data.size() != address + kPortSize) return false;
  const auto found = entries_.find(std::string(key.substr(0, kOwnerSize)).append(data));
  if (found == entries_.end()) return false;
  uint16_t port = 0;
  std::memcpy(&port, data.data() + address, sizeof port);
  binding.entry = found->second;
  binding.client = net::IpAddress::FromBytes(key.data() + kOwnerSize, address);
  binding.backend_ip = net::IpAddress::FromBytes(data.data(), address);
  binding.backend_port = ntohs(port);
  return true;
}

void AffinityEndpoints::AppendElements(const ClientBinding& binding,
                                       std::vector<Element>& to) const {
  const auto owners = owners_.find(binding.entry->id);
  if (owners == owners_.end() || binding.client.family() != family_) return;
  const std::string endpoint = Endpoint(binding.backend_ip, binding.backend_port);
  for (const std::string& owner : owners->second) {
    const auto entry = entries_.find(owner + endpoint);
    if (entry == entries_.end()) continue;
    Element& element = to.emplace_back();
    element.set = SetId::kAffinity;
    element.entry = entry->second.get();
    std::memcpy(element.key.data(), owner.data(), owner.size());
    std::memcpy(element.key.data() + owner.size(), binding.client.data(), binding.client.size());
    std::memcpy(element.data.data(), endpoint.data(), endpoint.size());
  }
}

}  // namespace pointsman::agent::nft
