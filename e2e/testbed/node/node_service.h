#pragma once

#include <chrono>
#include <string>
#include <sys/types.h>
#include <utility>

#include <nlohmann/json.hpp>

#include "e2e/testbed/node/children.h"

namespace pointsman::e2e {

// Runs commands on the node for the testbed (see frame.h).
class NodeService {
 public:
  // `children` outlives this.
  NodeService(std::string address, nlohmann::json token, Children& children)
      : address_(std::move(address)), token_(std::move(token)), children_(children) {}

  // Throws std::system_error when it cannot listen.
  [[noreturn]] void Serve();

 private:
  void ServeOne(int fd);
  nlohmann::json Answer(int fd, const nlohmann::json& request);
  Children::Status StatusOf(pid_t pid);
  nlohmann::json Start(const nlohmann::json& request);
  nlohmann::json Signal(const nlohmann::json& request);
  nlohmann::json Exec(int fd, const nlohmann::json& request);

  const std::string address_;
  const nlohmann::json token_;
  // Another one after each boot: what remembers processes or networks of this node sees by it that
  // they are gone.
  const std::string boot_id_ =
      std::to_string(std::chrono::system_clock::now().time_since_epoch().count());
  Children& children_;
};

}  // namespace pointsman::e2e
