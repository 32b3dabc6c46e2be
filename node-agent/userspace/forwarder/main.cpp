// pointsman-forwarder: carries the connections of userspace mode. Started by the node agent, in a
// session of its own, so that the agent can be restarted without breaking connections. As
// `--launcher` it carries nothing, but starts such forwarders for an agent in another container.

#include <cerrno>
#include <csignal>
#include <linux/capability.h>
#include <sys/prctl.h>

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "kube/process/command_line.h"
#include "kube/process/logging.h"
#include "kube/process/version.h"
#include "node-agent/userspace/forwarder/forwarder.h"
#include "node-agent/userspace/forwarder/launcher.h"

namespace pointsman::forwarder {
namespace {

struct Arguments {
  ForwarderOptions options;
  std::string launcher;
  std::string port_range;
  int64_t udp_idle_timeout = 250'000'000;
  int ready_fd = -1;
  std::string log_format = "text";
};

PortRange ParseRange(const std::string& text) {
  PortRange range;
  unsigned first = 0;
  unsigned last = 0;
  if (text.empty()) return range;
  if (std::sscanf(text.c_str(), "%u-%u", &first, &last) != 2 || first == 0 || last < first ||
      last > 65535) {
    throw std::invalid_argument(fmt::format("--port-range: '{}' is not a range of ports", text));
  }
  return {static_cast<uint16_t>(first), static_cast<uint16_t>(last)};
}

// The agent waits for one byte, or for the text of the error.
void Tell(UniqueFd fd, std::string_view text) {
  if (!fd) return;
  if (::write(fd.get(), text.data(), text.size()) < 0) spdlog::warn("the agent is gone already");
}

int Main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("Carries the connections of Pointsman's userspace mode; the node agent starts it.");
  app.set_version_flag("--version", std::string("pointsman-forwarder ") + kVersion);
  CLI::Option_group* const what = app.add_option_group("What it is");
  what->add_option("--control", arguments.options.control_path,
                   "a forwarder: path of its control socket");
  what->add_option("--launcher", arguments.launcher,
                   "starts forwarders for a node agent in another container: path of the socket "
                   "on which that asks for them (its --forwarder-launcher)");
  what->require_option(1);
  app.add_option("--port", arguments.options.port, "port of the listening sockets, if it is free");
  app.add_option("--port-range", arguments.port_range, "ports to choose from; empty: any");
  app.add_option("--udp-idle-timeout", arguments.udp_idle_timeout, "nanoseconds")
      ->check(CLI::PositiveNumber);
  app.add_option("--mark", arguments.options.mark, "mark of packets to backends");
  app.add_option("--max-files", arguments.options.max_files, "open files at most");
  app.add_option("--ready-fd", arguments.ready_fd, "where to say that it works");
  app.add_option("--instance-version", arguments.options.version,
                 "what to answer as version (default: its own)");
  app.add_option("--log-format", arguments.log_format)->check(CLI::IsMember({"text", "json"}));
  if (const auto code = kube::ParseCommandLine(app, argc, argv)) return *code;
  kube::SetUpLogging(arguments.log_format, "info");
  try {
    arguments.options.port_range = ParseRange(arguments.port_range);
    arguments.options.udp_idle_timeout = std::chrono::nanoseconds(arguments.udp_idle_timeout);
    if (arguments.options.version.empty()) arguments.options.version = kVersion;
    // A peer that closes is a return value, and the agent's terminal is not ours.
    std::signal(SIGPIPE, SIG_IGN);
    std::signal(SIGHUP, SIG_IGN);
    if (!arguments.launcher.empty()) {
      // What it starts cannot have more.
      DropCapabilities({CAP_NET_ADMIN, CAP_SYS_RESOURCE});
      Launcher(arguments.launcher).Run();
      return 0;
    }
    Forwarder forwarder(arguments.options);
    // It reads what strangers send: what it needs no more is given up. NET_ADMIN marks the sockets
    // to backends, SYS_RESOURCE lets it have more pipes than an ordinary user.
    DropCapabilities({CAP_NET_ADMIN, CAP_SYS_RESOURCE});
    Tell(UniqueFd(std::exchange(arguments.ready_fd, -1)), "+");
    forwarder.Run();
    return 0;
  } catch (const std::exception& error) {
    spdlog::critical("forwarder: {}", error.what());
    Tell(UniqueFd(arguments.ready_fd), error.what());
    return 1;
  }
}

}  // namespace
}  // namespace pointsman::forwarder

int main(int argc, char** argv) {
  return pointsman::forwarder::Main(argc, argv);
}
