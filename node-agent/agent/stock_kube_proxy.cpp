#include "node-agent/agent/stock_kube_proxy.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <exception>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "kube/http/transport.h"
#include "kube/net/ip_address.h"
#include "kube/pointsman/neighbour_names.h"
#include "kube/text/text.h"
#include "node-agent/preflight/required_modules.h"

namespace pointsman::agent {
namespace {

constexpr uint16_t kHealthzPort = 10256;
constexpr uint16_t kMetricsPort = 10249;
constexpr std::chrono::seconds kPatience{2};
constexpr size_t kMaxAnswer = 64UL * 1024;

std::string Server(const net::IpAddress& ip, uint16_t port) {
  return "http://" + net::IpPort{ip, port}.ToString();
}

std::string Get(const std::vector<std::string>& servers, const char* path) {
  std::string why = "it is not to answer anywhere";
  for (const std::string& server : servers) {
    try {
      kube::Config config;
      config.server = server;
      const auto transport = kube::MakeTransport(config, kMaxAnswer);
      kube::HttpRequest request;
      request.target = path;
      request.timeout = kPatience;
      kube::HttpResponse answer = transport->Send(request);
      if (answer.status == 200) return std::move(answer.body);
      why = fmt::format("{}{} answers {}", server, path, answer.status);
      break;  // it is there
    } catch (const std::exception& error) {
      why = error.what();
    }
  }
  throw std::runtime_error(why);
}

}  // namespace

std::vector<std::string> ServersAt(const std::string& bind_address, uint16_t default_port) {
  const net::IpAddress v4 = net::IpAddress::V4(0x7f000001);
  const net::IpAddress v6 = *net::IpAddress::Parse("::1");
  std::string_view host = bind_address;
  uint16_t port = default_port;
  if (!net::IpAddress::ParseSloppy(host) && !host.empty()) {
    const size_t colon = host.rfind(':');
    if (colon == host.npos) return {};
    const std::string_view digits = host.substr(colon + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    if (error != std::errc() || end != digits.data() + digits.size() || port == 0) return {};
    host = host.substr(0, colon);
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  }
  if (host.empty()) return {Server(v4, port), Server(v6, port)};
  const auto ip = net::IpAddress::ParseSloppy(host);
  if (!ip) return {};
  const bool every =
      std::all_of(ip->data(), ip->data() + ip->size(), [](uint8_t b) { return b == 0; });
  if (!every) return {Server(*ip, port)};
  // What listens at [::] is reached over IPv4, too, unless it was told otherwise.
  if (ip->is_v4()) return {Server(v4, port)};
  return {Server(v4, port), Server(v6, port)};
}

PreflightResult PreflightOfKubeProxy(ModeEnvironment& environment,
                                     const kube::ProxySettings& settings) {
  // pkg/proxy/nftables, getNFTablesInterface, which asks since 1.31.
  constexpr KernelVersion kOldestForNftables{5, 13};
  PreflightResult result =
      environment.Preflight(settings.mode, WithoutNeighbours(settings), /*load=*/true);
  if (settings.mode == kube::Mode::kNftables && result.passed &&
      ParseKernelVersion(result.kernel_release) < kOldestForNftables) {
    result.passed = false;
    result.reason = "KernelTooOld";
    result.message =
        fmt::format("kernel {} is too old for kube-proxy's mode nftables, which needs 5.13",
                    result.kernel_release);
  }
  return result;
}

kube::ProxySettings WithoutNeighbours(kube::ProxySettings settings) {
  settings.neighbours.accept.assign(kube::kNeighbourNames.begin(), kube::kNeighbourNames.end());
  return settings;
}

void StockKubeProxy::Forget() {
  if (!asked_) return;
  asked_.reset();
  state_ = {};
  found_.reset();
  verified_ = false;
  missing_.reset();
  due_ = TimePoint::max();
}

void StockKubeProxy::WaitFor(const std::string& why) {
  if (!why.empty() && !verified_) state_.waits_for = "kube-proxy's restart: " + why;
}

void StockKubeProxy::Look(const kube::NodeProxySpec& spec, const ServiceModel& model, bool ipv6,
                          TimePoint now) {
  kube::NodeProxySpec asked = spec;
  asked.candidate.emplace();  // another question: the same of all
  if (asked_ != asked) {
    Forget();
    asked_ = std::move(asked);
    state_.desired = spec.settings.mode;
    due_ = now;
  }
  if (now < due_) return;
  try {
    Ask(spec, model, ipv6);
  } catch (const std::exception& error) {
    Trouble(error.what());
  }
  const auto took = std::chrono::steady_clock::now() - now;
  const bool settled = verified_ && failures_ == 0;
  due_ = now +
         (settled ? TimePoint::duration(kWatch) : std::max<TimePoint::duration>(kPoll, 2 * took));
}

void StockKubeProxy::Ask(const kube::NodeProxySpec& spec, const ServiceModel& model, bool ipv6) {
  const kube::Mode mode = spec.settings.mode;
  // Each until what follows is done.
  found_ = StockFinding::kCannotRun;
  if (!state_.preflight || !state_.preflight->passed)
    state_.preflight = node_.preflight(spec.settings);
  if (!state_.preflight->passed) return Trouble(state_.preflight->message);
  if (!verified_) state_.active.reset();
  found_ = StockFinding::kNoAnswer;
  const std::string answer =
      node_.get(ServersAt(spec.metrics_bind_address, kMetricsPort), "/proxyMode");
  std::string_view word = answer;
  while (!word.empty() && std::isspace(static_cast<unsigned char>(word.back())) != 0)
    word.remove_suffix(1);
  const auto runs = kube::ParseMode(word);
  if (!runs) return Trouble("its /proxyMode is " + text::Quote(word) + ", which is no mode");
  state_.active = runs;
  node_.get(ServersAt(spec.healthz_bind_address, kHealthzPort), "/healthz");
  found_ = StockFinding::kOtherMode;
  if (runs != mode) {
    return Trouble(
        fmt::format("its mode is {}, not {}", kube::ToString(*runs), kube::ToString(mode)));
  }
  found_ = StockFinding::kNotReadBack;
  if (!verified_) {
    if (std::string why = WhyNotServed(model, ipv6, mode); !why.empty())
      return Unverified(std::move(why));
    verified_ = true;
    missing_.reset();
    spdlog::info("kube-proxy serves in mode {}: the kernel has every cluster IP with its endpoints",
                 kube::ToString(mode));
  }
  found_ = StockFinding::kVerified;
  failures_ = 0;
  state_.synced_once = true;
  state_.failed = false;
  state_.problems.clear();
  state_.waits_for.clear();
}

// Endpoints come and go all the time, and kube-proxy writes them some time later: what has been
// seen whole once is done with.
std::string StockKubeProxy::WhyNotServed(const ServiceModel& model, bool ipv6, kube::Mode mode) {
  if (!missing_) {
    missing_.emplace();
    for (const auto& [id, entry] : model.entries) {
      if (kube_proxy::IsExpected(*entry, ipv6)) missing_->push_back(id);
    }
    std::sort(missing_->begin(), missing_->end());
  }
  const kube_proxy::Served served = node_.served(mode);
  std::erase_if(*missing_, [&](const ServicePortId& id) {
    const auto found = model.entries.find(id);
    return found == model.entries.end() || !kube_proxy::IsExpected(*found->second, ipv6) ||
           kube_proxy::Has(served, *found->second);
  });
  if (missing_->empty()) return "";
  return fmt::format(
      "the kernel does not have all endpoints of {} ports of Services yet, for example {}",
      missing_->size(), missing_->front().ToString());
}

std::optional<size_t> StockKubeProxy::MissingServicePorts() const {
  if (verified_) return 0;
  return missing_ ? std::optional(missing_->size()) : std::nullopt;
}

// It has not got there yet.
void StockKubeProxy::Unverified(std::string why) {
  state_.synced_once = false;
  state_.waits_for = "kube-proxy: " + std::move(why);
}

void StockKubeProxy::Trouble(std::string why) {
  if (!verified_) {
    // In its former mode it serves.
    const bool before = state_.active && state_.active != state_.desired;
    Unverified(std::move(why));
    state_.synced_once = before;
    return;
  }
  if (++failures_ < kFailures) return;
  state_.failed = true;
  state_.problems = {{.object = "kube-proxy", .message = std::move(why)}};
}

StockKubeProxy::Node ThisKubeProxy(
    const std::string& modules_root,
    std::function<PreflightResult(const kube::ProxySettings&)> preflight) {
  return {.preflight = std::move(preflight), .get = Get, .served = [modules_root](kube::Mode mode) {
            return kube_proxy::ReadServed(mode, modules_root);
          }};
}

}  // namespace pointsman::agent
