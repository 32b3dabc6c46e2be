#include "kube/config/config.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "kube/config/credential_file.h"
#include "kube/config/server_url.h"
#include "kube/config/user_config.h"
#include "kube/config/yaml_json.h"
#include "kube/text/text.h"

namespace pointsman::kube {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string ReadFile(const fs::path& file, const std::string& what) {
  try {
    return ReadCredentialFile(file);
  } catch (const std::exception& error) {
    throw ConfigError(what + ": " + error.what());
  }
}

// An empty file would mean the system's CAs, or no client certificate: never what was meant.
std::string ReadPem(const fs::path& file, const std::string& what) {
  std::string pem = ReadFile(file, what);
  if (pem.empty()) throw ConfigError(what + ": " + file.string() + " is empty");
  return pem;
}

int Base64Value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+') return 62;
  if (c == '/') return 63;
  return -1;
}

// RFC 4648 with padding; line breaks within are allowed, as YAML block scalars have them.
std::string DecodeBase64(std::string_view text, const std::string& what) {
  std::string out;
  out.reserve(text.size() / 4 * 3);
  uint32_t bits = 0;
  int count = 0;
  int padding = 0;
  for (const char c : text) {
    if (c == '\n' || c == '\r' || c == ' ' || c == '\t') continue;
    if (c == '=') {
      ++padding;
      continue;
    }
    const int value = Base64Value(c);
    if (value < 0 || padding > 0) throw ConfigError(what + " is not base64");
    bits = bits << 6 | static_cast<uint32_t>(value);
    if (++count == 4) {
      out += static_cast<char>(bits >> 16 & 0xff);
      out += static_cast<char>(bits >> 8 & 0xff);
      out += static_cast<char>(bits & 0xff);
      bits = 0;
      count = 0;
    }
  }
  const bool whole =
      (count == 0 && padding == 0) || (count == 2 && padding == 2) || (count == 3 && padding == 1);
  if (!whole) throw ConfigError(what + " is not base64");
  if (count == 2) out += static_cast<char>(bits >> 4 & 0xff);
  if (count == 3) {
    out += static_cast<char>(bits >> 10 & 0xff);
    out += static_cast<char>(bits >> 2 & 0xff);
  }
  return out;
}

// A kubeconfig file and what it holds; relative paths in it are relative to it.
struct Document {
  fs::path file;
  json root;
};

// What generators write for a field that is not set.
bool IsEmpty(const json& value) {
  return value.is_null() || (value.is_string() && value.get_ref<const std::string&>().empty()) ||
         ((value.is_array() || value.is_object()) && value.empty());
}

const json* Find(const json& object, const char* field) {
  const auto member = object.find(field);
  return member == object.end() || IsEmpty(*member) ? nullptr : &*member;
}

// One cluster, user or context entry, with what errors call it.
struct Entry {
  json node;
  fs::path directory;
  std::string where;  // "/root/.kube/config: users[admin].user"

  bool Has(const char* field) const { return Find(node, field) != nullptr; }
  std::string Text(const char* field) const {
    const json* const value = Find(node, field);
    if (value == nullptr) return "";
    if (!value->is_string()) {
      throw ConfigError(where + "." + field + " must be a string, is a " + value->type_name() +
                        (value->is_primitive() ? ": put it in quotes" : ""));
    }
    return value->get<std::string>();
  }
  // As Text, for what has no place for a line break or NUL: they would end it early elsewhere.
  std::string Word(const char* field) const {
    std::string text = Text(field);
    if (std::any_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20; })) {
      throw ConfigError(where + "." + field + " has a control character in it");
    }
    return text;
  }
  bool Flag(const char* field) const {
    const json* const value = Find(node, field);
    if (value == nullptr) return false;
    if (!value->is_boolean()) throw ConfigError(where + "." + field + " must be true or false");
    return value->get<bool>();
  }
  fs::path Path(const char* field) const {
    const fs::path path = Word(field);
    return path.empty() || path.is_absolute() ? path : directory / path;
  }
  // `<field>-data` wins over `field`, as in clientcmd. `file` is set when it came from one.
  std::string Pem(const char* field, fs::path& file) const {
    const std::string data_field = std::string(field) + "-data";
    const std::string data = Text(data_field.c_str());
    if (!data.empty()) return DecodeBase64(data, where + "." + data_field);
    file = Path(field);
    return file.empty() ? "" : ReadPem(file, where + "." + field);
  }
  void Refuse(const char* field, const std::string& instead) const {
    if (Has(field)) throw ConfigError(where + "." + field + " is not supported: " + instead);
  }
};

