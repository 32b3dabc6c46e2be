#include "e2e/conformance/runner.h"

#include <algorithm>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <thread>

#include <signal.h>

namespace pointsman::e2e {
namespace {

namespace resources = kube::resources;
using Clock = std::chrono::steady_clock;
using std::chrono_literals::operator""s;

// How often something that nothing announces is looked at again.
constexpr milliseconds kPoll{50};

net::Family Other(net::Family family) {
  return family == net::Family::kIPv4 ? net::Family::kIPv6 : net::Family::kIPv4;
}

const kube::Resource& ResourceOf(const std::string& kind) {
  if (kind == "Service") return resources::kServices;
  if (kind == "EndpointSlice") return resources::kEndpointSlices;
  if (kind == "Node") return resources::kNodes;
  throw std::invalid_argument("kind \"" + kind + "\" is not known here");
}

std::string Bracketed(const std::string& address, int port) {
  return address.find(':') == std::string::npos ? fmt::format("{}:{}", address, port)
                                                : fmt::format("[{}]:{}", address, port);
}

// ^ and $ are the ends of lines.
std::regex Pattern(const std::string& text) {
  return std::regex(text, std::regex::ECMAScript | std::regex::multiline);
}

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

// Addresses of load balancers, external IPs and the like: from the ranges for documentation, so
// that no real network has them. "lb-1" → 203.0.113.11, 2001:db8:1::11.
std::string DocumentationAddress(const std::string& name, net::Family family) {
  static const std::map<std::string, std::pair<std::string, std::string>> kPrefixes{
      {"lb-", {"203.0.113.1", "2001:db8:1::1"}},
      {"external-", {"198.51.100.1", "2001:db8:2::1"}},
      {"elsewhere-", {"192.0.2.1", "2001:db8:3::1"}},
  };
  for (const auto& [prefix, addresses] : kPrefixes) {
    if (name.starts_with(prefix) && name.size() == prefix.size() + 1 && std::isdigit(name.back()))
      return (family == net::Family::kIPv4 ? addresses.first : addresses.second) + name.back();
  }
  return "";
}

// What an agent may look at in a Node, to be put back.
Json NodeFacts(const Json& node) {
  const Json& metadata = node.at("metadata");
  return {{"metadata",
           {{"labels", metadata.value("labels", Json::object())},
            {"annotations", metadata.value("annotations", Json::object())}}},
          {"spec", {{"taints", node.at("spec").value("taints", Json::array())}}}};
}

}  // namespace

CaseRunner::CaseRunner(Arena& arena, const Case& one, net::Family family, int number)
    : arena_(arena),
      case_(one),
      family_(family),
      namespace_(fmt::format("{}-{}", one.name, number)) {}

CaseRunner::~CaseRunner() {
  try {
    CleanUp();
  } catch (const std::exception& error) {
    spdlog::error("after case {}: {}", case_.name, error.what());
  }
}

std::vector<std::string> CaseRunner::Run() {
  words_.push_back(namespace_);
  try {
    step_ = "proxy";
    arena_.UseConfiguration(ExpandAll(case_.proxy));
    arena_.api().Create(resources::kNamespaces, "", {{"metadata", {{"name", namespace_}}}});
    Remember(resources::kNamespaces, namespace_);
    for (const Step& step : case_.steps) {
      step_ = fmt::format("{}:{}: {}", case_.file.filename().string(), step.line, step.text);
      Do(step);
    }
  } catch (const std::exception& error) {
    failures_.push_back(fmt::format("{}: {}", step_, error.what()));
  }
  std::vector<std::string> failures = failures_;
  if (!failures.empty()) {
    std::string rules;
    for (const std::string& node : StandingNodes()) {
      rules += arena_.Rules(node, words_);
      const auto file = arena_.dir() / fmt::format("{}-{}-rules.txt", namespace_, node);
      std::ofstream(file) << arena_.Rules(node, {}) << "\nagent:\n"
                          << arena_.AgentLog(node, 20'000);
    }
    if (rules.size() > 12'000) rules = rules.substr(0, 12'000) + "…\n";
    failures.push_back(
        fmt::format("rules that have to do with it (all are in {}/{}-*-rules.txt):\n{}",
                    arena_.dir().string(), namespace_, rules));
  }
  try {
    CleanUp();
  } catch (const std::exception& error) {
    failures.push_back(std::string("cleaning up: ") + error.what());
  }
  return failures;
}

void CaseRunner::Do(const Step& step) {
  const bool writes = std::holds_alternative<ApplyStep>(step.action) ||
                      std::holds_alternative<EndpointsStep>(step.action) ||
                      std::holds_alternative<PatchStep>(step.action) ||
                      std::holds_alternative<DeleteStep>(step.action);
  if (!writes && changed_) {
    arena_.AwaitTakenUp();
    changed_ = false;
  }
  changed_ |= writes;
  std::visit(
      [this](const auto& action) {
        using T = std::decay_t<decltype(action)>;
        if constexpr (std::is_same_v<T, ApplyStep>) Apply(action);
        if constexpr (std::is_same_v<T, EndpointsStep>) SetEndpoints(action);
        if constexpr (std::is_same_v<T, PatchStep>) Patch(action);
        if constexpr (std::is_same_v<T, DeleteStep>) Delete(action);
        if constexpr (std::is_same_v<T, ProbeStep>) Probe(action);
        if constexpr (std::is_same_v<T, OpenStep>) Open(action);
        if constexpr (std::is_same_v<T, StreamStep>) Check(action);
        if constexpr (std::is_same_v<T, RunStep>) RunCommand(action);
        if constexpr (std::is_same_v<T, PassTimeStep>) std::this_thread::sleep_for(action.time);
      },
      step.action);
}

void CaseRunner::Apply(const ApplyStep& step) {
  for (const Json& object : step.objects)
    PutObject(ExpandAll(object));
}

void CaseRunner::PutObject(Json object) {
  const std::string kind = object.at("kind");
  const kube::Resource& resource = ResourceOf(kind);
  const std::string name = object.at("metadata").at("name");
  object["apiVersion"] = resource.ApiVersion();
  object["metadata"]["namespace"] = namespace_;
  const Json status = object.value("status", Json());
  object.erase("status");
  if (kind == "Service") {
    Json& spec = object["spec"];
    const bool has_families = spec.contains("ipFamilies") || spec.contains("ipFamilyPolicy");
    if (!has_families && spec.value("type", "") != "ExternalName") {
      spec["ipFamilyPolicy"] = "SingleStack";
      spec["ipFamilies"] = {FamilyName(family_)};
    }
  }
  Json stored;
  try {
    stored = arena_.api().Create(resource, namespace_, object);
    Remember(resource, name);
  } catch (const kube::ApiError& error) {
    if (!error.IsAlreadyExists()) throw;
    // What the API gave out and the manifest does not say stays, as with kubectl apply; labels go.
    const Json now = arena_.api().Get(resource, namespace_, name);
    const Json had = now.at("metadata").value("labels", Json::object());
    const Json wanted = object["metadata"].value("labels", Json::object());
    for (const auto& [label, value] : had.items()) {
      if (!wanted.contains(label)) object["metadata"]["labels"][label] = nullptr;
    }
    stored = arena_.api().Patch(resource, namespace_, name, kube::PatchType::kMerge, object);
  }
  if (!status.is_null())
    stored = arena_.api().Patch(resource, namespace_, name, kube::PatchType::kMerge,
                                {{"status", status}}, "status");
  if (kind == "Service") {
    services_[name] = stored;
    for (const Json& ip : stored["spec"].value("clusterIPs", Json::array()))
      words_.push_back(ip);
  }
}

void CaseRunner::SetEndpoints(const EndpointsStep& step) {
  for (const auto& [service, list] : step.services) {
    for (const Json& family : Service(service).at("spec").value("ipFamilies", Json::array()))
      PutSlice(service, family == "IPv4" ? net::Family::kIPv4 : net::Family::kIPv6, list);
  }
}

void CaseRunner::PutSlice(const std::string& service, net::Family family, const Json& list) {
  Json endpoints = Json::array();
  for (const Json& item : list) {
    const std::string of = item.is_string() ? item.get<std::string>() : item.value("of", "");
    Json endpoint = {{"conditions", {{"ready", true}}}};
    if (of.empty()) {
      endpoint["addresses"] = {Expand(item.at("address"))};
    } else {
      endpoint["addresses"] = {arena_.Address(of, family)};
      const std::string node = NodeOfPod(of).empty() ? of : NodeOfPod(of);
      endpoint["nodeName"] = node;
      endpoint["zone"] = node == StandingNodes().front() ? "zone-a" : "zone-b";
    }
    if (item.is_object()) {
      if (item.contains("node")) endpoint["nodeName"] = item["node"];
      if (item.contains("zone")) endpoint["zone"] = item["zone"];
      for (const char* condition : {"ready", "serving", "terminating"}) {
        if (item.contains(condition)) endpoint["conditions"][condition] = item[condition];
      }
      for (const auto& [field, hint, key] : {std::tuple{"zone_hints", "forZones", "name"},
                                             std::tuple{"node_hints", "forNodes", "name"}}) {
        if (!item.contains(field)) continue;
        endpoint["hints"][hint] = Json::array();
        for (const Json& name : item[field])
          endpoint["hints"][hint].push_back({{key, name}});
      }
    }
    endpoints.push_back(std::move(endpoint));
  }
  Json ports = Json::array();
  for (const Json& port : Service(service).at("spec").value("ports", Json::array())) {
    const Json target = port.value("targetPort", port.at("port"));
    if (!target.is_number())
      throw std::invalid_argument("Service " + service +
                                  " has a named target port: its EndpointSlice has to be written "
                                  "out with apply");
    ports.push_back({{"name", port.value("name", "")},
                     {"protocol", port.value("protocol", "TCP")},
                     {"port", target}});
  }
  Json labels = {{"kubernetes.io/service-name", service}};
  // As the EndpointSlice controller does: it hands these labels of the Service on.
  for (const char* label :
       {"service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"}) {
    const Json of_service = Service(service).at("metadata").value("labels", Json::object());
    if (of_service.contains(label)) labels[label] = of_service[label];
  }
  PutObject({{"kind", "EndpointSlice"},
             {"metadata",
              {{"name", fmt::format("{}-{}", service, Lower(std::string(FamilyName(family))))},
               {"labels", labels}}},
             {"addressType", FamilyName(family)},
             {"endpoints", endpoints},
             {"ports", ports}});
}

void CaseRunner::Patch(const PatchStep& step) {
  for (const auto& [object, patch] : step.patches) {
    const size_t slash = object.find('/');
    const std::string kind = object.substr(0, slash);
    const std::string name = object.substr(slash + 1);
    Json change = ExpandAll(patch);
    const std::string ns = kind == "Node" ? "" : namespace_;
    if (kind == "Node" && !nodes_before_.contains(name))
      nodes_before_[name] = NodeFacts(arena_.api().Get(resources::kNodes, "", name));
    const Json status = change.value("status", Json());
    change.erase("status");
    Json stored;
    if (!change.empty())
      stored = arena_.api().Patch(ResourceOf(kind), ns, name, kube::PatchType::kMerge, change);
    if (!status.is_null())
      stored = arena_.api().Patch(ResourceOf(kind), ns, name, kube::PatchType::kMerge,
                                  {{"status", status}}, "status");
    if (kind == "Service") services_[name] = stored;
  }
}

void CaseRunner::Delete(const DeleteStep& step) {
  for (const std::string& object : step.objects) {
    const size_t slash = object.find('/');
    const kube::Resource& resource = ResourceOf(object.substr(0, slash));
    const std::string name = object.substr(slash + 1);
    if (!arena_.api().Delete(resource, namespace_, name))
      throw std::invalid_argument("there is no " + object);
    std::erase(objects_, std::pair{resource, name});
  }
}

void CaseRunner::Remember(const kube::Resource& resource, const std::string& name) {
  objects_.emplace_back(resource, name);
}

void CaseRunner::Probe(const ProbeStep& step) {
  for (const std::string& from : step.from) {
    for (const Json& to : step.to) {
      for (const std::string& protocol : step.protocol)
        ProbeOne(step, from, to, protocol);
    }
  }
}

void CaseRunner::ProbeOne(const ProbeStep& step, const std::string& from, const Json& to,
                          const std::string& protocol) {
  const Target target = Resolve(to, protocol, step.via);
  const Place place = arena_.At(from);
  if (from == "outside") Route(target);
  const std::string source = Expand(step.source);
  const AllowedSources sources = Sources(step.expect, from, source, target);
  const auto deadline = Clock::now() + step.eventually;
  for (;;) {
    const std::string wrong = Judge(step.expect, sources, Attempts(step, place, target, protocol));
    if (wrong.empty()) return;
    if (Clock::now() >= deadline) {
      failures_.push_back(fmt::format(
          "{}: from {} to {} ({}, {}){}\n{}", step_, from, target.text,
          Bracketed(target.address, target.port), protocol,
          step.eventually.count() > 0 ? fmt::format(", for {} ms", step.eventually.count()) : "",
          wrong));
      return;
    }
    std::this_thread::sleep_for(kPoll);
  }
}

std::vector<Attempt> CaseRunner::Attempts(const ProbeStep& step, const Place& place,
                                          const Target& target, const std::string& protocol) {
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
                                Bracketed(target.address, target.port),
                                "--count",
                                std::to_string(count),
                                "--timeout",
                                fmt::format("{}ms", step.timeout.count())};
  if (protocol != "tcp") argv.push_back("--" + protocol);
  // The network card of User-Mode Linux loses a packet now and then on a busy machine (one of
  // hundreds, in any mode), which only UDP shows.
  if (protocol == "udp") argv.insert(argv.end(), {"--resend", "1s"});
  const std::string source = Expand(step.source);
  if (!source.empty()) argv.insert(argv.end(), {"--from", source});
  if (step.source_port != 0)
    argv.insert(argv.end(), {"--from-port", std::to_string(step.source_port)});
  const ExecResult result = place.node->Exec(argv, {.netns = place.netns});
  if (result.out.empty()) throw std::runtime_error("the probe failed: " + result.error);
  return ParseAttempts(result.out);
}

AllowedSources CaseRunner::Sources(const Expectation& expect, const std::string& from,
                                   const std::string& source, const Target& target) {
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
    sources.addresses = {Lookup("outside")};
  } else if (expect.source == "client" && !from_node) {
    sources.addresses = {arena_.Address(from, family_)};
  } else if (expect.source == "client") {
    sources.addresses = arena_.NodeAddresses(from, family_);
  } else if (expect.source == "node") {
    sources.addresses =
        arena_.NodeAddresses(from == "outside" ? target.node : place.node->name(), family_);
  } else {
    sources.addresses = {Expand(expect.source)};
  }
  return sources;
}

