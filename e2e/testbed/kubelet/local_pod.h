// A Pod as the node that runs it knows it.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include <nlohmann/json.hpp>

#include "e2e/testbed/cluster.h"
#include "kube/client/client.h"

namespace pointsman::e2e {

using KubeletClock = std::chrono::steady_clock;

// What the parts of a node's kubelet work with. All of it outlives them; `client` is thread-safe.
struct KubeletNode {
  Cluster& cluster;
  const Node& node;
  kube::Client& client;
};

struct LocalContainer {
  std::string name;
  pid_t pid = 0;
  bool running = false;
  bool started_once = false;
  bool ready = false;
  int restarts = 0;
  std::string started_at;
  std::string last_end;  // how it ended last
  KubeletClock::time_point next_start;
  KubeletClock::time_point next_probe;
  std::chrono::milliseconds backoff{100};
  KubeletClock::time_point next_live_probe;
  int live_failures = 0;
  std::optional<KubeletClock::time_point> kill_at;  // its liveness probe failed
};

struct LocalPod {
  nlohmann::json object;
  std::string ip;
  bool network = false;
  std::string error;  // why it cannot run
  std::string started_at;
  std::vector<LocalContainer> containers;
  std::optional<KubeletClock::time_point> terminating;
  bool killed = false;
  nlohmann::json reported;  // the status last written
  KubeletClock::time_point renew_token;
  int tokens_wanted = 0;
  bool was_ready = false;
  std::string ready_since;

  std::string Name() const;
  std::string Namespace() const;
  bool OnHostNetwork() const;
  std::string NetworkName() const;  // of its network namespace; empty: the node's
  std::string Directory() const;    // on the node
  std::string VolumesDirectory() const;
  bool AnyRunning() const;
  // The node was booted: neither processes nor networks are there any more.
  void Lose();
};

// metav1.Time of now.
std::string TimeOfNow();

// POST or DELETE with a body that the client's own calls do not have. Throws kube::ApiError.
nlohmann::json SendBody(kube::Transport& transport, const std::string& method,
                        const std::string& target, const nlohmann::json& body);

}  // namespace pointsman::e2e
