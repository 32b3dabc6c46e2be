// The agent in the place of kube-proxy: with kube-proxy's configuration file, command line, ports
// and rights, on a cluster that knows nothing of Pointsman; and --cleanup.
#include <fstream>
#include <thread>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>
#include <signal.h>
#include <unistd.h>

#include "e2e/scenarios/standalone_fixture.h"
#include "kube/time/rfc3339.h"

namespace pointsman::e2e {
namespace {

using std::chrono_literals::operator""s;
using kube::Json;
using testing::HasSubstr;
using testing::Not;

constexpr int kServices = 40;
// A node's kernel as others see it; each part is compared as text.
using Snapshot = std::map<std::string, std::string>;

class StandaloneTest : public StandaloneFixture {
 protected:
  // Two pods behind each.
  void CreateServices() {
    for (int i = 0; i < 2; ++i)
      pods_.push_back(world_->AddServerPod("node-1", fmt::format("server-{}", i), {kTargetPort}));
    services_ = Services(kServices, pods_);
    services_[0].node_port = 30080;
    for (const World::ServiceSpec& service : services_)
      targets_.push_back(service.cluster_ip + ":80");
    world_->CreateServices(services_);
  }

  std::string Configuration(const std::string& mode, const std::string& more = "") const {
    return "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n"
           "kind: KubeProxyConfiguration\n"
           "mode: " +
           mode + "\nclientConnection: {kubeconfig: " + Kubeconfig().string() +
           R"(}
hostnameOverride: NODE-1
clusterCIDR: 10.244.0.0/16
iptables: {syncPeriod: 2s, masqueradeBit: 15}
ipvs: {syncPeriod: 2s, scheduler: wlc, strictARP: true, tcpTimeout: 901s, excludeCIDRs: [10.99.0.0/16]}
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 7201s, tcpCloseWaitTimeout: 3602s}
nodePortAddresses: [192.168.50.0/24]
)" + more;
  }

  void AwaitLog(const std::string& text, std::chrono::seconds timeout = 30s) {
    world_->Await(
        "the agent says: " + text, [&] { return Log().find(text) != std::string::npos; }, timeout,
        [&] { return Log(); });
  }

  std::string Sysctl(const std::string& path) {
    const ExecResult result = Node().Exec({"cat", "/proc/sys/" + path});
    return result.ok() ? result.out.substr(0, result.out.find('\n')) : "none";
  }