const Json& CaseRunner::Service(const std::string& name) {
  const auto found = services_.find(name);
  if (found == services_.end())
    throw std::invalid_argument("no earlier step applies a Service \"" + name + "\"");
  return found->second;
}

// The address of the run's family in a list of addresses or of load balancer ingresses.
std::string CaseRunner::OfFamily(const Json& list, const std::string& what) const {
  for (const Json& item : list) {
    std::string address = item.is_object() ? item.value("ip", "") : item.get<std::string>();
    const bool v6 = address.find(':') != std::string::npos;
    if (!address.empty() && v6 == (family_ == net::Family::kIPv6)) return address;
  }
  throw std::invalid_argument(
      fmt::format("{}: the Service has no such address of family {}", what, FamilyName(family_)));
}

CaseRunner::Target CaseRunner::Resolve(const Json& to, const std::string& protocol,
                                       const std::string& via) {
  Target target;
  target.node = via;
  if (to.is_object()) {
    target.address = Expand(to.at("address"));
    target.port =
        to.at("port").is_number() ? to.at("port").get<int>() : std::stoi(Expand(to.at("port")));
    target.virtual_address = !via.empty();
    target.text = to.at("address");
    for (const std::string& node : StandingNodes()) {
      const auto own = arena_.NodeAddresses(node, family_);
      if (std::find(own.begin(), own.end(), target.address) != own.end()) target.node = node;
    }
    return target;
  }
  target.text = to;
  const size_t at = target.text.find('@');
  const std::string place = at == std::string::npos ? "cluster-ip" : target.text.substr(at + 1);
  const std::string service_port = target.text.substr(0, at);
  const size_t colon = service_port.find(':');
  const std::string wanted = colon == std::string::npos ? "" : service_port.substr(colon + 1);
  const Json& service = Service(service_port.substr(0, colon));
  const Json& spec = service.at("spec");
  const Json ports = spec.value("ports", Json::array());
  const auto port = std::find_if(ports.begin(), ports.end(), [&](const Json& one) {
    if (wanted.empty()) return Lower(one.value("protocol", "TCP")) == protocol;
    return one.value("name", "") == wanted || one.at("port").dump() == wanted;
  });
  if (port == ports.end())
    throw std::invalid_argument(target.text + ": the Service has no such port of " + protocol);
  target.port = port->at("port");
  target.virtual_address = true;
  if (place == "cluster-ip") {
    target.address = OfFamily(spec.value("clusterIPs", Json::array()), target.text);
    return target;
  }
  if (place == "load-balancer") {
    target.address = OfFamily(
        service.at("status").at("loadBalancer").value("ingress", Json::array()), target.text);
    return target;
  }
  if (place == "external-ip") {
    target.address = OfFamily(spec.value("externalIPs", Json::array()), target.text);
    return target;
  }
  target.virtual_address = false;
  target.port = port->value("nodePort", 0);
  if (target.port == 0) throw std::invalid_argument(target.text + ": the port has no node port");
  if (place == "localhost") {
    target.address = family_ == net::Family::kIPv4 ? "127.0.0.1" : "::1";
  } else if (place.starts_with("$(")) {
    target.address = Expand(place);
    target.virtual_address = !via.empty();
  } else {
    target.address = arena_.Address(place, family_);
    target.node = place;
  }
  return target;
}

