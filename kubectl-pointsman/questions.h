// Asks the person in front of the terminal.
#pragma once

#include <ostream>
#include <stop_token>
#include <string>

namespace pointsman::plugin {

class Questions {
 public:
  // `yes`: each is answered with yes, and said.
  Questions(std::ostream& out, bool yes, std::stop_token stop)
      : out_(out), yes_(yes), stop_(std::move(stop)) {}

  // Throws Failure (kAborted) unless the answer on standard input is yes. `otherwise`: what to say
  // of how things stand then.
  void Ask(const std::string& question, const std::string& otherwise);

 private:
  std::string ReadLine();

  std::ostream& out_;
  const bool yes_;
  const std::stop_token stop_;
};

}  // namespace pointsman::plugin
