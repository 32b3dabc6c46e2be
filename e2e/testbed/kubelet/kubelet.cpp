#include "e2e/testbed/kubelet/kubelet.h"

#include <fstream>
#include <sstream>

#include <signal.h>

#include "e2e/testbed/kubelet/pod_spec.h"
#include "kube/client/api_error.h"

namespace pointsman::e2e {
namespace {

using Clock = std::chrono::steady_clock;
using kube::Json;

constexpr std::chrono::milliseconds kTick{200};  // how late an ended process is noticed
constexpr std::chrono::seconds kLeaseRenewal{10};
constexpr std::chrono::seconds kMaxBackoff{
    10};  // kubelet's is 5 minutes; tests do not want to wait

const kube::Resource kServiceAccounts{"", "v1", "serviceaccounts", "ServiceAccount", true};

std::string Now(bool micro = false) {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto fraction =
      std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch()).count() %
      1'000'000;
  tm parts{};
  gmtime_r(&seconds, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  return micro ? fmt::format("{}.{:06}Z", text.data(), fraction) : std::string(text.data()) + "Z";
}

// POST or DELETE with a body that the client's own calls do not have.
Json SendBody(kube::Transport& transport, const std::string& method, const std::string& target,
              const Json& body) {
  kube::HttpRequest request;
  request.method = method;
  request.target = target;
  request.headers = {{"Content-Type", "application/json"}, {"Accept", "application/json"}};
  request.body = body.dump();
  const auto response = transport.Send(request);
  if (response.status / 100 != 2) throw kube::ApiError::FromBody(response.status, response.body);
  return Json::parse(response.body);
}

}  // namespace

class Kubelet::NodeWorker {
 public:
  NodeWorker(Cluster& cluster, const Node& node, NodeOptions options, kube::Client& client,
             bool ready_when_served, bool paused)
      : cluster_(cluster),
        node_(node),
        options_(std::move(options)),
        client_(client),
        ready_when_served_(ready_when_served),
        paused_(paused),
        thread_([this](const std::stop_token& stop) { Run(stop); }) {}

  const std::string& name() const { return node_.name(); }

  // From the watch: a Pod of this node as it is now, or nothing when it is gone.
  void Offer(const std::string& key, std::optional<Json> pod) {
    const std::lock_guard lock(mutex_);
    offered_[key] = std::move(pod);
    changed_.notify_one();
  }
  // All Pods of this node, after a list.
  void OfferAll(std::map<std::string, Json>&& pods) {
    const std::lock_guard lock(mutex_);
    for (const auto& key : known_) {
      if (!pods.contains(key)) offered_[key] = std::nullopt;
    }
    for (auto& [key, pod] : pods)
      offered_[key] = std::move(pod);
    changed_.notify_one();
  }
  void RenewTokens() { ++tokens_wanted_; }
  void Pause(bool paused) {
    const std::lock_guard lock(mutex_);
    paused_ = paused;
    changed_.notify_one();
  }

 private:
  struct Container {
    std::string name;
    pid_t pid = 0;
    bool running = false;
    bool started_once = false;
    bool ready = false;
    int restarts = 0;
    std::string started_at;
    std::string last_end;  // how it ended last
    Clock::time_point next_start;
    Clock::time_point next_probe;
    std::chrono::milliseconds backoff{100};
    Clock::time_point next_live_probe;
    int live_failures = 0;
    std::optional<Clock::time_point> kill_at;  // its liveness probe failed
  };
  struct LocalPod {
    Json object;
    std::string ip;
    bool network = false;
    std::string error;  // why it cannot run
    std::string started_at;
    std::vector<Container> containers;
    std::optional<Clock::time_point> terminating;
    bool killed = false;
    Json reported;  // the status last written
    Clock::time_point renew_token;
    int tokens_wanted = 0;
    bool was_ready = false;
    std::string ready_since;
  };

  void Run(const std::stop_token& stop) {
    std::stop_callback wake(stop, [this] {
      const std::lock_guard lock(mutex_);
      changed_.notify_one();
    });
    while (!stop.stop_requested()) {
      std::map<std::string, std::optional<Json>> offered;
      {
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, kTick,
                          [&] { return stop.stop_requested() || (!offered_.empty() && !paused_); });
        if (stop.stop_requested()) return;
        if (paused_) continue;
        offered.swap(offered_);
      }
      Step(std::move(offered));
    }
  }

