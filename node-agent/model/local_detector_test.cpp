#include "node-agent/model/local_detector.h"

#include <stdexcept>

#include <gmock/gmock.h>

namespace pointsman::agent {
namespace {

using Kind = LocalDetector::Kind;
using kube::DetectLocalMode;
using testing::HasSubstr;
using testing::StartsWith;

constexpr net::Family k4 = net::Family::kIPv4;
constexpr net::Family k6 = net::Family::kIPv6;

net::IpPrefix Cidr(const std::string& text) {
  return net::IpPrefix::Parse(text).value();
}

TEST(LocalDetectorTest, CidrsOfAFamily) {
  kube::ProxySettings settings;
  EXPECT_EQ(LocalDetector(settings, k4).kind, Kind::kUnknown);
  for (const DetectLocalMode mode :
       {DetectLocalMode::kNone, DetectLocalMode::kClusterCidr, DetectLocalMode::kNodeCidr}) {
    settings.detect_local_mode = mode;
    settings.cluster_cidrs = {Cidr("10.244.0.0/16"), Cidr("10.0.0.0/8")};
    EXPECT_EQ(LocalDetector(settings, k4).kind, Kind::kPrefix);
    EXPECT_EQ(LocalDetector(settings, k4).prefix, Cidr("10.244.0.0/16")) << "the first";
    EXPECT_EQ(LocalDetector(settings, k6).kind, Kind::kUnknown);
    settings.cluster_cidrs = {Cidr("fd00:244::/56"), Cidr("0.0.0.0/0")};
    EXPECT_EQ(LocalDetector(settings, k4).kind, Kind::kEverything);
    EXPECT_EQ(LocalDetector(settings, k6).prefix, Cidr("fd00:244::/56"));
  }
}

TEST(LocalDetectorTest, Interfaces) {
  kube::ProxySettings settings;
  settings.cluster_cidrs = {Cidr("10.244.0.0/16")};
  settings.detect_local_mode = DetectLocalMode::kBridgeInterface;
  settings.detect_local.bridge_interface = "a-bridge-of-15b";
  EXPECT_EQ(LocalDetector(settings, k4).kind, Kind::kInterface);
  EXPECT_EQ(LocalDetector(settings, k6).interface, "a-bridge-of-15b");
  settings.detect_local_mode = DetectLocalMode::kInterfaceNamePrefix;
  settings.detect_local.interface_name_prefix = "cali";
  EXPECT_EQ(LocalDetector(settings, k4).kind, Kind::kInterfacePrefix);
  EXPECT_EQ(LocalDetector(settings, k4).interface, "cali");
}

std::string ErrorOf(const kube::ProxySettings& settings) {
  try {
    LocalDetector(settings, k4);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

// In every mode the same, though only iptables-restore would read them as something else.
TEST(LocalDetectorTest, WhatIsNoInterfacesNameIsRefused) {
  kube::ProxySettings settings;
  for (const char* bad : {"", "a b", "a\nCOMMIT", "a\"", "a'", "a\\", "a/b", "cali+",
                          "sixteen-bytes-16", "\xc3\xa9"}) {
    settings.detect_local_mode = DetectLocalMode::kBridgeInterface;
    settings.detect_local.bridge_interface = bad;
    EXPECT_THAT(ErrorOf(settings), StartsWith("detectLocal.bridgeInterface: ")) << bad;
    settings.detect_local_mode = DetectLocalMode::kInterfaceNamePrefix;
    settings.detect_local.interface_name_prefix = bad;
    EXPECT_THAT(ErrorOf(settings), StartsWith("detectLocal.interfaceNamePrefix: ")) << bad;
  }
  settings.detect_local.interface_name_prefix = "a-prefix-of-15b";
  EXPECT_THAT(ErrorOf(settings), HasSubstr("'a-prefix-of-15b' is not an interface's name"))
      << "no room for what follows";
}

}  // namespace
}  // namespace pointsman::agent
