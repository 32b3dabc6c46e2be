#include "node-agent/nftables/listing.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <netinet/in.h>
#include <string_view>

#include "node-agent/nf_tables/connection.h"
#include "node-agent/nf_tables/kernel_table.h"
#include "node-agent/nftables/elements.h"
#include "node-agent/nftables/layout.h"

namespace pointsman::agent::nft {
namespace {

// The parts of a concatenation one after the other, each in whole registers (elements.cpp writes
// them).
class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : bytes_(bytes) {}
  std::string_view Take(size_t size) {
    const std::string_view part = bytes_.substr(0, size);
    if (part.size() < size) throw std::runtime_error("an element of our table is too short");
    bytes_.remove_prefix(std::min((size + 3) / 4 * 4, bytes_.size()));
    return part;
  }
  net::IpAddress Address(net::Family family) {
    const std::string_view bytes = Take(family == net::Family::kIPv4 ? 4 : 16);
    return net::IpAddress::FromBytes(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  }
  uint8_t Byte() { return static_cast<uint8_t>(Take(1)[0]); }
  uint16_t Port() {
    const std::string_view bytes = Take(2);
    return static_cast<uint16_t>(static_cast<uint8_t>(bytes[0]) << 8 |
                                 static_cast<uint8_t>(bytes[1]));
  }
  uint32_t Number() {
    uint32_t number = 0;
    std::memcpy(&number, Take(sizeof number).data(), sizeof number);
    return number;
  }

 private:
  std::string_view bytes_;
};

std::string ProtocolWord(uint8_t protocol) {
  return protocol == IPPROTO_TCP    ? "TCP"
         : protocol == IPPROTO_UDP  ? "UDP"
         : protocol == IPPROTO_SCTP ? "SCTP"
                                    : std::to_string(protocol);
}

class Reader {
 public:
  explicit Reader(net::Family family) : family_(family) {}

  std::vector<ListedService> Read() {
    ReadEndpoints();
    std::vector<ListedService> services;
    ReadWays(SetId::kServices, services);
    ReadWays(SetId::kNodePorts, services);
    return services;
  }

 private:
  using Owner = std::string;  // its bytes

  std::string_view NameOf(SetId set) const {
    return SetsOf(family_)[static_cast<size_t>(set)].name;
  }

  void ReadEndpoints() {
    ReadElements(
        connection_, family_, kTable, NameOf(SetId::kEndpoints), [&] { endpoints_.clear(); },
        [&](const KernelElement& element) {
          Cursor key(element.key);
          const Owner owner(key.Take(8));
          const uint32_t number = key.Number();
          Cursor data(element.data);
          ListedBackend backend;
          backend.ip = data.Address(family_);
          backend.port = data.Port();
          endpoints_[owner][number] = backend;
          return true;
        });
  }

  void ReadWays(SetId set, std::vector<ListedService>& services) {
    const bool by_port = set == SetId::kNodePorts;
    std::vector<ListedService> found;
    ReadElements(
        connection_, family_, kTable, NameOf(set), [&] { found.clear(); },
        [&](const KernelElement& element) {
          ListedService listed;
          listed.family = family_;
          listed.service = element.comment;
          Cursor key(element.key);
          if (!by_port) listed.address = key.Address(family_);
          listed.protocol = ProtocolWord(key.Byte());
          listed.port = key.Port();
          Cursor data(element.data);
          data.Number();  // see FindService
          const Owner owner(data.Take(8));
          const std::string_view bytes = data.Take(8);
          const TrafficClass traffic_class =
              ClassFromKey({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
          if ((traffic_class.policy & TrafficClass::kReject) != 0) listed.refused = "rejected";
          if ((traffic_class.policy & TrafficClass::kDrop) != 0) listed.refused = "dropped";
          const auto endpoints = endpoints_.find(owner);
          if (listed.refused.empty() && endpoints != endpoints_.end()) {
            // An element beyond that number is on its way in or out.
            for (const auto& [number, backend] : endpoints->second) {
              if (number < traffic_class.backends) listed.backends.push_back(backend);
            }
          }
          found.push_back(std::move(listed));
          return true;
        });
    std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
      return std::tie(a.address, a.port, a.protocol) < std::tie(b.address, b.port, b.protocol);
    });
    std::move(found.begin(), found.end(), std::back_inserter(services));
  }

  const net::Family family_;
  Connection connection_;
  std::map<Owner, std::map<uint32_t, ListedBackend>> endpoints_;
};

}  // namespace

std::vector<ListedService> ListServices(net::Family family) {
  {
    Connection connection;
    if (!HasTable(connection, family, kTable)) return {};
  }
  return Reader(family).Read();
}

}  // namespace pointsman::agent::nft
