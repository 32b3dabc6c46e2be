#include "kubectl-pointsman/listing_document.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>
#include <vector>

#include "kube/net/ip_address.h"
#include "kube/objects/service.h"
#include "kube/text/text.h"
#include "kubectl-pointsman/exit_code.h"

namespace pointsman::plugin {
namespace {

using nlohmann::json;

constexpr std::string_view kArrow = "  ->  ";
constexpr std::string_view kMode = " mode";

[[noreturn]] void Refuse(std::string_view line) {
  throw Failure(ExitCode::kError,
                "what the agent answers is no list of Services: " + text::Quote(line));
}

// What two spaces and more are between.
std::vector<std::string_view> Parts(std::string_view line) {
  std::vector<std::string_view> parts;
  while (!line.empty()) {
    const size_t end = std::min(line.find("  "), line.size());
    if (end > 0) parts.push_back(line.substr(0, end));
    line.remove_prefix(end);
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  }
  return parts;
}

std::optional<int64_t> Number(std::string_view text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// "10.96.1.1:80", "[fd00::1]:80", "*:30080", "[*]:30080" into "address" and "port".
void SetPlace(std::string_view place, std::string_view line, json& object) {
  const size_t colon = place.rfind(':');
  if (colon == std::string_view::npos) Refuse(line);
  const auto port = Number(place.substr(colon + 1));
  std::string_view address = place.substr(0, colon);
  if (address.size() > 2 && address.front() == '[' && address.back() == ']')
    address = address.substr(1, address.size() - 2);
  if (!port || (address != "*" && !net::IpAddress::Parse(address))) Refuse(line);
  object["address"] = address == "*" ? json(nullptr) : json(address);
  object["port"] = *port;
}

}  // namespace

void ListingDocument::Add(std::string_view line) {
  if (line.empty()) return;
  if (line.starts_with(kArrow)) {
    AddEndpoint(line);
  } else if (line.ends_with(kMode)) {
    mode_ = line.substr(0, line.size() - kMode.size());
  } else if (kube::ParseProtocol(line.substr(0, line.find(' ')))) {
    AddService(line);
  }  // "no Service of Pointsman's is in this node's kernel"
}

// PROTOCOL PLACE NAME, then "node port", the scheduler of ipvs mode, for whom it is if not for all,
// and whether new connections are refused; each only where it is so.
void ListingDocument::AddService(std::string_view line) {
  json service = {{"mode", mode_}, {"endpoints", json::array()}};
  std::string_view rest = line;
  const auto word = [&] {
    rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    const std::string_view found = rest.substr(0, rest.find(' '));
    rest.remove_prefix(found.size());
    return found;
  };
  service["protocol"] = word();
  SetPlace(word(), line, service);
  const std::string_view name = word();
  service["service"] = name == "-" ? json(nullptr) : json(name);
  bool scheduled = mode_ != "ipvs";
  for (const std::string_view part : Parts(rest)) {
    if (part == "node port") {
      continue;  // has no address
    } else if (part == "rejected" || part == "dropped") {
      service["refused"] = part;
    } else if (!std::exchange(scheduled, true)) {
      service["scheduler"] = part;
    } else {
      service["note"] = part;
    }
  }
  services_.push_back(std::move(service));
}

void ListingDocument::AddEndpoint(std::string_view line) {
  if (services_.empty()) Refuse(line);
  const std::vector<std::string_view> parts = Parts(line.substr(kArrow.size()));
  if (parts.empty()) Refuse(line);
  json endpoint = json::object();
  SetPlace(parts.front(), line, endpoint);
  for (size_t i = 1; i < parts.size(); ++i) {  // "weight 1"
    const size_t space = parts[i].find(' ');
    const auto number =
        space == std::string_view::npos ? std::nullopt : Number(parts[i].substr(space + 1));
    if (!number) Refuse(line);
    endpoint[std::string(parts[i].substr(0, space))] = *number;
  }
  services_.back()["endpoints"].push_back(std::move(endpoint));
}

}  // namespace pointsman::plugin
