// Server, load and probe against each other over the loopback interface.
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <utility>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <signal.h>
#include <unistd.h>

#include "e2e/traffic/connect.h"
#include "e2e/traffic/load.h"
#include "e2e/traffic/serve.h"

namespace pointsman::e2e {
namespace {

using std::chrono::milliseconds;

// A server as a process of its own, as it is in a pod.
class ServerProcess {
 public:
  explicit ServerProcess(ServeOptions options) {
    pid_ = fork();
    if (pid_ == 0) {
      try {
        _exit(Serve(options));
      } catch (const std::exception& error) {
        std::fprintf(stderr, "serve: %s\n", error.what());
        _exit(1);
      }
    }
    const Endpoint endpoint = MakeEndpoint("127.0.0.1", options.tcp.at(0));
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!Probe(Protocol::kTcp, endpoint, "", milliseconds(1000)).ok) {
      if (std::chrono::steady_clock::now() > deadline)
        throw std::runtime_error("the server does not answer");
      std::this_thread::yield();
    }
  }
  ~ServerProcess() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      Wait();
    }
  }
  void Signal(int signal) const { kill(pid_, signal); }
  int Wait() {
    int status = 0;
    waitpid(std::exchange(pid_, -1), &status, 0);
    return status;
  }
  bool Ended() {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) != pid_) return false;
    pid_ = -1;
    return true;
  }

 private:
  pid_t pid_ = -1;
};

// Ports outside of the range the kernel takes source ports from; ctest runs each test in a process
// of its own, possibly several at a time, so each test has its own.
ServeOptions Server(const std::string& name, std::uint16_t port) {
  ServeOptions options;
  options.name = name;
  options.bind = "127.0.0.1";
  options.tcp = {port};
  options.udp = {port};
  return options;
}

LoadOptions LoadOn(std::initializer_list<std::uint16_t> ports) {
  LoadOptions options;
  for (const auto port : ports)
    options.targets.push_back(MakeEndpoint("127.0.0.1", port));
  options.protocols = {Protocol::kTcp, Protocol::kUdp};
  options.new_per_second = 500;
  options.streams = 8;
  options.stream_interval = milliseconds(10);
  options.timeout = milliseconds(1000);
  options.duration = milliseconds(1000);
  return options;
}

TEST(TrafficTest, ProbeNamesTheBackendAndTheSourceItSaw) {
  ServerProcess server(Server("pod-a", 21001));
  for (const auto protocol : {Protocol::kTcp, Protocol::kUdp}) {
    const auto result =
        Probe(protocol, MakeEndpoint("127.0.0.1", 21001), "127.0.0.9", milliseconds(2000));
    EXPECT_TRUE(result.ok) << result.error;
    EXPECT_EQ(result.backend, "pod-a");
    EXPECT_TRUE(result.seen_source.starts_with("127.0.0.9:")) << result.seen_source;
  }
}

TEST(TrafficTest, ProbeTellsResetFromIcmpAndTimeout) {
  EXPECT_EQ(Probe(Protocol::kTcp, MakeEndpoint("127.0.0.1", 21009), "", milliseconds(1000)).error,
            "refused");
  EXPECT_EQ(Probe(Protocol::kUdp, MakeEndpoint("127.0.0.1", 21009), "", milliseconds(1000)).error,
            "icmp-port-unreachable");
  // A socket nobody reads from never answers.
  const UniqueFd silent = Listen(Protocol::kUdp, MakeEndpoint("127.0.0.1", 21010));
  EXPECT_EQ(Probe(Protocol::kUdp, MakeEndpoint("127.0.0.1", 21010), "", milliseconds(100)).error,
            "timeout");
  const UniqueFd mute = Listen(Protocol::kTcp, MakeEndpoint("127.0.0.1", 21010));
  EXPECT_EQ(Probe(Protocol::kTcp, MakeEndpoint("127.0.0.1", 21010), "", milliseconds(100)).error,
            "timeout");
}

