// pointsman-traffic: the servers and clients of the test clusters.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <sys/resource.h>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

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

using Milliseconds = std::chrono::milliseconds;

CLI::AsNumberWithUnit Duration() {
  return CLI::AsNumberWithUnit(std::map<std::string, long>{{"ms", 1}, {"s", 1000}, {"m", 60000}});
}

// Each command: its flags, and what it does when it is the one that was given.
using Run = std::function<int()>;

Run AddServe(CLI::App& app) {
  struct Flags {
    pointsman::e2e::ServeOptions options;
    long linger_ms = 0;
  };
  const auto flags = std::make_shared<Flags>();
  pointsman::e2e::ServeOptions& serve = flags->options;
  CLI::App* command = app.add_subcommand("serve", "Be a pod's server");
  command->add_option("--name", serve.name, "What it answers")->required();
  command->add_option("--bind", serve.bind, "Local address")->capture_default_str();
  command->add_option("--tcp", serve.tcp, "Ports of the greeting echo server")->delimiter(',');
  command->add_option("--udp", serve.udp, "Ports of the UDP server")->delimiter(',');
  command->add_option("--sctp", serve.sctp, "Ports, as --tcp")->delimiter(',');
  command->add_option("--http", serve.http, "Port of an HTTP server that answers the name");
  command
      ->add_option("--linger", flags->linger_ms,
                   "How long to accept connections after SIGTERM (e.g. 2s)")
      ->transform(Duration());
  return [flags] {
    flags->options.linger = Milliseconds(flags->linger_ms);
    return pointsman::e2e::Serve(flags->options);
  };
}

Run AddLoad(CLI::App& app) {
  struct Flags {
    pointsman::e2e::LoadOptions options;
    std::string targets;
    std::string protocol = "tcp";
    long interval_ms = 100;
    long timeout_ms = 3000;
    long duration_ms = 0;
  };
  const auto flags = std::make_shared<Flags>();
  pointsman::e2e::LoadOptions& load = flags->options;
  CLI::App* command =
      app.add_subcommand("load", "Open connections at a fixed rate and keep streams open");
  command->add_option("--targets", flags->targets, "File or IP:PORT,…")->required();
  command->add_option("--new-per-second", load.new_per_second)->check(CLI::Range(0, 20000));
  command->add_option("--protocol", flags->protocol)->check(CLI::IsMember({"tcp", "udp", "both"}));
  command->add_option("--streams", load.streams)->check(CLI::Range(0, 100000));
  command->add_option("--stream-interval", flags->interval_ms)->transform(Duration());
  command->add_option("--timeout", flags->timeout_ms)->transform(Duration());
  command->add_option("--duration", flags->duration_ms, "Default: until SIGTERM or SIGINT")
      ->transform(Duration());
  command->add_option("--from", load.from, "Local address");
  command->add_option("--report", load.report, "File for the final JSON report");
  command->add_flag("--progress", load.progress, "Print a JSON line every 250 ms");
  return [flags] {
    pointsman::e2e::LoadOptions& options = flags->options;
    options.targets = ParseTargets(flags->targets);
    if (flags->protocol != "udp") options.protocols.push_back(Protocol::kTcp);
    if (flags->protocol != "tcp") options.protocols.push_back(Protocol::kUdp);
    options.stream_interval = Milliseconds(flags->interval_ms);
    options.timeout = Milliseconds(flags->timeout_ms);
    if (flags->duration_ms > 0) options.duration = Milliseconds(flags->duration_ms);
    const nlohmann::json report = pointsman::e2e::Load(options);
    if (options.report.empty()) std::puts(report.dump(2).c_str());
    return report["connections"]["failed"] == 0 && report["streams"]["broken"] == 0 ? 0 : 1;
  };
}

// What the commands to one target share.
struct TargetFlags {
  std::string target;
  std::string from;
  std::uint16_t from_port = 0;
  bool udp = false;
  bool sctp = false;
  int count = 1;
  long timeout_ms = 3000;

  void AddTarget(CLI::App& command) { command.add_option("target", target, "IP:PORT")->required(); }
  void AddProtocol(CLI::App& command) {
    command.add_flag("--udp", udp);
    command.add_flag("--sctp", sctp)->excludes("--udp");
  }
  void AddFrom(CLI::App& command) {
    command.add_option("--from", from, "Local address");
    command.add_option("--from-port", from_port, "Local port");
  }
  void AddTimeout(CLI::App& command, const std::string& of = "") {
    command.add_option("--timeout", timeout_ms, of)->transform(Duration());
  }

