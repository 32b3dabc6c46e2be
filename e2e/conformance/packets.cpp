#include "e2e/conformance/packets.h"

#include <algorithm>
#include <fstream>
#include <future>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <signal.h>
#include <spdlog/spdlog.h>

#include "e2e/conformance/wait.h"
#include "kube/text/ascii.h"

namespace pointsman::e2e {

Packets::Packets(Arena& arena, const CaseObjects& objects, const CaseWords& words,
                 net::Family family, UndoList& undo, std::filesystem::path log_prefix, Fail fail)
    : arena_(arena),
      objects_(objects),
      words_(words),
      family_(family),
      undo_(undo),
      log_prefix_(std::move(log_prefix)),
      fail_(std::move(fail)) {}

Packets::~Packets() {
  try {
    CloseStreams();
  } catch (const std::exception& error) {
    spdlog::error("closing streams: {}", error.what());
  }
}

void Packets::CloseStreams() {
  for (const auto& [name, stream] : streams_)
    stream.place.node->client().Signal(stream.pid, SIGKILL);
  streams_.clear();
}

void Packets::Probe(const ProbeStep& step) {
  std::vector<Attempted> ways;
  for (const std::string& from : step.from) {
    for (const Json& to : step.to) {
      for (const std::string& protocol : step.protocol) {
        Attempted way{from, Resolve(to, protocol, step.via), protocol, arena_.At(from)};
        if (from == "outside") Route(way.target);
        ways.push_back(std::move(way));
      }
    }
  }
  // Silence is waited for in vain each time: in all ways at once.
  if (IsSilence(step.expect) && step.eventually.count() == 0) {
    std::vector<std::future<ExecResult>> running;
    running.reserve(ways.size());
    for (const Attempted& way : ways) {
      running.push_back(std::async(std::launch::async, [&way, argv = Command(step, way)] {
        return way.place.node->Exec(argv, {.netns = way.place.netns});
      }));
    }
    for (size_t i = 0; i < ways.size(); ++i)
      Judged(step, ways[i], Judge(step.expect, SourcesOf(step, ways[i]), Report(running[i].get())));
    return;
  }
  for (const Attempted& way : ways) {
    Judged(step, way, Eventually(step.eventually, [&] {
             const ExecResult result =
                 way.place.node->Exec(Command(step, way), {.netns = way.place.netns});
             return Judge(step.expect, SourcesOf(step, way), TriedAgain(step, way, Report(result)));
           }));
  }
}

void Packets::Judged(const ProbeStep& step, const Attempted& way, const std::string& wrong) const {
  if (wrong.empty()) return;
  fail_(fmt::format(
      "from {} to {} ({}, {}){}\n{}", way.from, way.target.text,
      HostPort(way.target.address, way.target.port), way.protocol,
      step.eventually.count() > 0 ? fmt::format(", for {} ms", step.eventually.count()) : "",
      wrong));
}

bool Packets::IsSilence(const Expectation& expect) {
  return expect.kind == Expectation::Kind::kDropped ||
         expect.kind == Expectation::Kind::kUnanswered;
}

std::vector<std::string> Packets::Command(const ProbeStep& step, const Attempted& way) const {
  const Expectation& expect = step.expect;
  int count = step.count;
  if (count == 0) {
    count = 1;
    if (expect.kind == Expectation::Kind::kAnswered)
      count = expect.same_backend ? 20
                                  : std::max(AttemptsToSeeEach(expect.answered_by.size()),
                                             expect.every_one ? 1 : 20);
  }
  std::vector<std::string> argv{arena_.world().cluster().Program("pointsman-traffic"),
                                "connect",
                                HostPort(way.target.address, way.target.port),
                                "--count",
                                std::to_string(count),
                                "--timeout",
                                fmt::format("{}ms", step.timeout.count())};
  if (way.protocol != "tcp") argv.push_back("--" + way.protocol);
  // main.cpp limits how often that may help.
  if (way.protocol == "udp" && arena_.loses_packets()) argv.insert(argv.end(), {"--resend", "1s"});
  const std::string source = words_.Expand(step.source);
  if (!source.empty()) argv.insert(argv.end(), {"--from", source});
  int source_port = step.source_port;
  if (source_port == 0 && IsSilence(expect) && count == 1) source_port = arena_.PortForSilence();
  if (source_port != 0) argv.insert(argv.end(), {"--from-port", std::to_string(source_port)});
  return argv;
}

std::vector<Attempt> Packets::Report(const ExecResult& result) const {
  if (result.out.empty()) throw std::runtime_error("the probe failed: " + result.error);
  std::vector<Attempt> attempts = ParseAttempts(result.out);
  for (const Attempt& attempt : attempts) {
    if (!attempt.ok || attempt.sent == 0) continue;
    ++arena_.datagrams().answered;
    if (attempt.sent > 1) ++arena_.datagrams().sent_again;
  }
  return attempts;
}

// With another connection in the place of each that got no answer for its port's sake.
std::vector<Attempt> Packets::TriedAgain(const ProbeStep& step, const Attempted& way,
                                         std::vector<Attempt> attempts) const {
  if (way.protocol != "tcp" || step.expect.kind != Expectation::Kind::kAnswered) return attempts;
  for (Attempt& attempt : attempts) {
    if (attempt.error != "timeout" ||
        !arena_.IsPortTaken(HostPort(way.target.address, way.target.port), attempt.local_port))
      continue;
    ++arena_.ports_taken();  // main.cpp limits how often that may be
    ProbeStep once = step;
    once.count = 1;
    once.source_port = 0;  // the next try has another
    attempt = Report(way.place.node->Exec(Command(once, way), {.netns = way.place.netns})).at(0);
  }
  return attempts;
}

AllowedSources Packets::SourcesOf(const ProbeStep& step, const Attempted& way) const {
  return Sources(step.expect, way.from, words_.Expand(step.source), way.target);
}

AllowedSources Packets::Sources(const Expectation& expect, const std::string& from,
                                const std::string& source, const Target& target) const {
  AllowedSources sources{expect.source, {}};
  if (expect.source.empty()) return sources;
  const Place place = arena_.At(from);
  const bool from_node = place.netns.empty() && from != "outside";
  if (expect.source == "client" && arena_.mode() == kube::Mode::kUserspace) {
    sources.addresses =
        arena_.NodeAddresses(from == "outside" ? target.node : place.node->name(), family_);
    return sources;
  }
  if (expect.source == "client" && !source.empty()) {
    sources.addresses = {source};
  } else if (expect.source == "client" && from == "outside") {
    sources.addresses = {words_.Lookup("outside")};
  } else if (expect.source == "client" && !from_node) {
    sources.addresses = {arena_.Address(from, family_)};
  } else if (expect.source == "client") {
    sources.addresses = arena_.NodeAddresses(from, family_);
  } else if (expect.source == "node") {
    sources.addresses =
        arena_.NodeAddresses(from == "outside" ? target.node : place.node->name(), family_);
  } else {
    sources.addresses = {words_.Expand(expect.source)};
  }
  return sources;
}

// {address, port}
Packets::Target Packets::ResolveAddress(const Json& to, const std::string& via) const {
  Target target;
  target.node = via;
  target.address = words_.Expand(to.at("address"));
  const Json& port = to.at("port");
  target.port = port.is_number() ? port.get<int>() : std::stoi(words_.Expand(port));
  target.virtual_address = !via.empty();
  target.text = to.at("address");
  for (const std::string& node : StandingNodes()) {
    const auto own = arena_.NodeAddresses(node, family_);
    if (std::find(own.begin(), own.end(), target.address) != own.end()) target.node = node;
  }
  return target;
}

Packets::Target Packets::Resolve(const Json& to, const std::string& protocol,
                                 const std::string& via) const {
  if (to.is_object()) return ResolveAddress(to, via);
  Target target;
  target.node = via;
  target.text = to;
  const size_t at = target.text.find('@');
  const std::string place = at == std::string::npos ? "cluster-ip" : target.text.substr(at + 1);
  const std::string service_port = target.text.substr(0, at);
  const size_t colon = service_port.find(':');
  const std::string wanted = colon == std::string::npos ? "" : service_port.substr(colon + 1);
  const Json& service = objects_.Service(service_port.substr(0, colon));
  const Json& spec = service.at("spec");
  const Json ports = spec.value("ports", Json::array());
  const auto port = std::find_if(ports.begin(), ports.end(), [&](const Json& one) {
    if (wanted.empty()) return text::ToLowerAscii(one.value("protocol", "TCP")) == protocol;
    return one.value("name", "") == wanted || one.at("port").dump() == wanted;
  });
  if (port == ports.end())
    throw std::invalid_argument(target.text + ": the Service has no such port of " + protocol);
  target.port = port->at("port");
  target.virtual_address = true;
  if (place == "cluster-ip") {
    target.address = words_.OfFamily(spec.value("clusterIPs", Json::array()), target.text);
    return target;
  }
  if (place == "load-balancer") {
    target.address = words_.OfFamily(
        service.at("status").at("loadBalancer").value("ingress", Json::array()), target.text);
    return target;
  }
  if (place == "external-ip") {
    target.address = words_.OfFamily(spec.value("externalIPs", Json::array()), target.text);
    return target;
  }
  target.virtual_address = false;
  target.port = port->value("nodePort", 0);
  if (target.port == 0) throw std::invalid_argument(target.text + ": the port has no node port");
  if (place == "localhost") {
    target.address = family_ == net::Family::kIPv4 ? "127.0.0.1" : "::1";
  } else if (place.starts_with("$(")) {
    target.address = words_.Expand(place);
    target.virtual_address = !via.empty();
  } else {
    target.address = arena_.Address(place, family_);
    target.node = place;
  }
  return target;
}

// The outside client's packets for an address that no machine has go to the node that a router or a
// load balancer would have chosen.
void Packets::Route(const Target& target) {
  if (!target.virtual_address) return;
  if (target.node.empty())
    throw std::invalid_argument("from outside to " + target.text + ": needs \"via\", a node");
  const Node& outside = arena_.world().cluster().outside();
  const bool v6 = family_ == net::Family::kIPv6;
  const std::string prefix = target.address + (v6 ? "/128" : "/32");
  outside.Check({"ip", v6 ? "-6" : "-4", "route", "replace", prefix, "via",
                 arena_.Address(target.node, family_)});
  undo_.Add({&outside, ""}, {"ip", v6 ? "-6" : "-4", "route", "flush", "exact", prefix});
}

void Packets::Open(const OpenStep& step) {
  const Target target = Resolve(step.to, step.protocol, step.via);
  if (step.from == "outside") Route(target);
  Stream stream;
  stream.place = arena_.At(step.from);
  stream.log = fmt::format("{}-{}.jsonl", log_prefix_.string(), step.name);
  std::filesystem::remove(stream.log);
  std::vector<std::string> argv{arena_.world().cluster().Program("pointsman-traffic"),
                                "hold",
                                HostPort(target.address, target.port),
                                "--interval",
                                "50ms",
                                "--timeout",
                                "1s"};
  if (step.protocol != "tcp") argv.push_back("--" + step.protocol);
  if (step.source_port != 0)
    argv.insert(argv.end(), {"--from-port", std::to_string(step.source_port)});
  stream.pid = stream.place.node->client().Start(argv, stream.log, {.netns = stream.place.netns});
  streams_[step.name] = stream;
  if (step.unanswered) return;
  StreamStep opened;
  opened.name = step.name;
  opened.answered_by = step.answered_by;
  Check(opened);
}

std::vector<Json> Packets::Lines(const Stream& stream) {
  std::vector<Json> lines;
  std::ifstream file(stream.log);
  for (std::string line; std::getline(file, line);) {
    Json parsed = Json::parse(line, nullptr, false);
    // The last line may be half written.
    if (parsed.is_object()) lines.push_back(std::move(parsed));
  }
  return lines;
}

// Alive: exchanges that begin after this step are answered, by the right one.
void Packets::Check(const StreamStep& step) const {
  const Stream& stream = streams_.at(step.name);
  const size_t before = Lines(stream).size();
  const std::string seen = Eventually(step.eventually, [&]() -> std::string {
    const std::vector<Json> lines = Lines(stream);
    const Json last = lines.empty() ? Json() : lines.back();
    const bool broken = last.contains("error");
    // One exchange may be under way when the step begins.
    const bool fresh = lines.size() >= before + 2;
    const bool right_one =
        last.contains("backend") &&
        (step.answered_by.empty() || std::find(step.answered_by.begin(), step.answered_by.end(),
                                               last["backend"]) != step.answered_by.end());
    if (step.alive ? fresh && !broken && right_one : broken) return "";
    return last.is_null() ? "nothing" : last.dump();
  });
  if (seen.empty()) return;
  fail_(fmt::format("stream {}\nexpected: {}{}\n     seen: {} after {} ms", step.name,
                    step.alive ? "alive" : "broken",
                    step.answered_by.empty()
                        ? ""
                        : fmt::format(", answered by any of {}", fmt::join(step.answered_by, ", ")),
                    seen, step.eventually.count()));
}

}  // namespace pointsman::e2e
