#include "node-agent/netlink/message.h"

#include <stdexcept>
#include <string>

namespace pointsman::agent::netlink {

Message::Message(uint16_t type, uint16_t flags, size_t header_size) {
  mnl_nlmsg_put_header(buffer_);
  raw()->nlmsg_type = type;
  raw()->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
  if (header_size != 0) mnl_nlmsg_put_extra_header(raw(), header_size);
}

void Message::Reserve(size_t payload) const {
  if (MNL_ALIGN(raw()->nlmsg_len) + MNL_ATTR_HDRLEN + MNL_ALIGN(payload) > kCapacity)
    throw std::length_error("netlink request larger than " + std::to_string(kCapacity) + " bytes");
}

void Message::Put(uint16_t attribute, const void* data, size_t size) {
  Reserve(size);
  mnl_attr_put(raw(), attribute, size, data);
}

void Message::PutString(uint16_t attribute, std::string_view value) {
  const std::string terminated(value);
  Put(attribute, terminated.c_str(), terminated.size() + 1);
}

nlattr* Message::BeginNested(uint16_t attribute) {
  Reserve(0);
  return mnl_attr_nest_start(raw(), attribute);
}

size_t Batch::Add(const Message& message) {
  offsets_.push_back(bytes_.size());
  const auto* start = reinterpret_cast<const char*>(message.raw());
  bytes_.insert(bytes_.end(), start, start + message.raw()->nlmsg_len);
  bytes_.resize(MNL_ALIGN(bytes_.size()));
  return offsets_.size() - 1;
}

net::IpAddress AttributeAddress(const nlattr* attribute) {
  return net::IpAddress::FromBytes(mnl_attr_get_payload(attribute),
                                   mnl_attr_get_payload_len(attribute));
}

}  // namespace pointsman::agent::netlink
