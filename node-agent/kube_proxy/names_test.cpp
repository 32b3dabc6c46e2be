#include "node-agent/kube_proxy/names.h"

#include <gtest/gtest.h>

namespace pointsman::agent::kube_proxy {
namespace {

TEST(KubeProxyNames, ChainsOfEachModeAndNoneOfTheKubeletsOrOthers) {
  for (const char* chain :
       {"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-SVC-ERIFXISQEP7F7OF4",
        "KUBE-SEP-IO5XOSKPAXIFQXAJ", "KUBE-EXT-X3P2623AGDH6CDF3", "KUBE-FW-X3P2623AGDH6CDF3",
        "KUBE-XLB-X3P2623AGDH6CDF3", "KUBE-SVL-X3P2623AGDH6CDF3", "KUBE-LOAD-BALANCER",
        "KUBE-NODE-PORT", "KUBE-FIREWALL"})
    EXPECT_TRUE(IsChain("nat", chain)) << chain;
  for (const char* chain :
       {"KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-NODEPORTS",
        "KUBE-PROXY-FIREWALL", "KUBE-PROXY-CANARY", "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER",
        "KUBE-NODE-PORT", "KUBE-SOURCE-RANGES-FIREWALL"})
    EXPECT_TRUE(IsChain("filter", chain)) << chain;
  EXPECT_TRUE(IsChain("mangle", "KUBE-PROXY-CANARY"));

  // The kubelet's KUBE-FIREWALL is in table filter.
  EXPECT_FALSE(IsChain("filter", "KUBE-FIREWALL"));
  for (const char* table : {"nat", "filter", "mangle"}) {
    for (const char* chain :
         {"KUBE-MARK-MASQ", "KUBE-MARK-DROP", "KUBE-KUBELET-CANARY", "KUBE-IPTABLES-HINT",
          "KUBE-ROUTER-INPUT", "KUBE-POD-FW-ABCDEFGHIJKLMNOP", "KUBE-NWPLCY-ABCDEFGHIJKLMNOP",
          "KUBE-HOSTPORTS", "KUBE-HP-ABCDEFGHIJKLMNOP", "KUBE-SERVICES-MINE", "", "PREROUTING",
          "POINTSMAN-IPT-PREROUTING"})
      EXPECT_FALSE(IsChain(table, chain)) << table << " " << chain;
  }
  EXPECT_FALSE(IsChain("raw", "KUBE-SERVICES"));
}

TEST(KubeProxyNames, IpsetsOfBothFamilies) {
  EXPECT_TRUE(IsIpset("KUBE-CLUSTER-IP"));
  EXPECT_TRUE(IsIpset("KUBE-6-CLUSTER-IP"));
  EXPECT_TRUE(IsIpset("KUBE-LOAD-BALANCER-SOURCE-CIDR"));
  EXPECT_TRUE(IsIpset("KUBE-6-LOAD-BALANCER-SOURCE-CID")) << "cut off at 31 characters";
  EXPECT_TRUE(IsIpset("KUBE-IPVS-IPS"));
  EXPECT_FALSE(IsIpset("KUBE-6-"));
  EXPECT_FALSE(IsIpset("KUBE-6-LOAD-BALANCER-SOURCE-CIDR")) << "no set has such a name";
  EXPECT_FALSE(IsIpset("KUBE-CLUSTER-IP-MINE"));
  EXPECT_FALSE(IsIpset("KUBE-DST-3YNVZWWGX3UQQ4VQ")) << "kube-router's";
  EXPECT_FALSE(IsIpset("PM-IPVS-CLUSTER-4"));
}

}  // namespace
}  // namespace pointsman::agent::kube_proxy
