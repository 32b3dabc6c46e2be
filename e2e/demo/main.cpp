// pointsman-demo: shows the main jobs to a person.
#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>

#include <CLI/CLI.hpp>

#include "e2e/demo/from_kube_proxy.h"
#include "e2e/demo/iptables_to_ipvs.h"
#include "e2e/demo/stage.h"

namespace pointsman::e2e {
namespace {

void Keep(Stage& stage, const Signals& signals) {
  std::printf(
      "\nThe cluster stays until Ctrl-C. In another terminal:\n\n"
      "  export KUBECONFIG=%s\n"
      "  kubectl get pxc,npx\n\n",
      stage.world().cluster().Kubeconfig().c_str());
  std::fflush(stdout);
  signals.Wait(std::chrono::milliseconds(-1));
}

int Main(int argc, char** argv) {
  CLI::App app(
      "Moves a small cluster of real kernels from iptables to ipvs under traffic, or from "
      "kube-proxy "
      "to ipvs, nftables and back.");
  bool keep = false;
  std::string from;
  WorldOptions options;
  app.add_flag("--keep", keep, "leave the cluster running until Ctrl-C");
  app.add_option("--from", from, "what serves first: kube-proxy; not given: Pointsman itself")
      ->check(CLI::IsMember({"kube-proxy"}));
  app.add_option("--dir", options.dir, "where logs and state go")->required();
  app.add_option("--source-dir", options.source_dir, "where crds/ and manifests/ are")->required();
  CLI11_PARSE(app, argc, argv);
  options.kubelets = true;
  if (from.empty())
    AddNodesOfIptablesToIpvs(options);
  else
    AddNodesOfFromKubeProxy(options);
  if (const std::string missing = MissingForACluster(options.nodes); !missing.empty()) {
    std::fprintf(stderr, "error: %s\n", missing.c_str());
    return 1;
  }
  try {
    const AttachedCluster running(options.dir);
    std::fprintf(stderr, "error: a demo is running in %s already (process %d)\n",
                 options.dir.c_str(), running.owner());
    return 1;
  } catch (const std::runtime_error&) {
    // What an earlier one left, its API server's state above all, is not where this one begins.
    std::filesystem::remove_all(options.dir);
  }
  const Signals signals;
  try {
    Stage stage(std::move(options), signals);
    const bool clean = from.empty() ? ShowIptablesToIpvs(stage) : ShowFromKubeProxy(stage);
    if (keep) Keep(stage, signals);
    return clean ? 0 : 1;
  } catch (const Interrupted&) {
    std::printf("\ninterrupted: the cluster is taken down\n");
    return 130;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "\n\033[31merror:\033[0m %s\n", error.what());
    return 1;
  }
}

}  // namespace
}  // namespace pointsman::e2e

int main(int argc, char** argv) {
  return pointsman::e2e::Main(argc, argv);
}