  void Step(std::map<std::string, std::optional<Json>>&& offered) {
    for (auto& [key, object] : offered) {
      if (object) {
        // The same name with another uid is another Pod: the old one has been removed from the API
        // already.
        const auto found = pods_.find(key);
        if (found != pods_.end() &&
            found->second.object.at("metadata").at("uid") != object->at("metadata").at("uid"))
          Forget(key);
        pods_[key].object = std::move(*object);
      } else if (pods_.contains(key)) {
        Forget(key);
      }
    }
    {
      const std::lock_guard lock(mutex_);
      known_.clear();
      for (const auto& [key, pod] : pods_)
        known_.insert(key);
    }
    try {
      const std::string boot = node_.client().Ping(std::chrono::seconds(2));
      if (boot != boot_) {
        boot_ = boot;
        for (auto& [key, pod] : pods_)
          Lost(pod);
      }
      Heartbeat();
    } catch (const std::exception& error) {
      // A node that is down or a control plane that is away are ordinary here: the next step tries
      // again.
      Log(error.what());
      if (!boot_.empty() && !Reachable()) ReportNodeDown();
      return;
    }
    node_down_reported_ = false;
    for (auto it = pods_.begin(); it != pods_.end();) {
      const auto current = it++;
      try {
        if (!SyncPod(current->first, current->second)) pods_.erase(current);
      } catch (const std::exception& error) {
        Log(current->first + ": " + error.what());
      }
    }
    if (!last_log_.empty() && Clock::now() - last_log_time_ > std::chrono::seconds(5))
      last_log_.clear();
  }

  bool Reachable() const {
    try {
      node_.client().Ping(std::chrono::seconds(2));
      return true;
    } catch (const std::exception& error) {
      spdlog::debug("kubelet of {}: {}", name(), error.what());
      return false;
    }
  }

  // The same complaint five times a second helps nobody.
  void Log(const std::string& message) {
    if (message == last_log_) return;
    last_log_ = message;
    last_log_time_ = Clock::now();
    spdlog::warn("kubelet of {}: {}", name(), message);
  }

  // The node has been booted anew: neither processes nor networks are there any more.
  static void Lost(LocalPod& pod) {
    pod.network = false;
    for (auto& container : pod.containers) {
      if (container.running) ++container.restarts;
      container.running = container.ready = false;
      container.last_end = "the node was booted";
      container.next_start = {};
    }
  }

  void Heartbeat() {
    const auto now = Clock::now();
    if (registered_boot_ != boot_) {
      served_ = !ready_when_served_;
      Register();
      registered_boot_ = boot_;
      next_lease_ = now;
    }
    if (!served_ && ServesApiServer()) {
      served_ = true;
      client_.Patch(kube::resources::kNodes, "", name(), kube::PatchType::kMerge,
                    {{"status", {{"conditions", Conditions()}}}}, "status", "kubelet");
    }
    if (now < next_lease_) return;
    RenewLease();
    next_lease_ = now + kLeaseRenewal;
  }

  Json NodeConditions(const std::string& ready, const std::string& reason,
                      const std::string& message) const {
    return Json::array({{{"type", "Ready"},
                         {"status", ready},
                         {"reason", reason},
                         {"message", message},
                         {"lastHeartbeatTime", Now()},
                         {"lastTransitionTime", Now()}}});
  }

  Json Conditions() const {
    return served_ ? NodeConditions("True", "KubeletReady", "kubelet is posting ready status")
                   : NodeConditions("False", "KubeletNotReady",
                                    "container runtime network not ready: NetworkPluginNotReady");
  }

  // As the network plugin's Pod on the host's network finds out.
  bool ServesApiServer() const {
    const Json service = client_.Get(kube::resources::kServices, "default", "kubernetes");
    const std::string address = service.value("/spec/clusterIP"_json_pointer, "");
    return node_.Exec({"timeout", "1", "bash", "-c", "</dev/tcp/" + address + "/443"}).ok();
  }