Document ToDocument(const std::string& text, const fs::path& file) {
  try {
    Document document{file, ParseYaml(text).value};
    if (document.root.is_null()) document.root = json::object();
    if (!document.root.is_object()) {
      throw ConfigError("kubeconfig " + file.string() + ": is not a YAML mapping");
    }
    return document;
  } catch (const std::invalid_argument& e) {
    throw ConfigError("kubeconfig " + file.string() + ": " + e.what());
  }
}

Document LoadDocument(const fs::path& file) {
  return ToDocument(ReadFile(file, "kubeconfig"), file);
}

std::string Names(const std::vector<Document>& documents) {
  std::string names;
  for (const Document& document : documents)
    names += (names.empty() ? "" : ", ") + document.file.string();
  return text::Shorten(names, 512);
}

// The first file that has the entry wins, as clientcmd merges $KUBECONFIG's files.
Entry FindEntry(const std::vector<Document>& documents, const char* list, const char* field,
                const std::string& name, const std::string& wanted_by) {
  for (const Document& document : documents) {
    const json* const entries = Find(document.root, list);
    if (entries == nullptr) continue;
    if (!entries->is_array()) {
      throw ConfigError(document.file.string() + ": " + list + " must be a list");
    }
    for (const json& entry : *entries) {
      if (!entry.is_object()) continue;
      const json* const entry_name = Find(entry, "name");
      if (entry_name == nullptr || *entry_name != name) continue;
      Entry found{json::object(), document.file.parent_path(),
                  document.file.string() + ": " + list + "[" +
                      text::Escape(text::Shorten(name, 128)) + "]." + field};
      if (const json* const node = Find(entry, field)) found.node = *node;
      if (!found.node.is_object()) throw ConfigError(found.where + " must be a mapping");
      return found;
    }
  }
  throw ConfigError("kubeconfig " + Names(documents) + ": " + list + " has no entry " +
                    text::Quote(name, 128) + ", which " + wanted_by + " names");
}

// The reasons are in docs/standalone.md.
void RefuseExec(const Entry& user) {
  if (!user.Has("exec")) return;
  const json& exec = user.node.at("exec");
  std::string command;
  if (exec.is_object()) {
    if (const json* const name = Find(exec, "command"); name != nullptr && name->is_string()) {
      command = " (" + text::Quote(name->get<std::string>()) + ")";
    }
  }
  throw ConfigError(user.where + ".exec is not supported: no credential plugin" + command +
                    " is started, for it would run with all rights that this program has on the "
                    "node, and where this program runs it is often not installed. Use tokenFile "
                    "(a file that something else renews), client-certificate and client-key (read "
                    "again when they change), or in a Pod no kubeconfig: its service account");
}

