// What can come next on the command line, and the scripts that ask for it.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace pointsman::plugin {

// Names that only the cluster knows.
struct Completer {
  std::function<std::vector<std::string>()> nodes;
  std::function<std::vector<std::string>()> configurations;
  std::function<std::vector<std::string>()> services;  // "default/web"
};

struct Completion {
  std::vector<std::string> words;
  bool files = false;  // names of files do too
};

// `words`: those behind the program's name; the last one is being typed, and may be empty.
Completion Complete(const std::vector<std::string>& words, const Completer& completer);

// As kubectl takes it from a plugin (and cobra's scripts from any program): a word a line, then
// ":DIRECTIVE".
std::string CompletionAnswer(const Completion& completion);

// `shell`: bash, zsh or fish; kubectl: what is to be in $PATH as kubectl_complete-pointsman.
std::string_view CompletionScript(std::string_view shell);

}  // namespace pointsman::plugin
