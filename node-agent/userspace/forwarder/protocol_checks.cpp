#include "node-agent/userspace/forwarder/protocol_checks.h"

#include <stdexcept>

#include "node-agent/userspace/forwarder/protocol.h"

namespace pointsman::forwarder {
namespace {

void Must(bool holds, const char* what) {
  if (!holds) throw std::logic_error(what);
}

// Bodies of the frames in `frames`, which are of ours.
std::vector<std::string> BodiesOf(const std::string& frames) {
  FrameReader reader;
  reader.Append(frames);
  std::vector<std::string> bodies;
  FrameType type{};
  for (std::string_view body; reader.Next(type, body);)
    bodies.emplace_back(body);
  return bodies;
}

void CheckUpdate(std::string_view body, BackendTable& table) {
  const Update update = DecodeUpdate(body);
  std::string frames;
  AppendUpdate(frames, update);
  const std::vector<std::string> bodies = BodiesOf(frames);
  std::vector<Slot> set;
  std::vector<uint32_t> removed;
  for (const std::string& part : bodies) {
    const Update again = DecodeUpdate(part);
    Must(again.from == update.from && again.to == update.to && again.whole == update.whole,
         "an update's generations changed on their way");
    set.insert(set.end(), again.set.begin(), again.set.end());
    removed.insert(removed.end(), again.removed.begin(), again.removed.end());
  }
  Must(set == update.set && removed == update.removed, "an update changed on its way");
  const Clock::time_point now{};
  const net::IpAddress client = net::IpAddress::V4(0x0a000001);
  for (const Slot& slot : update.set) {
    table.Set(slot);
    const auto backend = table.Choose(slot.number, client, {}, now);
    Must(backend.has_value() && table.Has(slot.number, *backend), "a backend of no slot");
    table.Reached(slot.number, client, *backend, now);
  }
  for (const uint32_t number : update.removed) {
    table.Remove(number);
    Must(table.Find(number) == nullptr, "a slot that was removed is there");
  }
}

void CheckBindings(std::string_view body, BackendTable& table) {
  std::vector<ServiceBindings> services;
  DecodeBindingsPart(body, services);
  std::vector<ServiceBindings> again;
  size_t clients = 0;
  for (const ServiceBindings& service : services)
    clients += service.bindings.size();
  for (const std::string& part : EncodeBindings(services))
    DecodeBindingsPart(part, again);
  size_t clients_again = 0;
  for (const ServiceBindings& service : again)
    clients_again += service.bindings.size();
  Must(clients == clients_again, "bindings were lost on their way");
  Must(table.Bind(services, Clock::time_point{}) <= clients, "more without a place than there are");
  Must(table.affine_clients() <= BackendTable::kMaxAffineClients, "too many clients");
}

void CheckFrame(FrameType type, std::string_view body, BackendTable& table) {
  switch (type) {
    case FrameType::kUpdate:
      return CheckUpdate(body, table);
    case FrameType::kBind:
    case FrameType::kBindingsPart:
      return CheckBindings(body, table);
    case FrameType::kDumpPart: {
      std::vector<Slot> slots;
      DecodeDumpPart(body, slots);
      return;
    }
    case FrameType::kHelloReply: {
      const std::string text = Encode(DecodeHelloReply(body));
      return Must(Encode(DecodeHelloReply(text)) == text, "a greeting changed on its way");
    }
    case FrameType::kStatsReply: {
      const Stats stats = DecodeStats(body);
      return Must(DecodeStats(Encode(stats)) == stats, "counters changed on their way");
    }
    case FrameType::kSettings:
      return Must(DecodeU64(EncodeU64(DecodeU64(body))) == DecodeU64(body), "a number changed");
    case FrameType::kHello:
    case FrameType::kDrain:
    case FrameType::kBindReply:
      return Must(DecodeU32(EncodeU32(DecodeU32(body))) == DecodeU32(body), "a number changed");
    default:
      return;  // without a body that is read
  }
}

}  // namespace

void CheckForwarderBytes(std::string_view bytes) {
  FrameReader reader;
  BackendTable table;
  // In pieces, whose sizes the bytes themselves give.
  size_t piece = 1;
  try {
    while (!bytes.empty()) {
      const std::string_view now = bytes.substr(0, piece);
      piece = 1 + static_cast<unsigned char>(now.back()) % 97;
      bytes.remove_prefix(now.size());
      reader.Append(now);
      FrameType type{};
      for (std::string_view body; reader.Next(type, body);)
        CheckFrame(type, body, table);
    }
  } catch (const ProtocolError&) {  // what is no frame: the session ends
  }
}

}  // namespace pointsman::forwarder