  void Register() {
    const std::string release = Trimmed(node_.Check({"uname", "-r"}));
    const Json labels = {{"kubernetes.io/hostname", name()},
                         {"kubernetes.io/os", "linux"},
                         {"kubernetes.io/arch", "amd64"},
                         {"topology.kubernetes.io/zone", options_.zone}};
    const Json spec = {{"podCIDR", node_.pod_cidr()}, {"podCIDRs", {node_.pod_cidr()}}};
    try {
      client_.Create(kube::resources::kNodes, "",
                     {{"apiVersion", "v1"},
                      {"kind", "Node"},
                      {"metadata", {{"name", name()}, {"labels", labels}}},
                      {"spec", spec}});
    } catch (const kube::ApiError& error) {
      if (!error.IsAlreadyExists()) throw;
      client_.Patch(kube::resources::kNodes, "", name(), kube::PatchType::kMerge,
                    {{"metadata", {{"labels", labels}}}}, "", "kubelet");
    }
    const Json status = {{"addresses",
                          {{{"type", "InternalIP"}, {"address", node_.address()}},
                           {{"type", "Hostname"}, {"address", name()}}}},
                         {"capacity", {{"cpu", "1"}, {"memory", "512Mi"}, {"pods", "250"}}},
                         {"allocatable", {{"cpu", "1"}, {"memory", "512Mi"}, {"pods", "250"}}},
                         {"nodeInfo",
                          {{"architecture", "amd64"},
                           {"bootID", boot_},
                           {"containerRuntimeVersion", "processes://1"},
                           {"kernelVersion", release},
                           {"kubeProxyVersion", ""},
                           {"kubeletVersion", "v1.36.0"},
                           {"machineID", name()},
                           {"operatingSystem", "linux"},
                           {"osImage", "Debian"},
                           {"systemUUID", name()}}},
                         {"conditions", Conditions()}};
    client_.Patch(kube::resources::kNodes, "", name(), kube::PatchType::kMerge,
                  {{"status", status}}, "status", "kubelet");
  }

  // The node lifecycle controller's part, done here as there is no other to notice.
  void ReportNodeDown() {
    if (node_down_reported_) return;
    try {
      client_.Patch(kube::resources::kNodes, "", name(), kube::PatchType::kMerge,
                    {{"status",
                      {{"conditions", NodeConditions("Unknown", "NodeStatusUnknown",
                                                     "Kubelet stopped posting node status.")}}}},
                    "status", "kubelet");
      for (auto& [key, pod] : pods_) {
        Lost(pod);
        Report(key, pod);
      }
      node_down_reported_ = true;
      registered_boot_.clear();
    } catch (const std::exception& error) {
      Log(std::string("cannot report that the node is down: ") + error.what());
    }
  }

  void RenewLease() {
    const std::string ns = "kube-node-lease";
    const Json spec = {
        {"holderIdentity", name()}, {"leaseDurationSeconds", 40}, {"renewTime", Now(true)}};
    try {
      client_.Patch(kube::resources::kLeases, ns, name(), kube::PatchType::kMerge, {{"spec", spec}},
                    "", "kubelet");
      return;
    } catch (const kube::ApiError& error) {
      if (!error.IsNotFound()) throw;
    }
    const Json lease = {{"apiVersion", "coordination.k8s.io/v1"},
                        {"kind", "Lease"},
                        {"metadata", {{"name", name()}, {"namespace", ns}}},
                        {"spec", spec}};
    try {
      client_.Create(kube::resources::kLeases, ns, lease);
    } catch (const kube::ApiError& error) {
      if (!error.IsNotFound()) throw;  // only the namespace can be missing
      client_.Create(kube::resources::kNamespaces, "",
                     {{"apiVersion", "v1"}, {"kind", "Namespace"}, {"metadata", {{"name", ns}}}});
      client_.Create(kube::resources::kLeases, ns, lease);
    }
  }

  static std::string Trimmed(std::string text) {
    while (!text.empty() && (text.back() == '\n' || text.back() == ' '))
      text.pop_back();
    return text;
  }

