// Pipes for splice(2), reused: a connection has one only while bytes of it are inside.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/unique_fd.h"
#include "node-agent/userspace/forwarder/sockets.h"

namespace pointsman::forwarder {

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};

// Not thread-safe.
class PipePool {
 public:
  // At most `most` pipes exist; of those not in use `kKept` are kept.
  explicit PipePool(size_t most) : most_(most) {}
  // nullptr: there are `most`, or no file descriptors are left. Empty.
  std::unique_ptr<Pipe> Take();
  // `pipe` is empty; a pipe with bytes inside must be destroyed with Discard.
  void GiveBack(std::unique_ptr<Pipe> pipe);
  void Discard(std::unique_ptr<Pipe> pipe);
  size_t size() const { return size_; }

 private:
  static constexpr size_t kKept = 64;
  const size_t most_;
  size_t size_ = 0;
  std::vector<std::unique_ptr<Pipe>> free_;
};

}  // namespace pointsman::forwarder
