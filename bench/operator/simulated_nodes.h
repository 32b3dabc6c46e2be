// The node agents of a large cluster in one process: each NodeProxy is answered with a status of a
// real one's size, by agents that have no kernel.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "kube/cache/informer.h"
#include "kube/client/client.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/queue/work_queue.h"

namespace pointsman::bench {

// A Ready Node as a cloud's kubelet keeps it: labels, conditions, images; some 10 KB.
kube::Json NodeObject(int number);

class SimulatedNodes {
 public:
  // `client` outlives this. `writers`: threads that report.
  SimulatedNodes(kube::Client& client, int writers);
  ~SimulatedNodes();
  SimulatedNodes(const SimulatedNodes&) = delete;
  SimulatedNodes& operator=(const SimulatedNodes&) = delete;

  // Statuses that were written, and tries that failed and were repeated.
  uint64_t Reports() const { return reports_; }
  uint64_t Failures() const { return failures_; }

 private:
  void Work();
  void Answer(const std::string& name);

  kube::Client& client_;
  std::atomic<uint64_t> reports_{0};
  std::atomic<uint64_t> failures_{0};
  kube::WorkQueue queue_;
  std::unique_ptr<kube::Informer<kube::NodeProxy>> informer_;
  std::vector<std::jthread> workers_;
};

}  // namespace pointsman::bench
