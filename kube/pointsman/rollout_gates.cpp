#include "kube/pointsman/rollout_gates.h"

#include <string>

#include "kube/pointsman/duration.h"
#include "kube/pointsman/limits.h"
#include "kube/pointsman/percent.h"
#include "kube/text/json_text.h"

namespace pointsman::kube {
namespace {

using nlohmann::json;

// Not "Off", which YAML reads as false.
constexpr const char* kUnlimited = "Unlimited";

bool IsUnlimited(const json* value) {
  return value != nullptr && value->is_string() &&
         value->get_ref<const std::string&>() == kUnlimited;
}

std::optional<int64_t> PercentOf(const json& value) {
  if (!value.is_string()) return std::nullopt;
  return ParsePercent(value.get_ref<const std::string&>());
}

std::string Quoted(const json& value) {
  return ObjectReader::Quote(value.is_string() ? value.get_ref<const std::string&>()
                                               : text::JsonText(value));
}

void ReadPercent(ObjectReader& reader, const char* name, std::optional<int64_t>& out) {
  const json* value = reader.Raw(name);
  if (value == nullptr) return;
  if (IsUnlimited(value)) return out.reset();
  if (const auto percent = PercentOf(*value)) {
    out = percent;
  } else {
    reader.Error(name, Quoted(*value) + " is neither a percentage from 0% to 100% nor Unlimited");
  }
}

void ReadCountOrPercent(ObjectReader& reader, const char* name, std::optional<IntOrPercent>& out) {
  const json* value = reader.Raw(name);
  if (value == nullptr) return;
  if (IsUnlimited(value)) return out.reset();
  if (const auto percent = PercentOf(*value)) {
    out = IntOrPercent{*percent, true};
  } else if (value->is_string()) {
    reader.Error(
        name, Quoted(*value) + " is neither a number, a percentage from 0% to 100%, nor Unlimited");
  } else {
    std::optional<int64_t> count;
    reader.Int(name, 0, limits::kMaxGateCount, count);
    if (count) out = IntOrPercent{*count, false};
  }
}

void ReadCount(ObjectReader& reader, const char* name, std::optional<int64_t>& out) {
  const json* value = reader.Raw(name);
  if (IsUnlimited(value)) return out.reset();
  if (value != nullptr && value->is_string()) {
    reader.Error(name, Quoted(*value) + " is neither a number nor Unlimited");
    return;
  }
  reader.Int(name, 0, limits::kMaxGateCount, out);
}

void ReadTime(ObjectReader& reader, const char* name, std::optional<Duration>& out) {
  if (IsUnlimited(reader.Raw(name))) return out.reset();
  reader.Time(name, Duration::zero(), limits::kMaxGateLatency, *out);
}

template <typename T, typename Write>
json Bound(const std::optional<T>& bound, Write write) {
  return bound ? json(write(*bound)) : json(kUnlimited);
}

}  // namespace

RolloutGates ReadGates(ObjectReader reader) {
  RolloutGates gates;
  ReadPercent(reader, "failedConnections", gates.failed_connections);
  ReadTime(reader, "syncLatency", gates.sync_latency);
  ReadCountOrPercent(reader, "refusedServices", gates.refused_services);
  ReadCount(reader, "cutConnections", gates.cut_connections);
  reader.RejectUnknown();
  return gates;
}

json ToJson(const RolloutGates& gates) {
  const auto number = [](int64_t count) { return count; };
  return {{"failedConnections",
           Bound(gates.failed_connections, [](int64_t of) { return std::to_string(of) + "%"; })},
          {"syncLatency", Bound(gates.sync_latency, FormatDuration)},
          {"refusedServices", Bound(gates.refused_services,
                                    [](const IntOrPercent& bound) {
                                      return bound.percent ? json(std::to_string(bound.value) + "%")
                                                           : json(bound.value);
                                    })},
          {"cutConnections", Bound(gates.cut_connections, number)}};
}

}  // namespace pointsman::kube
