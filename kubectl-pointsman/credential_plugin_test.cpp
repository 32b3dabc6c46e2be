#include "kubectl-pointsman/credential_plugin.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <unistd.h>

namespace pointsman::plugin {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

class CredentialPluginTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "pointsman-exec-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { fs::remove_all(dir_); }

  // A command beside the kubeconfig, a script.
  json Exec(const std::string& script) const {
    std::ofstream(dir_ / "plugin") << "#!/bin/sh\n" << script;
    fs::permissions(dir_ / "plugin", fs::perms::owner_all);
    return {{"apiVersion", "client.authentication.k8s.io/v1"}, {"command", "./plugin"}};
  }
  kube::ExecCredential Run(const json& exec) const {
    return RunCredentialPlugin(exec, "users[u].user.exec", dir_);
  }
  std::string ErrorOf(const json& exec) const {
    try {
      Run(exec);
    } catch (const kube::ConfigError& error) {
      return error.what();
    }
    return "no ConfigError";
  }

  fs::path dir_;
};

TEST_F(CredentialPluginTest, TakesItsToken) {
  json exec = Exec(R"(echo "{\"status\": {\"token\": \"$1-$PROFILE\"}}")");
  exec["args"] = json::array({"me"});
  exec["env"] = {{{"name", "PROFILE"}, {"value", "work"}}};
  EXPECT_EQ(Run(exec).token, "me-work");
}

TEST_F(CredentialPluginTest, IsToldWhatIsAsked) {
  const json exec = Exec(R"(case "$KUBERNETES_EXEC_INFO" in
    *'"interactive":false'*) echo '{"status": {"token": "asked"}}' ;;
  esac)");
  EXPECT_EQ(Run(exec).token, "asked");
}

TEST_F(CredentialPluginTest, TakesACertificateWithItsKey) {
  const auto credential =
      Run(Exec(R"(echo '{"status": {"clientCertificateData": "C", "clientKeyData": "K"}}')"));
  EXPECT_EQ(credential.client_certificate_pem, "C");
  EXPECT_EQ(credential.client_key_pem, "K");
}

TEST_F(CredentialPluginTest, WhatIsWrongIsSaidWithTheField) {
  EXPECT_THAT(
      ErrorOf(Exec("echo 'log in first' >&2; exit 3")),
      AllOf(HasSubstr("users[u].user.exec: "), HasSubstr("status 3"), HasSubstr("log in first")));
  EXPECT_THAT(ErrorOf(Exec("echo '{}'")), HasSubstr("neither a token nor"));
  EXPECT_THAT(ErrorOf(Exec("echo no JSON")), HasSubstr("neither a token nor"));
  EXPECT_THAT(ErrorOf(Exec(R"(echo '{"status": {"clientKeyData": "K"}}')")),
              HasSubstr("neither a token nor"));
  EXPECT_THAT(ErrorOf(Exec(R"(printf '%s' '{"status": {"token": "a\nX: b"}}')")),
              HasSubstr("no token has"));
  json exec = Exec("");
  exec["command"] = "no-such-command";
  exec["installHint"] = "install it";
  EXPECT_THAT(ErrorOf(exec), HasSubstr("install it"));
  exec["env"] = {{{"name", "--chdir"}, {"value", "/"}}};
  EXPECT_THAT(ErrorOf(exec), HasSubstr("no variable's name"));
  exec["interactiveMode"] = "Always";
  EXPECT_THAT(ErrorOf(exec), HasSubstr("interactiveMode"));
  exec["apiVersion"] = "v1";
  EXPECT_THAT(ErrorOf(exec), HasSubstr(".apiVersion: \"v1\""));
}

}  // namespace
}  // namespace pointsman::plugin
