// Measures the forwarder of userspace mode against a direct connection, over loopback in a network
// namespace of its own: new connections, throughput, datagrams, latency, and what they cost the
// forwarder. Client, server and forwarder share this machine's cores: with few of them the figures
// are those of all three together.
#include <cstdio>
#include <filesystem>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "kube/process/program_path.h"
#include "node-agent/netlink/link.h"
#include "node-agent/netlink/local_route.h"
#include "node-agent/testing/process_usage.h"
#include "node-agent/userspace/forwarder_link.h"
#include "node-agent/userspace/testing/sockets.h"

namespace pointsman::agent {
namespace {

using forwarder::Slot;
using testing::At;
using testing::IpPort;
using Clock = std::chrono::steady_clock;

double Seconds(Clock::duration time) {
  return std::chrono::duration<double>(time).count();
}

double CpuSeconds(pid_t pid) {
  return Seconds(testing::CpuTime(pid));
}

double Megabytes(size_t kilobytes) {
  return static_cast<double>(kilobytes) / 1024;
}

constexpr size_t kPiece = size_t{256} << 10;

struct Load {
  std::chrono::seconds time{3};
  int threads = 4;
};

// Runs `work` in several threads until the time is over; returns how often a second it succeeded.
double Rate(const Load& load, const std::function<bool()>& work) {
  std::atomic<uint64_t> done{0};
  const auto start = Clock::now();
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(load.threads));
  for (int i = 0; i < load.threads; ++i) {
    threads.emplace_back([&] {
      while (Clock::now() - start < load.time)
        done += work() ? 1 : 0;
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  return static_cast<double>(done) / Seconds(Clock::now() - start);
}

bool OneConnection(const IpPort& to) {
  const UniqueFd socket = testing::ConnectTcp(to);
  testing::Send(socket, "x");
  const bool ok = testing::Receive(socket, 1).size() == 1;
  // As a reset: the time must not be spent on ports in TIME_WAIT.
  const linger now{1, 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  return ok;
}

// Bytes a second that one server sends through `streams` connections.
double Throughput(const Load& load, const UniqueFd& listener, const IpPort& to, int streams) {
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> received{0};
  std::vector<std::thread> threads;
  const std::vector<char> piece(kPiece, 'x');
  for (int i = 0; i < streams; ++i) {
    auto client = std::make_shared<UniqueFd>(testing::ConnectTcp(to));
    auto server =
        std::make_shared<UniqueFd>(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    threads.emplace_back([&, server] {
      while (!stop && ::send(server->get(), piece.data(), piece.size(), MSG_NOSIGNAL) > 0) {
      }
      server->Reset();
    });
    threads.emplace_back([&, client] {
      std::vector<char> buffer(kPiece);
      for (;;) {
        const ssize_t count = ::recv(client->get(), buffer.data(), buffer.size(), 0);
        if (count <= 0) return;
        received += static_cast<uint64_t>(count);
      }
    });
  }
  const auto start = Clock::now();
  std::this_thread::sleep_for(load.time);
  const double rate = static_cast<double>(received) / Seconds(Clock::now() - start);
  stop = true;
  for (std::thread& thread : threads)
    thread.join();
  return rate;
}

// Microseconds: median and 99th percentile of a byte's way there and back.
std::pair<double, double> Latency(const UniqueFd& socket) {
  constexpr int kRounds = 20'000;
  std::vector<double> times;
  for (int i = 0; i < kRounds; ++i) {
    const auto start = Clock::now();
    testing::Send(socket, "x");
    char answer[16];
    if (::recv(socket.get(), answer, sizeof answer, 0) <= 0) {
      throw std::runtime_error("no answer");
    }
    times.push_back(Seconds(Clock::now() - start) * 1e6);
  }
  std::sort(times.begin(), times.end());
  return {times[kRounds / 2], times[kRounds * 99 / 100]};
}

// Datagrams there and back a second: each thread keeps 32 on their way.
double Datagrams(const Load& load, const IpPort& to) {
  std::atomic<uint64_t> answers{0};
  const auto start = Clock::now();
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(load.threads));
  for (int i = 0; i < load.threads; ++i) {
    threads.emplace_back([&] {
      const UniqueFd socket = testing::ConnectUdp(to);
      char buffer[64];
      int on_their_way = 0;
      while (Clock::now() - start < load.time) {
        for (; on_their_way < 32; ++on_their_way)
          ::send(socket.get(), "0123456789abcdef", 16, 0);
        pollfd item{socket.get(), POLLIN, 0};
        if (::poll(&item, 1, 100) == 0) on_their_way = 0;  // lost
        while (::recv(socket.get(), buffer, sizeof buffer, MSG_DONTWAIT) > 0) {
          ++answers;
          on_their_way = std::max(0, on_their_way - 1);
        }
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  return static_cast<double>(answers) / Seconds(Clock::now() - start);
}

int Main(int argc, char** argv) {
  Load load;
  int seconds = 3;
  int idle = 5000;
  CLI::App app("Measures userspace mode's forwarder against direct connections.");
  app.add_option("--seconds", seconds, "of each measurement")->capture_default_str();
  app.add_option("--threads", load.threads, "of clients")->capture_default_str();
  app.add_option("--idle", idle, "connections that are open and idle")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  load.time = std::chrono::seconds(seconds);

  if (::unshare(CLONE_NEWNET) != 0) {
    throw std::system_error(errno, std::generic_category(), "a network namespace of its own");
  }
  netlink::Socket route(NETLINK_ROUTE);
  netlink::SetLinkUp(route, "lo");
  netlink::Batch batch;
  netlink::AddLocalRoute(batch, forwarder::SlotPrefix(net::Family::kIPv4),
                         static_cast<int>(::if_nametoindex("lo")));
  route.Execute(batch);
  forwarder::RaiseFileLimit(65536);

  char directory[] = "/tmp/pointsman-bench.XXXXXX";
  if (::mkdtemp(directory) == nullptr) {
    throw std::system_error(errno, std::generic_category(), directory);
  }
  ForwarderSettings settings;
  settings.program = kube::ProgramBesideThis("pointsman-forwarder");
  settings.directory = std::string(directory) + "/run";
  settings.version = "bench";
  settings.udp_idle_timeout = std::chrono::milliseconds(250);
  ForwarderLink link(settings);
  link.Ensure();
  link.Dump();
  const pid_t pid = link.pid();

  testing::EchoServer echo(At("127.0.0.2", 0), "");
  testing::UdpServer udp(At("127.0.0.2", 0), "");
  const UniqueFd listener = testing::ListenTcp(At("127.0.0.2", 0));
  const auto slot = [&](uint32_t number, const IpPort& backend, bool datagrams) {
    Slot made{.number = number, .service = "bench/" + std::to_string(number), .udp = datagrams};
    made.backends = {backend};
    link.Change({made}, {}, number);
    return IpPort{forwarder::SlotAddress(net::Family::kIPv4, number),
                  link.port(net::Family::kIPv4)};
  };
  const IpPort listening{At("127.0.0.2", testing::PortOf(listener))};
  const IpPort echo_slot = slot(1, echo.place(), false);
  const IpPort stream_slot = slot(2, listening, false);
  const IpPort udp_slot = slot(3, udp.place(), true);

  std::printf("%-42s %12s %12s %24s\n", "", "direct", "forwarder", "forwarder's CPU");
  const auto cpu = [&](double per, const char* of, const std::function<double()>& work,
                       double divisor) {
    const double before = CpuSeconds(pid);
    const double value = work();
    const double spent = CpuSeconds(pid) - before;
    std::printf("%12.0f %12.1f us/%s\n", value / divisor,
                spent * 1e6 / (value * static_cast<double>(seconds) / per), of);
  };
  std::printf("%-42s %12.0f ", "connections/s (a byte there and back)",
              Rate(load, [&] { return OneConnection(echo.place()); }));
  cpu(
      1, "connection", [&] { return Rate(load, [&] { return OneConnection(echo_slot); }); }, 1);
  for (int streams : {1, 8}) {
    std::printf("%-42s %12.0f ",
                fmt::format("MB/s, {} stream{}", streams, streams > 1 ? "s" : "").c_str(),
                Throughput(load, listener, listening, streams) / 1e6);
    cpu(
        1e6, "MB", [&] { return Throughput(load, listener, stream_slot, streams); }, 1e6);
  }
  std::printf("%-42s %12.0f ", "datagrams/s there and back", Datagrams(load, udp.place()));
  cpu(
      1, "datagram", [&] { return Datagrams(load, udp_slot); }, 1);

  const auto latency = [&](const char* what, const UniqueFd& direct, const UniqueFd& forwarded) {
    const auto [direct_median, direct_99] = Latency(direct);
    const auto [median, p99] = Latency(forwarded);
    std::printf("%-42s %5.0f / %4.0f %5.0f / %4.0f\n", what, direct_median, direct_99, median, p99);
  };
  latency("TCP round trip, us (median / 99 %)", testing::ConnectTcp(echo.place()),
          testing::ConnectTcp(echo_slot));
  latency("UDP round trip, us (median / 99 %)", testing::ConnectUdp(udp.place()),
          testing::ConnectUdp(udp_slot));

  const size_t before = testing::ResidentKilobytes(pid);
  std::vector<UniqueFd> connections;
  for (int i = 0; i < idle; ++i) {
    connections.push_back(testing::ConnectTcp(echo_slot));
    testing::Send(connections.back(), "x");
    testing::Receive(connections.back(), 1);
  }
  std::printf(
      "%d idle connections: %.0f bytes each in the forwarder (%.1f MB in all), %llu pipes\n", idle,
      static_cast<double>(testing::ResidentKilobytes(pid) - before) * 1024 / idle,
      Megabytes(testing::ResidentKilobytes(pid)),
      static_cast<unsigned long long>(link.Statistics().pipes));
  connections.clear();

  // 10,000 Services with 10 backends each, and one change of endpoints.
  std::vector<Slot> slots;
  for (uint32_t number = 10; number < 10'010; ++number) {
    Slot made{.number = number, .service = "bench/service-" + std::to_string(number)};
    for (uint32_t i = 0; i < 10; ++i)
      made.backends.push_back({net::IpAddress::V4(0x0af40000U + number * 16 + i), 8080});
    slots.push_back(std::move(made));
  }
  const auto start = Clock::now();
  link.Change(slots, {}, 10'010);
  std::printf("table of 10,000 Services x 10 backends: %.0f ms; ",
              Seconds(Clock::now() - start) * 1e3);
  std::vector<double> changes;
  for (size_t i = 0; i < 1000; ++i) {
    Slot changed = slots[i];
    changed.backends.pop_back();
    const auto begin = Clock::now();
    link.Change({changed}, {}, 10'010);
    changes.push_back(Seconds(Clock::now() - begin) * 1e6);
  }
  std::sort(changes.begin(), changes.end());
  std::printf("one change of endpoints: %.0f us (median); forwarder: %.0f MB\n",
              changes[changes.size() / 2], Megabytes(testing::ResidentKilobytes(pid)));
  link.ExitAll();
  std::filesystem::remove_all(directory);
  return 0;
}

}  // namespace
}  // namespace pointsman::agent

int main(int argc, char** argv) {
  try {
    spdlog::set_level(spdlog::level::warn);
    return pointsman::agent::Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
