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
#include "e2e/control-plane/controllers/controllers.h"
#include "e2e/control-plane/controllers/service_allocation.h"
#include "e2e/control-plane/http/server.h"
#include "e2e/control-plane/pki/pki.h"
#include "e2e/control-plane/registry/builtin_types.h"
#include "e2e/control-plane/schema/provider.h"

namespace pointsman::e2e {
namespace {

struct Flags {
  std::filesystem::path data_dir;
  std::filesystem::path pki_dir;
  std::filesystem::path ready_file;
  std::filesystem::path preload;
  std::filesystem::path watch_log;
  std::filesystem::path access_log;
  std::vector<std::string> listen;
  std::vector<std::string> sans;
  std::string version = "1.35";
  std::string log_level = "info";
  std::size_t history = 16384;
  bool controllers = true;
  ControllerOptions controller_options;
};

struct KubeconfigFlags {
  std::filesystem::path pki_dir;
  std::filesystem::path out;
  std::string user;
  std::string server;
  std::vector<std::string> groups;
};

int MinorOf(const std::string& version) {
  int minor = 0;
  if (sscanf(version.c_str(), "1.%d", &minor) != 1 || minor < 20 || minor > 35 ||
      version != "1." + std::to_string(minor)) {
    throw std::invalid_argument("--emulate-version: '" + version + "' is not 1.20 to 1.35");
  }
  return minor;
}

int MintKubeconfig(const KubeconfigFlags& flags) {
  const Pki pki(flags.pki_dir);
  const std::string config = pki.ClientKubeconfig(flags.server, flags.user, flags.groups);
  if (flags.out.empty() || flags.out == "-") {
    std::cout << config;
  } else {
    Pki::WritePrivate(flags.out, config);
  }
  return 0;
}

// The signals that end the server, blocked in this thread and those that it starts.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  if (std::signal(SIGPIPE, SIG_IGN) == SIG_ERR)
    throw std::system_error(errno, std::generic_category(), "signal");
  return signals;
}

std::vector<std::string> CertificateNames(const Flags& flags,
                                          const std::vector<ListenAddress>& addresses) {
  std::vector<std::string> sans{"localhost",
                                "127.0.0.1",
                                "kubernetes",
                                "kubernetes.default",
                                "kubernetes.default.svc",
                                "kubernetes.default.svc.cluster.local",
                                FirstServiceIp(flags.controller_options.service_cidr)};
  for (const ListenAddress& address : addresses) {
    if (address.host != "0.0.0.0" && address.host != "::") sans.push_back(address.host);
  }
  sans.insert(sans.end(), flags.sans.begin(), flags.sans.end());
  std::sort(sans.begin(), sans.end());
  sans.erase(std::unique(sans.begin(), sans.end()), sans.end());
  return sans;
}

std::string UrlOf(const ListenAddress& address, std::uint16_t port) {
  std::string host = address.host == "0.0.0.0" ? "127.0.0.1"
                     : address.host == "::"    ? "::1"
                                               : address.host;
  if (host.find(':') != std::string::npos) host.insert(0, "[").append("]");
  return "https://" + host + ":" + std::to_string(port);
}

// CustomResourceDefinitions are validated by, and served through, `custom_resources`, which
// outlives the registry's use.
void ServeCustomResources(Registry& registry, const Store& store,
                          CustomResources& custom_resources) {
  ResourceType crds = *registry.Find("apiextensions.k8s.io", "v1", "customresourcedefinitions");
  crds.apply_defaults = CustomResources::ApplyDefaults;
  crds.validate = [&custom_resources](const Json& crd, const Json* old, const RequestInfo& info) {
    return info.subresource == "status" ? std::vector<FieldError>()
                                        : custom_resources.Validate(crd, old);
  };
  crds.after_write = [&custom_resources](const Json* old, const Json* now) {
    if (now == nullptr) {
      custom_resources.Withdraw(*old);
    } else if (old == nullptr || (*old)["spec"] != (*now)["spec"]) {
      custom_resources.Serve(*now);
    }
  };
  registry.Add(std::move(crds));
  for (const ObjectPtr& crd : store.List("apiextensions.k8s.io/customresourcedefinitions").objects)
    custom_resources.Serve(crd->Parse());
}

void ValidateAdmissionPolicies(Registry& registry, const Emulation& emulation) {
  if (!emulation.AtLeast(30)) return;
  const auto check = [&](const char* plural, auto validate) {
    ResourceType type = *registry.Find("admissionregistration.k8s.io", "v1", plural);
    type.validate = [validate, emulation](const Json& object, const Json*, const RequestInfo&) {
      return validate(object, emulation);
    };
    registry.Add(std::move(type));
  };
  check("validatingadmissionpolicies", AdmissionPolicies::ValidatePolicy);
  check("validatingadmissionpolicybindings", AdmissionPolicies::ValidateBinding);
}

// Has a server refuse connections for a while (the fault "RefuseConnections").
class Refusal {
 public:
  explicit Refusal(HttpServer& server)
      : server_(server), thread_([this](const std::stop_token& stop) { Run(stop); }) {}

