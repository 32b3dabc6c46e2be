// --list: the Services as this node's kernel has them, in one form for all modes.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "node-agent/dataplane/listed_service.h"

namespace pointsman::agent {

// As `ipvsadm -Ln`, with names where the kernel has them. `mode`: for the first line.
std::string ListingText(std::string_view mode, const std::vector<ListedService>& services);

// {"mode", "protocol", "family", "address", "port", "service", "endpoints": [{"address", "port",
// …}, …], …}; "address" is null at a node port, "service" where the kernel has no name; what else
// there is to say of it only where there is.
nlohmann::json ListedJson(std::string_view mode, const ListedService& service);

enum class ListFormat : uint8_t { kText, kJson };

// Needs no API server and no agent, and changes nothing. Returns the process's exit code; says on
// the log what could not be read. As JSON: {"services": […]}, a line for each Service.
int RunList(std::ostream& out, ListFormat format);

}  // namespace pointsman::agent
