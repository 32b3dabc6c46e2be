#include <csignal>
#include <fstream>
#include <iostream>
#include <sys/signalfd.h>

#include <CLI/CLI.hpp>

#include "e2e/control-plane/api/api_server.h"
#include "e2e/control-plane/api/crds.h"
#include "e2e/control-plane/api/namespaces.h"
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

Json object(const char* apiVersion, const char* kind, const char* name,
            Json rest = Json::object()) {
  rest["apiVersion"] = apiVersion;
  rest["kind"] = kind;
  rest["metadata"]["name"] = name;
  return rest;
}

// What every cluster has before anybody does anything.
void bootstrap(ApiServer& api, Store& store, const std::string& kubernetesIp, int port) {
  for (const char* ns : {"default", "kube-system", "kube-public", "kube-node-lease"}) {
    api.ensure(object("v1", "Namespace", ns));
  }
  for (const auto& [resource, role] : bootstrapRoles()) {
    if (!store.get(resource, "", role["metadata"].value("name", ""))) api.ensure(role);
  }
  api.ensure(object("scheduling.k8s.io/v1", "PriorityClass", "system-cluster-critical",
                    {{"value", 2000000000}}));
  api.ensure(object("scheduling.k8s.io/v1", "PriorityClass", "system-node-critical",
                    {{"value", 2000001000}}));
  Json kubernetes = object("v1", "Service", "kubernetes");
  kubernetes["metadata"]["namespace"] = "default";
  kubernetes["metadata"]["labels"] = {{"component", "apiserver"}, {"provider", "kubernetes"}};
  kubernetes["spec"] = {
      {"type", "ClusterIP"},
      {"clusterIP", kubernetesIp},
      {"ports", {{{"name", "https"}, {"protocol", "TCP"}, {"port", 443}, {"targetPort", port}}}}};
  api.ensure(kubernetes);
}

std::string firstServiceIp(const std::string& cidrs) {
  // The first address of the (first) range, as kube-apiserver takes it.
  const std::string cidr = cidrs.substr(0, cidrs.find(','));
  std::string address = cidr.substr(0, cidr.find('/'));
  const auto dot = address.rfind('.');
  if (dot != std::string::npos) return address.substr(0, dot + 1) + "1";
  return address + "1";
}

void preload(ApiServer& api, const std::filesystem::path& file) {
  std::ifstream in(file);
  if (!in) throw std::system_error(errno, std::generic_category(), "open " + file.string());
  std::vector<std::pair<int, std::string>> lines;
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    if (!line.empty()) lines.emplace_back(number, std::move(line));
  }
  // Several writers share an fsync.
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::string error;
  std::vector<std::jthread> writers;
  writers.reserve(8);
  for (int i = 0; i < 8; ++i) {
    writers.emplace_back([&] {
      for (std::size_t n = next++; n < lines.size(); n = next++) {
        try {
          api.ensure(Json::parse(lines[n].second));
        } catch (const std::exception& e) {
          const std::lock_guard lock(mutex);
          if (error.empty())
            error = file.string() + ":" + std::to_string(lines[n].first) + ": " + e.what();
          return;
        }
      }
    });
  }
  writers.clear();
  if (!error.empty()) throw std::runtime_error(error);
  spdlog::info("preloaded {} objects from {}", lines.size(), file.string());
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

