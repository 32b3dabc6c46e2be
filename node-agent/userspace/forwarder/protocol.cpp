#include "node-agent/userspace/forwarder/protocol.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace pointsman::forwarder {
namespace {

template <typename T>
void Put(std::string& out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i)
    out.push_back(static_cast<char>(static_cast<uint64_t>(value) >> (8 * i) & 0xff));
}

void PutText(std::string& out, std::string_view text) {
  Put(out, static_cast<uint16_t>(text.size()));
  out.append(text);
}

void PutAddress(std::string& out, const net::IpAddress& ip) {
  Put(out, static_cast<uint8_t>(ip.size()));
  out.append(reinterpret_cast<const char*>(ip.data()), ip.size());
}

void PutPlace(std::string& out, const IpPort& place) {
  PutAddress(out, place.ip);
  Put(out, place.port);
}

void PutSlot(std::string& out, const Slot& slot) {
  Put(out, slot.number);
  PutText(out, slot.service);
  Put(out, slot.kind);
  Put(out, static_cast<uint8_t>(slot.udp));
  Put(out, slot.affinity_seconds);
  Put(out, static_cast<uint32_t>(slot.backends.size()));
  for (const IpPort& backend : slot.backends)
    PutPlace(out, backend);
}

// Both of IPv4, and of IPv6.
constexpr size_t kMinBinding = 5 + 7 + 4;
constexpr size_t kMaxBinding = 17 + 19 + 4;

class Reader {
 public:
  explicit Reader(std::string_view body) : rest_(body) {}
  template <typename T>
  T Get() {
    const std::string_view bytes = Take(sizeof(T));
    uint64_t value = 0;
    for (size_t i = sizeof(T); i-- > 0;)
      value = value << 8 | static_cast<uint8_t>(bytes[i]);
    return static_cast<T>(value);
  }
  bool Flag() {
    const auto value = Get<uint8_t>();
    if (value > 1) throw ProtocolError("a flag is neither 0 nor 1");
    return value == 1;
  }
  std::string Text(size_t most) {
    const size_t size = Get<uint16_t>();
    if (size > most) throw ProtocolError("a text is too long");
    return std::string(Take(size));
  }
  net::IpAddress Address() {
    const size_t size = Get<uint8_t>();
    if (size != 4 && size != 16) throw ProtocolError("an address has neither 4 nor 16 bytes");
    return net::IpAddress::FromBytes(Take(size).data(), size);
  }
  IpPort Place() {
    const net::IpAddress ip = Address();
    return {ip, Get<uint16_t>()};
  }
  // A count of items of at least `item` bytes each.
  size_t Count(size_t item) {
    const size_t count = Get<uint32_t>();
    if (count > rest_.size() / item) throw ProtocolError("more items are announced than came");
    return count;
  }
  Slot ReadSlot() {
    Slot slot;
    slot.number = Get<uint32_t>();
    if (slot.number == 0 || slot.number > kMaxSlot) throw ProtocolError("no such slot number");
    slot.service = Text(kMaxServiceName);
    slot.kind = Get<uint8_t>();
    slot.udp = Flag();
    slot.affinity_seconds = Get<uint32_t>();
    const size_t count = Count(7);
    if (count == 0) throw ProtocolError("a slot has no backends");
    slot.backends.reserve(count);
    for (size_t i = 0; i < count; ++i)
      slot.backends.push_back(Place());
    if (!std::is_sorted(slot.backends.begin(), slot.backends.end())) {
      throw ProtocolError("a slot's backends are not sorted");
    }
    return slot;
  }
  ServiceBindings ReadBindings() {
    ServiceBindings of;
    of.service = Text(kMaxServiceName);
    const size_t count = Count(kMinBinding);
    if (count == 0) throw ProtocolError("a service has no clients");
    of.bindings.reserve(count);
    for (size_t i = 0; i < count; ++i) {
      const net::IpAddress client = Address();
      const IpPort backend = Place();
      const auto left = Get<uint32_t>();
      if (left == 0) throw ProtocolError("a client's affinity has no time left");
      of.bindings.push_back({client, backend, left});
    }
    return of;
  }
  bool AtEnd() const { return rest_.empty(); }
  void End() const {
    if (!rest_.empty()) throw ProtocolError("a frame is longer than its content");
  }

 private:
  std::string_view Take(size_t size) {
    if (size > rest_.size()) throw ProtocolError("a frame is shorter than its content");
    const std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }
  std::string_view rest_;
};