  static bool OnHostNetwork(const LocalPod& pod) {
    return pod.object.at("spec").value("hostNetwork", false);
  }
  static std::string Namespace(const LocalPod& pod) {
    return pod.object.at("metadata").at("namespace");
  }
  static std::string NetworkName(const LocalPod& pod) {
    return OnHostNetwork(pod)
               ? ""
               : Namespace(pod) + "_" + pod.object.at("metadata").at("name").get<std::string>();
  }

  std::string FreeIp() const {
    const std::string prefix = node_.pod_cidr().substr(0, node_.pod_cidr().rfind('.')) + ".";
    for (int last = 2; last < 255; ++last) {
      std::string ip = prefix + std::to_string(last);
      if (std::none_of(pods_.begin(), pods_.end(),
                       [&](const auto& item) { return item.second.ip == ip; }))
        return ip;
    }
    throw std::runtime_error("no address is free in " + node_.pod_cidr());
  }

  // False: the Pod is no more.
  bool SyncPod(const std::string& key, LocalPod& pod) {
    const std::string phase = pod.object.value("/status/phase"_json_pointer, "");
    if (pod.containers.empty()) {
      for (const auto& container : pod.object.at("spec").at("containers")) {
        Container local;
        local.name = container.at("name");
        pod.containers.push_back(local);
      }
      pod.ip = OnHostNetwork(pod) ? node_.address() : FreeIp();
      pod.started_at = Now();
    }
    for (auto& container : pod.containers)
      Observe(container);
    if (pod.object.at("metadata").contains("deletionTimestamp")) return Terminate(key, pod);
    try {
      Bring(pod);
      pod.error.clear();
    } catch (const std::invalid_argument& error) {
      pod.error = error.what();
    }
    Report(key, pod);
    return true;
  }

  void Observe(Container& container) {
    if (!container.running) return;
    const NodeProcessStatus status = node_.client().Status(container.pid);
    if (status.running) return;
    container.running = container.ready = false;
    container.last_end = status.signal != 0 ? "signal " + std::to_string(status.signal)
                                            : "exit status " + std::to_string(status.exit);
    container.next_start = Clock::now() + container.backoff;
    container.backoff = std::min<std::chrono::milliseconds>(container.backoff * 2, kMaxBackoff);
    ++container.restarts;
  }

  void Bring(LocalPod& pod) {
    const Json& spec = pod.object.at("spec");
    if (!spec.value("initContainers", Json::array()).empty())
      throw std::invalid_argument("spec.initContainers: not supported here");
    if (spec.value("restartPolicy", "Always") != "Always")
      throw std::invalid_argument("spec.restartPolicy: only Always is supported here");
    if (!pod.network && !OnHostNetwork(pod)) {
      node_.Exec(
          {"ip", "netns", "del", NetworkName(pod)});  // left by an earlier kubelet, or not there
      node_.AddPodNetwork(NetworkName(pod), pod.ip);
      pod.network = true;
    }
    for (std::size_t i = 0; i < pod.containers.size(); ++i) {
      Container& container = pod.containers[i];
      if (!container.running && Clock::now() >= container.next_start)
        StartContainer(pod, spec["containers"][i], container);
      if (container.running) ProbeReadiness(pod, spec["containers"][i], container);
      if (container.running) ProbeLiveness(pod, spec["containers"][i], container);
    }
    RenewToken(pod);
  }

  void StartContainer(LocalPod& pod, const Json& container_spec, Container& container) {
    const std::string directory = PodDirectory(pod);
    const Json object = WithApiAccess(pod.object);
    const Json& containers = object.at("spec").at("containers");
    const auto own = std::find_if(containers.begin(), containers.end(), [&](const Json& candidate) {
      return candidate.at("name") == container_spec.at("name");
    });
    const ContainerSpec spec =
        ResolveContainer(object, *own, Place(pod), ConfigMaps(pod), VolumesDirectory(pod));
    for (const NodePath& path : spec.node_paths)
      PrepareNodePath(path);
    Project(pod);
    const std::string file = directory + "/" + container.name + ".json";
    node_.client().Put(file, ToJson(spec, pod.object, cluster_.Program("x").parent_path()).dump());
    ExecOptions options;
    options.netns = NetworkName(pod);
    const std::string log = "/var/log/" + Namespace(pod) + "_" +
                            pod.object.at("metadata").at("name").get<std::string>() + "_" +
                            container.name + ".log";
    container.pid =
        node_.client().Start({cluster_.Program("pointsman-container"), file}, log, options);
    container.running = true;
    container.started_once = true;
    container.started_at = Now();
    container.kill_at.reset();
    container.ready = !container_spec.contains("readinessProbe");
    container.live_failures = 0;
    container.next_probe = Clock::now();
    if (container_spec.contains("livenessProbe"))
      container.next_live_probe =
          Clock::now() +
          std::chrono::seconds(container_spec["livenessProbe"].value("initialDelaySeconds", 0));
  }

