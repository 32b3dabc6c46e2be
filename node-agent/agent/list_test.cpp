#include "node-agent/agent/list.h"

#include <gtest/gtest.h>

namespace pointsman::agent {
namespace {

TEST(ListingTextTest, HasOneFormForAllModes) {
  ListedService cluster_ip;
  cluster_ip.service = "default/web:http";
  cluster_ip.protocol = "TCP";
  cluster_ip.address = net::IpAddress::Parse("10.96.1.1");
  cluster_ip.port = 80;
  ListedBackend backend;
  backend.ip = *net::IpAddress::Parse("10.244.1.2");
  backend.port = 8080;
  cluster_ip.backends = {backend};
  ListedService node_port = cluster_ip;
  node_port.address.reset();
  node_port.port = 30080;
  node_port.backends.clear();
  node_port.refused = "rejected";
  EXPECT_EQ(ListingText("iptables", {cluster_ip, node_port}),
            "iptables mode\n"
            "TCP   10.96.1.1:80                 default/web:http\n"
            "  ->  10.244.1.2:8080\n"
            "TCP   *:30080                      default/web:http  node port  rejected\n");
  EXPECT_EQ(ListedJson("iptables", cluster_ip), nlohmann::json::parse(R"({
      "mode": "iptables", "protocol": "TCP", "family": "IPv4", "address": "10.96.1.1", "port": 80,
      "service": "default/web:http", "endpoints": [{"address": "10.244.1.2", "port": 8080}]})"));
  EXPECT_EQ(ListedJson("iptables", node_port), nlohmann::json::parse(R"({
      "mode": "iptables", "protocol": "TCP", "family": "IPv4", "address": null, "port": 30080,
      "service": "default/web:http", "refused": "rejected", "endpoints": []})"));
}

TEST(ListingTextTest, WhatIpvsCountsIsThere) {
  ListedService service;
  service.protocol = "UDP";
  service.family = net::Family::kIPv6;
  service.address = net::IpAddress::Parse("fd00::1");
  service.port = 53;
  service.scheduler = "lc";
  ListedBackend backend;
  backend.ip = *net::IpAddress::Parse("fd01::2");
  backend.port = 5353;
  backend.weight = 1;
  backend.active = 0;
  backend.inactive = 7;
  service.backends = {backend};
  EXPECT_EQ(ListingText("ipvs", {service}),
            "ipvs mode\n"
            "UDP   [fd00::1]:53                 -  lc\n"
            "  ->  [fd01::2]:5353  weight 1  active 0  inactive 7\n");
  EXPECT_EQ(ListedJson("ipvs", service), nlohmann::json::parse(R"({
      "mode": "ipvs", "protocol": "UDP", "family": "IPv6", "address": "fd00::1", "port": 53,
      "service": null, "scheduler": "lc", "endpoints": [
      {"address": "fd01::2", "port": 5353, "weight": 1, "active": 0, "inactive": 7}]})"));
}

}  // namespace
}  // namespace pointsman::agent
