#include "e2e/conformance/case.h"

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "kube/config/yaml_json.h"
#include "node-agent/testing/neighbours/catalogue.h"

namespace pointsman::e2e {
namespace {

const std::vector<std::string> kPods{"pod-1a", "pod-1b", "pod-2a", "pod-2b"};
const std::vector<std::string> kRoutedPods{"routed-1a", "routed-1b", "routed-2a"};
const std::vector<std::string> kNodes{"node-1", "node-2"};

bool Contains(const std::vector<std::string>& list, std::string_view item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

std::string Join(const std::vector<std::string>& list) {
  return fmt::format("{}", fmt::join(list, ", "));
}

// Reads one file and collects its errors.
class Reader {
 public:
  Reader(const std::string& text, std::filesystem::path file)
      : file_(std::move(file)), document_(kube::ParseYaml(text)) {}

  std::vector<Case> Read() {
    for (const auto& [path, line] : document_.duplicates)
      errors_.push_back(
          fmt::format("{}: line {}: {} is given twice", file_.filename().string(), line, path));
    const Json& root = document_.value;
    std::vector<Case> cases;
    if (!root.is_object() || !root.contains("cases") || !root["cases"].is_array()) {
      errors_.push_back(file_.filename().string() + ": needs a list \"cases\"");
    } else {
      Known("", root, {"cases"});
      for (size_t i = 0; i < root["cases"].size(); ++i)
        cases.push_back(ReadCase(root["cases"][i], fmt::format("cases[{}]", i)));
    }
    if (!errors_.empty()) throw std::invalid_argument(fmt::format("{}", fmt::join(errors_, "\n")));
    return cases;
  }

 private:
  void Error(const std::string& path, const std::string& what) {
    const int line = document_.LineOf(path);
    std::string field = path;
    const std::string prefix = "cases[";
    if (!name_.empty() && field.starts_with(prefix)) {
      const size_t dot = field.find('.');
      field = "case " + name_ + (dot == std::string::npos ? "" : ": " + field.substr(dot + 1));
    }
    errors_.push_back(
        fmt::format("{}: line {}: {}: {}", file_.filename().string(), line, field, what));
  }

  static std::string At(const std::string& path, const std::string& field) {
    return path.empty() ? field : path + "." + field;
  }

  void Known(const std::string& path, const Json& object, const std::set<std::string>& fields) {
    for (const auto& [key, value] : object.items()) {
      if (!fields.contains(key))
        Error(At(path, key), fmt::format("no such field; known here: {}", fmt::join(fields, ", ")));
    }
  }

  bool IsObject(const Json& value, const std::string& path) {
    if (value.is_object()) return true;
    Error(path, "must be a map");
    return false;
  }

  std::string String(const Json& object, const std::string& path, const char* field,
                     bool required = false) {
    if (!object.contains(field)) {
      if (required) Error(path, fmt::format("needs \"{}\"", field));
      return "";
    }
    if (!object[field].is_string() || object[field].get<std::string>().empty()) {
      Error(At(path, field), "must be a string and not empty");
      return "";
    }
    return object[field];
  }

  // A string or a list of strings.
  std::vector<std::string> Strings(const Json& object, const std::string& path, const char* field,
                                   bool required = false) {
    std::vector<std::string> list;
    if (!object.contains(field)) {
      if (required) Error(path, fmt::format("needs \"{}\"", field));
      return list;
    }
    const Json& value = object[field];
    for (const Json& item : value.is_array() ? value : Json::array({value})) {
      if (item.is_string() && !item.get<std::string>().empty()) {
        list.push_back(item);
      } else {
        Error(At(path, field), "must be a string or a list of strings");
      }
    }
    if (required && list.empty()) Error(At(path, field), "must not be empty");
    return list;
  }

  int Int(const Json& object, const std::string& path, const char* field, int low, int high,
          int otherwise) {
    if (!object.contains(field)) return otherwise;
    if (!object[field].is_number_integer() || object[field].get<int64_t>() < low ||
        object[field].get<int64_t>() > high) {
      Error(At(path, field), fmt::format("must be a whole number from {} to {}", low, high));
      return otherwise;
    }
    return object[field];
  }

  bool Bool(const Json& object, const std::string& path, const char* field, bool otherwise) {
    if (!object.contains(field)) return otherwise;
    if (!object[field].is_boolean()) Error(At(path, field), "must be true or false");
    return object[field].is_boolean() ? object[field].get<bool>() : otherwise;
  }

  milliseconds ToDuration(const Json& value, const std::string& path) {
    if (value.is_string()) {
      const std::string text = value;
      size_t used = 0;
      try {
        const double number = std::stod(text, &used);
        const std::string unit = text.substr(used);
        const double scale = unit == "ms" ? 1 : unit == "s" ? 1000 : unit == "m" ? 60'000 : 0;
        if (scale > 0 && number >= 0 && number * scale < 600'000)
          return milliseconds(static_cast<int64_t>(number * scale));
      } catch (const std::exception&) {
        used = 0;  // told below
      }
    }
    Error(path, "must be a duration such as 500ms, 3s or 1m, less than 10m");
    return milliseconds(0);
  }

  milliseconds Duration(const Json& object, const std::string& path, const char* field,
                        milliseconds otherwise) {
    if (!object.contains(field)) return otherwise;
    return ToDuration(object[field], At(path, field));
  }

  void CheckPlace(const std::string& place, const std::string& path) {
    if (place != "outside" && NodeOfPod(place).empty() && !Contains(kNodes, place))
      Error(path, fmt::format("\"{}\" is none of outside, {}, {}, {}", place, Join(kNodes),
                              Join(kPods), Join(kRoutedPods)));
  }

  void CheckBackend(const std::string& name, const std::string& path) {
    if (NodeOfPod(name).empty() && !Contains(kNodes, name))
      Error(path, fmt::format("\"{}\" is none of {}, {}, {}", name, Join(kPods), Join(kRoutedPods),
                              Join(kNodes)));
  }

  void CheckTarget(const Json& to, const std::string& path) {
    if (to.is_object()) {
      Known(path, to, {"address", "port"});
      String(to, path, "address", true);
      if (!to.contains("port") || !(to["port"].is_number_integer() || to["port"].is_string()))
        Error(path, "needs \"port\", a number or $(node-port:SERVICE)");
      return;
    }
    if (!to.is_string() || to.get<std::string>().empty()) {
      Error(path, "must be SERVICE[:PORT][@PLACE] or {address: …, port: …}");
      return;
    }
    const std::string text = to;
    const size_t at = text.find('@');
    if (at == std::string::npos) return;
    const std::string place = text.substr(at + 1);
    static const std::set<std::string> kPlaces{"cluster-ip", "load-balancer", "external-ip",
                                               "localhost"};
    if (!kPlaces.contains(place) && !Contains(kNodes, place) && !place.starts_with("$("))
      Error(path, fmt::format("place \"{}\" is none of {}, {}, or an address $(…) whose node port "
                              "is meant",
                              place, fmt::join(kPlaces, ", "), Join(kNodes)));
  }

  void CheckProtocol(const std::string& protocol, const std::string& path) {
    if (protocol != "tcp" && protocol != "udp" && protocol != "sctp")
      Error(path, "\"" + protocol + "\" is none of tcp, udp, sctp");
  }

  void CheckVia(const std::string& via, const std::string& path) {
    if (!via.empty() && !Contains(kNodes, via))
      Error(path, fmt::format("\"{}\" is none of {}", via, Join(kNodes)));
  }

  static std::vector<std::string> AllPods(std::vector<std::string> names) {
    if (names == std::vector<std::string>{"pods"}) return kPods;
    return names;
  }

  Expectation ReadExpectation(const Json& value, const std::string& path) {
    Expectation expect;
    if (value == "refused") {
      expect.kind = Expectation::Kind::kRefused;
    } else if (value == "dropped") {
      expect.kind = Expectation::Kind::kDropped;
    } else if (value == "unanswered") {
      expect.kind = Expectation::Kind::kUnanswered;
    } else if (value.is_object() && value.contains("refused_within")) {
      expect.kind = Expectation::Kind::kRefused;
      Known(path, value, {"refused_within"});
      expect.within = Duration(value, path, "refused_within", expect.within);
    } else if (value.is_object()) {
      Known(path, value, {"answered_by", "any_of", "source", "same_backend"});
      if (value.contains("answered_by") == value.contains("any_of"))
        Error(path, "needs one of \"answered_by\" (each of them answers) and \"any_of\"");
      expect.every_one = value.contains("answered_by");
      const char* field = expect.every_one ? "answered_by" : "any_of";
      expect.answered_by = AllPods(Strings(value, path, field));
      for (const std::string& name : expect.answered_by)
        CheckBackend(name, At(path, field));
      expect.source = String(value, path, "source");
      if (!expect.source.empty() && expect.source != "client" && expect.source != "node" &&
          !expect.source.starts_with("$("))
        Error(At(path, "source"), "must be client, node or an address $(…)");
      expect.same_backend = Bool(value, path, "same_backend", false);
    } else {
      Error(path,
            "must be refused, dropped, unanswered, {refused_within: …} or {answered_by: …, source: "
            "…, "
            "same_backend: …}");
    }
    return expect;
  }

  ProbeStep ReadProbe(const Json& value, const std::string& path) {
    ProbeStep probe;
    Known(path, value,
          {"from", "to", "protocol", "via", "source", "source_port", "count", "timeout", "expect",
           "eventually"});
    probe.from = Strings(value, path, "from", true);
    for (const std::string& from : probe.from)
      CheckPlace(from, At(path, "from"));
    if (!value.contains("to")) {
      Error(path, "needs \"to\"");
    } else {
      const Json& to = value["to"];
      for (const Json& item : to.is_array() ? to : Json::array({to})) {
        CheckTarget(item, At(path, "to"));
        probe.to.push_back(item);
      }
    }
    probe.protocol = Strings(value, path, "protocol");
    if (probe.protocol.empty()) probe.protocol = {"tcp"};
    for (const std::string& protocol : probe.protocol)
      CheckProtocol(protocol, At(path, "protocol"));
    probe.via = String(value, path, "via");
    CheckVia(probe.via, At(path, "via"));
    probe.source = String(value, path, "source");
    probe.source_port = Int(value, path, "source_port", 1, 65535, 0);
    probe.count = Int(value, path, "count", 1, 10'000, 0);
    probe.eventually = Duration(value, path, "eventually", probe.eventually);
    if (!value.contains("expect")) {
      Error(path, "needs \"expect\"");
    } else {
      probe.expect = ReadExpectation(value["expect"], At(path, "expect"));
    }
    // Silence is waited for in vain each time; an answer on a busy machine may take a while:
    // between two emulated nodes nothing got through for three seconds there, once in some thousand
    // probes. What may hold later is looked at again instead: the connection that is lost while a
    // firewall reloads must not use up the time in which the next ones would be answered.
    const bool silence = probe.expect.kind == Expectation::Kind::kDropped ||
                         probe.expect.kind == Expectation::Kind::kUnanswered;
    const bool looks_again = probe.eventually.count() > 0;
    probe.timeout = Duration(value, path, "timeout",
                             silence       ? milliseconds(700)
                             : looks_again ? std::min(milliseconds(2000), probe.eventually / 4)
                                           : milliseconds(10'000));
    if (looks_again && probe.timeout * 2 > probe.eventually)
      Error(At(path, "eventually"),
            fmt::format("must be twice the timeout ({} ms) at least: one lost connection would use "
                        "it up",
                        probe.timeout.count()));
    return probe;
  }

  OpenStep ReadOpen(const Json& value, const std::string& path) {
    OpenStep open;
    Known(path, value,
          {"stream", "from", "to", "protocol", "via", "source_port", "answered_by", "unanswered"});
    open.name = String(value, path, "stream", true);
    open.from = String(value, path, "from", true);
    if (!open.from.empty()) CheckPlace(open.from, At(path, "from"));
    if (value.contains("to")) {
      CheckTarget(value["to"], At(path, "to"));
      open.to = value["to"];
    } else {
      Error(path, "needs \"to\"");
    }
    if (value.contains("protocol")) open.protocol = String(value, path, "protocol");
    CheckProtocol(open.protocol, At(path, "protocol"));
    open.via = String(value, path, "via");
    CheckVia(open.via, At(path, "via"));
    open.source_port = Int(value, path, "source_port", 1, 65535, 0);
    open.unanswered = Bool(value, path, "unanswered", false);
    open.answered_by = AllPods(Strings(value, path, "answered_by"));
    for (const std::string& name : open.answered_by)
      CheckBackend(name, At(path, "answered_by"));
    streams_.insert(open.name);
    return open;
  }

  StreamStep ReadStream(const Json& value, const std::string& path) {
    StreamStep stream;
    Known(path, value, {"name", "is", "answered_by", "eventually"});
    stream.name = String(value, path, "name", true);
    if (!stream.name.empty() && !streams_.contains(stream.name))
      Error(At(path, "name"), "no earlier step opens stream \"" + stream.name + "\"");
    const std::string is = String(value, path, "is", true);
    if (is != "alive" && is != "broken") Error(At(path, "is"), "must be alive or broken");
    stream.alive = is != "broken";
    stream.answered_by = AllPods(Strings(value, path, "answered_by"));
    for (const std::string& name : stream.answered_by)
      CheckBackend(name, At(path, "answered_by"));
    stream.eventually = Duration(value, path, "eventually", stream.eventually);
    return stream;
  }

  RunStep ReadRun(const Json& value, const std::string& path) {
    RunStep run;
    Known(path, value,
          {"on", "argv", "undo", "exit", "output", "not_output", "within", "eventually"});
    run.on = String(value, path, "on", true);
    if (!run.on.empty()) CheckPlace(run.on, At(path, "on"));
    run.argv = Strings(value, path, "argv", true);
    run.undo = Strings(value, path, "undo");
    if (value.contains("exit") && value["exit"] == "any") {
      run.exit.reset();
    } else {
      run.exit = Int(value, path, "exit", 0, 255, 0);
    }
    run.output = String(value, path, "output");
    run.not_output = String(value, path, "not_output");
    run.within = Duration(value, path, "within", run.within);
    run.eventually = Duration(value, path, "eventually", run.eventually);
    return run;
  }

  EventStep ReadEvent(const Json& value, const std::string& path) {
    EventStep event;
    Known(path, value, {"on", "reason", "message", "eventually"});
    event.object = String(value, path, "on", true);
    if (!event.object.empty()) CheckObject(event.object, At(path, "on"));
    event.reason = String(value, path, "reason", true);
    event.message = String(value, path, "message", true);
    event.eventually = Duration(value, path, "eventually", event.eventually);
    return event;
  }

  // "Service/web"
  void CheckObject(const std::string& object, const std::string& path) {
    const std::string kind = object.substr(0, object.find('/'));
    if (object.find('/') == std::string::npos ||
        (kind != "Service" && kind != "EndpointSlice" && kind != "Node"))
      Error(path, "\"" + object + "\" is not Service/NAME, EndpointSlice/NAME or Node/NAME");
  }

  Step ReadStep(const Json& value, const std::string& path) {
    static const std::set<std::string> kVerbs{"apply", "endpoints", "patch",    "delete",
                                              "probe", "open",      "stream",   "run",
                                              "event", "pass_time", "policies", "neighbour"};
    Step step;
    step.line = document_.LineOf(path);
    if (!value.is_object() || value.size() != 1 || !kVerbs.contains(value.begin().key())) {
      Error(path, fmt::format("must be a map with one of {}", fmt::join(kVerbs, ", ")));
      return step;
    }
    const std::string verb = value.begin().key();
    const Json& body = value.begin().value();
    const std::string at = At(path, verb);
    step.text = verb;
    if (verb == "apply") {
      ApplyStep apply;
      for (const Json& object : body.is_array() ? body : Json::array({body})) {
        if (!IsObject(object, at)) continue;
        const std::string kind = object.value("kind", "");
        if (kind != "Service" && kind != "EndpointSlice")
          Error(at, "kind must be Service or EndpointSlice");
        if (!object.contains("metadata") || !object["metadata"].is_object() ||
            object["metadata"].value("name", "").empty())
          Error(at, "needs metadata.name");
        apply.objects.push_back(object);
      }
      step.action = std::move(apply);
    } else if (verb == "endpoints") {
      EndpointsStep endpoints;
      if (IsObject(body, at)) {
        for (const auto& [service, list] : body.items()) {
          if (!list.is_array()) Error(At(at, service), "must be a list of endpoints");
          CheckEndpoints(list, At(at, service));
          endpoints.services[service] = list;
        }
      }
      step.action = std::move(endpoints);
    } else if (verb == "patch") {
      PatchStep patch;
      if (IsObject(body, at)) {
        for (const auto& [object, change] : body.items()) {
          CheckObject(object, At(at, object));
          IsObject(change, At(at, object));
          patch.patches[object] = change;
        }
      }
      step.action = std::move(patch);
    } else if (verb == "delete") {
      DeleteStep remove;
      remove.objects = Strings(value, path, "delete", true);
      for (const std::string& object : remove.objects)
        CheckObject(object, at);
      step.action = std::move(remove);
    } else if (verb == "pass_time") {
      step.action = PassTimeStep{ToDuration(body, at)};
    } else if (verb == "policies") {
      step.action = ReadPolicies(body, at);
    } else if (verb == "neighbour") {
      if (body != "reloads") Error(at, "must be reloads");
      step.action = ReloadStep{};
    } else if (IsObject(body, at)) {
      if (verb == "probe") step.action = ReadProbe(body, at);
      if (verb == "open") step.action = ReadOpen(body, at);
      if (verb == "stream") step.action = ReadStream(body, at);
      if (verb == "run") step.action = ReadRun(body, at);
      if (verb == "event") step.action = ReadEvent(body, at);
    }
    return step;
  }

  PoliciesStep ReadPolicies(const Json& body, const std::string& path) {
    PoliciesStep policies;
    if (!IsObject(body, path)) return policies;
    const auto list = [&](const Json& policy, const std::string& at, const char* field) {
      std::optional<std::vector<std::string>> peers;
      if (!policy.contains(field)) return peers;
      peers = Strings(policy, at, field);
      for (const std::string& peer : *peers)
        CheckPlace(peer, At(at, field));
      return peers;
    };
    for (const auto& [pod, policy] : body.items()) {
      const std::string at = At(path, pod);
      // Some engines know a pod by its link.
      if (!Contains(kRoutedPods, pod)) Error(at, "is none of " + Join(kRoutedPods));
      if (!IsObject(policy, at)) continue;
      Known(at, policy, {"ingress_from", "egress_to"});
      policies.pods[pod] = {list(policy, at, "ingress_from"), list(policy, at, "egress_to")};
    }
    return policies;
  }

  // Which of the neighbours there are, and whether they can do what the steps ask of them.
  void CheckNeighbours(const Case& one, const std::string& path) {
    const bool polices = std::any_of(one.steps.begin(), one.steps.end(), [](const Step& step) {
      return std::holds_alternative<PoliciesStep>(step.action);
    });
    const bool reloads = std::any_of(one.steps.begin(), one.steps.end(), [](const Step& step) {
      return std::holds_alternative<ReloadStep>(step.action);
    });
    const std::string at = At(path, "neighbours");
    for (const std::string& name : one.neighbours) {
      const auto* known = agent::testing::FindNeighbour(name);
      if (known == nullptr) {
        Error(at, fmt::format("\"{}\" is no neighbour; known: {}", name,
                              agent::testing::KnownNeighbourNames()));
        continue;
      }
      if (polices && !known->polices)
        Error(at, fmt::format("{} enforces no policies, and a step sets some", name));
      if (reloads && known->felix)
        Error(at, fmt::format("{} has nothing that reloads, and a step says so", name));
    }
    if ((polices || reloads) && one.neighbours.empty())
      Error(path, "the steps policies and neighbour need \"neighbours\"");
  }

  void CheckEndpoints(const Json& list, const std::string& path) {
    for (size_t i = 0; i < list.size(); ++i) {
      const Json& item = list[i];
      const std::string at = fmt::format("{}[{}]", path, i);
      if (item.is_string()) {
        CheckBackend(item, at);
      } else if (IsObject(item, at)) {
        Known(at, item,
              {"of", "address", "node", "ready", "serving", "terminating", "zone", "zone_hints",
               "node_hints"});
        const std::string of = String(item, at, "of");
        if (!of.empty()) CheckBackend(of, At(at, "of"));
        if (of.empty() == String(item, at, "address").empty())
          Error(at, "needs one of \"of\" (a pod or node) and \"address\"");
      }
    }
  }

  Case ReadCase(const Json& value, const std::string& path) {
    name_.clear();
    streams_.clear();
    Case out;
    out.file = file_;
    out.line = document_.LineOf(path);
    if (!IsObject(value, path)) return out;
    out.name = String(value, path, "name", true);
    name_ = out.name;
    const bool good_name = std::all_of(out.name.begin(), out.name.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    });
    if (!good_name || out.name.size() > 58)
      Error(At(path, "name"), "must be at most 58 of a-z, 0-9 and - (it names a namespace)");
    Known(path, value,
          {"name", "source", "semantics", "families", "not_in", "known_failure", "proxy",
           "needs_sctp", "neighbours", "steps"});
    out.sources = Strings(value, path, "source", true);
    out.semantics = Strings(value, path, "semantics");
    for (const std::string& family : Strings(value, path, "families")) {
      if (family == "IPv4") {
        out.families.push_back(net::Family::kIPv4);
      } else if (family == "IPv6") {
        out.families.push_back(net::Family::kIPv6);
      } else {
        Error(At(path, "families"), "\"" + family + "\" is neither IPv4 nor IPv6");
      }
    }
    if (out.families.empty()) out.families = {net::Family::kIPv4, net::Family::kIPv6};
    for (const auto& [mode, reason] : Reasons(value, path, "not_in")) {
      if (const auto parsed = ToMode(mode)) {
        out.not_in[*parsed] = reason;
      } else {
        Error(At(path, "not_in"), "\"" + mode + "\" is no mode");
      }
    }
    out.known_failures = Reasons(value, path, "known_failure");
    for (const auto& [where, reason] : out.known_failures) {
      const size_t slash = where.find('/');
      const std::string family = slash == std::string::npos ? "IPv4" : where.substr(slash + 1);
      if (!ToMode(where.substr(0, slash)) || (family != "IPv4" && family != "IPv6"))
        Error(At(path, "known_failure"), "\"" + where + "\" is not MODE or MODE/IPv4, MODE/IPv6");
    }
    if (value.contains("proxy") && IsObject(value["proxy"], At(path, "proxy")))
      out.proxy = value["proxy"];
    out.needs_sctp = Bool(value, path, "needs_sctp", false);
    out.neighbours = Strings(value, path, "neighbours");
    if (!value.contains("steps") || !value["steps"].is_array() || value["steps"].empty()) {
      Error(path, "needs a list \"steps\"");
      return out;
    }
    for (size_t i = 0; i < value["steps"].size(); ++i)
      out.steps.push_back(ReadStep(value["steps"][i], fmt::format("{}.steps[{}]", path, i)));
    const bool checks = std::any_of(out.steps.begin(), out.steps.end(), [](const Step& step) {
      return std::holds_alternative<ProbeStep>(step.action) ||
             std::holds_alternative<StreamStep>(step.action) ||
             std::holds_alternative<RunStep>(step.action) ||
             std::holds_alternative<EventStep>(step.action);
    });
    if (!checks) Error(At(path, "steps"), "nothing is checked: no probe, stream, run or event");
    CheckNeighbours(out, path);
    return out;
  }

  static std::optional<kube::Mode> ToMode(const std::string& text) { return kube::ParseMode(text); }

  std::map<std::string, std::string> Reasons(const Json& object, const std::string& path,
                                             const char* field) {
    std::map<std::string, std::string> reasons;
    if (!object.contains(field) || !IsObject(object[field], At(path, field))) return reasons;
    for (const auto& [key, reason] : object[field].items()) {
      if (reason.is_string() && !reason.get<std::string>().empty()) {
        reasons[key] = reason;
      } else {
        Error(At(At(path, field), key), "needs the reason as a string");
      }
    }
    return reasons;
  }

  std::filesystem::path file_;
  kube::YamlDocument document_;
  std::vector<std::string> errors_;
  std::string name_;  // of the case being read
  std::set<std::string> streams_;
};

}  // namespace

bool Case::AppliesTo(kube::Mode mode, net::Family family) const {
  return !not_in.contains(mode) &&
         std::find(families.begin(), families.end(), family) != families.end();
}

std::string Case::KnownFailure(kube::Mode mode, net::Family family) const {
  const std::string everywhere(kube::ToString(mode));
  for (const std::string& where :
       {everywhere, fmt::format("{}/{}", everywhere, FamilyName(family))}) {
    const auto found = known_failures.find(where);
    if (found != known_failures.end()) return found->second;
  }
  return "";
}

std::vector<Case> ParseCases(const std::string& text, const std::filesystem::path& file) {
  std::optional<Reader> reader;
  try {
    reader.emplace(text, file);
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(file.filename().string() + ": " + error.what());
  }
  return reader->Read();
}

std::vector<Case> LoadCaseFile(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::stringstream text;
  text << stream.rdbuf();
  if (!stream) throw std::system_error(errno, std::generic_category(), "read " + file.string());
  return ParseCases(text.str(), file);
}

std::vector<Case> LoadCases(const std::vector<std::filesystem::path>& folders) {
  std::vector<std::filesystem::path> files;
  for (const auto& folder : folders) {
    std::vector<std::filesystem::path> here;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().extension() == ".yaml") here.push_back(entry.path());
    }
    if (here.empty()) throw std::invalid_argument(folder.string() + ": there is no *.yaml file");
    std::sort(here.begin(), here.end());
    files.insert(files.end(), here.begin(), here.end());
  }
  std::vector<Case> cases;
  std::map<std::string, std::filesystem::path> names;
  std::string errors;
  for (const auto& file : files) {
    try {
      for (Case& one : LoadCaseFile(file)) {
        const auto [other, is_new] = names.try_emplace(one.name, file);
        if (!is_new)
          errors += fmt::format("{}: line {}: case {} is in {} too\n", file.filename().string(),
                                one.line, one.name, other->second.filename().string());
        cases.push_back(std::move(one));
      }
    } catch (const std::invalid_argument& error) {
      errors += error.what() + std::string("\n");
    }
  }
  if (!errors.empty()) throw std::invalid_argument(errors);
  return cases;
}

const std::vector<std::string>& StandingPods() {
  return kPods;
}

const std::vector<std::string>& RoutedPods() {
  return kRoutedPods;
}

const std::vector<std::string>& StandingNodes() {
  return kNodes;
}

std::string NodeOfPod(const std::string& pod) {
  if (!Contains(kPods, pod) && !Contains(kRoutedPods, pod)) return "";
  return "node-" + pod.substr(pod.find('-') + 1, 1);
}

std::string_view FamilyName(net::Family family) {
  return family == net::Family::kIPv4 ? "IPv4" : "IPv6";
}

}  // namespace pointsman::e2e
