#include "node-agent/userspace/forwarder/pipe_pool.h"

#include <fcntl.h>
#include <unistd.h>

namespace pointsman::forwarder {

std::unique_ptr<Pipe> PipePool::Take() {
  if (!free_.empty()) {
    std::unique_ptr<Pipe> pipe = std::move(free_.back());
    free_.pop_back();
    return pipe;
  }
  int fds[2];
  if (size_ >= most_ || ::pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0) return nullptr;
  ++size_;
  auto pipe = std::make_unique<Pipe>();
  pipe->read_end.Reset(fds[0]);
  pipe->write_end.Reset(fds[1]);
  return pipe;
}

void PipePool::GiveBack(std::unique_ptr<Pipe> pipe) {
  if (free_.size() >= kKept) {
    Discard(std::move(pipe));
  } else {
    free_.push_back(std::move(pipe));
  }
}

void PipePool::Discard(std::unique_ptr<Pipe> pipe) {
  pipe.reset();
  --size_;
}

}  // namespace pointsman::forwarder
