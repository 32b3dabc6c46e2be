#include "kubectl-pointsman/questions.h"

#include <poll.h>
#include <unistd.h>

#include "kubectl-pointsman/exit_code.h"

namespace pointsman::plugin {

// "" at the end of the input, and when the program is told to end.
std::string Questions::ReadLine() {
  constexpr size_t kMost = 64;
  std::string line;
  while (!stop_.stop_requested()) {
    pollfd input{STDIN_FILENO, POLLIN, 0};
    if (poll(&input, 1, 200) <= 0) continue;
    char c = '\n';
    if (read(STDIN_FILENO, &c, 1) != 1) return "";
    if (c == '\n') return line;
    if (line.size() < kMost) line += c;
  }
  return "";
}

void Questions::Ask(const std::string& question, const std::string& otherwise) {
  out_ << question << " [y/N] " << std::flush;
  std::string answer = "yes";
  if (yes_) {
    out_ << "yes (--yes)\n";
  } else {
    answer = ReadLine();
    if (isatty(STDIN_FILENO) == 0) out_ << answer << "\n";
  }
  if (answer != "y" && answer != "yes" && answer != "Y")
    throw Failure(ExitCode::kAborted, "not done: " + otherwise);
}

}  // namespace pointsman::plugin
