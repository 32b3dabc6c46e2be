// The health check node ports of Services with externalTrafficPolicy: Local: a load balancer asks
// there whether this node has endpoints of the Service. Form of the answers: kube-proxy's
// (pkg/proxy/healthcheck/service_health.go).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kube/net/ip_address.h"

namespace pointsman::agent {

// One thread serves all ports. A peer can cost little: connections are bounded in number, size of
// the request and time, all ports together, and who opens many takes their places neither from
// other ports nor from other peers of the same one (kube/serve/http_connection.h).
class ServiceHealth {
 public:
  struct Service {
    std::string ns;
    std::string name;
    int local_endpoints = 0;  // ready ones on this node
    bool operator==(const Service&) const = default;
  };
  using Services = std::map<uint16_t, Service>;  // by health check node port
  // A port that cannot be listened on: in use, as a rule. Called on the serving thread, once until
  // it works again; the port is tried again every few seconds.
  using OnProblem = std::function<void(const Service&, const std::string& message)>;

  // `proxy_healthy` is asked with each request, on the serving thread.
  ServiceHealth(std::function<bool()> proxy_healthy, OnProblem on_problem);
  ~ServiceHealth();  // stops and joins
  ServiceHealth(const ServiceHealth&) = delete;
  ServiceHealth& operator=(const ServiceHealth&) = delete;

  // What is served from now on, on these addresses of the node (empty: all of them). Returns at
  // once; thread-safe. Ports that stay keep their sockets.
  void Set(Services services, std::vector<net::IpAddress> addresses);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pointsman::agent