  // As the API server's Service says, which only works once somebody serves it on this node.
  PodPlace Place(const LocalPod& pod) {
    const Json service = client_.Get(kube::resources::kServices, "default", "kubernetes");
    return {pod.ip, node_.address(), service.at("spec").at("clusterIP"),
            service.at("spec").at("ports").at(0).at("port"), cluster_.Program("x").parent_path()};
  }

  void PrepareNodePath(const NodePath& path) const {
    const auto is = [&](const char* what) { return node_.Exec({"test", what, path.path}).ok(); };
    if (path.type == "DirectoryOrCreate" && !is("-e")) node_.Check({"mkdir", "-p", path.path});
    if (path.for_everybody) node_.Check({"chmod", "0777", path.path});
    if (path.type == "FileOrCreate" && !is("-e")) node_.Check({"touch", path.path});
    const bool good = path.type.empty()              ? is("-e")
                      : path.type.starts_with("Dir") ? is("-d")
                                                     : is("-f");
    if (!good)
      throw std::invalid_argument("hostPath type check failed: " + path.path + " is not " +
                                  (path.type.empty() ? "there" : "a " + path.type));
  }

  static std::string PodDirectory(const LocalPod& pod) {
    return "/run/pods/" + pod.object.at("metadata").at("uid").get<std::string>();
  }
  static std::string VolumesDirectory(const LocalPod& pod) {
    return PodDirectory(pod) + "/volumes";
  }

  ConfigMapKey ConfigMaps(const LocalPod& pod) const {
    return [this, ns = Namespace(pod)](const std::string& name,
                                       const std::string& key) -> std::optional<std::string> {
      try {
        const Json map = client_.Get(kube::resources::kConfigMaps, ns, name);
        const auto data = map.value("data", Json::object());
        return data.contains(key) ? std::optional(data[key].get<std::string>()) : std::nullopt;
      } catch (const kube::ApiError& error) {
        if (error.IsNotFound()) return std::nullopt;
        throw;
      }
    };
  }

  // A token bound to this Pod, as the kubelet asks for it (token manager).
  std::string Token(const LocalPod& pod, std::int64_t seconds) const {
    const Json& metadata = pod.object.at("metadata");
    const std::string account = pod.object.at("spec").value("serviceAccountName", "default");
    const Json answer = SendBody(client_.transport(), "POST",
                                 kServiceAccounts.Path(Namespace(pod), account, "token"),
                                 {{"apiVersion", "authentication.k8s.io/v1"},
                                  {"kind", "TokenRequest"},
                                  {"spec",
                                   {{"expirationSeconds", seconds},
                                    {"boundObjectRef",
                                     {{"apiVersion", "v1"},
                                      {"kind", "Pod"},
                                      {"name", metadata.at("name")},
                                      {"uid", metadata.at("uid")}}}}}});
    return answer.at("status").at("token");
  }

  // Writes the files of the Pod's projected volumes; tokens are renewed when 80 % of their time are
  // over.
  void Project(LocalPod& pod) {
    const Json object = WithApiAccess(pod.object);
    const auto owner = TokenOwner(pod.object);
    pod.renew_token = Clock::time_point::max();
    for (const Json& volume : object.at("spec").value("volumes", Json::array())) {
      const std::string directory =
          VolumesDirectory(pod) + "/" + volume.at("name").get<std::string>() + "/";
      for (const ProjectedFile& file :
           ResolveProjected(object, volume, Place(pod), ConfigMaps(pod))) {
        if (!file.token) {
          node_.client().Put(directory + file.path, file.content, file.mode);
          continue;
        }
        node_.client().Put(directory + file.path, Token(pod, file.expiration_seconds),
                           owner ? 0600 : file.mode, owner.value_or(0));
        const std::chrono::seconds lifetime(file.expiration_seconds);
        pod.renew_token = std::min(pod.renew_token, Clock::now() + lifetime * 8 / 10);
      }
    }
  }

