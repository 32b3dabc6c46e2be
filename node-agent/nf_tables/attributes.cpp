#include "node-agent/nf_tables/attributes.h"

#include <arpa/inet.h>
#include <cstring>
#include <linux/netlink.h>
#include <stdexcept>

#include <endian.h>

namespace pointsman::agent::nft {

void AttributeWriter::Put(uint16_t type, const void* data, size_t size) {
  const nlattr header{static_cast<uint16_t>(NLA_HDRLEN + size), type};
  const size_t at = bytes_.size();
  bytes_.resize(at + NLA_ALIGN(NLA_HDRLEN + size));
  std::memcpy(bytes_.data() + at, &header, sizeof header);
  if (size != 0) std::memcpy(bytes_.data() + at + NLA_HDRLEN, data, size);
}

void AttributeWriter::PutU32(uint16_t type, uint32_t value) {
  const uint32_t big = htonl(value);
  Put(type, &big, sizeof big);
}

void AttributeWriter::PutU64(uint16_t type, uint64_t value) {
  const uint64_t big = htobe64(value);
  Put(type, &big, sizeof big);
}

void AttributeWriter::PutString(uint16_t type, std::string_view value) {
  const std::string terminated(value);
  Put(type, terminated.c_str(), terminated.size() + 1);
}

size_t AttributeWriter::Begin(uint16_t type) {
  const size_t at = bytes_.size();
  Put(type | NLA_F_NESTED, nullptr, 0);
  return at;
}

void AttributeWriter::End(size_t nest) {
  const size_t size = bytes_.size() - nest;
  if (size > UINT16_MAX) throw std::length_error("netlink attribute larger than 65535 bytes");
  const auto length = static_cast<uint16_t>(size);
  std::memcpy(bytes_.data() + nest, &length, sizeof length);
}

}  // namespace pointsman::agent::nft
