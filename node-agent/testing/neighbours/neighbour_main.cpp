// pointsman-neighbour: puts a neighbour into the kernel of the node that it runs on, in the current
// network namespace, for tests of whole nodes. The site (catalogue.h) is a file of JSON.
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "node-agent/neighbours/signs_reader.h"
#include "node-agent/neighbours/survey.h"
#include "node-agent/testing/neighbours/catalogue.h"
#include "node-agent/testing/neighbours/kube_proxy_process.h"
#include "node-agent/testing/run_tool.h"

namespace pointsman::agent::testing {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file) throw std::runtime_error("cannot read " + path);
  return text;
}

NeighbourSite ReadSite(const std::string& path) {
  return nlohmann::json::parse(ReadFile(path)).get<NeighbourSite>();
}

const KnownNeighbour& Known(const std::string& name) {
  const KnownNeighbour* known = FindNeighbour(name);
  if (known == nullptr)
    throw std::invalid_argument("there is no neighbour " + name +
                                "; known: " + KnownNeighbourNames());
  return *known;
}

// Felix, until SIGTERM; what it wrote stays. SIGHUP: the site has other policies; SIGUSR1: it is
// time to look whether all is in its place.
void RunFelix(const KnownNeighbour& known, const std::string& site_file) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1})
    sigaddset(&signals, signal);
  // Before there is a thread, which would be the one that they end.
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const NeighbourSite site = ReadSite(site_file);
  Felix felix({.family = site.family,
               .policies = site.policies,
               .link_prefix = site.link_prefix,
               .node = site.node,
               .inserts = *known.felix,
               .start = std::chrono::milliseconds(500)});
  const auto say = [](const std::string& what) {
    std::puts(what.c_str());
    std::fflush(stdout);
  };
  say("ready");
  int policies = 0;
  int looks = 0;
  int signal = 0;
  while (sigwait(&signals, &signal) == 0 && (signal == SIGHUP || signal == SIGUSR1)) {
    if (signal == SIGHUP) {
      felix.SetPolicies(ReadSite(site_file).policies);
      say(fmt::format("policies {}", ++policies));
    } else {
      felix.LookAgain();
      say(fmt::format("look {}", ++looks));
    }
  }
}

// As nftables.service does it, and as iptables-restore does it with each table of a file: all of a
// table at once. Not `-F` and then `-X`: the agent may have written its chains and jumps again in
// between, and `-X` stops at a chain that is in use.
void FlushAllRules() {
  RunTool({"nft", "flush", "ruleset"});
  for (const char* family : {"", "6"}) {
    std::ifstream names(fmt::format("/proc/net/ip{}_tables_names", family));
    for (std::string table; std::getline(names, table);)
      RunTool({"sh", "-c", R"(printf '*%s\nCOMMIT\n' "$1" | "$0" -w)",
               fmt::format("ip{}tables-legacy-restore", family), table});
  }
}

// What the agent says of each mode beside what is in this kernel: its own reader and table.
void Look() {
  const Signs signs = ReadSigns(PatternsOf(Neighbours()));
  const std::vector<Finding> findings = Survey(signs, Neighbours());
  nlohmann::json out = {{"unread", signs.unread}, {"modes", nlohmann::json::object()}};
  for (const Finding& finding : findings)
    out["found"].push_back(finding.neighbour->name);
  for (const kube::Mode mode :
       {kube::Mode::kUserspace, kube::Mode::kIptables, kube::Mode::kIpvs, kube::Mode::kNftables}) {
    nlohmann::json refused = nlohmann::json::array();
    for (const Finding& finding : findings) {
      const Verdict& verdict = VerdictOf(finding, mode, {});
      if (verdict.level == Level::kRefused)
        refused.push_back({{"name", finding.neighbour->name},
                           {"reason", verdict.reason},
                           {"remedy", verdict.remedy}});
    }
    out["modes"][std::string(kube::ToString(mode))] = refused;
  }
  std::cout << out.dump() << '\n';
}

