// What must hold for any bytes that come over the control socket, for tests and
// fuzzers.
#pragma once

#include <string_view>

namespace pointsman::forwarder {

// Cuts `bytes` into frames, decodes them and does with the forwarder's table
// what they say. Throws std::logic_error when something else than ProtocolError
// comes out of it, or what was decoded is not what is decoded from its own
// encoding.
void CheckForwarderBytes(std::string_view bytes);

}  // namespace pointsman::forwarder
