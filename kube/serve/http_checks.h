// What must hold for any bytes that come over a connection to our HTTP servers, for tests and
// fuzzing.
#pragma once

#include <string_view>

namespace pointsman::kube {

// Sends `bytes` over a pair of sockets, in two pieces and then no more. Throws std::logic_error
// when what comes back is neither nothing nor an answer of HTTP, when a request reaches a handler
// that is none, or when the connection outlives its peer.
void CheckHttpConnection(std::string_view bytes);

}  // namespace pointsman::kube
