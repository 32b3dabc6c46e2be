#include "node-agent/contract/empty_node.h"

#include <stdexcept>

#include "node-agent/dataplane/mode_traits.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/run_tool.h"

namespace pointsman::agent::testing {

std::vector<Variant> WithEachTool(const std::string& name, kube::Mode mode) {
  return {{name + "_legacy", mode, "legacy"}, {name + "_nft", mode, "nft"}};
}

std::string VariantName(const ::testing::TestParamInfo<Variant>& info) {
  return info.param.name;
}

void DataplaneOnEmptyNode::SetUp() {
  if (!EnterFreshNetns()) GTEST_SKIP() << "needs root to make a network namespace";
  RunTool({"ip", "link", "set", "lo", "up"});
  settings_.mode = GetParam().mode;
  settings_.cluster_cidrs = {net::IpPrefix::Parse("10.244.0.0/16").value()};
  maker_.model.node.node_name = "node";
  try {
    mode_ = ModeUnderTest::Make(GetParam());
  } catch (const std::runtime_error& error) {
    GTEST_SKIP() << error.what();
  }
  Restart();
  EnsureBase();
}

void DataplaneOnEmptyNode::TearDown() {
  if (dataplane_ != nullptr) EXPECT_SYNCED(dataplane_->Remove());
}

void DataplaneOnEmptyNode::Restart() {
  dataplane_.reset();
  dataplane_ = Make();
}

void DataplaneOnEmptyNode::EnsureBase() {
  if (TraitsOf(settings_.mode).uses_iptables) EXPECT_SYNCED(mode_->EnsureBase(settings_));
}

}  // namespace pointsman::agent::testing
