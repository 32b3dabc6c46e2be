// For tests: a mode and its rules alone, in an empty network namespace.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "node-agent/contract/mode_under_test.h"
#include "node-agent/testing/model_maker.h"
#include "node-agent/testing/results.h"

namespace pointsman::agent::testing {

// One with each variant of the iptables tools.
std::vector<Variant> WithEachTool(const std::string& name, kube::Mode mode);
std::string VariantName(const ::testing::TestParamInfo<Variant>& info);

// It serves both families.
class DataplaneOnEmptyNode : public ::testing::TestWithParam<Variant> {
 protected:
  void SetUp() override;
  void TearDown() override;

  // A new process, which has not synced yet.
  void Restart();
  std::unique_ptr<Dataplane> Make() {
    return mode_->MakeDataplane(settings_, {net::Family::kIPv4, net::Family::kIPv6});
  }
  // Of the modes that masquerade by them.
  void EnsureBase();

  kube::ProxySettings settings_;
  std::unique_ptr<ModeUnderTest> mode_;
  std::unique_ptr<Dataplane> dataplane_;
  ModelMaker maker_;
};

}  // namespace pointsman::agent::testing
