// Runs one case in an arena.
#pragma once

#include <string>
#include <vector>

#include "e2e/conformance/arena.h"
#include "e2e/conformance/case.h"
#include "e2e/conformance/case_objects.h"
#include "e2e/conformance/case_words.h"
#include "e2e/conformance/neighbour_session.h"
#include "e2e/conformance/packets.h"
#include "e2e/conformance/undo.h"

namespace pointsman::e2e {

class CaseRunner {
 public:
  // `number` tells runs apart: each has a namespace of its own, so that nothing a dataplane
  // remembers by name (session affinity) passes from one to the next. `session`: the neighbour that
  // is in place, null for none; it outlives this.
  CaseRunner(Arena& arena, const Case& one, net::Family family, int number,
             NeighbourSession* session = nullptr);
  ~CaseRunner();
  CaseRunner(const CaseRunner&) = delete;
  CaseRunner& operator=(const CaseRunner&) = delete;

  // Every way in which the case failed, each for a person to read; empty: it passed. A step that
  // cannot be done at all (an object that the API refuses) ends the case.
  std::vector<std::string> Run();

 private:
  void Do(const Step& step);
  void Fail(const std::string& failure);
  void RunCommand(const RunStep& step);
  void SetPolicies(const PoliciesStep& step);
  void EndPolicies();
  std::string RunOnce(const RunStep& step, const Place& place,
                      const std::vector<std::string>& argv) const;
  std::string Report() const;
  void CleanUp();

  Arena& arena_;
  const Case& case_;
  const std::string namespace_;
  NeighbourSession* const session_;
  bool policies_set_ = false;
  UndoList undo_;
  CaseObjects objects_;
  CaseWords words_;
  Packets packets_;
  bool changed_ = false;  // objects were written since the nodes were last awaited
  std::vector<std::string> failures_;
  std::string step_;
};

}  // namespace pointsman::e2e