void ReadUser(const Entry& user, const RunExec& run_exec, Config& config) {
  if (run_exec && user.Has("exec")) {
    ExecCredential answer = run_exec(user.node.at("exec"), user.where + ".exec", user.directory);
    config.token = std::move(answer.token);
    config.client_certificate_pem = std::move(answer.client_certificate_pem);
    config.client_key_pem = std::move(answer.client_key_pem);
    return;
  }
  RefuseExec(user);
  constexpr const char* kInstead = "use a client certificate, token or tokenFile";
  for (const char* field : {"auth-provider", "username", "password"})
    user.Refuse(field, kInstead);
  for (const char* field : {"as", "as-uid", "as-groups", "as-user-extra"})
    user.Refuse(field, "impersonation is not sent");
  config.client_certificate_pem = user.Pem("client-certificate", config.client_certificate_file);
  config.client_key_pem = user.Pem("client-key", config.client_key_file);
  if (config.client_certificate_pem.empty() != config.client_key_pem.empty()) {
    throw ConfigError(user.where + ": client-certificate and client-key need each other");
  }
  config.token = TrimToken(user.Text("token"));
  if (!config.token.empty() && !IsSendableToken(config.token)) {
    throw ConfigError(user.where + ".token has a character in it that no token has");
  }
  config.token_file = user.Path("tokenFile");
  if (!config.token_file.empty() && config.token.empty()) {
    // Said now, with the field's name, rather than with the first request.
    const std::string where = user.where + ".tokenFile";
    config.token = TrimToken(ReadFile(config.token_file, where));
    if (!IsSendableToken(config.token)) {
      throw ConfigError(where + ": " + config.token_file.string() + " holds no token");
    }
  }
}

// After everything else: whether TLS is configured decides about an address without a scheme.
void SetServer(const std::string& address, const std::string& where, Config& config) {
  const bool tls = !config.ca_pem.empty() || !config.client_certificate_pem.empty() ||
                   config.insecure_skip_tls_verify;
  try {
    config.server = ServerUrl(address, tls);
  } catch (const std::invalid_argument& error) {
    throw ConfigError(where + ": " + error.what());
  }
}

// `run_exec` null: credential plugins are refused.
Config FromDocuments(const std::vector<Document>& documents, std::string context_name,
                     const std::string& server, const RunExec& run_exec = {}) {
  std::string wanted_by = "the caller";
  for (const Document& document : documents) {
    if (!context_name.empty()) break;
    const json* const current = Find(document.root, "current-context");
    if (current != nullptr && current->is_string()) context_name = current->get<std::string>();
    wanted_by = "current-context";
  }
  if (context_name.empty()) {
    throw ConfigError("kubeconfig " + Names(documents) + ": no current-context");
  }
  const Entry context = FindEntry(documents, "contexts", "context", context_name, wanted_by);
  const std::string cluster_name = context.Text("cluster");
  if (cluster_name.empty()) throw ConfigError(context.where + ".cluster is missing");
  const Entry cluster = FindEntry(documents, "clusters", "cluster", cluster_name, context.where);

  Config config;
  config.namespace_ = context.Word("namespace");
  if (config.namespace_.empty()) config.namespace_ = "default";

  cluster.Refuse("proxy-url", "the API server must be reachable without a proxy");
  if (server.empty()) config.tls_server_name = cluster.Word("tls-server-name");
  config.insecure_skip_tls_verify = cluster.Flag("insecure-skip-tls-verify");
  config.ca_pem = cluster.Pem("certificate-authority", config.ca_file);
  if (config.insecure_skip_tls_verify && !config.ca_pem.empty()) {
    throw ConfigError(cluster.where +
                      ": certificate-authority and insecure-skip-tls-verify exclude each other");
  }
  const std::string user_name = context.Text("user");
  if (!user_name.empty()) {
    ReadUser(FindEntry(documents, "users", "user", user_name, context.where), run_exec, config);
  }
  if (server.empty()) {
    SetServer(cluster.Text("server"), cluster.where + ".server", config);
  } else {
    SetServer(server, "the API server's address", config);
  }
  return config;
}

std::string Environment(const char* name) {
  // Nothing in these programs changes the environment after the start.
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
  return value == nullptr ? "" : value;
}

}  // namespace

ConfigError::ConfigError(const std::string& message)
    : std::runtime_error(text::Message(message, 4096)) {}

