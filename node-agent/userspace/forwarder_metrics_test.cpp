// Real forwarders and real traffic, read as the agent's /metrics reads them.
#include "node-agent/userspace/forwarder_metrics.h"

#include <filesystem>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>
#include <signal.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "kube/testing/eventually.h"
#include "node-agent/netlink/link.h"
#include "node-agent/netlink/local_route.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/userspace/forwarder_link.h"
#include "node-agent/userspace/testing/forwarder_program.h"
#include "node-agent/userspace/testing/sockets.h"

namespace pointsman::agent {
namespace {

using forwarder::Slot;
using namespace testing;  // the helpers of userspace/testing; GoogleTest's are not used by name
using namespace std::chrono_literals;

class ForwarderMetricsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!EnterFreshNetns()) GTEST_SKIP() << "needs root to make a network namespace";
    netlink::Socket route(NETLINK_ROUTE);
    netlink::SetLinkUp(route, "lo");
    netlink::Batch batch;
    netlink::AddLocalRoute(batch, forwarder::SlotPrefix(net::Family::kIPv4),
                           static_cast<int>(::if_nametoindex("lo")));
    ASSERT_TRUE(route.Execute(batch).empty());
    char name[] = "/tmp/pointsman-usp.XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    settings_.directory = name;
    settings_.program = testing::ForwarderProgram();
    settings_.version = "test";
    settings_.udp_idle_timeout = 60s;
  }
  void TearDown() override {
    if (settings_.directory.empty()) return;
    if (link_ == nullptr) link_ = std::make_unique<ForwarderLink>(settings_);
    link_->ExitAll();
    std::filesystem::remove_all(settings_.directory);
  }

  void Start() {
    link_ = std::make_unique<ForwarderLink>(settings_);
    link_->Ensure();
  }
  void Put(uint32_t number, std::vector<IpPort> backends, bool udp = false) {
    std::sort(backends.begin(), backends.end());
    link_->Change({{.number = number,
                    .service = "default/s" + std::to_string(number),
                    .udp = udp,
                    .backends = std::move(backends)}},
                  {}, number);
  }
  IpPort Place(uint32_t number) {
    return {forwarder::SlotAddress(net::Family::kIPv4, number), link_->port(net::Family::kIPv4)};
  }

  // The value of a series as a scrape sees it; -1: there is none.
  static double Value(const prometheus::Registry& registry, const std::string& series) {
    const std::string text = "\n" + prometheus::TextSerializer().Serialize(registry.Collect());
    const size_t at = text.find("\n" + series + " ");
    return at == std::string::npos ? -1 : std::stod(text.substr(at + series.size() + 2));
  }
  double Value(const std::string& series) {
    metrics_->Read();
    return Value(registry_, series);
  }
  bool Becomes(const std::string& series, double value) {
    return Eventually([&] { return Value(series) == value; });
  }

  ForwarderSettings settings_;
  std::unique_ptr<ForwarderLink> link_;
  prometheus::Registry registry_;
  std::unique_ptr<ForwarderMetrics> metrics_;
};

TEST_F(ForwarderMetricsTest, NothingIsSeenWithoutAForwarder) {
  metrics_ = std::make_unique<ForwarderMetrics>(registry_, settings_.directory);
  metrics_->Read();
  EXPECT_TRUE(registry_.Collect().empty());
  ForwarderMetrics(registry_, settings_.directory + "/none").Read();
  EXPECT_TRUE(registry_.Collect().empty());
}

// Stopped, as one whose node has no time for it, or that hangs in the kernel.
TEST_F(ForwarderMetricsTest, AForwarderThatHangsHoldsUpNobody) {
  Start();
  metrics_ = std::make_unique<ForwarderMetrics>(registry_, settings_.directory);
  const EchoServer server(At("127.0.0.1", 0), "hello");
  Put(1, {server.place()});
  UniqueFd open = ConnectTcp(Place(1));
  EXPECT_EQ(Receive(open, 5), "hello");
  EXPECT_TRUE(Becomes("pointsman_forwarder_tcp_connections_total", 1));
  EXPECT_EQ(Value("pointsman_forwarder_silent"), 0);

  const pid_t hanging = link_->pid();
  ASSERT_EQ(::kill(hanging, SIGSTOP), 0);
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(AtOnce([&] { metrics_->Read(20ms); }));
    EXPECT_EQ(Value(registry_, "pointsman_forwarder_tcp_connections_total"), 1);
  }
  EXPECT_TRUE(Eventually([&] {
    metrics_->Read(20ms);
    return Value(registry_, "pointsman_forwarder_silent") == 1;
  }));
  EXPECT_EQ(Value(registry_, "pointsman_forwarder_tcp_connections_total"), 1);

  ASSERT_EQ(::kill(hanging, SIGCONT), 0);
  UniqueFd another = ConnectTcp(Place(1));
  EXPECT_EQ(Receive(another, 5), "hello");
  EXPECT_TRUE(Becomes("pointsman_forwarder_tcp_connections_total", 2));
  EXPECT_EQ(Value("pointsman_forwarder_silent"), 0);
}