  void RenewToken(LocalPod& pod) {
    const bool running = std::any_of(pod.containers.begin(), pod.containers.end(),
                                     [](const auto& container) { return container.running; });
    if (running && (Clock::now() >= pod.renew_token || pod.tokens_wanted != tokens_wanted_)) {
      Project(pod);
      pod.tokens_wanted = tokens_wanted_;
    }
  }

  // Whether the probe of that kind succeeds now.
  bool Probe(const LocalPod& pod, const Json& container_spec, const char* kind) const {
    const Json& probe = container_spec[kind];
    std::vector<std::string> argv = {cluster_.Program("pointsman-traffic"), "probe"};
    const auto port = [&](const Json& value) {
      if (value.is_number()) return std::to_string(value.get<int>());
      for (const auto& item : container_spec.value("ports", Json::array())) {
        if (item.value("name", "") == value)
          return std::to_string(item.at("containerPort").get<int>());
      }
      throw std::invalid_argument(std::string(kind) + ": no port is named " + value.dump());
    };
    if (probe.contains("httpGet")) {
      argv.push_back(probe["httpGet"].value("host", pod.ip) + ":" +
                     port(probe["httpGet"].at("port")));
      argv.insert(argv.end(), {"--http", probe["httpGet"].value("path", "/")});
    } else if (probe.contains("tcpSocket")) {
      argv.push_back(pod.ip + ":" + port(probe["tcpSocket"].at("port")));
    } else {
      throw std::invalid_argument(std::string(kind) +
                                  ": only httpGet and tcpSocket are supported here");
    }
    argv.insert(argv.end(), {"--timeout", std::to_string(probe.value("timeoutSeconds", 1)) + "s"});
    return node_.Exec(argv).ok();
  }

  void ProbeReadiness(const LocalPod& pod, const Json& container_spec, Container& container) {
    if (!container_spec.contains("readinessProbe") || Clock::now() < container.next_probe) return;
    container.ready = Probe(pod, container_spec, "readinessProbe");
    if (container.ready) container.backoff = std::chrono::milliseconds(100);
    // Until it is ready the next step asks again: nobody waits for a period in a test.
    container.next_probe =
        Clock::now() +
        (container.ready
             ? std::chrono::seconds(container_spec["readinessProbe"].value("periodSeconds", 10))
             : std::chrono::seconds(0));
  }

  void ProbeLiveness(const LocalPod& pod, const Json& container_spec, Container& container) {
    if (!container_spec.contains("livenessProbe")) return;
    if (container.kill_at) {
      if (Clock::now() >= *container.kill_at) node_.client().Signal(container.pid, SIGKILL);
      return;
    }
    if (Clock::now() < container.next_live_probe) return;
    const Json& probe = container_spec["livenessProbe"];
    container.next_live_probe =
        Clock::now() + std::chrono::seconds(probe.value("periodSeconds", 10));
    if (Probe(pod, container_spec, "livenessProbe")) {
      container.live_failures = 0;
      return;
    }
    if (++container.live_failures < probe.value("failureThreshold", 3)) return;
    Log(pod.object.at("metadata").at("name").get<std::string>() + ": container " + container.name +
        " failed its liveness probe, and is restarted");
    node_.client().Signal(container.pid, SIGTERM);
    container.kill_at = Clock::now() + std::chrono::seconds(pod.object.at("spec").value(
                                           "terminationGracePeriodSeconds", 30));
  }

