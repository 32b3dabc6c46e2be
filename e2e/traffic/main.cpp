// pointsman-traffic: the servers and clients of the test clusters.
#include <cstdio>
#include <fstream>
#include <sys/resource.h>

#include <CLI/CLI.hpp>

#include "e2e/traffic/connect.h"
#include "e2e/traffic/load.h"
#include "e2e/traffic/out_of_window.h"
#include "e2e/traffic/serve.h"

namespace {

using pointsman::e2e::Endpoint;
using pointsman::e2e::Protocol;

// Thousands of connections: the soft limit is 1024 by default.
void RaiseFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
    spdlog::warn("cannot raise the limit of open files to {}", limit.rlim_max);
}

// "IP:PORT,IP:PORT" or the name of a file with one IP:PORT on each line (empty lines and # comments
// are left out).
std::vector<Endpoint> ParseTargets(const std::string& text) {
  std::vector<Endpoint> targets;
  std::ifstream file(text);
  std::string item;
  if (file) {
    while (std::getline(file, item)) {
      if (!item.empty() && item.front() != '#')
        targets.push_back(pointsman::e2e::ParseEndpoint(item));
    }
  } else {
    std::istringstream list(text);
    while (std::getline(list, item, ','))
      targets.push_back(pointsman::e2e::ParseEndpoint(item));
  }
  if (targets.empty()) throw std::invalid_argument("--targets '" + text + "' names no target");
  return targets;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Servers and clients for tests of Service traffic", "pointsman-traffic");
  app.require_subcommand(1);

  pointsman::e2e::ServeOptions serve;
  long linger_ms = 0;
  CLI::App* serve_command = app.add_subcommand("serve", "Be a pod's server");
  serve_command->add_option("--name", serve.name, "What it answers")->required();
  serve_command->add_option("--bind", serve.bind, "Local address")->capture_default_str();
  serve_command->add_option("--tcp", serve.tcp, "Ports of the greeting echo server")
      ->delimiter(',');
  serve_command->add_option("--udp", serve.udp, "Ports of the UDP server")->delimiter(',');
  serve_command->add_option("--sctp", serve.sctp, "Ports, as --tcp")->delimiter(',');
  serve_command->add_option("--http", serve.http, "Port of an HTTP server that answers the name");
  serve_command
      ->add_option("--linger", linger_ms, "How long to accept connections after SIGTERM (e.g. 2s)")
      ->transform(
          CLI::AsNumberWithUnit(std::map<std::string, long>{{"ms", 1}, {"s", 1000}, {"m", 60000}}));

  const auto duration = [] {
    return CLI::AsNumberWithUnit(std::map<std::string, long>{{"ms", 1}, {"s", 1000}, {"m", 60000}});
  };

  pointsman::e2e::LoadOptions load;
  std::string targets;
  std::string protocol = "tcp";
  long interval_ms = 100;
  long timeout_ms = 3000;
  long duration_ms = 0;
  CLI::App* load_command =
      app.add_subcommand("load", "Open connections at a fixed rate and keep streams open");
  load_command->add_option("--targets", targets, "File or IP:PORT,…")->required();
  load_command->add_option("--new-per-second", load.new_per_second)->check(CLI::Range(0, 20000));
  load_command->add_option("--protocol", protocol)->check(CLI::IsMember({"tcp", "udp", "both"}));
  load_command->add_option("--streams", load.streams)->check(CLI::Range(0, 100000));
  load_command->add_option("--stream-interval", interval_ms)->transform(duration());
  load_command->add_option("--timeout", timeout_ms)->transform(duration());
  load_command->add_option("--duration", duration_ms, "Default: until SIGTERM or SIGINT")
      ->transform(duration());
  load_command->add_option("--from", load.from, "Local address");
  load_command->add_option("--report", load.report, "File for the final JSON report");
  load_command->add_flag("--progress", load.progress, "Print a JSON line every 250 ms");

  std::string target;
  std::string from;
  bool udp = false;
  bool sctp = false;
  int count = 1;
  std::uint16_t from_port = 0;
  long resend_ms = 0;
  CLI::App* connect_command = app.add_subcommand("connect", "Connect once and print who answered");
  connect_command->add_option("target", target, "IP:PORT")->required();
  connect_command->add_flag("--udp", udp);
  connect_command->add_flag("--sctp", sctp)->excludes("--udp");
  connect_command->add_option("--from", from, "Local address");
  connect_command->add_option("--from-port", from_port, "Local port");
  connect_command->add_option("--resend", resend_ms, "Send a datagram again after so long")
      ->transform(duration());
  connect_command->add_option("--count", count)->check(CLI::Range(1, 1000000));
  connect_command->add_option("--timeout", timeout_ms)->transform(duration());

  CLI::App* hold_command = app.add_subcommand(
      "hold", "Keep one connection, use it again and again and print each time who answers");
  hold_command->add_option("target", target, "IP:PORT")->required();
  hold_command->add_flag("--udp", udp);
  hold_command->add_flag("--sctp", sctp)->excludes("--udp");
  hold_command->add_option("--from", from, "Local address");
  hold_command->add_option("--from-port", from_port, "Local port");
  hold_command->add_option("--interval", interval_ms)->transform(duration());
  hold_command->add_option("--timeout", timeout_ms, "Of an exchange")->transform(duration());

  CLI::App* out_of_window_command = app.add_subcommand(
      "out-of-window", "Answer a connection's segments with ones that are in no window");
  out_of_window_command->add_option("local", target, "IP:PORT, where the segments come to")
      ->required();
  out_of_window_command->add_option("--peer-port", from_port, "From which port they come")
      ->required();
  out_of_window_command->add_option("--count", count)->check(CLI::Range(1, 1000));
  out_of_window_command->add_option("--timeout", timeout_ms)->transform(duration());

  std::string http_path;
  CLI::App* probe_command = app.add_subcommand("probe", "Is a port open, or an HTTP server well?");
  probe_command->add_option("target", target, "IP:PORT")->required();
  probe_command->add_option("--http", http_path, "Ask for this path and expect 200 to 399");
  probe_command->add_option("--timeout", timeout_ms)->transform(duration());

  CLI11_PARSE(app, argc, argv);
  RaiseFileLimit();
  try {
    if (serve_command->parsed()) {
      serve.linger = std::chrono::milliseconds(linger_ms);
      return pointsman::e2e::Serve(serve);
    }
    if (load_command->parsed()) {
      load.targets = ParseTargets(targets);
      if (protocol != "udp") load.protocols.push_back(Protocol::kTcp);
      if (protocol != "tcp") load.protocols.push_back(Protocol::kUdp);
      load.stream_interval = std::chrono::milliseconds(interval_ms);
      load.timeout = std::chrono::milliseconds(timeout_ms);
      if (duration_ms > 0) load.duration = std::chrono::milliseconds(duration_ms);
      const nlohmann::json report = pointsman::e2e::Load(load);
      if (load.report.empty()) std::puts(report.dump(2).c_str());
      const bool clean = report["connections"]["failed"] == 0 && report["streams"]["broken"] == 0;
      return clean ? 0 : 1;
    }
    if (probe_command->parsed()) {
      const std::string failed = pointsman::e2e::PlainProbe(
          pointsman::e2e::ParseEndpoint(target), http_path, std::chrono::milliseconds(timeout_ms));
      if (!failed.empty()) std::puts(failed.c_str());
      return failed.empty() ? 0 : 1;
    }
    if (out_of_window_command->parsed()) {
      pointsman::e2e::SendOutOfWindow(pointsman::e2e::ParseEndpoint(target), from_port, count,
                                      std::chrono::milliseconds(timeout_ms));
      return 0;
    }
    bool all = true;
    const Endpoint endpoint = pointsman::e2e::ParseEndpoint(target);
    const Protocol one = udp ? Protocol::kUdp : sctp ? Protocol::kSctp : Protocol::kTcp;
    if (hold_command->parsed()) {
      pointsman::e2e::Hold(one, endpoint, from, from_port, std::chrono::milliseconds(interval_ms),
                           std::chrono::milliseconds(timeout_ms), [](const nlohmann::json& said) {
                             std::puts(said.dump().c_str());
                             std::fflush(stdout);
                           });
      return 1;
    }
    for (int i = 0; i < count; ++i) {
      const auto result =
          pointsman::e2e::Probe(one, endpoint, from, std::chrono::milliseconds(timeout_ms),
                                from_port, std::chrono::milliseconds(resend_ms));
      std::puts(result.ToJson().dump().c_str());
      all = all && result.ok;
    }
    return all ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "pointsman-traffic: %s\n", error.what());
    return 2;
  }
}