  // What a command prints, without the lines that differ from one run to the next.
  std::string Listing(const std::vector<std::string>& argv) {
    const ExecResult result = Node().Exec(argv);
    if (!result.ok()) return fmt::format("exit status {}", result.exit);
    std::string text;
    std::istringstream lines(result.out);
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with('#')) continue;
      if (line.starts_with(':')) line.resize(line.find(" ["));  // counters
      text += line + "\n";
    }
    return text;
  }

  Snapshot Kernel() {
    Snapshot kernel;
    for (const char* tool : {"iptables-legacy-save", "iptables-nft-save"}) {
      for (const char* table : {"nat", "filter", "mangle"})
        kernel[fmt::format("{} {}", tool, table)] = Listing({tool, "-t", table});
    }
    kernel["ipvsadm"] = Listing({"ipvsadm", "-Sn"});
    kernel["ipset"] = Listing({"ipset", "save"});
    kernel["links"] = Listing({"ip", "-o", "-br", "link"});
    kernel["addresses"] = Listing({"ip", "-4", "-o", "-br", "address"});
    kernel["routes"] = Listing({"ip", "-4", "route", "show", "table", "all"});
    for (const char* name : {"net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet",
                             "net/ipv4/conf/default/route_localnet",
                             "net/ipv4/conf/vec0/arp_ignore", "net/ipv4/conf/vec0/arp_announce",
                             "net/ipv4/conf/all/arp_ignore", "net/ipv4/conf/all/arp_announce"}) {
      kernel[name] = Sysctl(name);
    }
    return kernel;
  }
  static void ExpectSame(const Snapshot& before, const Snapshot& after, const std::string& when) {
    for (const auto& [part, text] : before)
      EXPECT_EQ(after.at(part), text) << when << ": " << part;
  }

  // What others have in the kernel: kube-proxy, a firewall, a user of ipvs.
  void MakeOthersObjects(bool ipvs) {
    const std::string rules =
        "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-POSTROUTING - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n"
        "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n"
        "-A OUTPUT -j KUBE-SERVICES\n-A POSTROUTING -j KUBE-POSTROUTING\n"
        "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n"
        "-A KUBE-SERVICES -d 10.98.0.1/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ\nCOMMIT\n"
        "*filter\n:KUBE-FORWARD - [0:0]\n:FIREWALL - [0:0]\n-A FORWARD -j KUBE-FORWARD\n"
        "-A INPUT -j FIREWALL\n-A FIREWALL -s 198.51.100.0/24 -j DROP\nCOMMIT\n";
    Node().Check({"iptables-legacy-restore", "-w", "--noflush"}, {.input = rules});
    Node().Check({"ipset", "create", "KUBE-CLUSTER-IP", "hash:ip,port"});
    Node().Check({"ipset", "add", "KUBE-CLUSTER-IP", "10.98.0.1,tcp:80"});
    Node().Check({"ipset", "create", "users", "hash:net"});
    Node().Check({"ipset", "add", "users", "198.51.100.0/24"});
    if (!ipvs) return;
    Node().Check({"modprobe", "ip_vs_rr"});
    Node().Check({"ipvsadm", "-A", "-t", "10.99.0.1:80", "-s", "rr"});
    Node().Check({"ipvsadm", "-a", "-t", "10.99.0.1:80", "-r", "10.244.1.200:80", "-m"});
    Node().Check({"ipvsadm", "-A", "-f", "7", "-s", "rr"});
    Node().Check({"modprobe", "dummy"});
    Node().Check({"ip", "link", "add", "kube-ipvs0", "type", "dummy"});
    Node().Check({"ip", "address", "add", "10.98.0.1/32", "dev", "kube-ipvs0"});
  }

  void ExpectCleansUp(const Snapshot& before, const std::string& when) {
    const ExecResult result = Node().Exec({Agent(), "--cleanup"});
    EXPECT_TRUE(result.ok()) << when << ": " << result.out << result.error;
    EXPECT_THAT(result.error, HasSubstr("removed all Pointsman rules")) << when;
    ExpectSame(before, Kernel(), when);
  }

  // Of the key in kube-proxy.kubeconfig, signed by the cluster's CA and no longer valid; in base64.
  std::string ExpiredCertificate() {
    const auto user = Json::parse(Node().client().Get(Kubeconfig()))
                          .at("/users/0/user/client-key-data"_json_pointer)
                          .get<std::string>();
    const std::string script =
        "set -e; cd \"$0\"; echo \"$1\" | base64 -d >expired.key; openssl req -new -key "
        "expired.key "
        "-subj /CN=system:kube-proxy -out expired.csr 2>&1; openssl x509 -req -in expired.csr -CA "
        "pki/ca.crt -CAkey pki/ca.key -set_serial 7 -days 0 -out expired.crt 2>&1; "
        "base64 -w0 expired.crt >expired.b64";
    const RunResult made = e2e::Run({.argv = {"bash", "-c", script, dir_, user}});
    if (made.exit != 0) throw std::runtime_error("an expired certificate: " + made.out);
    // Valid for no time from now on; the comparison is by whole seconds.
    world_->Await(
        "it is expired",
        [&] {
          return e2e::Run(
                     {.argv = {"openssl", "x509", "-checkend", "0", "-in", dir_ / "expired.crt"}})
                     .exit == 1;
        },
        10s);
    std::ifstream file(dir_ / "expired.b64");
    return {std::istreambuf_iterator<char>(file), {}};
  }

  std::vector<std::string> pods_;
  std::vector<World::ServiceSpec> services_;
  std::vector<std::string> targets_;
};

