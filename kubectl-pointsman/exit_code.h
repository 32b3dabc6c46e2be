// What a script learns from how the program ends; docs/kubectl-pointsman.md lists them.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace pointsman::plugin {

enum class ExitCode : uint8_t {
  kOk = 0,
  kError = 1,        // a wrong argument or file, an answer that makes no sense
  kNotFinished = 2,  // the rollout is under way or paused, or not every node has answered
  kFailed = 3,       // the rollout stopped, was rolled back or is refused
  kObjections = 4,   // a node cannot run the mode, or a neighbour objects
  kNotFound = 5,
  kForbidden = 6,  // also when the credentials are not accepted
  kUnreachable = 7,
  kDifferences = 8,  // diff: there are some
  kAborted = 9,      // a question was answered with no
};

// Ends the command with that code. The message names the remedy; it may quote what others wrote.
class Failure : public std::runtime_error {
 public:
  Failure(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

// Of the exception that is being handled: what to print, a line without its end and safe for a
// terminal, and the code to end with.
struct Ending {
  ExitCode code = ExitCode::kError;
  std::string message;
};
Ending EndingOfCurrentException();

}  // namespace pointsman::plugin
