#include "kubectl-pointsman/services.h"

#include <gmock/gmock.h>

namespace pointsman::plugin {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Failure Of(int status, const std::string& said, bool listed = false) {
  Options options;
  options.node = "node-1";
  return FailureOfExec({.status = status, .error_output = said}, options, listed);
}

TEST(ServicesTest, AnExecThatFailsNamesTheRemedy) {
  const Failure no_kubectl =
      Of(127, "/usr/bin/env: \xe2\x80\x98kubectl\xe2\x80\x99: No such file or directory\n");
  EXPECT_EQ(no_kubectl.code(), ExitCode::kError);
  EXPECT_THAT(no_kubectl.what(), HasSubstr("kubectl is not in $PATH"));

  const Failure forbidden = Of(1,
                               "Error from server (Forbidden): pods \"x\" is forbidden: User \"u\" "
                               "cannot create resource \"pods/exec\"\n");
  EXPECT_EQ(forbidden.code(), ExitCode::kForbidden);
  EXPECT_THAT(forbidden.what(),
              AllOf(HasSubstr("User \"u\""), HasSubstr("namespace pointsman-system"),
                    HasSubstr("pointsman-node-agent --list")));

  const Failure old =
      Of(109,
         "The following argument was not expected: --list\nRun with --help for more information.\n"
         "command terminated with exit code 109\n");
  EXPECT_EQ(old.code(), ExitCode::kError);
  EXPECT_THAT(old.what(),
              AllOf(HasSubstr("node-1 is too old"), HasSubstr("{.status.agentVersion}")));

  const Failure no_json =
      Of(109,
         "The following argument was not expected: --list-format=json\nRun with --help for more "
         "information.\ncommand terminated with exit code 109\n");
  EXPECT_EQ(no_json.code(), ExitCode::kError);
  EXPECT_THAT(no_json.what(),
              AllOf(HasSubstr("node-1 is too old for -o json"), HasSubstr("without -o")));

  const Failure part = Of(
      1, "error: nftables mode could not be read: no memory\ncommand terminated with exit code 1\n",
      true);
  EXPECT_EQ(part.code(), ExitCode::kFailed);
  EXPECT_THAT(part.what(), AllOf(HasSubstr("not complete"), HasSubstr("no memory")));

  const Failure other =
      Of(1, "error: unable to upgrade connection: container not found (\"node-agent\")\n");
  EXPECT_EQ(other.code(), ExitCode::kError);
  EXPECT_THAT(other.what(), AllOf(HasSubstr("container not found"), HasSubstr("Does the Pod run")));
}

}  // namespace
}  // namespace pointsman::plugin
