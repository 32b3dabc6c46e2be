// Commands that put the cluster back as it was before a case.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "e2e/conformance/arena.h"

namespace pointsman::e2e {

class UndoList {
 public:
  void Add(const Place& place, std::vector<std::string> argv) {
    entries_.emplace_back(place, std::move(argv));
  }
  // The last first. Each is tried: one that fails has often nothing to undo.
  void Run() {
    for (auto entry = entries_.rbegin(); entry != entries_.rend(); ++entry)
      entry->first.node->Exec(entry->second, {.netns = entry->first.netns});
    entries_.clear();
  }

 private:
  std::vector<std::pair<Place, std::vector<std::string>>> entries_;
};

}  // namespace pointsman::e2e
