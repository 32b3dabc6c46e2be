// One-shot probes: does this address answer, who answers, and if not, how is it refused?
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include <nlohmann/json.hpp>

#include "e2e/traffic/socket.h"

namespace pointsman::e2e {

struct ProbeResult {
  bool ok = false;
  std::string backend;
  std::string seen_source;  // the client's address as the backend saw it
  // "" or: refused (a TCP reset in answer to SYN), icmp-port-unreachable, icmp-host-unreachable,
  // icmp-net-unreachable, icmp-admin-prohibited, reset, timeout, closed, wrong, unreachable (no
  // route here), not-permitted
  std::string error;
  double ms = 0;
  int local_port = 0;
  int sent = 0;  // datagrams; more than one: the earlier ones were not answered

  nlohmann::json ToJson() const;
};

// One connection (or datagram) with greeting and echo. `from`: local IP or ""; `from_port`: local
// port, 0: any. `resend`: a datagram is sent again when there is no answer for so long, as by a DNS
// client; 0: never.
ProbeResult Probe(Protocol protocol, const Endpoint& target, const std::string& from,
                  std::chrono::milliseconds timeout, std::uint16_t from_port = 0,
                  std::chrono::milliseconds resend = std::chrono::milliseconds(0));

// One connection (UDP: one socket) that is kept and used every `interval` until SIGTERM. Calls
// `say` with {"n": exchanges, "backend": …, "seen_source": …} after each exchange, and with {"n":
// …, "error": …} when one failed; a connection ends with that, a UDP socket goes on.
void Hold(Protocol protocol, const Endpoint& target, const std::string& from,
          std::uint16_t from_port, std::chrono::milliseconds interval,
          std::chrono::milliseconds timeout, const std::function<void(const nlohmann::json&)>& say);

// As a kubelet's probe: a TCP connection that is accepted, and with `http_path` an answer of 200 to
// 399. "" or the error, as above; "http <status>" for another answer.
std::string PlainProbe(const Endpoint& target, const std::string& http_path,
                       std::chrono::milliseconds timeout);

}  // namespace pointsman::e2e
