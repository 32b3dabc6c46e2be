// What a case sends: connections that must be answered, refused or dropped, and flows that stay
// open.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "e2e/conformance/arena.h"
#include "e2e/conformance/case_words.h"
#include "e2e/conformance/judge.h"
#include "e2e/conformance/undo.h"

namespace pointsman::e2e {

class Packets {
 public:
  // Takes each way in which a step failed, for a person.
  using Fail = std::function<void(const std::string& failure)>;

  // All outlive this. `log_prefix`: of the streams' log files.
  Packets(Arena& arena, const CaseObjects& objects, const CaseWords& words, net::Family family,
          UndoList& undo, std::filesystem::path log_prefix, Fail fail);
  ~Packets();
  Packets(const Packets&) = delete;
  Packets& operator=(const Packets&) = delete;

  void Probe(const ProbeStep& step);
  void Open(const OpenStep& step);
  void Check(const StreamStep& step) const;
  void CloseStreams();

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

  // One of the ways that a probe multiplies to.
  struct Attempted {
    std::string from;
    Target target;
    std::string protocol;
    Place place;
  };
  static bool IsSilence(const Expectation& expect);
  std::vector<std::string> Command(const ProbeStep& step, const Attempted& way) const;
  std::vector<Attempt> Report(const ExecResult& result) const;
  std::vector<Attempt> TriedAgain(const ProbeStep& step, const Attempted& way,
                                  std::vector<Attempt> attempts) const;
  void Judged(const ProbeStep& step, const Attempted& way, const std::string& wrong) const;
  AllowedSources SourcesOf(const ProbeStep& step, const Attempted& way) const;
  AllowedSources Sources(const Expectation& expect, const std::string& from,
                         const std::string& source, const Target& target) const;
  Target Resolve(const Json& to, const std::string& protocol, const std::string& via) const;
  Target ResolveAddress(const Json& to, const std::string& via) const;
  void Route(const Target& target);
  static std::vector<Json> Lines(const Stream& stream);

  Arena& arena_;
  const CaseObjects& objects_;
  const CaseWords& words_;
  const net::Family family_;
  UndoList& undo_;
  const std::filesystem::path log_prefix_;
  const Fail fail_;
  std::map<std::string, Stream> streams_;
};

}  // namespace pointsman::e2e