TEST_F(StandaloneTest, ServesInThePlaceOfKubeProxyAndChangesModeWithItsFile) {
  START_OR_RETURN(StartNode("uml"));
  CreateServices();
  world_->AddClientPod("node-1", "client");
  WriteConfiguration(Configuration("iptables"));
  pid_t agent = StartAgent();
  AwaitMode("iptables");

  // Ports, as dashboards, probes and load balancers know them.
  EXPECT_EQ(Get(10249, "/healthz").body, "ok");
  EXPECT_EQ(Get(10249, "/healthz", Node().address()).status, 0) << "metricsBindAddress";
  const std::string metrics = Get(10249, "/metrics").body;
  for (const char* name :
       {"kubeproxy_sync_proxy_rules_duration_seconds_count",
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
        "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
        "kubeproxy_network_programming_duration_seconds_bucket",
        "kubeproxy_sync_proxy_rules_service_changes_total",
        "kubeproxy_sync_proxy_rules_endpoint_changes_total", "process_start_time_seconds"}) {
    EXPECT_THAT(metrics, HasSubstr(std::string("\n") + name));
  }
  HttpAnswer health = Get(10256, "/healthz", Node().address());
  EXPECT_EQ(health.status, 200);
  EXPECT_THAT(health.head, HasSubstr("Content-Type: application/json"));
  EXPECT_THAT(health.head, HasSubstr("X-Content-Type-Options: nosniff"));
  const Json body = Json::parse(health.body);
  EXPECT_EQ(body.at("nodeEligible"), true);
  EXPECT_EQ(body.at("lastUpdated"), body.at("currentTime"));
  health = Get(10256, "/livez");
  EXPECT_EQ(health.status, 200);
  EXPECT_FALSE(Json::parse(health.body).contains("nodeEligible")) << health.body;
  EXPECT_EQ(Get(10256, "/nothing").status, 404);
  EXPECT_THAT(Get(10249, "/metrics").body,
              HasSubstr("kubeproxy_proxy_healthz_total{code=\"200\"}"));

  // The file's settings are in the kernel.
  EXPECT_EQ(Sysctl("net/netfilter/nf_conntrack_tcp_timeout_established"), "7201");
  EXPECT_EQ(Sysctl("net/netfilter/nf_conntrack_tcp_timeout_close_wait"), "3602");
  EXPECT_THAT(Node().Check({"iptables-legacy-save", "-t", "nat"}), HasSubstr("0x8000/0x8000"))
      << "masqueradeBit";
  EXPECT_TRUE(Connects(Node().address() + ":30080")) << "nodePortAddresses";
  EXPECT_FALSE(Connects("10.244.1.1:30080")) << "an address that is not in nodePortAddresses";
  EXPECT_EQ(Log().find("orbidden"), std::string::npos) << Log();

  // SIGTERM, a restart, a bad file, another mode: the traffic notices none of it.
  const World::Load load = world_->StartLoad(Node(), "client", targets_, 40, "both", 10);
  world_->AwaitLoadRunning(load);
  const std::string rules = Listing({"iptables-legacy-save", "-t", "nat"});
  NodeProcessStatus ended = Stop(agent);
  EXPECT_EQ(ended.exit, 0) << Log();
  EXPECT_EQ(ended.signal, 0);
  EXPECT_EQ(Listing({"iptables-legacy-save", "-t", "nat"}), rules) << "SIGTERM";
  agent = StartAgent();
  AwaitMode("iptables");
  EXPECT_EQ(Listing({"iptables-legacy-save", "-t", "nat"}), rules) << "adopted as they are";

  WriteConfiguration(Configuration("ipvs", "bindAddress: 192.168.300.1\n"));
  AwaitLog("bindAddress");
  EXPECT_TRUE(Node().client().Status(agent).running) << "a bad file ends nothing";
  EXPECT_EQ(Get(10249, "/proxyMode").body, "iptables");
  WriteConfiguration(Configuration("ipvs"));
  ended = AwaitEnd(agent);
  EXPECT_EQ(ended.exit, 1) << Log();
  EXPECT_THAT(Log(), HasSubstr("changed; exiting"));
  EXPECT_EQ(Listing({"iptables-legacy-save", "-t", "nat"}), rules) << "the file was changed";
  agent = StartAgent();
  AwaitMode("ipvs");
  EXPECT_THAT(Node().Check({"ipvsadm", "-Ln"}), HasSubstr("10.96.1.1:80 wlc"));
  EXPECT_THAT(Node().Check({"ipvsadm", "-L", "--timeout"}), HasSubstr("901"));
  EXPECT_EQ(Sysctl("net/ipv4/conf/vec0/arp_ignore"), "1") << "strictARP";
  EXPECT_TRUE(Connects(Node().address() + ":30080"));

  const LoadReport report = world_->StopLoad(load);
  EXPECT_GT(report.Attempts(), 0);
  EXPECT_EQ(report.Failed(), 0) << report.json.dump(1) << Log();
  EXPECT_EQ(report.BrokenStreams(), 0) << report.json.dump(1);
  std::printf("%s\n", report.Summary().c_str());
  EXPECT_EQ(Stop(agent).exit, 0);
}

