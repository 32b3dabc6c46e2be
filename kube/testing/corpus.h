// The inputs to begin with, for what tests and fuzzing do with mutations: the files of fuzz/corpus.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pointsman::testing {

// All of the folder `name`, in the order of their names. Throws std::runtime_error when there is
// none.
std::vector<std::string> Corpus(std::string_view name);

// One of them. Throws std::runtime_error when it cannot be read.
std::string CorpusFile(std::string_view name, std::string_view file);

}  // namespace pointsman::testing
