// Writes what a diff tells of.
#pragma once

#include "node-agent/ipvs/diff.h"
#include "node-agent/ipvs/graceful_termination.h"
#include "node-agent/ipvs/writer.h"

namespace pointsman::agent::ipvs {

class DiffWriter final : public DiffVisitor {
 public:
  // They outlive this. `counted`: see GracefulTermination::Write.
  DiffWriter(Writer& writer, GracefulTermination& termination, bool counted)
      : writer_(writer), termination_(termination), counted_(counted) {}
  // Counts in repaired() the writes for frontends that `written`, which outlives this, has from the
  // same entry: the kernel held something else than was written.
  void CountRepairs(const FrontendTable& written) { written_ = &written; }
  uint64_t repaired() const { return repaired_; }

  void BeginFrontend(const FrontendKey& key, const Frontend& frontend) override;
  void EndFrontend() override;
  void MissingVip(const net::IpAddress& ip) override { writer_.AddVip(ip); }
  void SurplusVip(const net::IpAddress& ip) override { writer_.RemoveVip(ip); }
  void MissingElement(const SetEntry& element, const ServicePortEntry* entry) override {
    writer_.AddElement(element, entry);
  }
  void SurplusElement(const SetEntry& element, bool stays_open) override {
    writer_.DeleteElement(element, stays_open);
  }
  bool Server(const ServerDiff& diff) override {
    return termination_.Write(writer_, diff, counted_);
  }

 private:
  Writer& writer_;
  GracefulTermination& termination_;
  const bool counted_;
  const FrontendTable* written_ = nullptr;
  bool was_written_ = false;     // the frontend that has begun
  uint64_t planned_before_ = 0;  // it
  uint64_t repaired_ = 0;
};

}  // namespace pointsman::agent::ipvs