TEST(TrafficTest, LoadIsSpreadOverTargetsAndLosesNothing) {
  ServerProcess a(Server("pod-a", 21021));
  ServerProcess b(Server("pod-b", 21022));
  const auto report = Load(LoadOn({21021, 21022}));
  const auto& connections = report["connections"];
  SCOPED_TRACE(report.dump(2));
  EXPECT_EQ(connections["failed"], 0);
  EXPECT_EQ(connections["succeeded"], connections["started"]);
  // The rate holds for as long as it took, which on a busy machine is longer than was asked for.
  const auto started = connections["started"].get<double>();
  const double due = 500 * report["seconds"].get<double>();
  EXPECT_LE(started, due + 1);
  EXPECT_GE(started, due / 5);
  EXPECT_NEAR(connections["tcp"]["succeeded"].get<double>(), started / 2, 15);
  EXPECT_NEAR(connections["udp"]["succeeded"].get<double>(), started / 2, 15);
  EXPECT_NEAR(connections["backends"]["pod-a"].get<double>(), started / 2, 15);
  EXPECT_NEAR(connections["backends"]["pod-b"].get<double>(), started / 2, 15);
  EXPECT_EQ(report["streams"]["alive"], 8);
  EXPECT_EQ(report["streams"]["broken"], 0);
  EXPECT_EQ(report["streams"]["backends"]["pod-a"], 4);
  EXPECT_GT(report["streams"]["messages"].get<int>(), 8 * 3);
  EXPECT_GT(connections["latencyMs"]["p50"].get<double>(), 0);
}

TEST(TrafficTest, EveryFailureIsCountedByKindWithItsTarget) {
  ServerProcess a(Server("pod-a", 21031));
  auto options = LoadOn({21031, 21039});
  options.report = ::testing::TempDir() + "/traffic-report-" + std::to_string(getpid());
  const auto report = Load(options);
  SCOPED_TRACE(report.dump(2));
  const auto& connections = report["connections"];
  EXPECT_EQ(connections["failures"]["refused"], connections["failed"]);
  EXPECT_NEAR(connections["failed"].get<double>(), connections["started"].get<double>() / 2, 15);
  EXPECT_EQ(report["streams"]["broken"], 4);
  ASSERT_EQ(report["firstFailures"].size(), 20U);
  EXPECT_EQ(report["firstFailures"][0]["target"], "127.0.0.1:21039");
  FILE* file = std::fopen(options.report.c_str(), "r");
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(nlohmann::json::parse(file), report);
  std::fclose(file);
  unlink(options.report.c_str());
}

TEST(TrafficTest, AServerThatDiesBreaksItsStreams) {
  ServerProcess server(Server("pod-a", 21041));
  auto options = LoadOn({21041});
  options.new_per_second = 0;
  std::jthread killer([&] {
    std::this_thread::sleep_for(milliseconds(300));  // not a wait: the event the test is about
    server.Signal(SIGKILL);
  });
  options.timeout = milliseconds(200);
  const auto report = Load(options);
  EXPECT_EQ(report["streams"]["broken"], 8) << report.dump(2);
  EXPECT_EQ(report["streams"]["alive"], 0);
}

TEST(TrafficTest, ATerminatedServerKeepsItsConnectionsAndTakesNoNewOnes) {
  ServerProcess server(Server("pod-a", 21051));
  const Endpoint endpoint = MakeEndpoint("127.0.0.1", 21051);
  UniqueFd open(socket(AF_INET, SOCK_STREAM, 0));
  ASSERT_EQ(
      connect(open.get(), reinterpret_cast<const sockaddr*>(&endpoint.address), endpoint.size), 0);
  std::array<char, 256> buffer;
  ASSERT_GT(recv(open.get(), buffer.data(), buffer.size(), 0), 0);  // the greeting
  server.Signal(SIGTERM);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (Probe(Protocol::kTcp, endpoint, "", milliseconds(500)).error != "refused")
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "still accepts";
  ASSERT_EQ(send(open.get(), "still\n", 6, 0), 6);
  ASSERT_EQ(recv(open.get(), buffer.data(), buffer.size(), 0), 6);
  EXPECT_FALSE(server.Ended());
  open.Reset();
  EXPECT_EQ(server.Wait(), 0);
}

TEST(TrafficTest, HundredsOfStreamsAtOnce) {
  ServerProcess server(Server("pod-a", 21061));
  auto options = LoadOn({21061});
  options.protocols = {Protocol::kTcp};
  options.new_per_second = 0;
  options.streams = 400;
  options.stream_interval = milliseconds(100);
  options.timeout = milliseconds(5000);
  const auto report = Load(options);
  EXPECT_EQ(report["streams"]["alive"], 400) << report.dump(2);
  EXPECT_GE(report["streams"]["messages"].get<int>(), 400);
}

TEST(EndpointTest, ParsesAndPrints) {
  EXPECT_EQ(ParseEndpoint("10.0.0.1:80").ToString(), "10.0.0.1:80");
  EXPECT_EQ(ParseEndpoint("[fd00::1]:80").ToString(), "[fd00::1]:80");
  EXPECT_EQ(ParseEndpoint("[::ffff:10.0.0.1]:80").ToString(), "10.0.0.1:80");
  for (const auto* bad :
       {"10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:70000", "name:80", ":80", ""})
    EXPECT_THROW(ParseEndpoint(bad), std::invalid_argument) << bad;
}

}  // namespace
}  // namespace pointsman::e2e