  void Start(std::chrono::milliseconds duration) {
    const std::lock_guard lock(mutex_);
    until_ = std::chrono::steady_clock::now() + duration;
    server_.RefuseConnections(true);
    changed_.notify_all();
  }

 private:
  void Run(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested()) {
      if (!until_) {
        changed_.wait(lock, stop, [&] { return until_.has_value(); });
      } else if (std::chrono::steady_clock::now() >= *until_) {
        until_.reset();
        server_.RefuseConnections(false);
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

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

ApiServer::Options ApiOptionsOf(const Flags& flags, const Emulation& emulation) {
  ApiServer::Options options;
  options.emulation = emulation;
  options.watch_log = flags.watch_log;
  options.access_log = flags.access_log;
  return options;
}

int Serve(const Flags& flags) {
  const sigset_t signals = BlockSignals();
  const Emulation emulation{MinorOf(flags.version)};
  const Pki pki(flags.pki_dir);
  std::vector<ListenAddress> addresses;
  for (const std::string& text : flags.listen)
    addresses.push_back(ParseListenAddress(text));
  pki.IssueServer(CertificateNames(flags, addresses));

  Store::Options store_options;
  store_options.data_dir = flags.data_dir;
  store_options.history_per_resource = flags.history;
  Store store(store_options);
  Registry registry;
  const std::unique_ptr<SchemaProvider> schemas = MakeSchemaProvider(emulation);
  RegisterBuiltinTypes(registry, store, *schemas, emulation, [&](ResourceType& services) {
    InstallServiceAllocation(services, store, flags.controller_options);
  });
  CustomResources custom_resources(registry, store, *schemas);
  ServeCustomResources(registry, store, custom_resources);
  ValidateAdmissionPolicies(registry, emulation);

  const Authenticator authenticator(store, pki.TokenSecret());
  const Authorizer authorizer(store);
  ApiServer api(ApiOptionsOf(flags, emulation), store, registry, *schemas, authenticator,
                authorizer);
  HttpServer::Options http_options;
  http_options.certificate = pki.ServerCertificate();
  http_options.key = pki.ServerKey();
  http_options.client_ca = pki.CaCertificate();
  HttpServer server(http_options, [&](const HttpRequest& request, HttpExchange& exchange) {
    api.Handle(request, exchange);
  });
  Refusal refusal(server);
  api.OnRefuseConnections([&](std::chrono::milliseconds duration) { refusal.Start(duration); });

  std::vector<std::string> urls;
  int first_port = 0;
  for (const ListenAddress& address : addresses) {
    const std::uint16_t port = server.Listen(address);
    if (first_port == 0) first_port = port;
    urls.push_back(UrlOf(address, port));
  }
  Bootstrap(api, store, FirstServiceIp(flags.controller_options.service_cidr), first_port);
  const NamespaceController namespaces(store, registry, ReadFile(pki.CaCertificate()));
  if (!flags.preload.empty()) Preload(api, flags.preload);
  std::unique_ptr<Controllers> controllers;
  if (flags.controllers) {
    controllers = StartControllers(store, registry, emulation, flags.controller_options);
  }
  Pki::WritePrivate(flags.pki_dir / "admin.kubeconfig",
                    pki.ClientKubeconfig(urls.at(0), "kubernetes-admin", {"system:masters"}));
  api.SetReady();
  std::cout << "pointsman-control-plane: serving on";
  for (const std::string& url : urls)
    std::cout << " " << url;
  std::cout << std::endl;
  if (!flags.ready_file.empty()) Pki::WritePrivate(flags.ready_file, urls.at(0) + "\n");

  int signal = 0;
  sigwait(&signals, &signal);
  spdlog::info("signal {}: stopping", signal);
  // The watches' threads first: they hold subscriptions to the store.
  store.StopSubscriptions();
  server.Stop();
  if (controllers) controllers->Stop();
  return 0;
}

void AddServeFlags(CLI::App& app, Flags& flags) {
  app.add_option("--data-dir", flags.data_dir,
                 "where the state survives; without it, in memory only");
  app.add_option("--listen", flags.listen,
                 "[NETNS_PATH@]ADDR:PORT, repeatable; port 0: any free one")
      ->default_val(std::vector<std::string>{"127.0.0.1:6443"});
  app.add_option("--pki-dir", flags.pki_dir, "CA, server certificate and admin.kubeconfig go here");
  app.add_option("--san", flags.sans, "further names and addresses of the server certificate");
  app.add_option("--emulate-version", flags.version, "1.20 to 1.35")->capture_default_str();
  app.add_option("--service-cidr", flags.controller_options.service_cidr,
                 "one range, or two for dual stack")
      ->capture_default_str();
  app.add_option("--advertise-address", flags.controller_options.advertise_address,
                 "endpoint of the Service default/kubernetes; without it, it has none");
  app.add_option("--advertise-port", flags.controller_options.advertise_port,
                 "port of that endpoint")
      ->capture_default_str();
  app.add_option("--preload", flags.preload, "JSON lines of objects to create before being ready");
  app.add_option("--watch-log", flags.watch_log,
                 "a line for each watch event sent: CLOCK_MONOTONIC ns, resource, user, version");
  app.add_option(
      "--access-log", flags.access_log,
      "a line of JSON for each request to a resource: who does what, and whether it may");
  app.add_option("--ready-file", flags.ready_file, "written with the URL once the server is ready");
  app.add_option("--history", flags.history, "events kept per resource to watch from")
      ->capture_default_str();
  app.add_flag("!--no-controllers", flags.controllers, "do not run the controllers");
  app.add_option("--log-level", flags.log_level, "trace, debug, info, warning, error")
      ->capture_default_str();
}

CLI::App* AddKubeconfigCommand(CLI::App& app, KubeconfigFlags& mint) {
  CLI::App* kubeconfig =
      app.add_subcommand("kubeconfig", "make a client certificate and its kubeconfig");
  kubeconfig->add_option("--pki-dir", mint.pki_dir)->required();
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
  AddServeFlags(app, flags);
  const CLI::App* kubeconfig = AddKubeconfigCommand(app, mint);
  CLI11_PARSE(app, argc, argv);
  try {
    spdlog::set_level(spdlog::level::from_str(flags.log_level));
    if (kubeconfig->parsed()) return MintKubeconfig(mint);
    if (flags.pki_dir.empty()) throw std::invalid_argument("--pki-dir is required");
    return Serve(flags);
  } catch (const std::exception& e) {
    std::cerr << "pointsman-control-plane: " << e.what() << "\n";
    return 1;
  }
}
