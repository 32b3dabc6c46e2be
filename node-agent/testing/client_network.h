// For tests: a node with clients and endpoints as namespaces of their own, and a Service.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "kube/net/socket_address.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/model_maker.h"
#include "node-agent/testing/run_tool.h"
#include "node-agent/testing/test_network.h"

namespace pointsman::agent::testing {

// The test's thread is the node. pod1 to pod3 are clients, pod4 and pod5 are default/web's
// endpoints, "outside" is a machine elsewhere.
class ClientNetworkTest : public FreshNetnsTest {
 protected:
  void SetUp() override;
  void TearDown() override;
  // A tool with these words.
  static void Tool(const std::string& line);
  // iptables(8) as the agent uses it here, with these words.
  static void Iptables(const std::string& line);
  // Within 10 s.
  static bool Await(const std::function<bool()>& condition);

  const net::IpPort kWeb{Ip("10.96.0.10"), 80};
  const net::IpPort kNodePort{Ip("192.168.77.1"), 30'080};
  std::optional<TestNetwork> network_;
  ModelMaker maker_;
};

}  // namespace pointsman::agent::testing
