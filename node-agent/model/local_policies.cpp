#include "node-agent/model/local_policies.h"

namespace pointsman::agent {
namespace {

size_t Drops(const BackendChoice& choice) {
  return choice.backends.empty() && choice.when_empty == BackendChoice::WhenEmpty::kDrop ? 1 : 0;
}

}  // namespace

void LocalPolicies::Apply(const ModelDelta& delta) {
  for (const EntryChange& change : delta.changes) {
    if (change.before) {
      internal_ -= Drops(change.before->internal);
      external_ -= Drops(change.before->external);
    }
    if (change.after) {
      internal_ += Drops(change.after->internal);
      external_ += Drops(change.after->external);
    }
  }
}

}  // namespace pointsman::agent
