// The command line, the forms of output, and what a failure says.
#include <gmock/gmock.h>

#include "kube/client/api_error.h"
#include "kube/config/config.h"
#include "kube/config/yaml_json.h"
#include "kube/http/transport.h"
#include "kubectl-pointsman/document.h"
#include "kubectl-pointsman/exit_code.h"
#include "kubectl-pointsman/options.h"
#include "kubectl-pointsman/terminal.h"
#include "kubectl-pointsman/testing_objects.h"

namespace pointsman::plugin {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Options Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "kubectl-pointsman");
  return ParseOptions(static_cast<int>(arguments.size()), arguments.data());
}
int CodeOf(std::vector<const char*> arguments) {
  try {
    Parse(std::move(arguments));
  } catch (const Ended& ended) {
    return ended.code;
  }
  return -1;
}

TEST(OptionsTest, ComeBeforeAndAfterTheCommand) {
  const Options options = Parse({"--context", "a", "status", "--name", "cluster", "-o", "wide",
                                 "--kubeconfig=/k", "--timeout", "5m"});
  EXPECT_EQ(options.command, "status");
  EXPECT_EQ(options.context, "a");
  EXPECT_EQ(options.name, "cluster");
  EXPECT_EQ(options.kubeconfig, "/k");
  EXPECT_EQ(options.output, Output::kWide);
  EXPECT_EQ(options.timeout, std::chrono::minutes(5));
}

TEST(OptionsTest, OfPreflight) {
  const Options options = Parse({"preflight", "--mode", "ipvs", "--nodes", "a,b", "--nodes", "c"});
  EXPECT_EQ(options.mode, kube::Mode::kIpvs);
  EXPECT_THAT(options.nodes, ElementsAre("a", "b", "c"));
}

TEST(OptionsTest, TheRest) {
  EXPECT_EQ(Parse({"rollback", "--to", "3"}).to, 3);
  EXPECT_EQ(Parse({"explain", "node-1"}).node, "node-1");
  EXPECT_EQ(Parse({"diff", "-f", "-"}).file, "-");
  EXPECT_TRUE(Parse({"migrate", "--to", "ipvs", "--yes"}).yes);
  EXPECT_EQ(Parse({"migrate", "--to", "ipvs"}).mode, kube::Mode::kIpvs);
}

TEST(OptionsTest, AMistakeIsCode1AndHelpIsNone) {
  EXPECT_EQ(CodeOf({}), 1);
  EXPECT_EQ(CodeOf({"statsu"}), 1);
  EXPECT_EQ(CodeOf({"status", "--nodez"}), 1);
  EXPECT_EQ(CodeOf({"preflight"}), 1);
  EXPECT_EQ(CodeOf({"preflight", "--mode", "ebpf"}), 1);
  EXPECT_EQ(CodeOf({"status", "--timeout", "soon"}), 1);
  EXPECT_EQ(CodeOf({"--help"}), 0);
  EXPECT_EQ(CodeOf({"status", "--help"}), 0);
}

TEST(DocumentTest, YamlIsReadAsWhatWasWritten) {
  const nlohmann::json value = {{"mode", "ipvs"},
                                {"no", "yes"},
                                {"empty", nlohmann::json::array()},
                                {"list", {1, "two", {{"a", nullptr}, {"b", {true}}}, {{3}, {4}}}},
                                {"a b", {{"text", "x: \"y\"\n- z #"}, {"number", "12"}}},
                                {"hostile", "\x1b[2J\xe2\x80\xae"}};
  const std::string yaml = YamlDocument(value);
  EXPECT_EQ(kube::ParseYaml(yaml).value, value) << yaml;
}

TEST(DocumentTest, NeitherFormDoesAnythingToATerminal) {
  const nlohmann::json value = {{"a", kHostile}, {kHostile, {kHostile}}};
  EXPECT_TRUE(IsHarmless(JsonDocument(value)));
  EXPECT_TRUE(IsHarmless(YamlDocument(value)));
  EXPECT_EQ(nlohmann::json::parse(JsonDocument({{"a", "\x1b"}}))["a"], "\x1b");
}

TEST(TerminalTest, ABarIsFullOnlyWhenAllIsDone) {
  EXPECT_EQ(Bar(0, 3, 4), "[----]");
  EXPECT_EQ(Bar(99, 100, 4), "[###-]");
  EXPECT_EQ(Bar(3, 3, 4), "[####]");
  EXPECT_EQ(Bar(9, 3, 4), "[####]");
  EXPECT_EQ(Bar(1, 0, 4), "[----]");
}

TEST(TerminalTest, ATablesColumnsAreAsWideAsTheirWidestCell) {
  Table table({"A", "B"});
  table.Add({"ä", "x"});
  table.Add({"long", ""});
  EXPECT_EQ(table.Text("  "), "  A      B\n  ä      x\n  long\n");
}

Ending EndingOf(const std::function<void()>& call) {
  try {
    call();
  } catch (...) {
    return EndingOfCurrentException();
  }
  return {};
}

TEST(EndingTest, EachFailureHasItsCodeAndARemedy) {
  const auto api = [](int code, const char* reason) {
    return EndingOf([&] { throw kube::ApiError(code, reason, "said \x1b[2J"); });
  };
  EXPECT_EQ(api(403, "Forbidden").code, ExitCode::kForbidden);
  EXPECT_THAT(api(403, "Forbidden").message, HasSubstr("docs/kubectl-pointsman.md"));
  EXPECT_EQ(api(401, "Unauthorized").code, ExitCode::kForbidden);
  EXPECT_EQ(api(404, "NotFound").code, ExitCode::kNotFound);
  EXPECT_THAT(api(404, "NotFound").message, HasSubstr("Is Pointsman installed"));
  EXPECT_EQ(api(409, "Conflict").code, ExitCode::kError);
  EXPECT_EQ(api(500, "InternalError").code, ExitCode::kError);
  EXPECT_TRUE(IsHarmless(api(500, "InternalError").message));
  EXPECT_EQ(EndingOf([] { throw kube::TransportError("refused"); }).code, ExitCode::kUnreachable);
  EXPECT_EQ(EndingOf([] { throw kube::ConfigError("no such file"); }).code, ExitCode::kError);
  EXPECT_EQ(EndingOf([] { throw Failure(ExitCode::kObjections, "x"); }).code,
            ExitCode::kObjections);
}

}  // namespace
}  // namespace pointsman::plugin
