// What the kernel has of one address and port, in one form for all modes: for people who look
// (pointsman-node-agent --list). Each mode reads it from its own objects.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kube/net/ip_address.h"

namespace pointsman::agent {

struct ListedBackend {
  net::IpAddress ip;
  uint16_t port = 0;
  // What the mode counts; else nullopt.
  std::optional<int64_t> weight;
  std::optional<int64_t> active;
  std::optional<int64_t> inactive;
  bool operator==(const ListedBackend&) const = default;
};

struct ListedService {
  std::string service;   // "default/web:http"; "": the mode leaves no name in the kernel
  std::string protocol;  // "TCP", "UDP", "SCTP"
  net::Family family = net::Family::kIPv4;
  std::optional<net::IpAddress> address;  // nullopt: a node port
  uint16_t port = 0;
  std::string scheduler;  // ipvs mode's
  std::string note;       // for whom, if not for all
  // New connections go to none of `backends`: "rejected" or "dropped". "": they do.
  std::string refused;
  std::vector<ListedBackend> backends;
  bool operator==(const ListedService&) const = default;
};

}  // namespace pointsman::agent
