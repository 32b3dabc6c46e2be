// kubectl-pointsman: what `kubectl pointsman` starts.
#include <functional>
#include <iostream>
#include <string_view>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "kube/config/user_config.h"
#include "kube/http/transport.h"
#include "kube/objects/service.h"
#include "kube/process/logging.h"
#include "kube/process/termination.h"
#include "kube/process/version.h"
#include "kubectl-pointsman/commands.h"
#include "kubectl-pointsman/completion.h"
#include "kubectl-pointsman/credential_plugin.h"

namespace pointsman::plugin {
namespace {

kube::Client MakeClient(const Options& options) {
  kube::Config config =
      kube::LoadUserConfig(options.kubeconfig, options.context, RunCredentialPlugin);
  config.user_agent = fmt::format("kubectl-pointsman/{}", kVersion);
  return kube::Client(kube::MakeTransport(config));
}

// A key was pressed: what cannot be had soon is not offered, and nothing is said of it.
std::vector<std::string> NamesSoon(const std::function<std::vector<std::string>(Api&)>& names) {
  kube::SetUpLogging("text", "error");
  try {
    Api api(MakeClient({}).WithTimeout(std::chrono::seconds(2)), "");
    return names(api);
  } catch (const std::exception&) {
    return {};
  }
}

int PrintCompletion(const std::vector<std::string>& words) {
  const Completer completer{
      .nodes =
          [] {
            return NamesSoon([](Api& api) {
              std::vector<std::string> names;
              for (const kube::Node& node : api.Nodes())
                names.push_back(node.name);
              return names;
            });
          },
      .configurations =
          [] {
            return NamesSoon([](Api& api) {
              std::vector<std::string> names;
              for (const kube::ProxyConfiguration& configuration : api.Configurations())
                names.push_back(configuration.name);
              return names;
            });
          },
      .services =
          [] {
            return NamesSoon([](Api& api) {
              std::vector<std::string> names;
              api.client().ListItems(
                  kube::resources::kServices, "", {},
                  [&](std::string_view text) { names.push_back(kube::DecodeService(text).Key()); },
                  [&] { names.clear(); });
              return names;
            });
          }};
  std::cout << CompletionAnswer(Complete(words, completer));
  return 0;
}

ExitCode Run(const Options& options) {
  if (options.command == "completion") {
    std::cout << CompletionScript(options.shell);
    return ExitCode::kOk;
  }
  kube::SetUpLogging("text", "warn");
  const kube::Termination termination;
  Api api(MakeClient(options).WithStop(termination.token()), options.ns);
  Session session{options, api, std::cout, termination.token()};
  try {
    return RunCommand(session);
  } catch (const kube::TransportError&) {
    if (termination.token().stop_requested()) return ExitCode::kNotFinished;  // Ctrl-C
    throw;
  }
}

}  // namespace
}  // namespace pointsman::plugin

int main(int argc, char** argv) {
  namespace plugin = pointsman::plugin;
  try {
    if (argc > 1 && std::string_view(argv[1]) == "__complete")
      return plugin::PrintCompletion({argv + 2, argv + argc});
    return static_cast<int>(plugin::Run(plugin::ParseOptions(argc, argv)));
  } catch (const plugin::Ended& ended) {
    return ended.code;
  } catch (...) {
    const plugin::Ending ending = plugin::EndingOfCurrentException();
    std::cout << std::flush;
    std::cerr << "error: " << ending.message << "\n";
    return static_cast<int>(ending.code);
  }
}
