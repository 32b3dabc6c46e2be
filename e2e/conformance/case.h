// A conformance case as a case file has it: objects, probes and what must come of them. See
// README.md in this folder for the format.
#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

#include "kube/net/ip_address.h"
#include "kube/pointsman/proxy_settings.h"

namespace pointsman::e2e {

using Json = nlohmann::json;
using std::chrono::milliseconds;

// What a probe's connections must meet.
struct Expectation {
  // kUnanswered: no connection comes about, whatever the client is told.
  enum class Kind { kAnswered, kRefused, kDropped, kUnanswered };
  Kind kind = Kind::kAnswered;
  // Names of pods or nodes, or "pods" for any of the standing pods.
  std::vector<std::string> answered_by;
  bool every_one = true;  // each of answered_by answers at least once; false: only these do
  // "": any; "client", "node" (that the packet comes to first), or an address. In userspace mode,
  // whose backends see the node's address always, "client" is taken as "node".
  std::string source;
  bool same_backend = false;  // all connections go to one
  // How soon it is refused. The kernel sends few ICMP errors a second to one client
  // (icmp_ratelimit): the answer may be to the second or third SYN.
  milliseconds within{4000};
};

// One kind of connection, `count` times. The lists multiply: each from with each to and protocol.
struct ProbeStep {
  std::vector<std::string> from;  // a pod, a node, "outside"
  std::vector<Json> to;           // "SERVICE[:PORT][@PLACE]" or {address, port}
  std::vector<std::string> protocol;
  std::string via;     // outside only: the node to which the address is routed
  std::string source;  // local address; "": the kernel's choice
  int source_port = 0;
  int count = 0;                 // 0: as many as it takes to see each of answered_by
  milliseconds timeout{10'000};  // of one connection
  Expectation expect;
  // The expectation may need this long to hold: for what the suite cannot wait for otherwise.
  milliseconds eventually{0};
};

struct ApplyStep {
  std::vector<Json> objects;
};
struct EndpointsStep {
  std::map<std::string, Json> services;  // name -> list of endpoints
};
struct PatchStep {
  std::map<std::string, Json> patches;  // "Kind/name" -> merge patch
};
struct DeleteStep {
  std::vector<std::string> objects;  // "Kind/name"
};
// Opens a flow that stays.
struct OpenStep {
  std::string name;
  std::string from;
  Json to;
  std::string protocol = "tcp";
  std::string via;
  int source_port = 0;
  std::vector<std::string> answered_by;  // empty: by anyone
  bool unanswered = false;               // nobody answers yet: it is not waited for
};
// What has become of a flow.
struct StreamStep {
  std::string name;
  bool alive = true;
  std::vector<std::string> answered_by;  // of the newest exchange
  milliseconds eventually{3000};
};
struct RunStep {
  std::string on;  // a pod, a node, "outside"
  std::vector<std::string> argv;
  std::vector<std::string> undo;  // run when the case ends, in the reverse order
  std::optional<int> exit = 0;
  std::string output;      // a regular expression that is found in stdout; "": not looked at
  std::string not_output;  // one that is not
  milliseconds within{0};  // the longest it may take; 0: not looked at
  milliseconds eventually{0};
};
// An Event that somebody finds with kubectl describe.
struct EventStep {
  std::string object;  // "Service/web"
  std::string reason;
  std::string message;  // a regular expression that is found in it
  milliseconds eventually{5000};
};
// Time that has to pass (a time-out of a minute cannot be waited for by its effect alone).
struct PassTimeStep {
  milliseconds time{0};
};

// What a policy engine among the neighbours enforces from this step on, and nothing else: of each
// pod, all but what it lists is denied. Pods, nodes, "outside"; in $(…).
struct PolicyStep {
  std::optional<std::vector<std::string>> ingress_from;
  std::optional<std::vector<std::string>> egress_to;
};
struct PoliciesStep {
  std::map<std::string, PolicyStep> pods;
};
// The neighbour's agent flushes all rules of all nodes and writes its own again.
struct ReloadStep {};

struct Step {
  std::variant<ApplyStep, EndpointsStep, PatchStep, DeleteStep, ProbeStep, OpenStep, StreamStep,
               RunStep, EventStep, PassTimeStep, PoliciesStep, ReloadStep>
      action;
  int line = 0;      // in the case file
  std::string text;  // "probe from pod-1a to web": for messages
};

struct Case {
  std::string name;
  std::filesystem::path file;
  int line = 0;
  std::vector<std::string> sources;    // where the rule comes from
  std::vector<std::string> semantics;  // rows of docs/semantics.md that it proves
  std::vector<net::Family> families;
  std::map<kube::Mode, std::string> not_in;  // mode -> why the case does not apply
  // It runs once beside each of these (node-agent/testing/neighbours/catalogue.h), but for modes
  // that the agent's own table refuses there; empty: once, without any.
  std::vector<std::string> neighbours;
  // "ipvs" or "ipvs/IPv6" -> why it fails there.
  std::map<std::string, std::string> known_failures;
  Json proxy = Json::object();  // fields of KubeProxyConfiguration that differ from the suite's
  bool needs_sctp = false;      // a node whose kernel has SCTP sockets
  std::vector<Step> steps;

  bool AppliesTo(kube::Mode mode, net::Family family) const;
  // Why it is known to fail there; "": it is not.
  std::string KnownFailure(kube::Mode mode, net::Family family) const;
};

// Every error in the file, a line each: "services.yaml: line 12: case hairpin: steps[2].probe.from:
// …". Throws std::invalid_argument; std::system_error when the file cannot be read.
std::vector<Case> LoadCaseFile(const std::filesystem::path& file);
std::vector<Case> ParseCases(const std::string& text, const std::filesystem::path& file);

// All *.yaml files of these folders in the order of their names. A name that is there twice is an
// error.
std::vector<Case> LoadCases(const std::vector<std::filesystem::path>& folders);

// The standing pods and nodes that cases may name.
const std::vector<std::string>& StandingPods();  // pod-<node><letter>: pod-1a is on node-1
// routed-<node><letter>: a pod with a link of its own on the node, as Calico's and AWS' have.
const std::vector<std::string>& RoutedPods();
const std::vector<std::string>& StandingNodes();
std::string NodeOfPod(const std::string& pod);  // "" when there is no such pod

std::string_view FamilyName(net::Family family);  // "IPv4", "IPv6"

}  // namespace pointsman::e2e
