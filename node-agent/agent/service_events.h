// What is not served as it is written: an Event on each such Service or EndpointSlice, once, since
// the person who wrote it looks there and not into this node's log.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "kube/events/event_recorder.h"
#include "node-agent/agent/watches.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/model/model_builder.h"

namespace pointsman::agent {

// Not thread-safe.
class ServiceEvents {
 public:
  // Both outlive this.
  ServiceEvents(kube::EventRecorder& events, const Watches& watches, std::string node_name)
      : events_(events), watches_(watches), node_name_(std::move(node_name)) {}

  // What the model left out; what cannot be read at all is added here.
  void SetProblems(std::vector<ModelProblem> problems);
  // What the active mode left out; sorted.
  void SetWarnings(const std::vector<ServiceWarning>& warnings);

  // Those of which an Event still holds.
  size_t Count() const;
  std::vector<SyncProblem> Some() const;

 private:
  void Emit(const std::string& kind, const std::string& ns, const std::string& name,
            const std::string& message);

  kube::EventRecorder& events_;
  const Watches& watches_;
  const std::string node_name_;
  std::vector<ModelProblem> problems_;    // sorted
  std::vector<ServiceWarning> warnings_;  // sorted
};

}  // namespace pointsman::agent
