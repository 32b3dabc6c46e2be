// One netlink request being built, and many of them for one sendmsg.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include <libmnl/libmnl.h>

#include "kube/net/ip_address.h"

namespace pointsman::agent::netlink {

// A request in a buffer of its own. The sizes here are for requests, which are small: everything
// past `kCapacity` throws std::length_error.
class Message {
 public:
  static constexpr size_t kCapacity = 1024;

  // `header_size` bytes of family header follow the netlink header (rtmsg, genlmsghdr, …), zeroed.
  Message(uint16_t type, uint16_t flags, size_t header_size);
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;

  template <typename Header>
  Header* header() {
    return static_cast<Header*>(mnl_nlmsg_get_payload(raw()));
  }

  void Put(uint16_t attribute, const void* data, size_t size);
  void PutU8(uint16_t attribute, uint8_t value) { Put(attribute, &value, sizeof value); }
  void PutU16(uint16_t attribute, uint16_t value) { Put(attribute, &value, sizeof value); }
  void PutU32(uint16_t attribute, uint32_t value) { Put(attribute, &value, sizeof value); }
  // With the terminating 0.
  void PutString(uint16_t attribute, std::string_view value);
  void PutAddress(uint16_t attribute, const net::IpAddress& address) {
    Put(attribute, address.data(), address.size());
  }
  nlattr* BeginNested(uint16_t attribute);
  void EndNested(nlattr* start) { mnl_attr_nest_end(raw(), start); }

  nlmsghdr* raw() { return reinterpret_cast<nlmsghdr*>(buffer_); }
  const nlmsghdr* raw() const { return reinterpret_cast<const nlmsghdr*>(buffer_); }

 private:
  void Reserve(size_t payload) const;
  alignas(8) char buffer_[kCapacity];
};

// Requests in the order in which the kernel shall carry them out.
class Batch {
 public:
  // Returns the request's index, by which Socket::Execute names a failure.
  size_t Add(const Message& message);
  size_t size() const { return offsets_.size(); }
  bool empty() const { return offsets_.empty(); }
  void clear() {
    bytes_.clear();
    offsets_.clear();
  }

 private:
  friend class Socket;
  std::vector<char> bytes_;
  std::vector<size_t> offsets_;
};

// For range-for over attributes; ends at the first one that is malformed. Elements are
// `const nlattr*` into the message.
class Attributes {
 public:
  class Iterator {
   public:
    Iterator(const char* at, const char* end) : at_(at), end_(end) {}
    const nlattr* operator*() const { return reinterpret_cast<const nlattr*>(at_); }
    Iterator& operator++() {
      at_ += MNL_ALIGN(reinterpret_cast<const nlattr*>(at_)->nla_len);
      return *this;
    }
    // Only compared with end().
    bool operator!=(const Iterator&) const {
      return at_ < end_ &&
             mnl_attr_ok(reinterpret_cast<const nlattr*>(at_), static_cast<int>(end_ - at_));
    }

   private:
    const char* at_;
    const char* end_;
  };

  // After a family header of `header_size` bytes.
  Attributes(const nlmsghdr* header, size_t header_size)
      : begin_(static_cast<const char*>(mnl_nlmsg_get_payload_offset(header, header_size))),
        end_(static_cast<const char*>(mnl_nlmsg_get_payload_tail(header))) {}
  explicit Attributes(const nlattr* nested)
      : begin_(static_cast<const char*>(mnl_attr_get_payload(nested))),
        end_(begin_ + mnl_attr_get_payload_len(nested)) {}
  Iterator begin() const { return {begin_, end_}; }
  Iterator end() const { return {end_, end_}; }

 private:
  const char* begin_;
  const char* end_;
};

// An attribute's payload as an address; 4 or 16 bytes.
net::IpAddress AttributeAddress(const nlattr* attribute);

}  // namespace pointsman::agent::netlink
