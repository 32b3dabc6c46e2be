// Turning IPv6 forwarding on without losing the node's own way out.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "node-agent/sysctl/sysctl.h"

namespace pointsman::agent {

inline constexpr std::string_view kIpv6Forwarding = "net.ipv6.conf.all.forwarding";

// The interfaces by which /proc/net/ipv6_route's text has a default route that the kernel made of a
// router advertisement. Lines that are not understood are left out.
std::vector<std::string> InterfacesWithAdvertisedRoutes(std::string_view ipv6_route);

// Sets net.ipv6.conf.all.forwarding to 1. With that the kernel deletes the default routes that it
// made of router advertisements and takes no further ones, except on interfaces whose accept_ra is
// 2 (Documentation/networking/ip-sysctl.rst: accept_ra; rt6_purge_dflt_routers in
// net/ipv6/route.c). So where such a route is, accept_ra becomes 2 first if it is 1; it stays so,
// as forwarding does. One result a parameter that was written or that needed no writing. If an
// accept_ra cannot be written, forwarding is not touched, and its result says why: the node keeps
// its route.
std::vector<SysctlResult> EnableIpv6Forwarding();

}  // namespace pointsman::agent
