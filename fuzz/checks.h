// What must hold for any bytes that come from outside, one function a reader of them. The same
// functions run over mutations of the corpus in fuzz_checks_test, and under libFuzzer
// (scripts/fuzz.sh).
#pragma once

#include <cstdint>
#include <string_view>

#include "kube/http/kubeconfig_checks.h"
#include "kube/serve/http_checks.h"
#include "kube/testing/report_checks.h"
#include "node-agent/config/configuration_checks.h"
#include "node-agent/status/status_checks.h"
#include "node-agent/userspace/forwarder/protocol_checks.h"
#include "operator/plan/check_plan.h"

namespace pointsman::fuzz {

// Each throws std::logic_error when what must hold does not. What a reader documents as its error
// for bad input is no finding; anything else that it throws comes out.

// A watch's events are the same, and so is the error, however the bytes arrive.
void CheckEventSplitter(std::string_view input);
// The same for a list's items.
void CheckListSplitter(std::string_view input);
// What is read as a duration is written so that it is read as the same.
void CheckDuration(std::string_view input);
// The same for times.
void CheckTime(std::string_view input);
// The same for addresses and prefixes, strictly and as Kubernetes reads those of its objects, which
// takes all that the strict reading takes. A prefix contains its own address.
void CheckIpAddress(std::string_view input);
// Virtual servers and destinations of /proc/net/ip_vs are the same however the bytes arrive.
void CheckIpvsTable(std::string_view input);
// The same for persistence templates (/proc/net/ip_vs_conn).
void CheckIpvsTemplates(std::string_view input);
void CheckIpvsHalfOpen(std::string_view input);
// The same for iptables-save. Only chains of ours are kept, and of others' builtin ones nothing
// behind our last jump.
void CheckIptablesSave(std::string_view input);
// A client of /proc/net/xt_recent that is read is the same when the kernel's line for it is read.
void CheckRecentList(std::string_view input);

struct Check {
  std::string_view name;  // of its folder in fuzz/corpus, and of the program fuzz_<name>
  void (*run)(std::string_view input);
  // Mutations of each input of the corpus, in fuzz_checks_test.
  uint64_t mutations = 500;
};

// CMakeLists.txt makes a program of each line that begins with a name.
inline constexpr Check kChecks[] = {
    {"event_splitter", CheckEventSplitter},
    {"list_splitter", CheckListSplitter},
    {"duration", CheckDuration},
    {"time", CheckTime},
    {"ip_address", CheckIpAddress},
    {"ipvs_table", CheckIpvsTable},
    {"ipvs_templates", CheckIpvsTemplates},
    {"ipvs_half_open", CheckIpvsHalfOpen},
    {"iptables_save", CheckIptablesSave},
    {"xt_recent", CheckRecentList},
    {"service", testing::CheckService},
    {"endpoint_slice", testing::CheckEndpointSlice},
    {"node", testing::CheckNode},
    {"node_proxy", testing::CheckNodeProxy},
    {"proxy_configuration", testing::CheckProxyConfiguration},
    {"node_status", agent::CheckStatusReport, 20},
    {"plan", op::CheckPlan, 10},
    {"kubeconfig", testing::CheckKubeconfig},
    {"kube_proxy_configuration", testing::CheckKubeProxyConfiguration, 40},
    {"forwarder_protocol", forwarder::CheckForwarderBytes},
    {"http_connection", kube::CheckHttpConnection, 200},
};

}  // namespace pointsman::fuzz
