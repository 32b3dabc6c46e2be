// Firewalls of hosts, and what Docker adds to them.
#pragma once

#include <string>
#include <vector>

#include "kube/net/ip_address.h"
#include "node-agent/testing/neighbours/neighbour.h"

namespace pointsman::agent::testing {

// Docker with a drop of its administrator's. moby/moby b985e23,
// daemon/libnetwork/drivers/bridge/internal/iptabler and libnetwork/firewall_linux.go: DOCKER-USER
// is kept first in FORWARD, then DOCKER-FORWARD. `refused`: a source that DOCKER-USER drops.
Neighbour DockerUser(const std::string& refused);

// /etc/sysconfig/iptables as the RHEL family's iptables-services has it: what is not accepted is
// refused by the last rule of the builtin chains.
Neighbour IptablesServices(net::Family family);

// ufw 0.36 (launchpad.net/ufw, src/backend_iptables.py and conf/before.rules) with
// "ufw default reject routed", and incoming too.
Neighbour Ufw(net::Family family);

// firewalld 0.9 with FirewallBackend=iptables (src/firewall/core/ipXtables.py): zones by goto,
// which refuse what they do not know. `link`: one in zone trusted, as a pod's may be.
Neighbour FirewalldIptables(net::Family family, const std::string& link);

// firewalld 2.1 with FirewallBackend=nftables (firewalld/firewalld 2745d6f,
// src/firewall/core/nftables.py): a table of its own in which what was translated is let by, what
// comes from a link is judged by its zone, and the rest refused. `links`: in zone trusted.
Neighbour FirewalldNft(const std::vector<std::string>& links);

}  // namespace pointsman::agent::testing
