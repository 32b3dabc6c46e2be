#include "e2e/conformance/judge.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace pointsman::e2e {
namespace {

bool Contains(const std::vector<std::string>& list, const std::string& item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

// "10.0.0.1:80" → "10.0.0.1", "[fd00::1]:80" → "fd00::1"
std::string AddressOf(const std::string& endpoint) {
  const std::string address = endpoint.substr(0, endpoint.rfind(':'));
  return address.starts_with('[') ? address.substr(1, address.size() - 2) : address;
}

// REJECT --reject-with icmp-port-unreachable and tcp-reset are told apart by the prober; kube-proxy
// writes the first in iptables and nftables mode.
bool IsRefusal(const Attempt& attempt) {
  return attempt.error == "refused" || attempt.error == "icmp-port-unreachable";
}

std::string Describe(const Expectation& expect, const AllowedSources& sources) {
  switch (expect.kind) {
    case Expectation::Kind::kRefused:
      return fmt::format("refused within {} ms", expect.within.count());
    case Expectation::Kind::kDropped:
      return "dropped (no answer at all)";
    case Expectation::Kind::kUnanswered:
      return "not answered";
    case Expectation::Kind::kAnswered:
      break;
  }
  std::string text = fmt::format("answered by {} {}", expect.every_one ? "each of" : "any of",
                                 fmt::join(expect.answered_by, ", "));
  if (!sources.addresses.empty())
    text += fmt::format(", source {} ({})", sources.name, fmt::join(sources.addresses, " or "));
  if (expect.same_backend) text += ", always by the same one";
  return text;
}

bool Holds(const Expectation& expect, const AllowedSources& sources,
           const std::vector<Attempt>& attempts) {
  if (attempts.empty()) return false;
  std::vector<std::string> seen;
  for (const Attempt& attempt : attempts) {
    switch (expect.kind) {
      case Expectation::Kind::kRefused:
        if (!IsRefusal(attempt) || attempt.ms > static_cast<double>(expect.within.count()))
          return false;
        break;
      case Expectation::Kind::kDropped:
        // A node's own datagram that a rule in OUTPUT drops fails the call.
        if (attempt.error != "timeout" && attempt.error != "not-permitted") return false;
        break;
      case Expectation::Kind::kUnanswered:
        if (attempt.ok) return false;
        break;
      case Expectation::Kind::kAnswered:
        if (!attempt.ok || !Contains(expect.answered_by, attempt.backend)) return false;
        if (!sources.addresses.empty() &&
            !Contains(sources.addresses, AddressOf(attempt.seen_source)))
          return false;
        if (!Contains(seen, attempt.backend)) seen.push_back(attempt.backend);
        break;
    }
  }
  if (expect.kind != Expectation::Kind::kAnswered) return true;
  if (expect.same_backend) return seen.size() == 1;
  return !expect.every_one || seen.size() == expect.answered_by.size();
}

}  // namespace

std::vector<Attempt> ParseAttempts(const std::string& output) {
  std::vector<Attempt> attempts;
  std::istringstream lines(output);
  for (std::string line; std::getline(lines, line);) {
    const Json report = Json::parse(line, nullptr, false);
    if (!report.is_object() || !report.contains("ok")) continue;
    attempts.push_back({report.at("ok"), report.at("backend"), report.at("seen_source"),
                        report.at("error"), report.at("ms"), report.value("sent", 0),
                        report.value("local_port", 0)});
  }
  if (attempts.empty()) throw std::runtime_error("the probe reported nothing: " + output);
  return attempts;
}

std::string Judge(const Expectation& expect, const AllowedSources& sources,
                  const std::vector<Attempt>& attempts) {
  if (Holds(expect, sources, attempts)) return "";
  return fmt::format("expected: {}\n     seen: {}", Describe(expect, sources), Summarize(attempts));
}

int AttemptsToSeeEach(size_t backends) {
  if (backends <= 1) return 1;
  // One of n is missed in k tries with probability (1 - 1/n)^k, any of them at most n times that.
  const auto n = static_cast<double>(backends);
  return static_cast<int>(std::ceil(std::log(1e-6 / n) / std::log(1 - 1 / n)));
}

std::string Summarize(const std::vector<Attempt>& attempts) {
  std::map<std::string, int> counts;
  double slowest = 0;
  for (const Attempt& attempt : attempts) {
    slowest = std::max(slowest, attempt.ms);
    ++counts[attempt.ok
                 ? fmt::format("by {} (source {})", attempt.backend, AddressOf(attempt.seen_source))
                 : attempt.error];
  }
  std::string text;
  for (const auto& [what, count] : counts)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, what);
  return fmt::format("{}; the slowest took {:.0f} ms", text, slowest);
}

}  // namespace pointsman::e2e