int serve(const Flags& flags) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  if (std::signal(SIGPIPE, SIG_IGN) == SIG_ERR)
    throw std::system_error(errno, std::generic_category(), "signal");

  const Emulation emulation{minorOf(flags.version)};
  const Pki pki(flags.pkiDir);
  std::vector<ListenAddress> addresses;
  for (const std::string& text : flags.listen)
    addresses.push_back(parseListenAddress(text));
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
  pki.issueServer(sans);

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
  {
    ResourceType crds = *registry.find("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    crds.applyDefaults = CustomResources::applyDefaults;
    crds.validate = [&](const Json& crd, const Json* old, const RequestInfo& info) {
      return info.subresource == "status" ? std::vector<FieldError>()
                                          : customResources.validate(crd, old);
    };
    crds.afterWrite = [&](const Json* old, const Json* now) {
      if (now == nullptr) {
        customResources.withdraw(*old);
      } else if (old == nullptr || (*old)["spec"] != (*now)["spec"]) {
        customResources.serve(*now);
      }
    };
    registry.add(std::move(crds));
  }
  for (const ObjectPtr& crd :
       store.list("apiextensions.k8s.io/customresourcedefinitions").objects) {
    customResources.serve(crd->parse());
  }

  if (emulation.atLeast(30)) {
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

  const Authenticator authenticator(store, pki.tokenSecret(), flags.tokenFile);
  const Authorizer authorizer(store);
  ApiServer::Options apiOptions;
  apiOptions.emulation = emulation;
  apiOptions.bookmarkInterval = parseDuration("--bookmark-interval", flags.bookmarkInterval);
  apiOptions.watchLog = flags.watchLog;
  apiOptions.accessLog = flags.accessLog;
  ApiServer api(apiOptions, store, registry, *schemas, authenticator, authorizer);

  HttpServer::Options httpOptions;
  httpOptions.certificate = pki.serverCertificate();
  httpOptions.key = pki.serverKey();
  httpOptions.clientCa = pki.caCertificate();
  HttpServer server(httpOptions, [&](const HttpRequest& request, HttpExchange& exchange) {
    api.handle(request, exchange);
  });
  std::mutex refuseMutex;
  std::condition_variable_any refuseChanged;
  std::optional<std::chrono::steady_clock::time_point> refuseUntil;
  api.onRefuseConnections([&](std::chrono::milliseconds duration) {
    const std::lock_guard lock(refuseMutex);
    refuseUntil = std::chrono::steady_clock::now() + duration;
    server.refuseConnections(true);
    refuseChanged.notify_all();
  });
  const std::jthread refuser([&](const std::stop_token& stop) {
    std::unique_lock lock(refuseMutex);
    while (!stop.stop_requested()) {
      if (!refuseUntil) {
        refuseChanged.wait(lock, stop, [&] { return refuseUntil.has_value(); });
      } else if (std::chrono::steady_clock::now() >= *refuseUntil) {
        refuseUntil.reset();
        server.refuseConnections(false);
      } else {
        refuseChanged.wait_until(lock, stop, *refuseUntil, [] { return false; });
      }
    }
  });

  std::vector<std::string> urls;
  int firstPort = 0;
  for (const ListenAddress& address : addresses) {
    const std::uint16_t port = server.listen(address);
    if (firstPort == 0) firstPort = port;
    const bool v6 = address.host.find(':') != std::string::npos;
    std::string host = address.host == "0.0.0.0" ? "127.0.0.1"
                       : address.host == "::"    ? "::1"
                                                 : address.host;
    if (v6) host.insert(0, "[").append("]");
    std::string url = "https://";
    url.append(host).append(":").append(std::to_string(port));
    urls.push_back(std::move(url));
  }
  bootstrap(api, store, firstServiceIp(flags.controllerOptions.serviceCidr), firstPort);
  std::ifstream caFile(pki.caCertificate());
  const std::string ca((std::istreambuf_iterator<char>(caFile)), std::istreambuf_iterator<char>());
  const NamespaceController namespaces(store, registry, ca);
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

}  // namespace
}  // namespace pointsman::e2e

int main(int argc, char** argv) {
  using namespace pointsman::e2e;
  CLI::App app("A small Kubernetes API server for tests and demonstrations");
  Flags flags;
  KubeconfigFlags mint;
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
  CLI::App* kubeconfig =
      app.add_subcommand("kubeconfig", "make a client certificate and its kubeconfig");
  kubeconfig->add_option("--pki-dir", mint.pkiDir)->required();
  kubeconfig->add_option("--user", mint.user)->required();
  kubeconfig->add_option("--group", mint.groups);
  kubeconfig->add_option("--server", mint.server)->required();
  kubeconfig->add_option("--out", mint.out, "- for standard output");
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
