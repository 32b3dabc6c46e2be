// Says what a diff tells of, for Verify.
#pragma once

#include <string>

#include "node-agent/dataplane/dataplane.h"
#include "node-agent/ipvs/diff.h"

namespace pointsman::agent::ipvs {

class DiffReport final : public DiffVisitor {
 public:
  // `result` outlives this.
  explicit DiffReport(VerifyResult& result) : result_(result) {}

  void BeginFrontend(const FrontendKey& key, const Frontend& frontend) override;
  void EndFrontend() override { frontend_ = nullptr; }
  void MissingVip(const net::IpAddress& ip) override;
  void SurplusVip(const net::IpAddress& ip) override;
  void MissingElement(const SetEntry& element, const ServicePortEntry* entry) override;
  void SurplusElement(const SetEntry& element, bool stays_open) override;
  // Destinations of weight 0 are no difference: their connections are let end.
  bool Server(const ServerDiff& diff) override;

 private:
  // The frontend that has begun; else `key`.
  std::string Object(const FrontendKey& key) const;

  VerifyResult& result_;
  const Frontend* frontend_ = nullptr;
};

}  // namespace pointsman::agent::ipvs
