#include "kubectl-pointsman/listing.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "kube/text/text.h"
#include "kubectl-pointsman/exit_code.h"

namespace pointsman::plugin {
namespace {

// The longest line of an agent's has names of 63 + 253 characters and some fields of a few.
constexpr size_t kLongestLine = 4096;

// The next word of `text`, which is taken off with the spaces around it.
std::string_view NextWord(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  const std::string_view word = text.substr(0, text.find(' '));
  text.remove_prefix(word.size());
  return word;
}

}  // namespace

std::string PlaceOf(const std::optional<net::IpAddress>& address, net::Family family,
                    uint16_t port) {
  const bool v4 = address ? address->is_v4() : family == net::Family::kIPv4;
  return fmt::format("{}{}{}:{}", v4 ? "" : "[", address ? address->ToString() : "*", v4 ? "" : "]",
                     port);
}

bool IsWanted(std::string_view wanted, std::string_view name, std::string_view address) {
  if (wanted.empty() || name == wanted || address == wanted) return true;
  const std::string_view service = name.substr(0, name.find(':'));
  return service == wanted || service.substr(service.find('/') + 1) == wanted ||
         fmt::format("[{}]", address) == wanted;
}

void ServiceNames::Add(const kube::Service& service) {
  for (const kube::ServicePort& port : service.ports) {
    const std::string name = service.Key() + (port.name.str().empty() ? "" : ":" + port.name.str());
    const std::string protocol = std::string(kube::ToString(port.protocol)) + " ";
    // Who has it first keeps it: the API server gives each cluster IP and node port to one alone.
    const auto add = [&](const std::string& place) { by_place_.emplace(protocol + place, name); };
    for (const net::IpAddress& ip : service.cluster_ips)
      add(PlaceOf(ip, ip.family(), port.port));
    for (const net::IpAddress& ip : service.external_ips)
      add(PlaceOf(ip, ip.family(), port.port));
    for (const kube::LoadBalancerIngress& ingress : service.load_balancer_ingress)
      add(PlaceOf(ingress.ip, ingress.ip.family(), port.port));
    if (port.node_port == 0) continue;
    for (const net::Family family : {net::Family::kIPv4, net::Family::kIPv6})
      add(PlaceOf(std::nullopt, family, port.node_port));
  }
}

std::string ServiceNames::Of(std::string_view protocol, std::string_view place) const {
  const auto found = by_place_.find(fmt::format("{} {}", protocol, place));
  return found == by_place_.end() ? "" : found->second;
}

void Listing::Take(std::string_view piece) {
  for (size_t end = piece.find('\n'); end != std::string_view::npos; end = piece.find('\n')) {
    rest_ += piece.substr(0, end);
    piece.remove_prefix(end + 1);
    Line(std::exchange(rest_, {}));
  }
  rest_ += piece;
  if (rest_.size() > kLongestLine)
    throw Failure(ExitCode::kError,
                  "what the agent answers is no list of Services: " + text::Quote(rest_));
}

void Listing::End() {
  if (!rest_.empty()) Line(std::exchange(rest_, {}));
}

void Listing::Line(std::string_view line) {
  if (line.size() > kLongestLine)
    throw Failure(ExitCode::kError,
                  "what the agent answers is no list of Services: " + text::Quote(line));
  if (line.empty()) return;
  if (line.starts_with("  ->  ")) {
    if (in_) Pass(line);
  } else if (line.ends_with(" mode")) {
    mode_ = line;
    in_ = false;
  } else {
    Frontend(line);
  }
}

void Listing::Frontend(std::string_view line) {
  std::string_view rest = line;
  const std::string_view protocol = NextWord(rest);
  const std::string_view place = NextWord(rest);
  std::string name(NextWord(rest));
  // "no Service of Pointsman's is in this node's kernel"
  if (!kube::ParseProtocol(protocol) || name.empty()) {
    in_ = wanted_.empty();
    if (in_) Pass(line);
    return;
  }
  if (name == "-") {
    if (const std::string known = names_().Of(protocol, place); !known.empty()) name = known;
  }
  std::string_view address = place.substr(0, place.rfind(':'));
  if (address.starts_with('[') && address.ends_with(']'))
    address = address.substr(1, address.size() - 2);
  in_ = IsWanted(wanted_, name, address);
  if (!in_) return;
  if (!mode_.empty()) {
    if (any_) on_line_("");
    Pass(std::exchange(mode_, {}));
  }
  ++services_;
  if (name == "-") nameless_ = true;
  Pass(fmt::format("{:<5} {:<28} {}{}", protocol, place, name, rest));
}

void Listing::Pass(std::string_view line) {
  any_ = true;
  on_line_(text::Escape(line));
}

}  // namespace pointsman::plugin
