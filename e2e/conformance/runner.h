// Runs one case in an arena.
#pragma once

#include <string>
#include <vector>

#include "e2e/conformance/arena.h"
#include "e2e/conformance/case.h"
#include "e2e/conformance/judge.h"

namespace pointsman::e2e {

// Replaces $(…) in every string of `value`; throws std::invalid_argument for one that is unknown.
// What there is to replace is in README.md.
class CaseRunner {
 public:
  // `number` tells runs apart: each has a namespace of its own, so that nothing a dataplane
  // remembers by name (session affinity) passes from one to the next.
  CaseRunner(Arena& arena, const Case& one, net::Family family, int number);
  ~CaseRunner();
  CaseRunner(const CaseRunner&) = delete;
  CaseRunner& operator=(const CaseRunner&) = delete;

  // Every way in which the case failed, each for a person to read; empty: it passed. A step that
  // cannot be done at all (an object that the API refuses) ends the case.
  std::vector<std::string> Run();

 private:
  struct Target {
    std::string address;
    int port = 0;
    bool virtual_address = false;  // no node has it: the outside client needs a route
    std::string node;  // the node that gets the packet first, "" when it is the client's
    std::string text;
  };
  struct Stream {
    Place place;
    pid_t pid = -1;
    std::string log;
  };

  void Do(const Step& step);
  void Apply(const ApplyStep& step);
  void SetEndpoints(const EndpointsStep& step);
  void Patch(const PatchStep& step);
  void Delete(const DeleteStep& step);
  void Probe(const ProbeStep& step);
  void Open(const OpenStep& step);
  void Check(const StreamStep& step);
  void RunCommand(const RunStep& step);
  void CleanUp();

  void ProbeOne(const ProbeStep& step, const std::string& from, const Json& to,
                const std::string& protocol);
  std::vector<Attempt> Attempts(const ProbeStep& step, const Place& place, const Target& target,
                                const std::string& protocol);
  AllowedSources Sources(const Expectation& expect, const std::string& from,
                         const std::string& source, const Target& target);
  Target Resolve(const Json& to, const std::string& protocol, const std::string& via);
  std::string OfFamily(const Json& list, const std::string& what) const;
  void Route(const Target& target);
  std::string Expand(const std::string& text);
  Json ExpandAll(const Json& value);
  std::string Lookup(const std::string& name);
  const Json& Service(const std::string& name);
  void PutObject(Json object);
  void PutSlice(const std::string& service, net::Family family, const Json& list);
  void Remember(const kube::Resource& resource, const std::string& name);
  std::vector<Json> StreamLines(const Stream& stream) const;

  Arena& arena_;
  const Case& case_;
  const net::Family family_;
  const std::string namespace_;
  std::map<std::string, Json> services_;  // as last seen, kept when deleted
  std::vector<std::pair<kube::Resource, std::string>> objects_;
  std::map<std::string, Json> nodes_before_;  // labels, annotations, taints
  std::vector<std::pair<Place, std::vector<std::string>>> undo_;
  std::map<std::string, Stream> streams_;
  bool changed_ = false;  // objects were written since the nodes were last awaited
  std::vector<std::string> failures_;
  std::string step_;
  std::vector<std::string> words_;  // what the rules of this case are found by
};

}  // namespace pointsman::e2e