  Endpoint ToEndpoint() const { return pointsman::e2e::ParseEndpoint(target); }
  Protocol ToProtocol() const {
    return udp ? Protocol::kUdp : sctp ? Protocol::kSctp : Protocol::kTcp;
  }
};

Run AddConnect(CLI::App& app) {
  struct Flags : TargetFlags {
    long resend_ms = 0;
  };
  const auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("connect", "Connect once and print who answered");
  flags->AddTarget(*command);
  flags->AddProtocol(*command);
  flags->AddFrom(*command);
  command->add_option("--resend", flags->resend_ms, "Send a datagram again after so long")
      ->transform(Duration());
  command->add_option("--count", flags->count)->check(CLI::Range(1, 1000000));
  flags->AddTimeout(*command);
  return [flags] {
    bool all = true;
    for (int i = 0; i < flags->count; ++i) {
      const auto result = pointsman::e2e::Probe(flags->ToProtocol(), flags->ToEndpoint(),
                                                flags->from, Milliseconds(flags->timeout_ms),
                                                flags->from_port, Milliseconds(flags->resend_ms));
      std::puts(result.ToJson().dump().c_str());
      all = all && result.ok;
    }
    return all ? 0 : 1;
  };
}

Run AddHold(CLI::App& app) {
  struct Flags : TargetFlags {
    long interval_ms = 100;
  };
  const auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand(
      "hold", "Keep one connection, use it again and again and print each time who answers");
  flags->AddTarget(*command);
  flags->AddProtocol(*command);
  flags->AddFrom(*command);
  command->add_option("--interval", flags->interval_ms)->transform(Duration());
  flags->AddTimeout(*command, "Of an exchange");
  return [flags] {
    pointsman::e2e::Hold(flags->ToProtocol(), flags->ToEndpoint(), flags->from, flags->from_port,
                         Milliseconds(flags->interval_ms), Milliseconds(flags->timeout_ms),
                         [](const nlohmann::json& said) {
                           std::puts(said.dump().c_str());
                           std::fflush(stdout);
                         });
    return 1;
  };
}

Run AddOutOfWindow(CLI::App& app) {
  const auto flags = std::make_shared<TargetFlags>();
  CLI::App* command = app.add_subcommand(
      "out-of-window", "Answer a connection's segments with ones that are in no window");
  command->add_option("local", flags->target, "IP:PORT, where the segments come to")->required();
  command->add_option("--peer-port", flags->from_port, "From which port they come")->required();
  command->add_option("--count", flags->count)->check(CLI::Range(1, 1000));
  flags->AddTimeout(*command);
  return [flags] {
    pointsman::e2e::SendOutOfWindow(flags->ToEndpoint(), flags->from_port, flags->count,
                                    Milliseconds(flags->timeout_ms));
    return 0;
  };
}

Run AddProbe(CLI::App& app) {
  struct Flags : TargetFlags {
    std::string http_path;
  };
  const auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("probe", "Is a port open, or an HTTP server well?");
  flags->AddTarget(*command);
  command->add_option("--http", flags->http_path, "Ask for this path and expect 200 to 399");
  flags->AddTimeout(*command);
  return [flags] {
    const std::string failed = pointsman::e2e::PlainProbe(flags->ToEndpoint(), flags->http_path,
                                                          Milliseconds(flags->timeout_ms));
    if (!failed.empty()) std::puts(failed.c_str());
    return failed.empty() ? 0 : 1;
  };
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Servers and clients for tests of Service traffic", "pointsman-traffic");
  app.require_subcommand(1);
  const std::map<std::string, Run> commands = {{"serve", AddServe(app)},
                                               {"load", AddLoad(app)},
                                               {"connect", AddConnect(app)},
                                               {"hold", AddHold(app)},
                                               {"out-of-window", AddOutOfWindow(app)},
                                               {"probe", AddProbe(app)}};
  CLI11_PARSE(app, argc, argv);
  RaiseFileLimit();
  try {
    return commands.at(app.get_subcommands().front()->get_name())();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "pointsman-traffic: %s\n", error.what());
    return 2;
  }
}