TEST_F(StandaloneTest, HealthTellsALeavingNodeAndSyncsThatStop) {
  START_OR_RETURN(StartNode("uml"));
  CreateServices();
  WriteConfiguration(Configuration("iptables"));
  const pid_t agent = StartAgent();
  AwaitMode("iptables");
  AwaitAnswer(10256, "/healthz", 200);

  const auto taint = [&](const Json& taints) {
    world_->api().Patch(kube::resources::kNodes, "", "node-1", kube::PatchType::kMerge,
                        {{"spec", {{"taints", taints}}}});
  };
  taint(Json::array(
      {{{"key", "ToBeDeletedByClusterAutoscaler"}, {"value", "1"}, {"effect", "NoSchedule"}}}));
  AwaitAnswer(10256, "/healthz", 503);
  EXPECT_EQ(Json::parse(Get(10256, "/healthz").body).at("nodeEligible"), false);
  EXPECT_EQ(Get(10256, "/livez").status, 200);
  taint(nullptr);
  AwaitAnswer(10256, "/healthz", 200);

  // A node that is taken out of the cluster: no load balancer shall send it anything any more, what
  // comes to it all the same is served.
  Json node = world_->api().Get(kube::resources::kNodes, "", "node-1");
  world_->api().Delete(kube::resources::kNodes, "", "node-1");
  AwaitAnswer(10256, "/healthz", 503);
  EXPECT_EQ(Json::parse(Get(10256, "/healthz").body).at("nodeEligible"), false);
  EXPECT_EQ(Get(10256, "/livez").status, 200);
  EXPECT_TRUE(Connects("10.96.1.1:80"));
  for (const char* field : {"uid", "resourceVersion", "creationTimestamp", "managedFields"})
    node["metadata"].erase(field);
  world_->api().Create(kube::resources::kNodes, "", node);
  AwaitAnswer(10256, "/healthz", 200);

  // Whoever holds the xtables lock stops the syncs: twice the sync period (2 s) later it is told.
  const pid_t holder = Node().client().Start(
      {"flock", "/run/xtables.lock", "sh", "-c", "touch /run/held; exec sleep 1000"},
      dir_ / "holder.log");
  world_->Await(
      "the xtables lock is held",
      [&] {
        return Node().Exec({"test", "-e", "/run/held"}).ok();
      },
      30s);
  World::ServiceSpec changed = services_[1];
  changed.endpoints.pop_back();
  world_->SetEndpoints(changed);
  AwaitAnswer(10256, "/livez", 503);
  const Json body = Json::parse(Get(10256, "/healthz").body);
  EXPECT_EQ(body.at("nodeEligible"), true);
  EXPECT_LT(body.at("lastUpdated"), body.at("currentTime"));
  EXPECT_EQ(Get(10256, "/healthz").status, 503);
  Node().client().Signal(holder, SIGKILL);
  AwaitAnswer(10256, "/livez", 200);
  AwaitAnswer(10256, "/healthz", 200);
  EXPECT_EQ(Stop(agent).exit, 0);
}

// What a clean-up of connection tracking left behind is in no later change: the next full sync
// looks at everything.
TEST_F(StandaloneTest, StaleFlowsThatCouldNotBeRemovedAreRemovedLater) {
  START_OR_RETURN(StartNode("uml"));
  CreateServices();
  world_->AddClientPod("node-1", "client");
  WriteConfiguration(Configuration("iptables"));
  const pid_t agent = StartAgent();
  AwaitMode("iptables");
  // Whom a client reaches that keeps its port, as a resolver does.
  const auto backend = [&] {
    const ExecResult result = Node().Exec(
        {world_->cluster().Program("pointsman-traffic"), "connect", services_[0].cluster_ip + ":80",
         "--udp", "--from-port", "5353", "--timeout", "2s"},
        {.netns = "client"});
    return result.ok() ? Json::parse(result.out).at("backend").get<std::string>() : "nobody";
  };
  const std::string first = backend();
  ASSERT_THAT(first, testing::AnyOf("server-0", "server-1"));
  // The kernel would load again what it is asked for.
  const std::string modprobe = Sysctl("kernel/modprobe");
  Node().Check({"sysctl", "-qw", "kernel.modprobe=/bin/false"});
  Node().Check({"rmmod", "nf_conntrack_netlink"});
  World::ServiceSpec other = services_[0];
  other.endpoints = {pods_[first == "server-0" ? 1 : 0]};
  world_->SetEndpoints(other);
  AwaitLog("stale connection tracking entries could not be removed");
  EXPECT_EQ(backend(), first) << "what the kernel does with a flow that it knows";
  Node().Check({"sysctl", "-qw", "kernel.modprobe=" + modprobe});
  Node().Check({"modprobe", "nf_conntrack_netlink"});
  world_->Await(
      "the client reaches the other pod",
      [&] { return backend() == (first == "server-0" ? "server-1" : "server-0"); }, 20s,
      [&] { return Log(); });
  EXPECT_EQ(Stop(agent).exit, 0);
}

