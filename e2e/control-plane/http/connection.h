#pragma once

#include <chrono>
#include <cstddef>
#include <string>

#include <openssl/types.h>

#include "base/unique_fd.h"
#include "e2e/control-plane/http/message.h"

namespace pointsman::e2e {

// What all connections of a server share; it outlives them.
struct ConnectionContext {
  HttpHandler handler;
  std::size_t max_body = 0;
  std::chrono::seconds idle_timeout{};
  SSL_CTX* tls = nullptr;
  UniqueFd stop;  // readable: the server stops
};

// Serves the requests of one connection until it ends. `socket` does not block. `peer` is for
// logs.
void ServeConnection(const ConnectionContext& context, UniqueFd socket, std::string peer);

// What OpenSSL says of its last failure, which is taken from the thread's queue.
std::string TlsError();

}  // namespace pointsman::e2e