  bool Terminate(const std::string& key, LocalPod& pod) {
    const Json& metadata = pod.object.at("metadata");
    const bool running = std::any_of(pod.containers.begin(), pod.containers.end(),
                                     [](const auto& container) { return container.running; });
    const std::chrono::seconds grace(metadata.value("deletionGracePeriodSeconds", 30));
    const bool first = !pod.terminating;
    if (first) pod.terminating = Clock::now();
    const bool kill_now = Clock::now() - *pod.terminating >= grace && !pod.killed;
    if (running) {
      for (auto& container : pod.containers) {
        if (container.running && first) node_.client().Signal(container.pid, SIGTERM);
        if (container.running && kill_now) node_.client().Signal(container.pid, SIGKILL);
      }
      pod.killed = pod.killed || kill_now;
      Report(key, pod);
      return true;
    }
    if (pod.network) {
      node_.RemovePodNetwork(NetworkName(pod));
      pod.network = false;
    }
    try {
      SendBody(client_.transport(), "DELETE",
               kube::resources::kPods.Path(Namespace(pod), metadata.at("name").get<std::string>()),
               {{"apiVersion", "v1"},
                {"kind", "DeleteOptions"},
                {"gracePeriodSeconds", 0},
                {"preconditions", {{"uid", metadata.at("uid")}}}});
    } catch (const kube::ApiError& error) {
      if (!error.IsNotFound() && !error.IsConflict()) throw;  // it is gone already
    }
    return false;
  }

  // The Pod is no more in the API: neither may anything of it be here.
  void Forget(const std::string& key) {
    const auto found = pods_.find(key);
    LocalPod& pod = found->second;
    try {
      for (auto& container : pod.containers) {
        if (container.running) node_.client().Signal(container.pid, SIGKILL);
      }
      if (pod.network) node_.RemovePodNetwork(NetworkName(pod));
    } catch (const std::exception& error) {
      spdlog::warn("kubelet of {}: removing {}: {}", name(), key, error.what());
    }
    pods_.erase(found);
  }

  void Report(const std::string& key, LocalPod& pod) {
    const bool ready =
        pod.error.empty() && std::all_of(pod.containers.begin(), pod.containers.end(),
                                         [](const auto& container) { return container.ready; });
    if (pod.ready_since.empty() || ready != pod.was_ready) {
      pod.was_ready = ready;
      pod.ready_since = Now();
    }
    const bool started = std::all_of(pod.containers.begin(), pod.containers.end(),
                                     [](const auto& container) { return container.started_once; });
    Json conditions = Json::array();
    const auto condition = [&](const char* type, bool status, const std::string& since) {
      Json item = {
          {"type", type}, {"status", status ? "True" : "False"}, {"lastTransitionTime", since}};
      if (!status) {
        item["reason"] = "ContainersNotReady";
        item["message"] = pod.error.empty() ? "containers with unready status" : pod.error;
      }
      conditions.push_back(item);
    };
    condition("PodScheduled", true, pod.started_at);
    condition("Initialized", true, pod.started_at);
    condition("ContainersReady", ready, pod.ready_since);
    condition("Ready", ready, pod.ready_since);
    Json statuses = Json::array();
    for (std::size_t i = 0; i < pod.containers.size(); ++i) {
      const Container& container = pod.containers[i];
      Json state;
      if (container.running) {
        state = {{"running", {{"startedAt", container.started_at}}}};
      } else {
        state = {{"waiting",
                  {{"reason", !pod.error.empty()       ? "CreateContainerConfigError"
                              : container.started_once ? "CrashLoopBackOff"
                                                       : "ContainerCreating"},
                   {"message", pod.error.empty() ? container.last_end : pod.error}}}};
      }
      const std::string image = pod.object.at("spec").at("containers").at(i).value("image", "");
      statuses.push_back({{"name", container.name},
                          {"image", image},
                          {"imageID", image},
                          {"ready", container.ready},
                          {"started", container.running},
                          {"restartCount", container.restarts},
                          {"state", state}});
    }
    const Json status = {{"phase", started ? "Running" : "Pending"},
                         {"hostIP", node_.address()},
                         {"podIP", pod.ip},
                         {"podIPs", {{{"ip", pod.ip}}}},
                         {"startTime", pod.started_at},
                         {"conditions", conditions},
                         {"containerStatuses", statuses}};
    if (status == pod.reported) return;
    try {
      client_.Patch(kube::resources::kPods, Namespace(pod),
                    pod.object.at("metadata").at("name").get<std::string>(),
                    kube::PatchType::kMerge, {{"status", status}}, "status", "kubelet");
      pod.reported = status;
    } catch (const kube::ApiError& error) {
      if (!error.IsNotFound()) throw;  // deleted meanwhile: the watch will say
      spdlog::debug("kubelet of {}: {} is gone", name(), key);
    }
  }

