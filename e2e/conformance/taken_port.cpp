#include "e2e/conformance/taken_port.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <sstream>

#include "e2e/traffic/socket.h"

namespace pointsman::e2e {
namespace {

std::string End(const std::string& address, const std::string& port) {
  return MakeEndpoint(address, static_cast<std::uint16_t>(std::stoi(port))).ToString();
}

std::vector<std::string> Words(const std::string& line) {
  std::istringstream stream(line);
  std::vector<std::string> words;
  for (std::string word; stream >> word;)
    words.push_back(word);
  return words;
}

}  // namespace

std::vector<TrackedConnection> ParseConntrack(std::string_view text) {
  std::vector<TrackedConnection> connections;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    // Each of src, dst, sport, dport is there twice: of the first packet, and of its answer.
    constexpr std::array<std::string_view, 4> kFields = {"src=", "dst=", "sport=", "dport="};
    std::array<std::vector<std::string>, kFields.size()> values;
    const std::vector<std::string> words = Words(line);
    if (words.empty() || words[0] != "tcp") continue;
    for (const std::string& word : words) {
      for (size_t field = 0; field < kFields.size(); ++field)
        if (word.starts_with(kFields[field]))
          values[field].push_back(word.substr(kFields[field].size()));
    }
    if (std::any_of(values.begin(), values.end(), [](const auto& two) { return two.size() != 2; }))
      continue;
    const auto& [sources, destinations, source_ports, destination_ports] = values;
    connections.push_back(
        {End(sources[0], source_ports[0]), End(destinations[0], destination_ports[0]),
         End(sources[1], source_ports[1]), End(destinations[1], destination_ports[1])});
  }
  return connections;
}

std::vector<IpvsConnection> ParseIpvsConnections(std::string_view text) {
  std::vector<IpvsConnection> connections;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    // "TCP 01:58  TIME_WAIT   10.244.1.5:1234    10.96.0.1:80       10.244.2.3:8080"
    const std::vector<std::string> words = Words(line);
    if (words.size() >= 6 && words[0] == "TCP")
      connections.push_back({words[3], words[4], words[5]});
  }
  return connections;
}

bool IsPortTaken(const std::vector<TrackedConnection>& tracked,
                 const std::vector<IpvsConnection>& ipvs, const std::string& target,
                 int local_port) {
  const std::string port = ":" + std::to_string(local_port);
  return std::any_of(tracked.begin(), tracked.end(), [&](const TrackedConnection& one) {
    if (!one.client.ends_with(port) || one.target != target) return false;
    return std::any_of(ipvs.begin(), ipvs.end(), [&](const IpvsConnection& other) {
      return other.backend == one.backend && other.virtual_server != target &&
             (other.client == one.client || other.client == one.seen_client);
    });
  });
}

}  // namespace pointsman::e2e