struct BadFile {
  std::string text;
  std::string says;
};

TEST_F(StandaloneTest, ABadFileIsRefusedByFieldAndTheKernelIsUntouched) {
  START_OR_RETURN(StartNode("netns"));
  Kernel();  // listing makes the empty tables itself
  const Snapshot before = Kernel();
  const std::string head =
      "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
  const BadFile bad[] = {
      {head + "iptabels: {}\n", "iptabels"},
      {head + "ipvs: {schedular: rr}\n", "ipvs.schedular"},
      {head + "mode: [ipvs]\n", "mode"},
      {head + "iptables: {masqueradeAll: 7}\n", "iptables.masqueradeAll"},
      {head + "clusterCIDR: 10.244.0.0/33\n", "clusterCIDR"},
      {head + "nodePortAddresses: [10.0.0.0]\n", "nodePortAddresses[0]"},
      {head + "mode: ebpf\n", "mode"},
      {head + "mode: ipvs\nipvs: {scheduler: fast}\n", "ipvs.scheduler"},
      {head + "iptables: {syncPeriod: -1s}\n", "iptables.syncPeriod"},
      {head + "conntrack: {tcpEstablishedTimeout: soon}\n", "conntrack.tcpEstablishedTimeout"},
      {head + "healthzBindAddress: here:80\n", "healthzBindAddress"},
      {head + "bindAddress: nowhere\n", "bindAddress"},
      {head + "a: [\n", "line 4"},
      {"just words\n", "KubeProxyConfiguration"},
      {"", "no YAML document"},
      {"apiVersion: v1\nkind: ConfigMap\n", "apiVersion"},
      {"apiVersion: kubeproxy.config.k8s.io/v1alpha2\nkind: KubeProxyConfiguration\n",
       "apiVersion"},
  };
  const auto refused = [&](const std::vector<std::string>& args, const std::string& says) {
    std::vector<std::string> argv = {Agent()};
    argv.insert(argv.end(), args.begin(), args.end());
    const ExecResult result = Node().Exec(argv, {.timeout = 20s});
    EXPECT_NE(result.exit, 0) << says;
    EXPECT_EQ(result.signal, 0) << says;
    EXPECT_THAT(result.out + result.error, HasSubstr(says));
  };
  for (const BadFile& file : bad) {
    WriteConfiguration(file.text);
    refused({"--config", kConfigFile}, file.says);
  }
  refused({"--config", "/run/kube-proxy/none"}, "/run/kube-proxy/none");
  // kube-proxy's flags.
  refused({"--proxy-mode=ebpf"}, "--proxy-mode");
  refused({"--proxy-mode", "ipvs", "--ipvs-scheduler", "fast"}, "--ipvs-scheduler");
  refused({"--proxy-mode=ipvs", "--cluster-cidr=10.244.0.0"}, "--cluster-cidr");
  refused({"--write-config-to=/run/kube-proxy/x"}, "--config");
  refused({"--proxy-mode=iptables", "--kubeconfig=/none"}, "--kubeconfig");
  refused({"--no-such-flag"}, "--no-such-flag");
  ExpectSame(before, Kernel(), "after what was refused");
}

