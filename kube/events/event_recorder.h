// Kubernetes Events, as client-go's recorder: repeated Events raise the count of one object rather
// than make new ones, and a source that floods is cut off.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kube/client/client.h"
#include "kube/time/time_source.h"

namespace pointsman::kube {

struct ObjectReference {
  std::string api_version;
  std::string kind;
  std::string ns;  // "" for cluster-scoped objects: their Events go to "default"
  std::string name;
  std::string uid;
};

// Reads kind, apiVersion, name, namespace and uid of an object.
ObjectReference ReferenceTo(const Json& object);

enum class EventType { kNormal, kWarning };

// Thread-safe. Emitting never blocks on the network and never throws: Events are sent by a thread
// of its own from a bounded queue (the oldest are dropped and counted, and said in the log).
class EventRecorder {
 public:
  // `component` is Event.source.component, `host` its host (may be ""). `client` and `time` outlive
  // this.
  EventRecorder(Client& client, std::string component, std::string host,
                TimeSource& time = TimeSource::Real());
  ~EventRecorder();  // sends what is queued for at most 2 s

  // `reason` in CamelCase, `message` a sentence a person can act on. Both may quote anything: what
  // is sent is UTF-8 without control characters, of 1 KiB at most.
  void Emit(const ObjectReference& about, EventType type, const std::string& reason,
            const std::string& message);
  // Events that nobody will see: the queue was full, the source said too much about one object
  // (client-go's rule: 25 at once, then one in 5 minutes) or about the objects of one namespace
  // (100 at once, then one a minute), or the server refused them.
  uint64_t Dropped() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pointsman::kube
