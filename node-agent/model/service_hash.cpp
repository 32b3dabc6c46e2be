#include "node-agent/model/service_hash.h"

#include <openssl/sha.h>
#include <spdlog/fmt/fmt.h>

namespace pointsman::agent {

uint64_t NameHash(std::string_view text) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest);
  uint64_t hash = 0;
  for (int i = 0; i < 8; ++i)
    hash = hash << 8 | digest[i];
  return hash >> 4;
}

uint64_t ServiceHash(const ServicePortId& id) {
  return NameHash(fmt::format("{}/{}:{}/{}/{}", id.ns, id.name, id.port_name,
                              kube::ToString(id.protocol), net::ToString(id.family)));
}

}  // namespace pointsman::agent