// Either of one Service and with its mode by flags, or as a kube-proxy with a file of its own,
// which serves those of another file (ParseProxiedServices).
class KubeProxyCommand {
 public:
  explicit KubeProxyCommand(CLI::App& app)
      : command_(app.add_subcommand("kube-proxy", "Stays, as kube-proxy does")) {
    command_->add_option("--node-ip", service_.node_ip)->required();
    command_->add_option("--ready-port", options_.ready_port)->required();
    CLI::Option* const config = command_->add_option("--config", config_);
    CLI::Option* const services = command_->add_option("--services", services_)->needs(config);
    config->needs(services);
    for (CLI::Option* option : {command_->add_option("--cluster-ip", service_.cluster_ip),
                                command_->add_option("--port", service_.port),
                                command_->add_option("--endpoint", service_.endpoints),
                                command_->add_option("--node-port", service_.node_port),
                                command_->add_option("--mode", options_.mode)
                                    ->check(CLI::IsMember({"ipvs", "iptables"}))})
      option->excludes(config);
  }
  bool parsed() const { return command_->parsed(); }
  void Run() {
    if (!config_.empty()) {
      options_.file = ParseKubeProxyFile(ReadFile(config_));
      options_.services =
          ParseProxiedServices(ReadFile(services_), service_.node_ip, options_.file->cluster_cidr);
    } else if (service_.cluster_ip.empty() || service_.port == 0 || service_.endpoints.empty()) {
      throw std::invalid_argument(
          "kube-proxy needs --config and --services, or --cluster-ip, --port and --endpoint");
    } else {
      options_.services = {service_};
    }
    RunKubeProxy(options_);
  }

 private:
  CLI::App* const command_;
  KubeProxyOptions options_;
  ProxiedService service_;
  std::string config_;
  std::string services_;
};

int Main(int argc, char** argv) {
  CLI::App app("A neighbour of the node agent in this node's kernel", "pointsman-neighbour");
  app.require_subcommand(1);
  std::string name;
  std::string site_file;
  const auto with_name = [&](const char* verb, const char* what) {
    CLI::App* command = app.add_subcommand(verb, what);
    command->add_option("name", name)->required();
    command->add_option("--site", site_file)->required();
    return command;
  };
  const auto* put = with_name("put", "Makes all that it has");
  const auto* sync = with_name("sync", "Does what its agent does from time to time");
  const auto* reload = with_name("reload", "Flushes all rules of this kernel and puts its own");
  const auto* remove = with_name("remove", "Takes all of it away");
  const auto* run = with_name("run", "Stays, as Felix does, until SIGTERM");
  KubeProxyCommand kube_proxy(app);
  const auto* look = app.add_subcommand("look", "Which modes the agent's table refuses here");
  CLI11_PARSE(app, argc, argv);
  if (look->parsed()) {
    Look();
    return 0;
  }
  if (kube_proxy.parsed()) {
    kube_proxy.Run();
    return 0;
  }
  const KnownNeighbour& known = Known(name);
  if (run->parsed()) {
    RunFelix(known, site_file);
    return 0;
  }
  const NeighbourSite site = ReadSite(site_file);
  if (known.felix) {
    if (!remove->parsed()) throw std::invalid_argument(name + " is a program: only run and remove");
    Felix::RemoveRules(site.family);
    return 0;
  }
  const Neighbour neighbour = known.make(site);
  xtables::IptablesTool tool(site.family);
  if (put->parsed()) neighbour.Put(tool);
  if (sync->parsed()) std::puts(neighbour.Sync(tool) ? "wrote" : "all is in its place");
  if (reload->parsed()) {
    FlushAllRules();
    neighbour.PutRulesAgain(tool);
  }
  if (remove->parsed()) neighbour.Remove(tool);
  return 0;
}

}  // namespace
}  // namespace pointsman::agent::testing

int main(int argc, char** argv) {
  try {
    return pointsman::agent::testing::Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "pointsman-neighbour: %s\n", error.what());
    return 1;
  }
}