template <typename Statistics, typename Each>
void ForEachCounter(Statistics& stats, const Each& each) {
  for (auto* counter : {&stats.tcp_connections,
                        &stats.udp_flows,
                        &stats.accepted,
                        &stats.refused_at_limit,
                        &stats.without_backend,
                        &stats.connect_failures,
                        &stats.bytes_to_backends,
                        &stats.bytes_to_clients,
                        &stats.datagrams_to_backends,
                        &stats.datagrams_to_clients,
                        &stats.datagrams_dropped,
                        &stats.udp_retries,
                        &stats.pipes,
                        &stats.slots,
                        &stats.connection_limit,
                        &stats.retried,
                        &stats.udp_begun,
                        &stats.udp_bytes_to_backends,
                        &stats.udp_bytes_to_clients,
                        &stats.ended_for_room}) {
    each(*counter);
  }
}

// Room for what stands before and after the slots.
constexpr size_t kFullFrame = kMaxBody - 64;

void CheckSlot(const Slot& slot, size_t size) {
  if (size > kFullFrame || slot.backends.size() > kMaxBackendsOfSlot ||
      slot.service.size() > kMaxServiceName) {
    throw std::length_error(fmt::format("{} has {} backends; the forwarder takes {}", slot.service,
                                        slot.backends.size(), kMaxBackendsOfSlot));
  }
}

}  // namespace

void AppendFrame(std::string& out, FrameType type, std::string_view body) {
  Put(out, static_cast<uint32_t>(body.size()));
  Put(out, static_cast<uint16_t>(type));
  Put(out, uint16_t{0});
  out.append(body);
}

std::string Encode(const HelloReply& hello) {
  std::string body;
  Put(body, hello.protocol);
  PutText(body, hello.version);
  Put(body, hello.pid);
  Put(body, hello.netns);
  Put(body, hello.port_v4);
  Put(body, hello.port_v6);
  Put(body, hello.generation);
  Put(body, hello.last_slot);
  Put(body, static_cast<uint8_t>(hello.draining));
  return body;
}

std::string Encode(const Stats& stats) {
  std::string body;
  ForEachCounter(stats, [&](uint64_t counter) { Put(body, counter); });
  return body;
}

std::string EncodeU32(uint32_t value) {
  std::string body;
  Put(body, value);
  return body;
}

std::string EncodeU64(uint64_t value) {
  std::string body;
  Put(body, value);
  return body;
}

void AppendUpdate(std::string& out, const Update& update) {
  size_t set = 0;
  size_t removed = 0;
  std::string slots;
  for (;;) {
    slots.clear();
    uint32_t count = 0;
    for (; set < update.set.size(); ++set, ++count) {
      const size_t before = slots.size();
      PutSlot(slots, update.set[set]);
      CheckSlot(update.set[set], slots.size() - before);
      if (slots.size() > kFullFrame) {
        slots.resize(before);
        break;
      }
    }
    const size_t room = (kFullFrame - std::min(slots.size(), kFullFrame)) / 4;
    const size_t gone = std::min(room, update.removed.size() - removed);
    const bool last = set == update.set.size() && removed + gone == update.removed.size();
    std::string body;
    Put(body, update.from);
    Put(body, update.to);
    Put(body, static_cast<uint8_t>(update.whole));
    Put(body, static_cast<uint8_t>(last));
    Put(body, update.last_slot);
    Put(body, count);
    body += slots;
    Put(body, static_cast<uint32_t>(gone));
    for (size_t i = 0; i < gone; ++i)
      Put(body, update.removed[removed++]);
    AppendFrame(out, FrameType::kUpdate, body);
    if (last) return;
  }
}

void AppendDump(std::string& out, const std::vector<const Slot*>& slots) {
  size_t next = 0;
  do {
    std::string text;
    uint32_t count = 0;
    for (; next < slots.size(); ++next, ++count) {
      const size_t before = text.size();
      PutSlot(text, *slots[next]);
      CheckSlot(*slots[next], text.size() - before);
      if (text.size() > kFullFrame) {
        text.resize(before);
        break;
      }
    }
    std::string body;
    Put(body, static_cast<uint8_t>(next == slots.size()));
    Put(body, count);
    body += text;
    AppendFrame(out, FrameType::kDumpPart, body);
  } while (next < slots.size());
}

