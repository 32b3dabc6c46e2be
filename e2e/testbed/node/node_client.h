// Commands on a node, by its init. Each call is a connection of its own, so calls may come from
// several threads.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "e2e/traffic/socket.h"

namespace pointsman::e2e {

struct ExecOptions {
  std::map<std::string, std::string> env;  // in addition to the node's init's
  std::string cwd = "/";
  std::string netns;  // a pod's network namespace; "": the node's own
  std::map<std::string, std::string>
      mounts;         // directories only the command sees: where -> what (on the node)
  std::string input;  // stdin
  // The longest silence: the command is killed and std::system_error (ETIMEDOUT) thrown.
  std::chrono::milliseconds timeout{60'000};
};

struct ExecResult {
  int exit = 0;    // 127: no such program
  int signal = 0;  // not 0: killed by it
  std::string out;
  std::string error;
  bool ok() const { return exit == 0 && signal == 0; }
};

struct NodeProcessStatus {
  bool running = false;
  int exit = 0;
  int signal = 0;
};

class NodeClient {
 public:
  // `net_ns` is an open descriptor of the cluster's network namespace, kept by shared ownership.
  NodeClient(std::shared_ptr<UniqueFd> net_ns, std::string address, std::string token);

  // All throw std::system_error when the node cannot be reached and std::runtime_error with the
  // node's own words when it refuses. A command that ran and failed is a result.
  // Returns what tells this boot of the node from any other.
  std::string Ping(std::chrono::milliseconds timeout = std::chrono::milliseconds(1000)) const;
  ExecResult Exec(const std::vector<std::string>& argv, const ExecOptions& options = {}) const;
  // As Exec, but gives the output as it comes (`error`: of stderr); the result holds no output.
  ExecResult ExecStreaming(
      const std::vector<std::string>& argv, const ExecOptions& options,
      const std::function<void(std::string_view data, bool error)>& on_output) const;
  // Exec that must succeed: throws std::runtime_error with command, status and output otherwise.
  // Returns stdout.
  std::string Check(const std::vector<std::string>& argv, const ExecOptions& options = {}) const;

  // A background process with a session of its own; output is appended to `log`, a path on the
  // node.
  pid_t Start(const std::vector<std::string>& argv, const std::string& log,
              const ExecOptions& options = {}) const;
  NodeProcessStatus Status(pid_t pid) const;
  void Signal(pid_t pid, int signal) const;  // to its process group

  void Put(const std::string& path, std::string_view content, unsigned mode = 0644,
           unsigned owner = 0) const;
  std::string Get(const std::string& path) const;

 private:
  UniqueFd Connect(std::chrono::milliseconds timeout) const;
  nlohmann::json Call(nlohmann::json request, std::string_view input,
                      std::chrono::milliseconds timeout,
                      const std::function<void(std::string_view, bool)>& on_output) const;

  std::shared_ptr<UniqueFd> net_ns_;
  std::string address_;
  std::string token_;
};

}  // namespace pointsman::e2e
