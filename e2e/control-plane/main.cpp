#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <sys/signalfd.h>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <spdlog/spdlog.h>

#include "e2e/control-plane/api/api_server.h"
#include "e2e/control-plane/api/crds.h"
#include "e2e/control-plane/api/namespaces.h"
#include "e2e/control-plane/bootstrap.h"
#include "e2e/control-plane/http/server.h"
#include "e2e/control-plane/pki/pki.h"
#include "e2e/control-plane/registry/builtin_types.h"

namespace pointsman::e2e {
namespace {

struct Flags {
  std::filesystem::path dataDir;
  std::filesystem::path pkiDir;
  std::filesystem::path tokenFile;
  std::filesystem::path readyFile;
  std::filesystem::path preload;
  std::filesystem::path watchLog;
  std::filesystem::path accessLog;
  std::vector<std::string> listen;
  std::vector<std::string> sans;
  std::string version = "1.35";
  std::string logLevel = "info";
  std::string bookmarkInterval = "60s";
  std::size_t history = 16384;
  bool controllers = true;
  ControllerOptions controllerOptions;
};

struct KubeconfigFlags {
  std::filesystem::path pkiDir;
  std::filesystem::path out;
  std::string user;
  std::string server;
  std::vector<std::string> groups;
};

int minorOf(const std::string& version) {
  int minor = 0;
  if (sscanf(version.c_str(), "1.%d", &minor) != 1 || minor < 20 || minor > 35 ||
      version != "1." + std::to_string(minor)) {
    throw std::invalid_argument("--emulate-version: '" + version + "' is not 1.20 to 1.35");
  }
  return minor;
}

int mintKubeconfig(const KubeconfigFlags& flags) {
  const Pki pki(flags.pkiDir);
  const std::string config = pki.clientKubeconfig(flags.server, flags.user, flags.groups);
  if (flags.out.empty() || flags.out == "-") {
    std::cout << config;
  } else {
    Pki::writePrivate(flags.out, config);
  }
  return 0;
}

// The signals that end the server, blocked in this thread and those that it starts.
sigset_t blockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  if (std::signal(SIGPIPE, SIG_IGN) == SIG_ERR)
    throw std::system_error(errno, std::generic_category(), "signal");
  return signals;
}

std::vector<std::string> certificateNames(const Flags& flags,
                                          const std::vector<ListenAddress>& addresses) {
  std::vector<std::string> sans{"localhost",
                                "127.0.0.1",
                                "kubernetes",
                                "kubernetes.default",
                                "kubernetes.default.svc",
                                "kubernetes.default.svc.cluster.local",
                                firstServiceIp(flags.controllerOptions.serviceCidr)};
  for (const ListenAddress& address : addresses) {
    if (address.host != "0.0.0.0" && address.host != "::") sans.push_back(address.host);
  }
  sans.insert(sans.end(), flags.sans.begin(), flags.sans.end());
  std::sort(sans.begin(), sans.end());
  sans.erase(std::unique(sans.begin(), sans.end()), sans.end());
  return sans;
}

std::string urlOf(const ListenAddress& address, std::uint16_t port) {
  std::string host = address.host == "0.0.0.0" ? "127.0.0.1"
                     : address.host == "::"    ? "::1"
                                               : address.host;
  if (host.find(':') != std::string::npos) host.insert(0, "[").append("]");
  return "https://" + host + ":" + std::to_string(port);
}

// CustomResourceDefinitions are validated by, and served through, `customResources`, which outlives
// the registry's use.
void serveCustomResources(Registry& registry, const Store& store,
                          CustomResources& customResources) {
  ResourceType crds = *registry.find("apiextensions.k8s.io", "v1", "customresourcedefinitions");
  crds.applyDefaults = CustomResources::applyDefaults;
  crds.validate = [&customResources](const Json& crd, const Json* old, const RequestInfo& info) {
    return info.subresource == "status" ? std::vector<FieldError>()
                                        : customResources.validate(crd, old);
  };
  crds.afterWrite = [&customResources](const Json* old, const Json* now) {
    if (now == nullptr) {
      customResources.withdraw(*old);
    } else if (old == nullptr || (*old)["spec"] != (*now)["spec"]) {
      customResources.serve(*now);
    }
  };
  registry.add(std::move(crds));
  for (const ObjectPtr& crd : store.list("apiextensions.k8s.io/customresourcedefinitions").objects)
    customResources.serve(crd->parse());
}

void validateAdmissionPolicies(Registry& registry, const Emulation& emulation) {
  if (!emulation.atLeast(30)) return;
  const auto check = [&](const char* plural, auto validate) {
    ResourceType type = *registry.find("admissionregistration.k8s.io", "v1", plural);
    type.validate = [validate, emulation](const Json& object, const Json*, const RequestInfo&) {
      return validate(object, emulation);
    };
    registry.add(std::move(type));
  };
  check("validatingadmissionpolicies", AdmissionPolicies::validatePolicy);
  check("validatingadmissionpolicybindings", AdmissionPolicies::validateBinding);
}

// Has a server refuse connections for a while (the fault "refuseConnections").
class Refusal {
 public:
  explicit Refusal(HttpServer& server)
      : server_(server), thread_([this](const std::stop_token& stop) { run(stop); }) {}

