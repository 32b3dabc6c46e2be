// kubectl pointsman migrate --to MODE: the whole way, a question before each step. It keeps
// nothing: where it stands it reads from the cluster, so the same command again goes on.
#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "kubectl-pointsman/asked_nodes.h"
#include "kubectl-pointsman/commands.h"
#include "kubectl-pointsman/follow.h"
#include "kubectl-pointsman/preflight.h"
#include "kubectl-pointsman/questions.h"
#include "kubectl-pointsman/status.h"
#include "kubectl-pointsman/terminal.h"

namespace pointsman::plugin {
namespace {

constexpr const char* kNewName = "cluster";

class Migration {
 public:
  explicit Migration(Session& session)
      : session_(session),
        questions_(session.out, session.options.yes, session.stop),
        mode_(*session.options.mode) {}

  ExitCode Run() {
    Find();
    if (configuration_ && Wanted(*configuration_)) {
      session_.out << "ProxyConfiguration " << Line(name_) << " says " << Mode()
                   << " already: looking how far it is\n";
      Resume();
    } else {
      Preflight();
      Write();
    }
    return Watch();
  }

 private:
  std::string Mode() const { return std::string(kube::ToString(mode_)); }

  bool Wanted(const kube::ProxyConfiguration& configuration) const {
    return configuration.spec.settings.mode == mode_ && !configuration.spec.rollout.rollback_to;
  }

  // The ProxyConfiguration that is to be changed, if there is one.
  void Find() {
    std::vector<kube::ProxyConfiguration> all = session_.api.Configurations();
    // What an interrupted preflight has left is none.
    std::erase_if(all, [](const auto& one) { return one.name == AskedNodes::kName; });
    const std::string& name = session_.options.name;
    if (name.empty() && all.size() > 1) session_.api.Configuration("");  // says which there are
    for (kube::ProxyConfiguration& one : all) {
      if (name.empty() || one.name == name) configuration_ = std::move(one);
    }
    name_ = configuration_ ? configuration_->name : name.empty() ? kNewName : name;
  }

  void Preflight() {
    session_.out << "Step 1: can the nodes run " << Mode() << "?\n";
    std::vector<kube::Node> nodes = session_.api.Nodes();
    std::vector<kube::NodeProxy> proxies = session_.api.AllNodeProxies().proxies;
    std::optional<AskedNodes> asked;
    if (!configuration_) {
      questions_.Ask(
          "No ProxyConfiguration is there, so the nodes have not been asked. Ask them by a paused "
          "one, which changes nothing and is deleted afterwards?",
          "nothing was changed");
      asked.emplace(session_.api, mode_);
      asked->AwaitAnswers(session_.options.timeout, session_.stop);
      proxies = session_.api.AllNodeProxies().proxies;
    } else {
      // Those of others are not touched.
      std::erase_if(proxies, [&](const auto& proxy) { return proxy.spec.configuration != name_; });
      std::erase_if(nodes, [&](const kube::Node& node) {
        return std::none_of(proxies.begin(), proxies.end(),
                            [&](const auto& proxy) { return proxy.name == node.name; });
      });
    }
    const PreflightReport report = MakePreflightReport(mode_, nodes, proxies, {});
    if (asked) asked->Finish();
    session_.out << PreflightText(report, false);
    if (report.Outcome() == ExitCode::kOk) return;
    const size_t cannot = report.Count(Verdict::kCannot);
    questions_.Ask(
        cannot > 0 ? fmt::format(
                         "{} of {} nodes cannot: each runs the first of spec.fallbackModes that it "
                         "can instead, or stays as it is. Go on?",
                         cannot, report.nodes.size())
                   : "Of some it is not known: they are asked again before any node moves. Go on?",
        "nothing was changed");
  }

  void Write() {
    session_.out << "Step 2: ProxyConfiguration " << Line(name_) << "\n";
    if (configuration_) {
      const auto was = kube::ToString(configuration_->spec.settings.mode);
      session_.out << fmt::format(
          "  spec.mode: {} -> {}{}\n", was, Mode(),
          configuration_->spec.rollout.rollback_to ? "; spec.rollout.rollbackTo goes" : "");
    } else {
      session_.out
          << "  is new: all nodes, " << Mode()
          << "; every other setting has its default (one canary, 60 s of soak, one node at "
             "a time)\n";
    }
    const kube::Rollout rollout = configuration_ ? configuration_->spec.rollout : kube::Rollout{};
    if (rollout.paused)
      session_.out << "  it is paused: the rollout is resumed with the same write\n";
    questions_.Ask(fmt::format("Write it? {} is first, then the others follow by themselves",
                               rollout.canary.node_selector ? "The canaries' label"
                               : rollout.canary.nodes == 1  ? "One canary"
                               : rollout.canary.nodes == 0  ? "No canary"
                                                            : "Canaries"),
                   "nothing was changed");
    if (configuration_) {
      session_.api.PatchSpec(name_, [&](const kube::ProxyConfiguration&) -> kube::Json {
        return {{"mode", Mode()}, {"rollout", {{"paused", false}, {"rollbackTo", nullptr}}}};
      });
    } else {
      session_.api.Create({{"apiVersion", "pointsman.io/v1alpha1"},
                           {"kind", "ProxyConfiguration"},
                           {"metadata", {{"name", name_}}},
                           {"spec", {{"mode", Mode()}}}});
    }
  }

  // It was written before.
  void Resume() {
    if (!configuration_->spec.rollout.paused) return;
    questions_.Ask("It is paused. Resume it?", "it stays paused");
    session_.api.PatchSpec(name_, [](const kube::ProxyConfiguration&) -> kube::Json {
      return {{"rollout", {{"paused", false}}}};
    });
  }

  ExitCode Watch() {
    session_.out << "Step 3: the nodes move (Ctrl-C ends watching, not the move)\n";
    const ExitCode code =
        Follow(session_.api, name_, {false, session_.options.timeout}, session_.out, session_.stop);
    if (code == ExitCode::kOk) {
      session_.out << "Done. Back: kubectl pointsman rollback --name " << Line(name_) << "\n";
    } else if (code == ExitCode::kFailed) {
      session_.out << StatusText(FetchRollout(session_.api, name_), false, {})
                   << "It has failed. `kubectl pointsman explain NODE` says why; back: kubectl "
                      "pointsman rollback --name "
                   << Line(name_) << "\n";
    } else {
      session_.out
          << "It is not finished. The same command again goes on watching; stop it: kubectl "
             "pointsman pause --name "
          << Line(name_) << "\n";
    }
    return code;
  }

  Session& session_;
  Questions questions_;
  const kube::Mode mode_;
  std::optional<kube::ProxyConfiguration> configuration_;
  std::string name_;
};

}  // namespace

ExitCode RunMigrate(Session& session) {
  return Migration(session).Run();
}

}  // namespace pointsman::plugin
