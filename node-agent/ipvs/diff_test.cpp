#include "node-agent/ipvs/diff.h"

#include <algorithm>
#include <linux/ip_vs.h>
#include <random>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "node-agent/ipvs/diff_report.h"
#include "node-agent/testing/random_model.h"

namespace pointsman::agent::ipvs {
namespace {

using agent::testing::ModelMaker;
using agent::testing::RandomModel;

// Keeps what the kernel would hold after a diff is written. A destination that is not wanted has
// weight 0 from then on.
class NextState final : public DiffVisitor {
 public:
  explicit NextState(const KernelState& now) : elements_(now.elements.begin(), now.elements.end()) {
    next_.servers = now.servers;
    next_.vips = now.vips;
  }
  KernelState Take() {
    next_.elements.assign(elements_.begin(), elements_.end());
    return std::move(next_);
  }

  void BeginFrontend(const FrontendKey&, const Frontend&) override {}
  void EndFrontend() override {}
  void MissingVip(const net::IpAddress& ip) override { EXPECT_TRUE(next_.vips.insert(ip).second); }
  void SurplusVip(const net::IpAddress& ip) override { EXPECT_EQ(next_.vips.erase(ip), 1U); }
  void MissingElement(const SetEntry& element, const ServicePortEntry*) override {
    EXPECT_TRUE(elements_.insert(element).second) << SetName(element.set, net::Family::kIPv4);
  }
  void SurplusElement(const SetEntry& element, bool) override {
    EXPECT_EQ(elements_.erase(element), 1U) << SetName(element.set, net::Family::kIPv4);
  }
  bool Server(const ServerDiff& diff) override {
    ServerState state;
    if (diff.present != nullptr) state = *diff.present;
    state.server = diff.server;
    const auto find = [&](const netlink::IpvsDestination* d) {
      return std::find_if(
          state.destinations.begin(), state.destinations.end(),
          [d](const auto& other) { return other.address == d->address && other.port == d->port; });
    };
    for (const netlink::IpvsDestination* d : diff.changed)
      *find(d) = MakeDestination(d->address, d->port);
    for (const netlink::IpvsDestination* d : diff.surplus)
      find(d)->weight = 0;
    state.destinations.insert(state.destinations.end(), diff.missing.begin(), diff.missing.end());
    SortDestinations(state.destinations);
    const bool stays = !state.destinations.empty();
    next_.servers.erase(diff.key);
    if (stays) next_.servers.emplace(diff.key, std::move(state));
    return stays;
  }

 private:
  KernelState next_;
  std::set<SetEntry> elements_;
};

class DiffTest : public ::testing::Test {
 protected:
  DesiredState Desired() const {
    return MakeDesiredState(
        maker_.model, {.host = host_, .room = room_, .serves = [](net::Family) { return true; }});
  }
  void Write() {
    DesiredState desired = Desired();
    NextState next(kernel_);
    Diff(desired, kernel_, schedulers_, host_, next);
    kernel_ = next.Take();
  }
  VerifyResult Verify() const {
    DesiredState desired = Desired();
    VerifyResult result;
    DiffReport report(result);
    result.objects_checked += Diff(desired, kernel_, schedulers_, host_, report);
    return result;
  }

  HostAddresses host_{{net::IpAddress::V4(0xc0a83201)}};
  Room room_;
  Schedulers schedulers_{"rr", [](const std::string&) { return std::string(); }};
  ModelMaker maker_;
  KernelState kernel_;
};

TEST_F(DiffTest, AfterItIsWrittenNothingDiffers) {
  RandomModel random(1);
  for (int step = 0; step < 80; ++step) {
    random.Step(maker_);
    Write();
    const VerifyResult result = Verify();
    ASSERT_TRUE(result.ok()) << "step " << step << ": " << result.differences[0].object << " "
                             << result.differences[0].message;
    ASSERT_GT(result.objects_checked, 0U);
  }
}

TEST_F(DiffTest, WhateverIsDamagedDiffers) {
  RandomModel random(1);
  for (int step = 0; step < 8; ++step)
    random.Step(maker_);
  Write();
  ASSERT_FALSE(kernel_.elements.empty());
  ASSERT_FALSE(kernel_.vips.empty());
  const KernelState whole = kernel_;
  for (size_t i = 0; i < whole.elements.size(); ++i) {
    kernel_ = whole;
    kernel_.elements.erase(kernel_.elements.begin() + static_cast<ptrdiff_t>(i));
    EXPECT_EQ(Verify().difference_count, 1U) << SetName(whole.elements[i].set, net::Family::kIPv4);
  }
  for (const net::IpAddress& vip : whole.vips) {
    kernel_ = whole;
    kernel_.vips.erase(vip);
    EXPECT_EQ(Verify().difference_count, 1U) << vip.ToString();
  }
  for (const auto& [key, server] : whole.servers) {
    kernel_ = whole;
    kernel_.servers.erase(key);
    EXPECT_FALSE(Verify().ok()) << key.ToString();
    kernel_ = whole;
    kernel_.servers.at(key).server.scheduler = "wrr";
    EXPECT_EQ(Verify().difference_count, 1U) << key.ToString();
    for (size_t i = 0; i < server.destinations.size(); ++i) {
      kernel_ = whole;
      kernel_.servers.at(key).destinations[i].weight = 7;
      EXPECT_EQ(Verify().difference_count, 1U) << key.ToString();
    }
  }
  // What nobody wants: a virtual server of ours, and a VIP.
  kernel_ = whole;
  const FrontendKey gone{net::IpAddress::V4(0x0a600fff), 80, 6};
  kernel_.elements.push_back(OwnedElement(gone));
  std::sort(kernel_.elements.begin(), kernel_.elements.end());
  EXPECT_EQ(Verify().difference_count, 1U) << "the record alone";
  ServerState& server = kernel_.servers[gone];
  server.destinations.push_back(MakeDestination(net::IpAddress::V4(0x0af40001), 80));
  EXPECT_EQ(Verify().difference_count, 1U) << "it takes connections";
  server.destinations[0].weight = 0;
  EXPECT_TRUE(Verify().ok()) << "its connections are let end";
  kernel_.vips.insert(gone.ip);
  EXPECT_EQ(Verify().difference_count, 1U);
}

}  // namespace
}  // namespace pointsman::agent::ipvs