Config ParseKubeconfig(const std::string& text, const fs::path& file, const std::string& context,
                       const std::string& server) {
  return FromDocuments({ToDocument(text, file)}, context, server);
}

Config LoadKubeconfig(const fs::path& file, const std::string& context, const std::string& server) {
  return FromDocuments({LoadDocument(file)}, context, server);
}

Config LoadInClusterConfig(const fs::path& service_account) {
  const std::string host = Environment("KUBERNETES_SERVICE_HOST");
  const std::string port = Environment("KUBERNETES_SERVICE_PORT");
  if (host.empty() || port.empty()) {
    throw ConfigError(
        "not in a cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set; give a "
        "kubeconfig");
  }
  Config config;
  const bool ipv6 = host.find(':') != std::string::npos;
  config.ca_file = service_account / "ca.crt";
  config.ca_pem = ReadPem(config.ca_file, "in-cluster config");
  SetServer("https://" + (ipv6 ? "[" + host + "]" : host) + ":" + port,
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT", config);
  config.token_file = service_account / "token";
  config.token = TrimToken(ReadFile(config.token_file, "in-cluster config"));
  if (!IsSendableToken(config.token)) {
    throw ConfigError("in-cluster config: " + config.token_file.string() + " holds no token");
  }
  const fs::path namespace_file = service_account / "namespace";
  std::error_code missing;
  if (fs::exists(namespace_file, missing)) {
    config.namespace_ = TrimToken(ReadFile(namespace_file, "in-cluster config"));
  }
  if (config.namespace_.empty()) config.namespace_ = "default";
  return config;
}

namespace {

// Of $KUBECONFIG, a list like PATH; files that do not exist are skipped unless none is left.
// nullopt: it is not set.
std::optional<Config> FromEnvironment(const std::string& context, const RunExec& run_exec = {}) {
  const std::string list = Environment("KUBECONFIG");
  if (list.empty()) return std::nullopt;
  std::vector<Document> documents;
  std::istringstream paths(list);
  for (std::string path; std::getline(paths, path, ':');) {
    std::error_code ignored;
    if (!path.empty() && fs::exists(path, ignored)) documents.push_back(LoadDocument(path));
  }
  if (documents.empty()) throw ConfigError("KUBECONFIG: none of these files exists: " + list);
  return FromDocuments(documents, context, "", run_exec);
}

}  // namespace

Config LoadConfig(const fs::path& kubeconfig, const std::string& server) {
  if (!kubeconfig.empty()) return LoadKubeconfig(kubeconfig, "", server);
  if (!server.empty()) {
    Config config;
    config.namespace_ = "default";
    SetServer(server, "the API server's address", config);
    return config;
  }
  if (std::optional<Config> config = FromEnvironment("")) return *std::move(config);
  return LoadInClusterConfig();
}

Config LoadUserConfig(const fs::path& kubeconfig, const std::string& context,
                      const RunExec& run_exec) {
  const auto load = [&](const fs::path& file) {
    return FromDocuments({LoadDocument(file)}, context, "", run_exec);
  };
  if (!kubeconfig.empty()) return load(kubeconfig);
  if (std::optional<Config> config = FromEnvironment(context, run_exec)) return *std::move(config);
  const fs::path of_home = fs::path(Environment("HOME")) / ".kube" / "config";
  std::error_code ignored;
  if (of_home.is_absolute() && fs::exists(of_home, ignored)) return load(of_home);
  if (!context.empty() || Environment("KUBERNETES_SERVICE_HOST").empty()) {
    throw ConfigError(
        "there is no kubeconfig" +
        (context.empty() ? "" : " to look for context " + text::Quote(context) + " in") +
        ": neither --kubeconfig nor KUBECONFIG is given, and ~/.kube/config is not "
        "there");
  }
  return LoadInClusterConfig();
}

}  // namespace pointsman::kube
