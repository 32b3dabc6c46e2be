// The table of docs/semantics.md: semantics x modes, each cell with the cases that prove it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "e2e/conformance/case.h"

namespace pointsman::e2e {

struct Semantic {
  std::string id;     // as cases name it
  std::string title;  // for people
};

// The list "semantics" of a YAML file, each {id, title}. Throws std::invalid_argument naming file
// and entry.
std::vector<Semantic> LoadSemantics(const std::filesystem::path& file);

// The whole document. Throws std::invalid_argument when a case names a semantic that there is not.
std::string SemanticsDocument(const std::vector<Semantic>& semantics,
                              const std::vector<Case>& cases);

}  // namespace pointsman::e2e
