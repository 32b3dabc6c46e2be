// For tests: a forwarder with real sockets, in a network namespace of its own.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <linux/netlink.h>
#include <memory>
#include <net/if.h>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "kube/process/child_process.h"
#include "node-agent/netlink/link.h"
#include "node-agent/netlink/local_route.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/userspace/forwarder/address_plan.h"
#include "node-agent/userspace/forwarder_link.h"
#include "node-agent/userspace/testing/forwarder_program.h"
#include "node-agent/userspace/testing/sockets.h"

namespace pointsman::agent {

class ForwarderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!EnterFreshNetns()) GTEST_SKIP() << "needs root to make a network namespace";
    // User-Mode Linux has IPv6 as a module; where it is built in there is nothing to load.
    kube::RunChild({"/sbin/modprobe", "ipv6"}, {}, nullptr);
    netlink::Socket route(NETLINK_ROUTE);
    netlink::SetLinkUp(route, "lo");
    netlink::Batch batch;
    for (net::Family family : {net::Family::kIPv4, net::Family::kIPv6}) {
      netlink::AddLocalRoute(batch, forwarder::SlotPrefix(family),
                             static_cast<int>(::if_nametoindex("lo")));
    }
    ASSERT_TRUE(route.Execute(batch).empty());
    char name[] = "/tmp/pointsman-usp.XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    settings_.directory = name;
    settings_.program = testing::ForwarderProgram();
    settings_.version = "test";
    settings_.udp_idle_timeout = std::chrono::milliseconds(250);
    files_ = forwarder::RaiseFileLimit(65536);
  }
  void TearDown() override {
    if (settings_.directory.empty()) return;
    if (link_ == nullptr) link_ = std::make_unique<ForwarderLink>(settings_);
    link_->ExitAll();
    link_.reset();
    std::filesystem::remove_all(settings_.directory);
  }

  void Start() {
    link_ = std::make_unique<ForwarderLink>(settings_);
    ASSERT_EQ(link_->Ensure(), ForwarderLink::Found::kStarted);
    ASSERT_TRUE(link_->Dump().empty());
  }
  static forwarder::Slot MakeSlot(uint32_t number, std::vector<testing::IpPort> backends,
                                  bool udp = false, uint32_t affinity = 0) {
    std::sort(backends.begin(), backends.end());
    return {.number = number,
            .service = "default/s" + std::to_string(number) + "/TCP/IPv4",
            .udp = udp,
            .affinity_seconds = affinity,
            .backends = std::move(backends)};
  }
  void Put(const forwarder::Slot& slot) { link_->Change({slot}, {}, slot.number); }
  testing::IpPort Place(uint32_t number, net::Family family = net::Family::kIPv4) {
    return {forwarder::SlotAddress(family, number), link_->port(family)};
  }
  std::string Greeting(uint32_t number, size_t size = 1) {
    return testing::Receive(testing::ConnectTcp(Place(number)), size);
  }

  ForwarderSettings settings_;
  std::unique_ptr<ForwarderLink> link_;
  uint64_t files_ = 0;  // that this process may have open
};

}  // namespace pointsman::agent
