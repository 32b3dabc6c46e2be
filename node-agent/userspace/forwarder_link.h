// The agent's hold on the forwarder: finds a running one or starts one, keeps its table as it
// should be, and starts another one at once when it ends.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <thread>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "node-agent/userspace/forwarder/protocol.h"
#include "node-agent/userspace/forwarder/sockets.h"
#include "node-agent/userspace/forwarder_session.h"

namespace pointsman::agent {

struct ForwarderSettings {
  std::string program;  // path of pointsman-forwarder
  // The socket of a `pointsman-forwarder --launcher` that starts forwarders, and nobody else does;
  // "": forwarders are children of this process.
  std::string launcher;
  // How long the launcher may take to be there: its container is started with the agent's.
  std::chrono::milliseconds launcher_patience{5000};
  // Of the control sockets; made with mode 0700, and removed when it is empty.
  std::string directory = "/run/pointsman/forwarder";
  // A running forwarder of another version, or on a port outside the range, is replaced.
  std::string version;
  forwarder::PortRange port_range;
  std::chrono::nanoseconds udp_idle_timeout{0};
  uint32_t mark = 0;
  uint64_t max_files = uint64_t{1} << 20;
  std::string log_format = "text";  // of one that is started: "text" or "json"
};

// Thread-safe. Works in the network namespace of the thread that makes it.
class ForwarderLink {
 public:
  explicit ForwarderLink(ForwarderSettings settings);
  // The forwarder goes on.
  ~ForwarderLink();
  ForwarderLink(const ForwarderLink&) = delete;
  ForwarderLink& operator=(const ForwarderLink&) = delete;

  enum class Found { kConnected, kAdopted, kStarted };
  // Makes sure that there is a forwarder, and that it is not draining. kStarted: its table is
  // empty, or what this link has put into it before. Throws std::runtime_error that says why it
  // cannot be started.
  Found Ensure();
  // Like Ensure, but starts none. False: there is none.
  bool Adopt();
  uint16_t port(net::Family family);
  uint32_t last_slot();

  // What the forwarder has; also what another agent has put there. Throws.
  std::vector<forwarder::Slot> Dump();
  // Changes its table. `last_slot`: see SlotMap. Throws.
  void Change(std::vector<forwarder::Slot> set, const std::vector<uint32_t>& removed,
              uint32_t last_slot);
  forwarder::Stats Statistics();
  // The clients' affinity as the forwarder that serves new connections has it, also one of another
  // version of the agent. Starts none, and does not wait longer than 2 s for its next word. Throws
  // std::runtime_error that says why it is not known; the link to the forwarder is as before then.
  std::vector<forwarder::ServiceBindings> Bindings();
  // Gives it to our forwarder. Returns for how many there is no place. Throws.
  size_t Bind(const std::vector<forwarder::ServiceBindings>& given);
  // Nothing is started for it: all 0 when there is no forwarder. Connections and flows are those of
  // all forwarders of this network namespace, which end when they have not been asked for
  // `longest`, or have nothing left and this link has ended; ExitAll ends them.
  forwarder::Stats Drain(std::chrono::seconds longest);

  // Drains the forwarders of other versions, and any second one.
  void RetireOthers(std::chrono::seconds longest);
  // Ends all forwarders of this network namespace, removes what they leave in the directory.
  // Returns how many there were.
  size_t ExitAll();
  // Is there any forwarder of this network namespace?
  bool AnyPresent();
  // Of the forwarder; 0: none.
  pid_t pid();

 private:
  using Lock = std::unique_lock<std::mutex>;
  struct Known {
    std::string path;
    std::unique_ptr<ForwarderSession> session;
  };
  // Forwarders of this network namespace that answer, but for ours.
  // Files that killed ones left in the directory are removed: ours, old ones, or (`clear`) all.
  std::vector<Known> Look(bool clear = false);
  bool AdoptLocked();
  void Start();
  void PushAll();
  void Watch(const std::stop_token& stop);
  void Recover();
  void Lost();
  void Reap();
  void Wake() const;
  template <typename Call>
  auto WithSession(const Call& call) -> decltype(call(std::declval<ForwarderSession&>()));

  const ForwarderSettings settings_;
  const uint64_t netns_;
  std::mutex mutex_;
  std::unique_ptr<ForwarderSession> session_;
  std::string path_;
  std::string lost_path_;  // of the one before
  pid_t child_ = -1;
  uint16_t port_ = 0;  // the successor of a dead one gets the same
  bool want_ = false;  // there shall be one: it is started again
  bool draining_ = false;
  std::map<uint32_t, forwarder::Slot> table_;
  bool table_known_ = false;
  uint32_t last_slot_ = 0;
  uint64_t generation_ = 0;
  UniqueFd wake_;
  std::jthread watcher_;
};

}  // namespace pointsman::agent
