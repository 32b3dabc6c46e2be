// Netlink attributes being written one after the other, without an upper size: an nf_tables
// transaction holds a whole node's Services.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace pointsman::agent::nft {

class AttributeWriter {
 public:
  void Put(uint16_t type, const void* data, size_t size);
  void PutU8(uint16_t type, uint8_t value) { Put(type, &value, sizeof value); }
  // nf_tables takes its numbers in network byte order (include/uapi/linux/netfilter/nf_tables.h).
  void PutU32(uint16_t type, uint32_t value);
  void PutU64(uint16_t type, uint64_t value);
  // With the terminating 0.
  void PutString(uint16_t type, std::string_view value);
  // Returns what End needs. A nest holds at most 65,535 bytes; End throws std::length_error.
  size_t Begin(uint16_t type);
  void End(size_t nest);
  // Attributes that were written before.
  void Append(std::string_view attributes) { bytes_ += attributes; }

  size_t size() const { return bytes_.size(); }
  const std::string& bytes() const { return bytes_; }
  std::string Take() { return std::move(bytes_); }

 protected:
  std::string bytes_;
};

}  // namespace pointsman::agent::nft