// What of the file concerns the process and not the rules; and the forwarder's metrics, with real
// traffic, through the agent's port.
TEST_F(StandaloneTest, ItsProcessIsAsTheFileSaysAndTellsOfTheForwarder) {
  START_OR_RETURN(StartNode("netns"));
  CreateServices();
  // One that nobody answers for: its share of the connections is tried again elsewhere.
  World::ServiceSpec half_dead = services_[1];
  half_dead.endpoints = {pods_[0], "10.244.1.250"};
  half_dead.endpoint_nodes["10.244.1.250"] = "node-1";
  world_->SetEndpoints(half_dead);
  WriteConfiguration(
      "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n"
      "kind: KubeProxyConfiguration\n"
      "mode: userspace\n"
      "hostnameOverride: node-1\n"
      "clusterCIDR: 10.244.0.0/16\n"
      "iptables: {syncPeriod: 1h}\n"
      "configSyncPeriod: 1s\n"
      "conntrack: {maxPerCore: 0}\n"
      "oomScoreAdj: 123\n"
      "logging: {format: json, verbosity: 4}\n"
      "clientConnection: {qps: 2, burst: 1, kubeconfig: " +
      Kubeconfig().string() + "}\n");
  const pid_t agent = StartAgent();
  AwaitMode("userspace");
  EXPECT_EQ(Node().Check({"cat", fmt::format("/proc/{}/oom_score_adj", agent)}), "123\n");
  const std::string log = Log();
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    const Json entry = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    ASSERT_TRUE(entry.is_object()) << "logging.format: " << line;
  }
  // A look for the API's version, three lists and three watches take a while at 2 a second.
  EXPECT_THAT(log, HasSubstr("clientConnection.qps"));

  for (int i = 0; i < 8; ++i) {
    EXPECT_TRUE(Connects("10.96.1.1:80"));
    EXPECT_TRUE(Connects("10.96.1.2:80")) << "one of its two endpoints is dead";
  }
  const std::string metrics = Get(10249, "/metrics").body;
  const auto value = [&](const std::string& series) {
    const size_t at = metrics.find("\n" + series + " ");
    return at == std::string::npos ? -1 : std::stod(metrics.substr(at + series.size() + 2));
  };
  EXPECT_EQ(value("pointsman_forwarder_tcp_connections_total"), 16) << metrics;
  EXPECT_GE(value("pointsman_forwarder_tcp_connections_retried_total"), 1) << metrics;
  EXPECT_GT(value("pointsman_forwarder_bytes_total{direction=\"to_client\",protocol=\"TCP\"}"), 0);
  EXPECT_GT(value("kubeproxy_sync_proxy_rules_iptables_total{table=\"nat\"}"), kServices);
  EXPECT_EQ(value("kubeproxy_sync_proxy_rules_service_changes_pending"), 0);
  EXPECT_EQ(
      value("kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"internal\"}"), 0);
  EXPECT_THAT(metrics, HasSubstr("rest_client_requests_total{code=\"200\""));
  EXPECT_THAT(metrics, HasSubstr("rest_client_request_duration_seconds_count{"));

  // Network programming is measured from what the slice says changed it, by seconds.
  EXPECT_EQ(value("kubeproxy_network_programming_duration_seconds_count"), 0);
  world_->api().Patch(kube::resources::kEndpointSlices, "default", services_[2].name + "-1",
                      kube::PatchType::kMerge,
                      {{"metadata",
                        {{"annotations",
                          {{"endpoints.kubernetes.io/last-change-trigger-time",
                            kube::FormatTime(std::chrono::system_clock::now())}}}}}});
  world_->Await(
      "the trigger is measured",
      [&] {
        return Get(10249, "/metrics")
                   .body.find("\nkubeproxy_network_programming_duration_seconds_count 1\n") !=
               std::string::npos;
      },
      20s);

  // configSyncPeriod: what something else took away is back, an hour before iptables.syncPeriod.
  Node().Check({"iptables-legacy", "-w", "-t", "nat", "-F", "POINTSMAN-USP-SERVICES"});
  world_->Await(
      "the rules are repaired", [&] { return Connects("10.96.1.1:80"); }, 20s,
      [&] { return Log(); });
  EXPECT_THAT(Log(), HasSubstr("\"level\":\"debug\"")) << "logging.verbosity";
  EXPECT_EQ(Stop(agent).exit, 0);
  // The forwarder is what a SIGTERM leaves behind.
  EXPECT_TRUE(Node().Exec({Agent(), "--cleanup"}).ok());
}

TEST_F(StandaloneTest, KubeProxysCommandLineWorks) {
  START_OR_RETURN(StartNode("uml"));
  CreateServices();
  world_->AddClientPod("node-1", "client");
  const pid_t agent = StartAgent(
      {"--proxy-mode=ipvs", "--kubeconfig=" + Kubeconfig().string(), "--hostname-override=node-1",
       "--cluster-cidr=10.244.0.0/16", "--v=2", "--logtostderr=true", "--ipvs-scheduler", "lc",
       "--ipvs-strict-arp", "--masquerade-all=false", "--metrics-bind-address=0.0.0.0",
       "--healthz-port=10300", "--feature-gates=A=true,B=false", "--conntrack-max-per-core=0"});
  AwaitMode("ipvs");
  EXPECT_THAT(Node().Check({"ipvsadm", "-Ln"}), HasSubstr("10.96.1.1:80 lc"));
  EXPECT_TRUE(Connects("10.96.1.1:80", "client"));
  EXPECT_EQ(Get(10249, "/healthz", Node().address()).status, 200);
  EXPECT_EQ(Get(10300, "/healthz").status, 200);
  EXPECT_EQ(Get(10256, "/healthz").status, 0);
  EXPECT_EQ(Sysctl("net/ipv4/conf/vec0/arp_ignore"), "1");
  EXPECT_THAT(Log(), HasSubstr("--logtostderr changes nothing"));
  EXPECT_EQ(Stop(agent).exit, 0);
}

