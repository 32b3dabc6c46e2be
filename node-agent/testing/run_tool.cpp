#include "node-agent/testing/run_tool.h"

#include <stdexcept>

#include <unistd.h>

#include "kube/process/child_process.h"

namespace pointsman::agent::testing {

int TryTool(const std::vector<std::string>& argv, std::string* output) {
  std::vector<std::string> full = argv;
  for (const char* folder : {"/usr/sbin/", "/usr/bin/", "/sbin/", "/bin/"}) {
    if (access((folder + argv[0]).c_str(), X_OK) == 0) {
      full[0] = folder + argv[0];
      break;
    }
  }
  std::string text;
  const kube::ChildExit exit =
      kube::RunChild(full, {}, [&](std::string_view piece) { text += piece; });
  if (output != nullptr) *output = text + exit.error_output;
  return exit.status;
}

std::string RunTool(const std::vector<std::string>& argv) {
  std::string output;
  const int status = TryTool(argv, &output);
  if (status == 0) return output;
  std::string command;
  for (const std::string& word : argv)
    command += word + " ";
  throw std::runtime_error(command + "failed (" + std::to_string(status) + "): " + output);
}

}  // namespace pointsman::agent::testing
