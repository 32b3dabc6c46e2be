// The operator's program against an API server, driven by kubectl.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "e2e/testbed/process.h"
#include "kube/client/client.h"
#include "operator/e2e/fake_agents.h"

namespace pointsman::op {

class OperatorTest : public ::testing::Test {
 protected:
  void SetUp() override;
  // All is there but the operator.
  virtual void BeforeOperator() {}

  void TearDown() override;

  static std::string Program(const std::string& name);
  std::string File(const std::string& name) const { return (directory_ / name).string(); }
  std::string Read(const std::string& name) const;

  void StartOperator();

  std::string FreePort();

  std::string Metrics() const;

  e2e::RunResult TryKubectl(const std::vector<std::string>& arguments,
                            const std::string& input = "");
  std::string Kubectl(const std::vector<std::string>& arguments, const std::string& input = "");
  void Apply(const std::string& mode, const std::string& more = "");
  // Nodes that run that mode, as the ProxyConfiguration says.
  bool Complete(const std::string& mode, int nodes);

  std::string kubectl_ = "kubectl";
  std::filesystem::path directory_;
  std::string kubeconfig_;
  std::string operator_kubeconfig_;  // as whom the operator runs
  uint16_t metrics_port_ = 0;
  std::unique_ptr<kube::Client> client_;
  std::unique_ptr<FakeAgents> agents_;
  e2e::Process server_;
  e2e::Process operator_;
};

}  // namespace pointsman::op
