#include "kubectl-pointsman/completion.h"

#include <gmock/gmock.h>

namespace pointsman::plugin {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

Completion Of(const std::vector<std::string>& words) {
  return Complete(words, {.nodes =
                              [] {
                                return std::vector<std::string>{"node-1", "node-2"};
                              },
                          .configurations = [] { return std::vector<std::string>{"cluster"}; },
                          .services = [] { return std::vector<std::string>{"default/web"}; }});
}

TEST(CompletionTest, CommandsAndTheirOptions) {
  EXPECT_THAT(Of({""}).words, Contains("status"));
  EXPECT_THAT(Of({"pre"}).words, ElementsAre("preflight"));
  EXPECT_THAT(Of({"status", "--w"}).words, ElementsAre("--watch"));
  EXPECT_THAT(Of({"status", "--"}).words, Contains("--context")) << "of the program itself";
  EXPECT_THAT(Of({"status", "--"}).words, Not(Contains("--mode")));
  EXPECT_THAT(Of({"pause", ""}).words, IsEmpty());
}

TEST(CompletionTest, Values) {
  EXPECT_THAT(Of({"preflight", "--mode", "i"}).words, ElementsAre("iptables", "ipvs"));
  EXPECT_THAT(Of({"preflight", "--mode=ipv"}).words, ElementsAre("--mode=ipvs"));
  EXPECT_THAT(Of({"preflight", "--mode", "=", "ipv"}).words, ElementsAre("ipvs"))
      << "bash cuts at =";
  EXPECT_THAT(Of({"preflight", "--mode", "="}).words, Contains("nftables"));
  EXPECT_THAT(Of({"status", "-o", ""}).words, ElementsAre("json", "wide", "yaml"));
  EXPECT_THAT(Of({"history", "-o", ""}).words, ElementsAre("json", "yaml"));
  EXPECT_THAT(Of({"migrate", "--to", "n"}).words, ElementsAre("nftables"));
  EXPECT_THAT(Of({"rollback", "--to", ""}).words, IsEmpty()) << "a number";
}

TEST(CompletionTest, NamesOfTheCluster) {
  EXPECT_THAT(Of({"explain", "node-"}).words, ElementsAre("node-1", "node-2"));
  EXPECT_THAT(Of({"explain", "node-1", ""}).words, IsEmpty());
  EXPECT_THAT(Of({"services", "node-2"}).words, ElementsAre("node-2"));
  EXPECT_THAT(Of({"services", "node-2", "d"}).words, ElementsAre("default/web"));
  EXPECT_THAT(Of({"services", "node-2", "default/web", ""}).words, IsEmpty());
  EXPECT_THAT(Of({"status", "--name", ""}).words, ElementsAre("cluster"));
  EXPECT_THAT(Of({"preflight", "--nodes", "node-1,node-2"}).words, ElementsAre("node-1,node-2"));
}

TEST(CompletionTest, AFlagTakesNoValue) {
  EXPECT_THAT(Of({"explain", "--context", "x", ""}).words, ElementsAre("node-1", "node-2"));
  EXPECT_THAT(Of({"status", "--watch", "--na"}).words, ElementsAre("--name", "--namespace"));
}

TEST(CompletionTest, TheAnswerIsThatOfCobra) {
  EXPECT_EQ(CompletionAnswer(Of({"explain", ""})), "node-1\nnode-2\n:4\n");
  EXPECT_EQ(CompletionAnswer(Of({"diff", "-f", ""})), ":0\n");
}

}  // namespace
}  // namespace pointsman::plugin