TEST_F(StandaloneTest, CleanupRemovesExactlyOursAfterEveryMode) {
  START_OR_RETURN(StartNode("uml"));
  CreateServices();
  MakeOthersObjects(/*ipvs=*/true);
  Kernel();
  const Snapshot before = Kernel();

  ExpectCleansUp(before, "with nothing there");
  for (const char* mode : {"iptables", "ipvs"}) {
    WriteConfiguration(Configuration(mode));
    const pid_t agent = StartAgent();
    AwaitMode(mode);
    EXPECT_NE(Kernel(), before);
    EXPECT_EQ(Stop(agent).exit, 0);
    ExpectCleansUp(before, mode);
    ExpectCleansUp(before, std::string(mode) + ", a second time");
  }

  const ExecResult unprivileged =
      Node().Exec({"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
                   "--inh-caps=-all", "--bounding-set=-all", Agent(), "--cleanup"});
  EXPECT_EQ(unprivileged.exit, 1);
  EXPECT_THAT(unprivileged.error, HasSubstr("CAP_NET_ADMIN"));
  ExpectSame(before, Kernel(), "without rights");
}

TEST_F(StandaloneTest, CleanupRemovesExactlyOursAfterAKillInTheMiddle) {
  START_OR_RETURN(StartNode("uml"));
  CreateServices();
  MakeOthersObjects(/*ipvs=*/true);
  Kernel();
  const Snapshot before = Kernel();

  // Killed as soon as the first of its objects is there, in the middle of the programming.
  const std::pair<const char*, std::vector<std::string>> first[] = {
      {"iptables", {"iptables-legacy-save", "-t", "nat"}},
      {"ipvs", {"ipset", "list", "-name"}},
      {"ipvs", {"ipvsadm", "-Sn"}}};
  for (const auto& each : first) {
    const std::string mode = each.first;
    const std::vector<std::string>& listing = each.second;
    WriteConfiguration(Configuration(mode));
    const std::string nothing = Listing(listing);
    const pid_t agent = StartAgent();
    world_->Await(
        "something is programmed", [&] { return Listing(listing) != nothing; }, 30s,
        [&] { return Log(); });
    Stop(agent, SIGKILL);
    ExpectCleansUp(before, fmt::format("killed while it programmed {} ({})", mode, listing[0]));
  }

  // In the middle of a handover: both modes are there, the old one with a connection to drain.
  WriteConfiguration(Configuration("iptables"));
  pid_t agent = StartAgent();
  AwaitMode("iptables");
  Stop(agent, SIGKILL);
  WriteConfiguration(Configuration("ipvs"));
  agent = StartAgent();
  world_->Await(
      "virtual servers beside the rules",
      [&] {
        return Listing({"ipvsadm", "-Sn"}).find("10.96.1.") != std::string::npos;
      },
      30s, [&] { return Log(); });
  Stop(agent, SIGKILL);
  ExpectCleansUp(before, "killed in a handover");
}

TEST_F(StandaloneTest, CleanupOnAKernelWithoutIpvs) {
  START_OR_RETURN(StartNode("netns"));
  CreateServices();
  MakeOthersObjects(/*ipvs=*/false);
  Kernel();
  const Snapshot before = Kernel();
  ExpectCleansUp(before, "with nothing there");
  WriteConfiguration(Configuration("iptables"));
  const pid_t agent = StartAgent();
  AwaitMode("iptables");
  EXPECT_EQ(Stop(agent).exit, 0);
  ExpectCleansUp(before, "iptables");
  ExpectCleansUp(before, "a second time");
}