  Cluster& cluster_;
  const Node node_;
  const NodeOptions options_;
  kube::Client& client_;
  std::string boot_, registered_boot_;
  bool node_down_reported_ = false;
  Clock::time_point next_lease_;
  std::map<std::string, LocalPod> pods_;
  std::string last_log_;
  Clock::time_point last_log_time_;

  std::mutex mutex_;
  std::condition_variable changed_;
  const bool ready_when_served_;
  bool served_ = false;  // the node was found to serve default/kubernetes
  bool paused_ = false;
  std::atomic<int> tokens_wanted_ = 0;
  std::map<std::string, std::optional<Json>> offered_;
  std::set<std::string> known_;
  std::jthread thread_;  // last: it uses all of the above
};

Kubelet::Kubelet(Cluster& cluster, const KubeletOptions& options)
    : transport_(kube::MakeTransport(kube::LoadKubeconfig(cluster.Kubeconfig()))),
      client_(transport_) {
  for (std::size_t i = 0; i < cluster.nodes().size(); ++i) {
    const Node& node = cluster.nodes()[i];
    const bool later =
        std::find(options.later.begin(), options.later.end(), node.name()) != options.later.end();
    workers_.push_back(std::make_unique<NodeWorker>(cluster, node, cluster.node_options()[i],
                                                    client_, options.ready_when_served, later));
  }
  watcher_ = std::jthread([this](const std::stop_token& stop) { WatchPods(stop); });
}

Kubelet::~Kubelet() {
  // Their threads use the client.
  watcher_ = std::jthread();
  workers_.clear();
}

void Kubelet::Pause(std::string_view node) {
  for (auto& worker : workers_) {
    if (worker->name() == node) worker->Pause(true);
  }
}

void Kubelet::RenewTokens() {
  for (auto& worker : workers_)
    worker->RenewTokens();
}

void Kubelet::Resume(std::string_view node) {
  for (auto& worker : workers_) {
    if (worker->name() == node) worker->Pause(false);
  }
}

void Kubelet::WatchPods(const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any wait;
  const auto key = [](const Json& pod) {
    return pod.at("metadata").at("namespace").get<std::string>() + "/" +
           pod.at("metadata").at("name").get<std::string>();
  };
  while (!stop.stop_requested()) {
    try {
      std::map<std::string, std::map<std::string, Json>> by_node;
      const std::string version = client_.ListItems(
          kube::resources::kPods, "", {},
          [&](std::string_view item) {
            Json pod = Json::parse(item);
            const std::string node = pod.at("spec").value("nodeName", "");
            const std::string name = key(pod);
            by_node[node][name] = std::move(pod);
          },
          [&] { by_node.clear(); });
      for (auto& worker : workers_)
        worker->OfferAll(std::move(by_node[worker->name()]));
      kube::WatchOptions options;
      options.resource_version = version;
      for (;;) {
        client_.Watch(
            kube::resources::kPods, "", options,
            [&](kube::WatchEventType type, std::string_view text) {
              Json pod = Json::parse(text);
              options.resource_version = pod.at("metadata").at("resourceVersion");
              if (type == kube::WatchEventType::kBookmark) return true;
              const std::string node = pod.at("spec").value("nodeName", "");
              for (auto& worker : workers_) {
                if (worker->name() != node) continue;
                const std::string name = key(pod);
                worker->Offer(name, type == kube::WatchEventType::kDeleted
                                        ? std::nullopt
                                        : std::optional(std::move(pod)));
                break;
              }
              return true;
            },
            stop);
        if (stop.stop_requested()) return;
      }
    } catch (const std::exception& error) {
      // The control plane is killed and restarted in tests: list again when it is back.
      spdlog::debug("kubelets: watching pods: {}", error.what());
    }
    std::unique_lock lock(mutex);
    wait.wait_for(lock, stop, kTick, [] { return false; });
  }
}

}  // namespace pointsman::e2e