  void start(std::chrono::milliseconds duration) {
    const std::lock_guard lock(mutex_);
    until_ = std::chrono::steady_clock::now() + duration;
    server_.refuseConnections(true);
    changed_.notify_all();
  }

 private:
  void run(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested()) {
      if (!until_) {
        changed_.wait(lock, stop, [&] { return until_.has_value(); });
      } else if (std::chrono::steady_clock::now() >= *until_) {
        until_.reset();
        server_.refuseConnections(false);
      } else {
        changed_.wait_until(lock, stop, *until_, [] { return false; });
      }
    }
  }

  HttpServer& server_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::optional<std::chrono::steady_clock::time_point> until_;
  std::jthread thread_;  // last: it uses all of the above
};

std::string readFile(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

ApiServer::Options apiOptionsOf(const Flags& flags, const Emulation& emulation) {
  ApiServer::Options options;
  options.emulation = emulation;
  options.bookmarkInterval = parseDuration("--bookmark-interval", flags.bookmarkInterval);
  options.watchLog = flags.watchLog;
  options.accessLog = flags.accessLog;
  return options;
}

int serve(const Flags& flags) {
  const sigset_t signals = blockSignals();
  const Emulation emulation{minorOf(flags.version)};
  const Pki pki(flags.pkiDir);
  std::vector<ListenAddress> addresses;
  for (const std::string& text : flags.listen)
    addresses.push_back(parseListenAddress(text));
  pki.issueServer(certificateNames(flags, addresses));

  Store::Options storeOptions;
  storeOptions.dataDir = flags.dataDir;
  storeOptions.historyPerResource = flags.history;
  Store store(storeOptions);
  Registry registry;
  const std::unique_ptr<SchemaProvider> schemas = makeSchemaProvider(emulation);
  registerBuiltinTypes(registry, store, *schemas, emulation, [&](ResourceType& services) {
    installServiceAllocation(services, store, flags.controllerOptions);
  });
  CustomResources customResources(registry, store, *schemas, emulation);
  serveCustomResources(registry, store, customResources);
  validateAdmissionPolicies(registry, emulation);

  const Authenticator authenticator(store, pki.tokenSecret(), flags.tokenFile);
  const Authorizer authorizer(store);
  ApiServer api(apiOptionsOf(flags, emulation), store, registry, *schemas, authenticator,
                authorizer);
  HttpServer::Options httpOptions;
  httpOptions.certificate = pki.serverCertificate();
  httpOptions.key = pki.serverKey();
  httpOptions.clientCa = pki.caCertificate();
  HttpServer server(httpOptions, [&](const HttpRequest& request, HttpExchange& exchange) {
    api.handle(request, exchange);
  });
  Refusal refusal(server);
  api.onRefuseConnections([&](std::chrono::milliseconds duration) { refusal.start(duration); });

  std::vector<std::string> urls;
  int firstPort = 0;
  for (const ListenAddress& address : addresses) {
    const std::uint16_t port = server.listen(address);
    if (firstPort == 0) firstPort = port;
    urls.push_back(urlOf(address, port));
  }
  bootstrap(api, store, firstServiceIp(flags.controllerOptions.serviceCidr), firstPort);
  const NamespaceController namespaces(store, registry, readFile(pki.caCertificate()));
  if (!flags.preload.empty()) preload(api, flags.preload);
  std::unique_ptr<Controllers> controllers;
  if (flags.controllers) {
    controllers = startControllers(store, registry, emulation, flags.controllerOptions);
  }
  Pki::writePrivate(flags.pkiDir / "admin.kubeconfig",
                    pki.clientKubeconfig(urls.at(0), "kubernetes-admin", {"system:masters"}));
  api.setReady();
  std::cout << "pointsman-control-plane: serving on";
  for (const std::string& url : urls)
    std::cout << " " << url;
  std::cout << std::endl;
  if (!flags.readyFile.empty()) Pki::writePrivate(flags.readyFile, urls.at(0) + "\n");

  int signal = 0;
  sigwait(&signals, &signal);
  spdlog::info("signal {}: stopping", signal);
  // The watches' threads first: they hold subscriptions to the store.
  store.stopSubscriptions();
  server.stop();
  if (controllers) controllers->stop();
  return 0;
}

void addServeFlags(CLI::App& app, Flags& flags) {
  app.add_option("--data-dir", flags.dataDir,
                 "where the state survives; without it, in memory only");
  app.add_option("--listen", flags.listen,
                 "[NETNS_PATH@]ADDR:PORT, repeatable; port 0: any free one")
      ->default_val(std::vector<std::string>{"127.0.0.1:6443"});
  app.add_option("--pki-dir", flags.pkiDir, "CA, server certificate and admin.kubeconfig go here");
  app.add_option("--san", flags.sans, "further names and addresses of the server certificate");
  app.add_option("--token-file", flags.tokenFile, "CSV: token,user,uid,\"group1,group2\"");
  app.add_option("--emulate-version", flags.version, "1.20 to 1.35")->capture_default_str();
  app.add_option("--service-cidr", flags.controllerOptions.serviceCidr,
                 "one range, or two for dual stack")
      ->capture_default_str();
  app.add_option("--advertise-address", flags.controllerOptions.advertiseAddress,
                 "endpoint of the Service default/kubernetes; without it, it has none");
  app.add_option("--advertise-port", flags.controllerOptions.advertisePort, "port of that endpoint")
      ->capture_default_str();
  app.add_option_function<int>(
      "--node-monitor-grace-period",
      [&flags](int seconds) {
        flags.controllerOptions.nodeMonitorGracePeriod = std::chrono::seconds{seconds};
      },
      "seconds without a renewed Lease until a node is not ready (40)");
  app.add_option("--preload", flags.preload, "JSON lines of objects to create before being ready");
  app.add_option("--watch-log", flags.watchLog,
                 "a line for each watch event sent: CLOCK_MONOTONIC ns, resource, user, version");
  app.add_option(
      "--access-log", flags.accessLog,
      "a line of JSON for each request to a resource: who does what, and whether it may");
  app.add_option("--ready-file", flags.readyFile, "written with the URL once the server is ready");
  app.add_option("--bookmark-interval", flags.bookmarkInterval,
                 "between BOOKMARK events of a watch")
      ->capture_default_str();
  app.add_option("--history", flags.history, "events kept per resource to watch from")
      ->capture_default_str();
  app.add_flag("!--no-controllers", flags.controllers, "do not run the controllers");
  app.add_option("--log-level", flags.logLevel, "trace, debug, info, warning, error")
      ->capture_default_str();
}

CLI::App* addKubeconfigCommand(CLI::App& app, KubeconfigFlags& mint) {
  CLI::App* kubeconfig =
      app.add_subcommand("kubeconfig", "make a client certificate and its kubeconfig");
  kubeconfig->add_option("--pki-dir", mint.pkiDir)->required();
  kubeconfig->add_option("--user", mint.user)->required();
  kubeconfig->add_option("--group", mint.groups);
  kubeconfig->add_option("--server", mint.server)->required();
  kubeconfig->add_option("--out", mint.out, "- for standard output");
  return kubeconfig;
}

}  // namespace
}  // namespace pointsman::e2e

int main(int argc, char** argv) {
  using namespace pointsman::e2e;
  CLI::App app("A small Kubernetes API server for tests and demonstrations");
  Flags flags;
  KubeconfigFlags mint;
  addServeFlags(app, flags);
  const CLI::App* kubeconfig = addKubeconfigCommand(app, mint);
  CLI11_PARSE(app, argc, argv);
  try {
    spdlog::set_level(spdlog::level::from_str(flags.logLevel));
    if (kubeconfig->parsed()) return mintKubeconfig(mint);
    if (flags.pkiDir.empty()) throw std::invalid_argument("--pki-dir is required");
    return serve(flags);
  } catch (const std::exception& e) {
    std::cerr << "pointsman-control-plane: " << e.what() << "\n";
    return 1;
  }
}
