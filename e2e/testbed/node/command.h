#pragma once

#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "e2e/traffic/socket.h"

namespace pointsman::e2e {

// argv, environment and namespaces of a command, made before the fork: after it nothing may
// allocate.
struct Command {
  std::vector<std::string> argv, environment;
  std::vector<char*> argv_pointers, environment_pointers;
  std::string cwd;
  UniqueFd netns;
  // Bind mounts that only this command sees: from, to.
  std::vector<std::pair<std::string, std::string>> mounts;

  explicit Command(const nlohmann::json& request);

  // In the child.
  [[noreturn]] void Exec(int in, int out, int error);
};

}  // namespace pointsman::e2e
