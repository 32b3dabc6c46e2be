#include "node-agent/xtables/listing.h"

#include <gmock/gmock.h>

namespace pointsman::agent::xtables {
namespace {

using ::testing::IsEmpty;

std::vector<ListedService> Read(const std::string& saved) {
  ListingReader reader("POINTSMAN-IPT-", net::Family::kIPv4);
  size_t begin = 0;
  for (size_t end = 0; (end = saved.find('\n', begin)) != std::string::npos; begin = end + 1)
    reader.AddLine(std::string_view(saved).substr(begin, end - begin));
  return reader.Take();
}

// As iptables-save prints them. Chain E goes on to chain S; with affinity a backend has two rules.
constexpr const char* kSaved = R"(*nat
:POINTSMAN-IPT-SAAAAAAAAAAAA - [0:0]
-A POINTSMAN-IPT-SERVICES -d 10.96.0.0/16 -j POINTSMAN-IPT-V16-0A600000
-A POINTSMAN-IPT-SERVICES -p tcp -m tcp --dport 30080:30143 -j POINTSMAN-IPT-P-tcp-30080
-A POINTSMAN-IPT-V24-0A600100 -d 10.96.1.1/32 -p tcp -m tcp --dport 80 -j POINTSMAN-IPT-SAAAAAAAAAAAA
-A POINTSMAN-IPT-P-tcp-30080 -p tcp -m tcp --dport 30080 -j POINTSMAN-IPT-EAAAAAAAAAAAA
-A POINTSMAN-IPT-SAAAAAAAAAAAA ! -s 10.244.0.0/16 -m comment --comment "pointsman default/web:http" -j POINTSMAN-MARK-MASQ
-A POINTSMAN-IPT-SAAAAAAAAAAAA -p tcp -m recent --update --seconds 9 --reap --name PM-X --mask 255.255.255.255 --rsource -j DNAT --to-destination 10.244.1.2:8080
-A POINTSMAN-IPT-SAAAAAAAAAAAA -p tcp -m statistic --mode random --probability 0.50000000000 -m recent --set --name PM-X --mask 255.255.255.255 --rsource -j DNAT --to-destination 10.244.1.2:8080
-A POINTSMAN-IPT-SAAAAAAAAAAAA -p tcp -j DNAT --to-destination 10.244.2.2:8080
-A POINTSMAN-IPT-EAAAAAAAAAAAA -m comment --comment "pointsman default/web:http" -j POINTSMAN-MARK-MASQ
-A POINTSMAN-IPT-EAAAAAAAAAAAA -j POINTSMAN-IPT-SAAAAAAAAAAAA
-A POINTSMAN-IPT-OWN -p tcp -m tcp --dport 35197 -j REJECT --reject-with tcp-reset
-A KUBE-SERVICES -d 10.96.9.9/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-X
COMMIT
*filter
-A POINTSMAN-IPT-V24-0A600100 -d 10.96.1.2/32 -p udp -m udp --dport 53 -j REJECT --reject-with icmp-port-unreachable
-A POINTSMAN-IPT-V24-0A600100 -d 10.96.1.1/32 -p tcp -m tcp --dport 80 -j DROP
COMMIT
)";

TEST(ListingTest, ReadsServicesWithNamesAndBackends) {
  const std::vector<ListedService> services = Read(kSaved);
  ASSERT_EQ(services.size(), 3U);
  EXPECT_EQ(services[0].address->ToString(), "10.96.1.1");
  EXPECT_EQ(services[0].service, "default/web:http");
  EXPECT_EQ(services[0].protocol, "TCP");
  ASSERT_EQ(services[0].backends.size(), 2U);
  EXPECT_EQ(services[0].backends[1].ip.ToString(), "10.244.2.2");
  EXPECT_EQ(services[0].backends[1].port, 8080);
  EXPECT_EQ(services[0].refused, "") << "of other sources alone";
  EXPECT_EQ(services[1].address->ToString(), "10.96.1.2");
  EXPECT_EQ(services[1].refused, "rejected");
  EXPECT_FALSE(services[2].address) << "the node port";
  EXPECT_EQ(services[2].port, 30080);
  EXPECT_EQ(services[2].service, "default/web:http");
  EXPECT_EQ(services[2].backends, services[0].backends);
}

TEST(ListingTest, WhatIsOddIsLeftOut) {
  EXPECT_THAT(Read("-A POINTSMAN-IPT-V24-0A600100 -d x/32 -p tcp --dport 80 -j "
                   "POINTSMAN-IPT-SAAAAAAAAAAAA\n"
                   "-A POINTSMAN-IPT-V24-0A600100 -d 10.0.0.1/32 -p tcp --dport 99999 -j DROP\n"
                   "-A POINTSMAN-IPT-V24-0A600100 -d\n-A\n-A POINTSMAN-IPT-S \"\n\n"),
              IsEmpty());
  // Chains that lead to each other end.
  EXPECT_EQ(Read("-A POINTSMAN-IPT-V24-0A600100 -d 10.0.0.1/32 -p tcp -m tcp --dport 80 -j "
                 "POINTSMAN-IPT-SAAAAAAAAAAAA\n"
                 "-A POINTSMAN-IPT-SAAAAAAAAAAAA -j POINTSMAN-IPT-EAAAAAAAAAAAA\n"
                 "-A POINTSMAN-IPT-EAAAAAAAAAAAA -j POINTSMAN-IPT-SAAAAAAAAAAAA\n")
                .size(),
            1U);
}

}  // namespace
}  // namespace pointsman::agent::xtables
