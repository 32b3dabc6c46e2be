#include "kubectl-pointsman/credential_plugin.h"

#include <algorithm>
#include <chrono>
#include <string_view>
#include <vector>

#include "kube/process/child_process.h"
#include "kube/text/json_text.h"
#include "kube/text/text.h"

namespace pointsman::plugin {
namespace {

using nlohmann::json;

constexpr std::string_view kGroup = "client.authentication.k8s.io/";
constexpr size_t kMostOutput = 1024UL * 1024;
constexpr size_t kMostSaid = 500;

std::string StringIn(const json& object, const char* name) {
  const auto member = object.is_object() ? object.find(name) : object.end();
  return member != object.end() && member->is_string() ? member->get<std::string>() : "";
}

// Nothing that env(1) would take for an option of its own.
bool IsVariable(std::string_view name) {
  const auto part = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  return !name.empty() && std::all_of(name.begin(), name.end(), part);
}

// "NAME=VALUE" of what it is to have in its environment beside ours.
std::vector<std::string> Variables(const json& exec, const std::string& where) {
  const json info = {{"apiVersion", StringIn(exec, "apiVersion")},
                     {"kind", "ExecCredential"},
                     {"spec", {{"interactive", false}}}};
  std::vector<std::string> variables{"KUBERNETES_EXEC_INFO=" + text::JsonText(info)};
  const auto env = exec.find("env");
  if (env == exec.end() || env->is_null()) return variables;
  if (!env->is_array()) throw kube::ConfigError(where + ".env must be a list");
  for (const json& variable : *env) {
    const std::string name = StringIn(variable, "name");
    if (!IsVariable(name))
      throw kube::ConfigError(where + ".env: " + text::Quote(name) + " is no variable's name");
    variables.push_back(name + "=" + StringIn(variable, "value"));
  }
  return variables;
}

// By env(1), which sets the variables and looks for the command in $PATH.
std::vector<std::string> CommandLine(const json& exec, const std::string& where,
                                     const std::filesystem::path& directory) {
  const std::string version = StringIn(exec, "apiVersion");
  if (version != std::string(kGroup) + "v1" && version != std::string(kGroup) + "v1beta1") {
    throw kube::ConfigError(where + ".apiVersion: " + text::Quote(version) + " is neither " +
                            std::string(kGroup) + "v1 nor v1beta1");
  }
  if (StringIn(exec, "interactiveMode") == "Always")
    throw kube::ConfigError(where +
                            ".interactiveMode: Always is not supported: log in with "
                            "kubectl or the provider's tool first");
  std::string command = StringIn(exec, "command");
  if (command.empty() || command.find('=') != std::string::npos)
    throw kube::ConfigError(where + ".command: " + text::Quote(command) + " is no command");
  if (command.find('/') != std::string::npos) command = directory / command;
  std::vector<std::string> argv{"/usr/bin/env"};
  for (std::string& variable : Variables(exec, where))
    argv.push_back(std::move(variable));
  argv.push_back(std::move(command));
  const auto arguments = exec.find("args");
  if (arguments == exec.end() || arguments->is_null()) return argv;
  if (!arguments->is_array()) throw kube::ConfigError(where + ".args must be a list");
  for (const json& argument : *arguments) {
    if (!argument.is_string()) throw kube::ConfigError(where + ".args must be a list of strings");
    argv.push_back(argument.get<std::string>());
  }
  return argv;
}

std::string RunForAnswer(const std::vector<std::string>& argv, const std::string& where,
                         const std::string& hint) {
  std::string output;
  kube::ChildExit ended;
  try {
    kube::ChildLimits limits;
    limits.idle = limits.most = std::chrono::minutes(1);
    limits.output = kMostOutput;
    ended = kube::RunChild(
        argv, {}, [&](std::string_view piece) { output += piece; }, limits);
  } catch (const std::exception& error) {
    throw kube::ConfigError(where + ": " + error.what());
  }
  if (ended.status == 0) return output;
  std::string message = where + ": the credential plugin ended with status " +
                        std::to_string(ended.status) + ": " +
                        text::Shorten(ended.error_output, kMostSaid);
  // env(1)'s: it was not found.
  if (ended.status == 127 && !hint.empty()) message += "; " + text::Message(hint, kMostSaid);
  throw kube::ConfigError(message);
}

}  // namespace

kube::ExecCredential RunCredentialPlugin(const json& exec, const std::string& where,
                                         const std::filesystem::path& directory) {
  if (!exec.is_object()) throw kube::ConfigError(where + " must be a mapping");
  const json answer = json::parse(
      RunForAnswer(CommandLine(exec, where, directory), where, StringIn(exec, "installHint")),
      nullptr, false);
  const json status = answer.is_object() ? answer.value("status", json::object()) : json::object();
  kube::ExecCredential credential{StringIn(status, "token"),
                                  StringIn(status, "clientCertificateData"),
                                  StringIn(status, "clientKeyData")};
  if (credential.client_certificate_pem.empty() != credential.client_key_pem.empty() ||
      (credential.token.empty() && credential.client_key_pem.empty()))
    throw kube::ConfigError(where +
                            ": the credential plugin's answer has neither a token nor a "
                            "certificate with its key");
  if (!std::all_of(credential.token.begin(), credential.token.end(),
                   [](unsigned char c) { return c > 0x20 && c < 0x7F; }))
    throw kube::ConfigError(where +
                            ": the credential plugin's token has a character in it that no "
                            "token has");
  return credential;
}

}  // namespace pointsman::plugin
