#include "kubectl-pointsman/options.h"

#include <iostream>

#include <CLI/CLI.hpp>

#include "kube/pointsman/duration.h"
#include "kube/process/version.h"
#include "kubectl-pointsman/exit_code.h"

namespace pointsman::plugin {
namespace {

constexpr const char* kFooter =
    "Exit codes: 0 done; 1 a wrong argument or file; 2 not finished; 3 the rollout failed; 4 a "
    "node "
    "cannot run the mode; 5 not found; 6 not permitted; 7 the API server cannot be reached; 8 "
    "diff: "
    "there are differences; 9 a question was answered with no.";

// Of `words`, in their order with the values.
template <typename T>
void AddWord(CLI::App& app, const std::string& flags, T& value, const std::string& about,
             const std::vector<std::pair<std::string, T>>& words, bool required = false) {
  std::string list;
  for (const auto& [word, ignored] : words)
    list += (list.empty() ? "" : ", ") + word;
  CLI::Option* const option = app.add_option_function<std::string>(
      flags,
      [&value, words, list, flags](const std::string& given) {
        for (const auto& [word, meaning] : words) {
          if (word != given) continue;
          value = meaning;
          return;
        }
        throw CLI::ValidationError(flags, "\"" + given + "\" is not one of " + list);
      },
      about + ": " + list);
  option->type_name("WORD")->required(required);
}

void AddOutput(CLI::App& app, Options& options, bool wide = true) {
  std::vector<std::pair<std::string, Output>> words{{"json", Output::kJson},
                                                    {"yaml", Output::kYaml}};
  if (wide) words.emplace_back("wide", Output::kWide);
  AddWord(app, "-o,--output", options.output, "The form of the report", words);
}

void AddTimeout(CLI::App& app, Options& options, const std::string& about) {
  app.add_option_function<std::string>(
         "--timeout",
         [&options](const std::string& given) {
           const auto time = kube::ParseDuration(given);
           if (!time || *time <= std::chrono::nanoseconds::zero())
             throw CLI::ValidationError("--timeout",
                                        "\"" + given + "\" is not a time such as 30s, 5m or 1h");
           options.timeout = *time;
         },
         about)
      ->type_name("TIME");
}

void AddMode(CLI::App& app, const std::string& flag, Options& options, const std::string& about) {
  std::vector<std::pair<std::string, std::optional<kube::Mode>>> words;
  for (const kube::Mode mode :
       {kube::Mode::kIptables, kube::Mode::kIpvs, kube::Mode::kNftables, kube::Mode::kUserspace})
    words.emplace_back(kube::ToString(mode), mode);
  AddWord(app, flag, options.mode, about, words, /*required=*/true);
}

CLI::App& AddCommand(CLI::App& app, Options& options, const std::string& name,
                     const std::string& about) {
  CLI::App* const command = app.add_subcommand(name, about);
  command->callback([&options, name] { options.command = name; });
  command->footer(kFooter);
  return *command;
}

void AddCommands(CLI::App& app, Options& options) {
  CLI::App& status = AddCommand(app, options, "status",
                                "Where the rollout stands; on a terminal, until it is finished");
  status.add_flag("--nodes", options.each_node, "A line for each node (as -o wide)");
  status.add_flag("-w,--watch", options.watch,
                  "Until the rollout is finished, also where standard output is no terminal");
  status.add_flag("--once", options.once, "One report, also on a terminal");
  AddTimeout(status, options, "With --watch or on a terminal: the longest time to watch");
  AddOutput(status, options);

  CLI::App& preflight = AddCommand(app, options, "preflight",
                                   "Which nodes could run a mode, before anything is applied");
  AddMode(preflight, "--mode", options, "The mode");
  preflight.add_option("--nodes", options.nodes, "These nodes only: NAME,NAME")->delimiter(',');
  preflight.add_flag(
      "--ask", options.ask,
      "Also nodes that no ProxyConfiguration selects: by a paused one, which changes "
      "nothing and is deleted afterwards");
  AddTimeout(preflight, options, "With --ask: the longest time to wait for answers (1m)");
  AddOutput(preflight, options);

  CLI::App& explain =
      AddCommand(app, options, "explain", "Why a node is as it is, and what to do about it");
  explain.add_option("NODE", options.node, "Its name")->required();
  AddOutput(explain, options, false);

  CLI::App& services = AddCommand(
      app, options, "services", "What a node's kernel has of Services, in one form for all modes");
  services.add_option("NODE", options.node, "Its name; without it the nodes are listed");
  services.add_option("SERVICE", options.service,
                      "NAME, NAMESPACE/NAME, NAMESPACE/NAME:PORT or an address");
  AddTimeout(services, options, "The longest time to wait for the node's answer (5m)");
  AddOutput(services, options, false);

  CLI::App& history = AddCommand(app, options, "history", "The revisions that are kept");
  AddOutput(history, options, false);
  AddCommand(app, options, "pause", "Begin no further node (spec.rollout.paused)");
  AddCommand(app, options, "resume", "Go on after pause");
  CLI::App& rollback = AddCommand(app, options, "rollback",
                                  "Go back to an earlier revision (spec.rollout.rollbackTo)");
  rollback.add_option("--to", options.to, "Its number; without it the one before");
  rollback.add_flag(
      "--undo", options.undo,
      "Take spec.rollout.rollbackTo away: the specification's own settings count again");

  CLI::App& migrate = AddCommand(app, options, "migrate",
                                 "The whole way to a mode, with a question before each step");
  AddMode(migrate, "--to", options, "The mode");
  migrate.add_flag("-y,--yes", options.yes, "Yes to every question");
  AddTimeout(migrate, options, "The longest time to watch");

  CLI::App& diff = AddCommand(app, options, "diff", "What a file would change, on how many nodes");
  diff.add_option("-f,--filename", options.file, "YAML or JSON; -: standard input")->required();
  AddOutput(diff, options, false);

  CLI::App& completion =
      AddCommand(app, options, "completion", "A shell's completion script, to standard output");
  completion
      .add_option("SHELL", options.shell, "bash, zsh, fish; kubectl: kubectl_complete-pointsman")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish", "kubectl"}));
}

}  // namespace

std::unique_ptr<CLI::App> MakeApp(Options& options) {
  auto app = std::make_unique<CLI::App>("Looks at Pointsman's rollouts, and steers them.",
                                        "kubectl pointsman");
  app->set_version_flag("--version", std::string("kubectl-pointsman ") + kVersion);
  app->footer(kFooter);
  app->fallthrough();
  app->require_subcommand(1);
  app->add_option("--kubeconfig", options.kubeconfig,
                  "How to reach the API server; without it $KUBECONFIG, then ~/.kube/config");
  app->add_option("--context", options.context, "Of the kubeconfig; without it the current one");
  app->add_option("--name", options.name,
                  "Of the ProxyConfiguration; not needed where there is only one");
  app->add_option("-n,--namespace", options.ns, "Where the operator runs")->capture_default_str();
  AddCommands(*app, options);
  return app;
}

Options ParseOptions(int argc, const char* const* argv) {
  Options options;
  const auto app = MakeApp(options);
  try {
    app->parse(argc, argv);
  } catch (const CLI::RequiredError& error) {
    if (options.command.empty() && app->get_subcommands().empty()) {
      std::cerr << "say what to do:";
      for (const CLI::App* const command :
           app->get_subcommands([](const CLI::App*) { return true; }))
        std::cerr << " " << command->get_name();
      std::cerr << " (--help tells more)\n";
    } else {
      app->exit(error);
    }
    throw Ended{static_cast<int>(ExitCode::kError)};
  } catch (const CLI::ParseError& error) {
    const int code = app->exit(error);
    throw Ended{code == 0 ? 0 : static_cast<int>(ExitCode::kError)};
  }
  return options;
}

}  // namespace pointsman::plugin