// The outside client's packets for an address that no machine has go to the node that a router or a
// load balancer would have chosen.
void CaseRunner::Route(const Target& target) {
  if (!target.virtual_address) return;
  if (target.node.empty())
    throw std::invalid_argument("from outside to " + target.text + ": needs \"via\", a node");
  const Node& outside = arena_.world().cluster().outside();
  const bool v6 = family_ == net::Family::kIPv6;
  const std::string prefix = target.address + (v6 ? "/128" : "/32");
  outside.Check({"ip", v6 ? "-6" : "-4", "route", "replace", prefix, "via",
                 arena_.Address(target.node, family_)});
  undo_.emplace_back(Place{&outside, ""}, std::vector<std::string>{"ip", v6 ? "-6" : "-4", "route",
                                                                   "flush", "exact", prefix});
}

void CaseRunner::Open(const OpenStep& step) {
  const Target target = Resolve(step.to, step.protocol, step.via);
  if (step.from == "outside") Route(target);
  Stream stream;
  stream.place = arena_.At(step.from);
  stream.log =
      arena_.dir() / fmt::format("{}-{}-{}.jsonl", namespace_, FamilyName(family_), step.name);
  std::filesystem::remove(stream.log);
  std::vector<std::string> argv{arena_.world().cluster().Program("pointsman-traffic"),
                                "hold",
                                Bracketed(target.address, target.port),
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

std::vector<Json> CaseRunner::StreamLines(const Stream& stream) const {
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
void CaseRunner::Check(const StreamStep& step) {
  const Stream& stream = streams_.at(step.name);
  const size_t before = StreamLines(stream).size();
  const auto deadline = Clock::now() + step.eventually;
  Json last;
  for (;;) {
    const std::vector<Json> lines = StreamLines(stream);
    if (!lines.empty()) last = lines.back();
    const bool broken = last.contains("error");
    // One exchange may be under way when the step begins.
    const bool fresh = lines.size() >= before + 2;
    if (!step.alive && broken) return;
    const bool right_one =
        last.contains("backend") &&
        (step.answered_by.empty() || std::find(step.answered_by.begin(), step.answered_by.end(),
                                               last["backend"]) != step.answered_by.end());
    if (step.alive && fresh && !broken && right_one) return;
    if (Clock::now() >= deadline) break;
    std::this_thread::sleep_for(kPoll);
  }
  failures_.push_back(
      fmt::format("{}: stream {}\nexpected: {}{}\n     seen: {} after {} ms", step_, step.name,
                  step.alive ? "alive" : "broken",
                  step.answered_by.empty()
                      ? ""
                      : fmt::format(", answered by any of {}", fmt::join(step.answered_by, ", ")),
                  last.is_null() ? "nothing" : last.dump(), step.eventually.count()));
}

void CaseRunner::RunCommand(const RunStep& step) {
  const Place place = arena_.At(step.on);
  const auto expand = [this](const std::vector<std::string>& argv) {
    std::vector<std::string> out;
    out.reserve(argv.size());
    for (const std::string& word : argv)
      out.push_back(Expand(word));
    return out;
  };
  const std::vector<std::string> argv = expand(step.argv);
  if (!step.undo.empty()) undo_.emplace_back(place, expand(step.undo));
  const auto deadline = Clock::now() + step.eventually;
  for (;;) {
    const auto start = Clock::now();
    const ExecResult result = place.node->Exec(argv, {.netns = place.netns});
    const auto took = std::chrono::duration_cast<milliseconds>(Clock::now() - start);
    std::string wrong;
    if (step.exit && (result.exit != *step.exit || result.signal != 0))
      wrong += fmt::format("expected: exit status {}\n     seen: {}\n", *step.exit, result.exit);
    if (!step.output.empty() && !std::regex_search(result.out, Pattern(Expand(step.output))))
      wrong += fmt::format("expected: output that matches {}\n", Expand(step.output));
    if (!step.not_output.empty() && std::regex_search(result.out, Pattern(Expand(step.not_output))))
      wrong += fmt::format("expected: output that does not match {}\n", Expand(step.not_output));
    if (step.within.count() > 0 && took > step.within)
      wrong += fmt::format("expected: within {} ms\n     seen: {} ms\n", step.within.count(),
                           took.count());
    if (wrong.empty()) return;
    if (Clock::now() >= deadline) {
      failures_.push_back(fmt::format("{}: on {}: {}\n{}its output:\n{}{}", step_, step.on,
                                      fmt::join(argv, " "), wrong, result.out, result.error));
      return;
    }
    std::this_thread::sleep_for(kPoll);
  }
}

std::string CaseRunner::Lookup(const std::string& name) {
  if (name.starts_with("url:")) {
    const std::string inner = Lookup(name.substr(4));
    return inner.find(':') == std::string::npos ? inner : "[" + inner + "]";
  }
  // "pod-1a.v6": of that family, whatever is being run.
  std::string plain = name;
  net::Family family = family_;
  for (const auto& [suffix, of] :
       {std::pair{".v4", net::Family::kIPv4}, std::pair{".v6", net::Family::kIPv6},
        std::pair{".other", Other(family_)}}) {
    if (plain.ends_with(suffix)) {
      plain = plain.substr(0, plain.size() - std::string_view(suffix).size());
      family = of;
    }
  }
  const bool v4 = family == net::Family::kIPv4;
  if (plain == "FAMILY") return std::string(FamilyName(family));
  if (plain == "namespace") return namespace_;
  if (plain == "host-prefix") return v4 ? "32" : "128";
  if (plain == "outside") return v4 ? Cluster::kOutsideAddress : Cluster::kOutsideAddress6;
  if (plain == "outside-2") return v4 ? "192.168.50.3" : "fd00:50::3";
  if (plain == "outside-prefix") return v4 ? "24" : "64";
  if (plain == "node-extra") return v4 ? "192.168.50.111" : "fd00:50::111";
  if (plain == "control-plane")
    return v4 ? Cluster::kControlPlaneAddress : Cluster::kControlPlaneAddress6;
  if (plain == "pods-cidr") return v4 ? "10.244.0.0/16" : "fd00:10:244::/48";
  if (plain == "nodes-cidr") return v4 ? "192.168.50.0/24" : "fd00:50::/64";
  if (plain == "nobody-cidr") return v4 ? "192.0.2.0/24" : "2001:db8:3::/64";
  if (plain == "localhost") return v4 ? "127.0.0.1" : "::1";
  if (plain == "ip") return v4 ? "-4" : "-6";
  if (plain == "uplink") return arena_.uplink();
  if (plain == "traffic") return arena_.world().cluster().Program("pointsman-traffic");
  if (plain.ends_with("-gateway")) {
    const size_t size = plain.size() - std::string_view("-gateway").size();
    return arena_.NodeAddresses(plain.substr(0, size), family).at(1);
  }
  if (plain.ends_with("-pods-cidr")) {
    const Place node =
        arena_.At(plain.substr(0, plain.size() - std::string_view("-pods-cidr").size()));
    return v4 ? node.node->pod_cidr() : node.node->pod_cidr6();
  }
  if (std::string address = DocumentationAddress(plain, family); !address.empty()) return address;
  const size_t colon = plain.find(':');
  const std::string what = plain.substr(0, colon);
  if (what == "cluster-ip" && colon != std::string::npos)
    return OfFamily(Service(plain.substr(colon + 1)).at("spec").value("clusterIPs", Json::array()),
                    name);
  if (what == "node-port" && colon != std::string::npos)
    return Service(plain.substr(colon + 1)).at("spec").at("ports").at(0).at("nodePort").dump();
  if (what == "health-check-node-port" && colon != std::string::npos)
    return Service(plain.substr(colon + 1)).at("spec").at("healthCheckNodePort").dump();
  const auto& pods = StandingPods();
  const auto& nodes = StandingNodes();
  if (std::find(pods.begin(), pods.end(), plain) != pods.end() ||
      std::find(nodes.begin(), nodes.end(), plain) != nodes.end())
    return arena_.Address(plain, family);
  throw std::invalid_argument("$(" + name + ") is not known");
}

std::string CaseRunner::Expand(const std::string& text) {
  std::string out;
  size_t at = 0;
  for (size_t open = text.find("$("); open != std::string::npos; open = text.find("$(", at)) {
    const size_t close = text.find(')', open);
    if (close == std::string::npos) throw std::invalid_argument("\"" + text + "\": $( without )");
    out += text.substr(at, open - at) + Lookup(text.substr(open + 2, close - open - 2));
    at = close + 1;
  }
  return out + text.substr(at);
}

Json CaseRunner::ExpandAll(const Json& value) {
  if (value.is_string()) {
    const std::string expanded = Expand(value);
    return expanded;
  }
  Json out = value;
  if (value.is_object() || value.is_array()) {
    for (auto& item : out)
      item = ExpandAll(item);
  }
  return out;
}

void CaseRunner::CleanUp() {
  for (const auto& [name, stream] : streams_)
    stream.place.node->client().Signal(stream.pid, SIGKILL);
  streams_.clear();
  for (auto entry = undo_.rbegin(); entry != undo_.rend(); ++entry)
    entry->first.node->Exec(entry->second, {.netns = entry->first.netns});
  undo_.clear();
  for (const auto& [name, before] : nodes_before_) {
    const Json now = NodeFacts(arena_.api().Get(resources::kNodes, "", name));
    Json patch = before;
    for (const char* map : {"labels", "annotations"}) {
      for (const auto& [key, value] : now["metadata"][map].items()) {
        if (!before["metadata"][map].contains(key)) patch["metadata"][map][key] = nullptr;
      }
    }
    arena_.api().Patch(resources::kNodes, "", name, kube::PatchType::kMerge, patch);
  }
  nodes_before_.clear();
  for (auto object = objects_.rbegin(); object != objects_.rend(); ++object)
    arena_.api().Delete(object->first, object->first.namespaced ? namespace_ : "", object->second);
  objects_.clear();
}

}  // namespace pointsman::e2e