TEST_F(ForwarderMetricsTest, TcpConnectionsBytesRetriesAndFailures) {
  metrics_ = std::make_unique<ForwarderMetrics>(registry_, settings_.directory);
  Start();
  const EchoServer server(At("127.0.0.1", 0), "hello");
  // Port 1 of the loopback refuses: the table's order makes it the first that is asked.
  const IpPort refuses = At("127.0.0.1", 1);
  Put(1, {refuses, server.place()});
  Put(2, {refuses});

  UniqueFd open = ConnectTcp(Place(1));
  EXPECT_EQ(Receive(open, 5), "hello");
  Send(open, "0123456789");
  EXPECT_EQ(Receive(open, 10), "0123456789");
  EXPECT_TRUE(Becomes("pointsman_forwarder_tcp_connections", 1));
  EXPECT_EQ(Value("pointsman_forwarder_tcp_connections_total"), 1);
  EXPECT_EQ(Value("pointsman_forwarder_bytes_total{direction=\"to_backend\",protocol=\"TCP\"}"),
            10);
  EXPECT_EQ(Value("pointsman_forwarder_bytes_total{direction=\"to_client\",protocol=\"TCP\"}"), 15);
  EXPECT_EQ(Value("pointsman_forwarder_tcp_connections_retried_total"), 1);
  EXPECT_EQ(Value("pointsman_forwarder_backend_connect_failures_total"), 1);
  EXPECT_EQ(Value("pointsman_forwarder_tcp_connections_failed_total{reason=\"NoBackendAnswered\"}"),
            0);
  EXPECT_GT(Value("pointsman_forwarder_tcp_connection_limit"), 10);

  EXPECT_EQ(ReceiveAll(ConnectTcp(Place(2))).error, ECONNRESET);
  EXPECT_TRUE(
      Becomes("pointsman_forwarder_tcp_connections_failed_total{reason=\"NoBackendAnswered\"}", 1));
  open.Reset();
  EXPECT_TRUE(Becomes("pointsman_forwarder_tcp_connections", 0));
  EXPECT_EQ(Value("pointsman_forwarder_tcp_connections_total"), 2);
}

TEST_F(ForwarderMetricsTest, UdpFlowsDatagramsAndBytes) {
  metrics_ = std::make_unique<ForwarderMetrics>(registry_, settings_.directory);
  Start();
  const UdpServer server(At("127.0.0.1", 0), "answer");
  Put(1, {server.place()}, /*udp=*/true);
  const UniqueFd socket = ConnectUdp(Place(1));
  for (int i = 0; i < 3; ++i) {
    Send(socket, "ask");
    EXPECT_EQ(Receive(socket, 10).substr(0, 7), "answer:");
  }
  const UniqueFd another = ConnectUdp(Place(1));
  Send(another, "ask");
  EXPECT_EQ(Receive(another, 10).substr(0, 7), "answer:");
  EXPECT_EQ(Value("pointsman_forwarder_udp_flows"), 2);
  EXPECT_EQ(Value("pointsman_forwarder_udp_flows_total"), 2);
  EXPECT_EQ(Value("pointsman_forwarder_datagrams_total{direction=\"to_backend\"}"), 4);
  EXPECT_EQ(Value("pointsman_forwarder_datagrams_total{direction=\"to_client\"}"), 4);
  EXPECT_EQ(Value("pointsman_forwarder_bytes_total{direction=\"to_backend\",protocol=\"UDP\"}"),
            12);
  EXPECT_EQ(Value("pointsman_forwarder_bytes_total{direction=\"to_client\",protocol=\"UDP\"}"), 40);
  EXPECT_EQ(Value("pointsman_forwarder_datagrams_dropped_total"), 0);
}

// A counter that falls is a restart to Prometheus, which would count everything again.
TEST_F(ForwarderMetricsTest, CountersNeverFallAndARestartedAgentBeginsAtZero) {
  metrics_ = std::make_unique<ForwarderMetrics>(registry_, settings_.directory);
  Start();
  const EchoServer server(At("127.0.0.1", 0), "hello");
  const auto connect = [&] { EXPECT_EQ(Receive(ConnectTcp(Place(1)), 5), "hello"); };
  Put(1, {server.place()});
  connect();
  connect();
  EXPECT_EQ(Value("pointsman_forwarder_tcp_connections_total"), 2);

  // Another agent takes over while the forwarder goes on.
  prometheus::Registry next_registry;
  ForwarderMetrics next(next_registry, settings_.directory);
  connect();
  next.Read();
  EXPECT_EQ(Value(next_registry, "pointsman_forwarder_tcp_connections_total"), 1);

  EXPECT_EQ(Value("pointsman_forwarder_tcp_connections_total"), 3);
  const pid_t killed = link_->pid();
  ::kill(killed, SIGKILL);
  ASSERT_TRUE(Eventually([&] { return link_->pid() != 0 && link_->pid() != killed; }));
  connect();
  EXPECT_EQ(Value("pointsman_forwarder_tcp_connections_total"), 4);
}

// A scrape in the middle of an update of many frames is another session on the control socket.
TEST_F(ForwarderMetricsTest, AScrapeDoesNotGetIntoAnUpdate) {
  metrics_ = std::make_unique<ForwarderMetrics>(registry_, settings_.directory);
  Start();
  std::atomic<bool> done = false;
  std::thread scraper([&] {
    while (!done)
      metrics_->Read();
  });
  constexpr uint32_t kSlots = 3000;
  std::vector<IpPort> backends;
  backends.reserve(200);
  for (uint16_t port = 1; port <= 200; ++port)
    backends.push_back(At("127.0.0.1", port));
  for (uint32_t round = 1; round <= 3; ++round) {
    std::vector<Slot> slots;
    slots.reserve(kSlots);
    for (uint32_t number = 1; number <= kSlots; ++number) {
      slots.push_back({.number = number,
                       .service = "default/s" + std::to_string(number),
                       .affinity_seconds = round,
                       .backends = backends});
    }
    link_->Change(std::move(slots), {}, kSlots);
    const std::vector<Slot> there = link_->Dump();
    EXPECT_EQ(there.size(), kSlots);
    EXPECT_TRUE(std::all_of(there.begin(), there.end(),
                            [&](const Slot& slot) { return slot.affinity_seconds == round; }));
  }
  done = true;
  scraper.join();
}

}  // namespace
}  // namespace pointsman::agent