std::vector<std::string> EncodeBindings(const std::vector<ServiceBindings>& services) {
  std::vector<std::string> bodies;
  std::string parts;
  uint32_t count = 0;
  const auto finish = [&](bool last) {
    std::string& body = bodies.emplace_back();
    Put(body, static_cast<uint8_t>(last));
    Put(body, std::exchange(count, 0));
    body += std::exchange(parts, {});
  };
  for (const ServiceBindings& of : services) {
    if (of.service.size() > kMaxServiceName) throw std::length_error(of.service + " is too long");
    for (size_t next = 0; next < of.bindings.size();) {
      const size_t head = 2 + of.service.size() + 4;
      const size_t used = parts.size() + head;
      if (used + kMaxBinding > kFullFrame) {
        finish(/*last=*/false);
        continue;
      }
      const size_t fit = std::min((kFullFrame - used) / kMaxBinding, of.bindings.size() - next);
      PutText(parts, of.service);
      Put(parts, static_cast<uint32_t>(fit));
      for (const size_t end = next + fit; next < end; ++next) {
        PutAddress(parts, of.bindings[next].client);
        PutPlace(parts, of.bindings[next].backend);
        Put(parts, of.bindings[next].seconds_left);
      }
      ++count;
    }
  }
  finish(/*last=*/true);
  return bodies;
}

HelloReply DecodeHelloReply(std::string_view body) {
  Reader reader(body);
  HelloReply hello;
  hello.protocol = reader.Get<uint32_t>();
  hello.version = reader.Text(256);
  hello.pid = reader.Get<uint32_t>();
  hello.netns = reader.Get<uint64_t>();
  hello.port_v4 = reader.Get<uint16_t>();
  hello.port_v6 = reader.Get<uint16_t>();
  hello.generation = reader.Get<uint64_t>();
  hello.last_slot = reader.Get<uint32_t>();
  hello.draining = reader.Flag();
  // A later protocol may say more.
  if (hello.protocol == kProtocolVersion) reader.End();
  return hello;
}

Stats DecodeStats(std::string_view body) {
  Reader reader(body);
  Stats stats;
  ForEachCounter(stats, [&](uint64_t& counter) {
    if (!reader.AtEnd()) counter = reader.Get<uint64_t>();
  });
  return stats;
}

Update DecodeUpdate(std::string_view body) {
  Reader reader(body);
  Update update;
  update.from = reader.Get<uint64_t>();
  update.to = reader.Get<uint64_t>();
  update.whole = reader.Flag();
  update.last = reader.Flag();
  update.last_slot = reader.Get<uint32_t>();
  const size_t count = reader.Count(16);
  update.set.reserve(count);
  for (size_t i = 0; i < count; ++i)
    update.set.push_back(reader.ReadSlot());
  const size_t removed = reader.Count(4);
  update.removed.reserve(removed);
  for (size_t i = 0; i < removed; ++i)
    update.removed.push_back(reader.Get<uint32_t>());
  reader.End();
  return update;
}

bool DecodeDumpPart(std::string_view body, std::vector<Slot>& slots) {
  Reader reader(body);
  const bool last = reader.Flag();
  const size_t count = reader.Count(16);
  for (size_t i = 0; i < count; ++i)
    slots.push_back(reader.ReadSlot());
  reader.End();
  return last;
}

bool DecodeBindingsPart(std::string_view body, std::vector<ServiceBindings>& services) {
  Reader reader(body);
  const bool last = reader.Flag();
  const size_t count = reader.Count(2 + 4 + kMinBinding);
  services.reserve(services.size() + count);
  for (size_t i = 0; i < count; ++i)
    services.push_back(reader.ReadBindings());
  reader.End();
  return last;
}

uint32_t DecodeU32(std::string_view body) {
  Reader reader(body);
  const auto value = reader.Get<uint32_t>();
  reader.End();
  return value;
}

uint64_t DecodeU64(std::string_view body) {
  Reader reader(body);
  const auto value = reader.Get<uint64_t>();
  reader.End();
  return value;
}

bool FrameReader::Next(FrameType& type, std::string_view& body) {
  if (taken_ > 0) buffer_.erase(0, std::exchange(taken_, 0));
  if (buffer_.size() < kHeaderSize) return false;
  Reader header(std::string_view(buffer_).substr(0, kHeaderSize));
  const size_t size = header.Get<uint32_t>();
  type = static_cast<FrameType>(header.Get<uint16_t>());
  if (size > kMaxBody || header.Get<uint16_t>() != 0) {
    throw ProtocolError("what came is not a frame's header");
  }
  if (buffer_.size() < kHeaderSize + size) return false;
  body = std::string_view(buffer_).substr(kHeaderSize, size);
  taken_ = kHeaderSize + size;
  return true;
}

}  // namespace pointsman::forwarder
