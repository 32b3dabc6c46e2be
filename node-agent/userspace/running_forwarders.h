// The forwarders that run on this node, whosever they are: who only looks.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <stop_token>
#include <string>
#include <vector>

#include "node-agent/userspace/forwarder/protocol.h"

namespace pointsman::agent {

// For who only looks. A forwarder answers in less than a millisecond (a dump of 100,000 backends in
// some), on a node without time to spare it takes longer.
inline constexpr std::chrono::seconds kLookTimeout{2};

// Of the calling thread's network namespace. Throws std::system_error.
uint64_t NetnsInode();

// Throws std::runtime_error if others than this user can write to it. `make`: if it is not there.
void CheckControlDirectory(const std::string& directory, bool make);

// The paths in it, sorted; none if the directory is not there or is one that others can write to.
// Throws std::system_error.
std::vector<std::string> ControlSockets(const std::string& directory);

// Control sockets in `directory`, also left-over ones and those of other network namespaces. A
// directory that cannot be read, or that others can write to, is said in the log.
std::vector<std::string> ForwarderSockets(const std::string& directory);

struct ForwarderStats {
  // By the path of the control socket, which is another one for each process.
  std::map<std::string, forwarder::Stats> counted;
  // Of those that did not answer as they should, or not in time (2 s each).
  std::vector<std::string> problems;
};
// What the forwarders of the calling thread's network namespace have counted. Asks them for it at
// that moment, one after the other; ends between two of them when `stop` is requested.
ForwarderStats ReadForwarders(const std::string& directory, const std::stop_token& stop = {});

// What the forwarders of the calling thread's network namespace have in their tables; of a number
// that several have, the first one's. `problems`: as in ForwarderStats.
std::map<uint32_t, forwarder::Slot> ReadForwarderSlots(const std::string& directory,
                                                       std::vector<std::string>& problems);

}  // namespace pointsman::agent
