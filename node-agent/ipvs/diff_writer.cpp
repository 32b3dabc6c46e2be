#include "node-agent/ipvs/diff_writer.h"

namespace pointsman::agent::ipvs {
void DiffWriter::BeginFrontend(const FrontendKey& key, const Frontend& frontend) {
  const Frontend* before = written_ != nullptr ? written_->Find(key) : nullptr;
  was_written_ = before != nullptr && before->entry == frontend.entry;
  planned_before_ = writer_.planned();
}

void DiffWriter::EndFrontend() {
  if (was_written_) repaired_ += writer_.planned() - planned_before_;
  if (writer_.IsFull()) writer_.Flush();
}

}  // namespace pointsman::agent::ipvs
