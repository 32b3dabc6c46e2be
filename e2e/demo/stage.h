// What a person sees of a demo: steps with titles, commands with their output, and what is waited
// for, line by line.
#pragma once

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <string>
#include <sys/signalfd.h>
#include <system_error>
#include <utility>
#include <vector>

#include <poll.h>
#include <signal.h>

#include "base/unique_fd.h"
#include "e2e/scenarios/stall_watch.h"
#include "e2e/scenarios/world.h"

namespace pointsman::e2e {

class Interrupted : public std::runtime_error {
 public:
  Interrupted() : std::runtime_error("interrupted") {}
};

// Ctrl-C and SIGTERM, looked for between steps and while waiting, so that everything the demo made
// is taken down in order.
class Signals {
 public:
  Signals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGINT);
    sigaddset(&set_, SIGTERM);
    sigaddset(&set_, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    fd_.Reset(signalfd(-1, &set_, SFD_CLOEXEC));
    if (!fd_) throw std::system_error(errno, std::generic_category(), "signalfd");
  }

  // True: one came within the time (negative: however long it takes).
  bool Wait(std::chrono::milliseconds time) const {
    pollfd one{fd_.get(), POLLIN, 0};
    return poll(&one, 1, static_cast<int>(time.count())) > 0;
  }
  void Check() const {
    if (Wait(std::chrono::milliseconds(0))) throw Interrupted();
  }

 private:
  sigset_t set_{};
  UniqueFd fd_;
};

// Of the ProxyConfiguration "cluster"; `more`: lines of its spec.
std::string ConfigurationYaml(const std::string& mode, const std::string& more);

// Not thread-safe.
class Stage {
 public:
  static constexpr char kNamespace[] = "pointsman-system";

  Stage(WorldOptions options, const Signals& signals)
      : source_dir_(options.source_dir), world_(std::move(options)), signals_(signals) {}

  World& world() { return world_; }

  void Title(const std::string& text);
  // Boots what the options say, and shows the nodes.
  void Start();
  // With kubectl, as the README says; waits until all of it is ready.
  void Install();
  void Show(const std::vector<std::string>& kubectl);
  // The first lines of a command's output on a node; only those with `sign` in them when there is
  // one.
  void ShowOnNode(const std::string& node, const std::vector<std::string>& argv, size_t lines,
                  const std::string& sign = "");
  void Apply(const std::string& yaml);  // kubectl apply -f -, with what is applied
  void WatchWorkload(const std::string& ns, const std::string& workload);
  // One line whenever it has moved, for as long as it moves. `evidence`: what to look at when it
  // does not.
  void Watch(const std::string& what, const std::function<Progress()>& look,
             const std::function<std::string()>& evidence);
  // Of the ProxyConfiguration "cluster", and until nothing drains.
  void WatchRollout();

  // A client that goes on until EndTraffic. `who`: for its line there. `timeout`: of a connection.
  void StartTraffic(const std::string& who, const Node& node, const std::string& netns,
                    const std::vector<std::string>& targets, int new_per_second,
                    const std::string& protocol, int streams, const std::string& timeout = "3s");
  void AwaitTraffic();  // until each has had answers
  // Says of each what it had, and returns whether nothing was lost.
  bool EndTraffic();

 private:
  struct Traffic {
    std::string who;
    World::Load load;
  };
  std::string TrafficLine();

  const std::filesystem::path source_dir_;
  World world_;
  const Signals& signals_;
  std::vector<Traffic> traffic_;
};

}  // namespace pointsman::e2e
