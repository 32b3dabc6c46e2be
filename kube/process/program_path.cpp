#include "kube/process/program_path.h"

#include <filesystem>
#include <system_error>

#include <unistd.h>

namespace pointsman::kube {

std::string ProgramBesideThis(const std::string& name) {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return "";
  std::string program = self.parent_path() / name;
  return ::access(program.c_str(), X_OK) == 0 ? program : "";
}

}  // namespace pointsman::kube
