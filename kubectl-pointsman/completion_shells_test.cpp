// The completion scripts in the real shells: what stands on the line after the Tab key.
#include <array>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "kube/process/child_process.h"

namespace pointsman::plugin {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsSupersetOf;

class CompletionShellsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(home_);
    std::ofstream(home_ / "cluster.yaml") << "{}\n";
  }
  void TearDown() override { fs::remove_all(home_); }

  bool HasShell(const char* shell) {
    return !Run({"sh", "-c", fmt::format("command -v {}", shell)}, 127).empty();
  }

  // In a home of its own, without a cluster. `or_else`: another status that it may end with.
  std::string Run(const std::vector<std::string>& command, int or_else = 0) {
    std::vector<std::string> argv{"/usr/bin/env", "HOME=" + home_.string(), "KUBECONFIG=/dev/null",
                                  "PATH=" POINTSMAN_BIN ":/usr/local/bin:/usr/bin:/bin"};
    argv.insert(argv.end(), command.begin(), command.end());
    std::string output;
    kube::ChildLimits limits;
    limits.idle = limits.most;  // the shell that waits for another one is on no processor
    const kube::ChildExit ended = kube::RunChild(
        argv, {}, [&](std::string_view piece) { output += piece; }, limits);
    EXPECT_TRUE(ended.status == 0 || ended.status == or_else)
        << ended.status << ": " << ended.error_output << output;
    return output;
  }
  static std::vector<std::string> Lines(const std::string& text) {
    std::vector<std::string> lines;
    for (size_t begin = 0, end = 0; (end = text.find('\n', begin)) != std::string::npos;
         begin = end + 1)
      lines.push_back(text.substr(begin, end - begin));
    return lines;
  }

  const fs::path home_ =
      fs::path(::testing::TempDir()) / fmt::format("pointsman-shells-{}", getpid());
};

// An interactive zsh on a terminal of zpty, in which Ctrl-X shows the line that is being typed, and
// begins another. `load`: makes the script known to it.
std::string Zsh(const std::string& load, const std::vector<std::string>& typed) {
  std::string script = R"(
zmodload zsh/zpty
zpty shell env PS1= TERM=xterm zsh -f -i
complete() {
  local shown
  zpty -w -n shell "$1"$'\t\C-x'
  zpty -r shell shown '*<<*>>*'
  print -r -- "${${shown##*<<}%%>>*}|"
}
zpty -w shell 'autoload -U compinit; show() { print -r -- "<""<$BUFFER>>"; BUFFER= }; zle -N show; bindkey "^X" show'
zpty -w shell ')" + load +
                       R"('
zpty -w shell 'print "read""y"'
zpty -r shell shown '*ready*'
)";
  for (const std::string& line : typed)
    script += "complete '" + line + "'\n";
  return script;
}

TEST_F(CompletionShellsTest, Zsh) {
  if (!HasShell("zsh")) GTEST_SKIP() << "needs zsh (Debian package zsh)";
  const std::string file = (home_ / "clu").string();
  const std::vector<std::string> typed = {"kubectl-pointsman pre",
                                          "kubectl-pointsman preflight --mode ipt",
                                          "kubectl-pointsman preflight --mode ip",
                                          "kubectl-pointsman preflight --mode=ipv",
                                          "kubectl-pointsman status --conte",
                                          "kubectl-pointsman diff -f " + file};
  const auto completed = ElementsAre(
      "kubectl-pointsman preflight |", "kubectl-pointsman preflight --mode iptables |",
      "kubectl-pointsman preflight --mode ip|",  // iptables, ipvs
      "kubectl-pointsman preflight --mode=ipvs |", "kubectl-pointsman status --context |",
      "kubectl-pointsman diff -f " + file + "ster.yaml |");
  EXPECT_THAT(
      Lines(Run({"zsh", "-f", "-c",
                 Zsh("compinit -D -u; source <(kubectl-pointsman completion zsh)", typed)})),
      completed);

  // As a file that zsh reads when it needs it.
  fs::create_directories(home_ / "functions");
  std::ofstream(home_ / "functions/_kubectl-pointsman")
      << Run({"kubectl-pointsman", "completion", "zsh"});
  EXPECT_THAT(
      Lines(
          Run({"zsh", "-f", "-c",
               Zsh(fmt::format("fpath=({} $fpath); compinit -D -u", (home_ / "functions").string()),
                   typed)})),
      completed);
}

TEST_F(CompletionShellsTest, Fish) {
  if (!HasShell("fish")) GTEST_SKIP() << "needs fish (Debian package fish)";
  const auto complete = [&](const std::string& line) {
    return Lines(
        Run({"fish", "--no-config", "-c",
             "kubectl-pointsman completion fish | source; complete -C $argv[1]", "--", line}));
  };
  EXPECT_THAT(complete("kubectl-pointsman pre"), ElementsAre("preflight"));
  EXPECT_THAT(complete("kubectl-pointsman preflight --mode ip"), ElementsAre("iptables", "ipvs"));
  EXPECT_THAT(complete("kubectl-pointsman preflight --mode=ipv"), ElementsAre("--mode=ipvs"));
  EXPECT_THAT(complete("kubectl-pointsman status --conte"), ElementsAre("--context"));
  EXPECT_THAT(complete("kubectl-pointsman "), IsSupersetOf({"migrate", "services", "status"}));
  const std::string file = (home_ / "clu").string();
  EXPECT_THAT(complete("kubectl-pointsman diff -f " + file), ElementsAre(file + "ster.yaml"));
}

}  // namespace
}  // namespace pointsman::plugin