TEST_F(StandaloneTest, WhatIsInTheWayAtTheStartIsSaid) {
  START_OR_RETURN(StartNode("netns"));
  CreateServices();
  Kernel();
  const Snapshot before = Kernel();

  // Taken ports: served as soon as they are free, the Services at once.
  const std::string traffic = world_->cluster().Program("pointsman-traffic");
  const auto hold = [&](int port) {
    const pid_t holder = Node().client().Start(
        {traffic, "serve", "--name", "holder", "--tcp", std::to_string(port)}, dir_ / "holder.log");
    world_->Await(
        "the port is held", [&] { return Connects(fmt::format("127.0.0.1:{}", port)); }, 10s);
    return holder;
  };
  const pid_t holders[] = {hold(10249), hold(10256)};
  WriteConfiguration(Configuration("iptables"));
  pid_t agent = StartAgent();
  AwaitLog("metricsBindAddress");
  EXPECT_THAT(Log(), HasSubstr("10249"));
  EXPECT_THAT(Log(), HasSubstr("10256"));
  world_->Await(
      "Services are served", [&] { return Connects("10.96.1.1:80"); }, 30s, [&] { return Log(); });
  for (const pid_t holder : holders)
    Node().client().Signal(holder, SIGKILL);
  AwaitMode("iptables");
  AwaitAnswer(10256, "/healthz", 200);
  Stop(agent);
  ExpectCleansUp(before, "after taken ports");

  WriteConfiguration(Configuration("iptables", "bindAddressHardFail: true\n"));
  const pid_t again = hold(10249);
  agent = StartAgent();
  EXPECT_EQ(AwaitEnd(agent).exit, 1);
  EXPECT_THAT(Log(), HasSubstr("10249"));
  Node().client().Signal(again, SIGKILL);
  ExpectSame(before, Kernel(), "bindAddressHardFail");

  // Kubeconfigs.
  const std::string good = Node().client().Get(Kubeconfig());
  const auto fails = [&](const std::string& kubeconfig, const std::string& says) {
    Node().client().Put(dir_ / "bad.kubeconfig", kubeconfig);
    agent = StartAgent({"--config", kConfigFile, "--kubeconfig", dir_ / "bad.kubeconfig"});
    EXPECT_EQ(AwaitEnd(agent).exit, 1);
    EXPECT_THAT(Log(), HasSubstr(says));
  };
  WriteConfiguration(Configuration("iptables"));
  fails("apiVersion: [", "bad.kubeconfig");
  fails("", "bad.kubeconfig");
  fails("apiVersion: v1\nkind: Config\n", "bad.kubeconfig");
  Json broken = Json::parse(good);
  broken["users"][0]["user"]["client-key-data"] = "*";
  fails(broken.dump(), "client-key-data");

  // An API server that never answers, and one that does not believe: nothing is written, the log
  // stays readable, and it says why.
  const auto waits = [&](const std::string& kubeconfig, const std::string& says) {
    Node().client().Put(dir_ / "bad.kubeconfig", kubeconfig);
    agent = StartAgent({"--config", kConfigFile, "--kubeconfig", dir_ / "bad.kubeconfig"});
    AwaitLog(says);
    AwaitAnswer(10256, "/livez", 200);
    EXPECT_EQ(Get(10249, "/proxyMode").body, "");
    // Doubling from half a second, a few tries fit in this time and no more.
    const auto until = std::chrono::steady_clock::now() + 8s;
    world_->Await(
        "8 s pass", [&] { return std::chrono::steady_clock::now() >= until; }, 20s);
    const std::string log = Log();
    EXPECT_LE(std::count(log.begin(), log.end(), '\n'), 12) << log;
    EXPECT_TRUE(Node().client().Status(agent).running);
    EXPECT_EQ(Stop(agent).exit, 0);
    ExpectSame(before, Kernel(), says);
  };
  Json elsewhere = Json::parse(good);
  elsewhere["clusters"][0]["cluster"]["server"] =
      fmt::format("https://{}:6444", Cluster::kControlPlaneAddress);
  waits(elsewhere.dump(), ":6444");
  Json expired = Json::parse(good);
  expired["users"][0]["user"]["client-certificate-data"] = ExpiredCertificate();
  waits(expired.dump(), "certificate expired");
}

TEST_F(StandaloneTest, AFullDiskStopsNothing) {
  START_OR_RETURN(StartNode("netns"));
  CreateServices();
  WriteConfiguration(Configuration("iptables"));
  const pid_t agent = Node().client().Start(
      {"sh", "-c", "exec " + Agent() + " --config " + kConfigFile + " 2>/dev/full >/dev/full"},
      dir_ / "nothing.log");
  world_->Await(
      "Services are served", [&] { return Connects("10.96.1.1:80"); }, 30s);
  EXPECT_EQ(Stop(agent).exit, 0);
}

}  // namespace
}  // namespace pointsman::e2e
