#include "node-agent/xtables/chain_jump.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node-agent/xtables/kernel_rules.h"

namespace pointsman::agent::xtables {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

constexpr std::string_view kPrefix = "POINTSMAN-";

TEST(ChainJumpTest, IsTheEndOfTheRule) {
  EXPECT_EQ(ChainJumpedTo("-j POINTSMAN-A"), "POINTSMAN-A");
  EXPECT_EQ(ChainJumpedTo("-A INPUT -m comment --comment \"a \\\" -j B\" -j cali-INPUT"),
            "cali-INPUT");
  EXPECT_EQ(ChainJumpedTo("-A INPUT -p tcp -g POINTSMAN-A "), "POINTSMAN-A");
  EXPECT_EQ(ChainJumpedTo("-m comment --comment -j -j POINTSMAN-A"), "POINTSMAN-A");
}

// Texts of others, as iptables-save prints them.
TEST(ChainJumpTest, TextOfARuleIsNone) {
  for (const char* rule : {
           "",
           "-j",
           "-j ",
           "-p tcp",
           "POINTSMAN-A",
           "-j LOG --log-prefix \"-j POINTSMAN-A\"",
           "-j LOG --log-prefix \"-j POINTSMAN-A \"",
           "-j LOG --log-prefix \"dropped -j POINTSMAN-A\" --log-level 4",
           "-m comment --comment \"was: -j POINTSMAN-A\"",
           "-m comment --comment \"was \\\"x\\\" -j POINTSMAN-A\" -g OTHER",
           "-m comment --comment \"as -j POINTSMAN-A \" -j DNAT --to-destination 192.0.2.1",
       }) {
    EXPECT_FALSE(ChainJumpedTo(rule).starts_with(kPrefix)) << rule;
    KernelRulesReader reader(kPrefix);
    reader.AddLine(std::string("-A INPUT ") + rule);
    EXPECT_THAT(reader.Take().builtin.OurJumps(), IsEmpty()) << rule;
  }
}

// A comparison and a removal take out what the reader says is ours.
TEST(ChainJumpTest, ARuleOfOthersThatSpeaksOfOursStays) {
  KernelRulesReader reader(kPrefix);
  for (const char* line :
       {":POINTSMAN-A - [0:0]", "-A INPUT -j LOG --log-prefix \"-j POINTSMAN-A \"",
        "-A OUTPUT -j POINTSMAN-A", "-A OUTPUT -m comment --comment \"behind -j POINTSMAN-A\""})
    reader.AddLine(line);
  EXPECT_THAT(reader.Take().builtin.OurJumps(),
              ElementsAre(Pair("OUTPUT", ElementsAre("-j POINTSMAN-A"))));
}

}  // namespace
}  // namespace pointsman::agent::xtables
