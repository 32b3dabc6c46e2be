#include "kube/config/config.h"

#include <cstdlib>
#include <fstream>
#include <optional>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <yaml-cpp/yaml.h>

namespace pointsman::kube {
namespace {

namespace fs = std::filesystem;

std::string ReadFile(const fs::path& file, const std::string& what) {
  std::ifstream in(file, std::ios::binary);
  if (!in) {
    throw ConfigError(what + ": cannot read " + file.string() + ": " +
                      std::generic_category().message(errno));
  }
  std::ostringstream text;
  text << in.rdbuf();
  if (in.bad()) throw ConfigError(what + ": reading " + file.string() + " failed");
  return std::move(text).str();
}

std::string Trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(kSpace) - begin + 1));
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
  YAML::Node root;
};

// One cluster, user or context entry, with what errors call it.
struct Entry {
  YAML::Node node;
  fs::path directory;
  std::string where;  // "/root/.kube/config: users[admin].user"

  bool Has(const char* field) const {
    return node.IsMap() && node[field].IsDefined() && !node[field].IsNull();
  }
  std::string Text(const char* field) const {
    if (!Has(field)) return "";
    if (!node[field].IsScalar()) throw ConfigError(where + "." + field + " must be a string");
    return node[field].Scalar();
  }
  bool Flag(const char* field) const {
    if (!Has(field)) return false;
    bool value = false;
    if (!YAML::convert<bool>::decode(node[field], value)) {
      throw ConfigError(where + "." + field + " must be true or false");
    }
    return value;
  }
  fs::path Path(const char* field) const {
    const fs::path path = Text(field);
    return path.empty() || path.is_absolute() ? path : directory / path;
  }
  // `<field>-data` wins over `field`, as in clientcmd.
  std::string Pem(const char* field) const {
    const std::string data_field = std::string(field) + "-data";
    const std::string data = Text(data_field.c_str());
    if (!data.empty()) return DecodeBase64(data, where + "." + data_field);
    const fs::path path = Path(field);
    return path.empty() ? "" : ReadFile(path, where + "." + field);
  }
  void Refuse(const char* field, const char* instead) const {
    if (Has(field)) throw ConfigError(where + "." + field + " is not supported: " + instead);
  }
};

Document LoadDocument(const fs::path& file) {
  const std::string text = ReadFile(file, "kubeconfig");
  try {
    Document document{file, YAML::Load(text)};
    if (!document.root.IsMap()) {
      throw ConfigError("kubeconfig " + file.string() + ": is not a YAML mapping");
    }
    return document;
  } catch (const YAML::Exception& e) {
    throw ConfigError("kubeconfig " + file.string() + ": " + e.what());
  }
}

// The first file that has the entry wins, as clientcmd merges $KUBECONFIG's files.
Entry FindEntry(const std::vector<Document>& documents, const char* list, const char* field,
                const std::string& name, const std::string& wanted_by) {
  for (const Document& document : documents) {
    const YAML::Node entries = document.root[list];
    if (!entries.IsDefined() || entries.IsNull()) continue;
    if (!entries.IsSequence()) {
      throw ConfigError(document.file.string() + ": " + list + " must be a list");
    }
    for (const YAML::Node& entry : entries) {
      if (!entry.IsMap() || !entry["name"].IsDefined() || !entry["name"].IsScalar() ||
          entry["name"].Scalar() != name) {
        continue;
      }
      Entry found{YAML::Node(YAML::NodeType::Map), document.file.parent_path(),
                  document.file.string() + ": " + list + "[" + name + "]." + field};
      if (entry[field].IsDefined() && !entry[field].IsNull()) found.node = entry[field];
      if (!found.node.IsMap()) throw ConfigError(found.where + " must be a mapping");
      return found;
    }
  }
  throw ConfigError("kubeconfig " + documents.front().file.string() + ": " + list +
                    " has no entry \"" + name + "\", which " + wanted_by + " names");
}

std::string CheckServer(std::string server, const std::string& where) {
  while (server.ends_with('/'))
    server.pop_back();
  if (!server.starts_with("https://") && !server.starts_with("http://")) {
    throw ConfigError(where + ".server must be an http:// or https:// URL, not \"" + server + "\"");
  }
  return server;
}

Config FromDocuments(const std::vector<Document>& documents, std::string context_name) {
  const std::string files = documents.front().file.string();
  std::string wanted_by = "the caller";
  for (const Document& document : documents) {
    if (!context_name.empty()) break;
    const YAML::Node current = document.root["current-context"];
    if (current.IsDefined() && current.IsScalar()) context_name = current.Scalar();
    wanted_by = "current-context";
  }
  if (context_name.empty()) throw ConfigError("kubeconfig " + files + ": no current-context");

  const Entry context = FindEntry(documents, "contexts", "context", context_name, wanted_by);
  const std::string cluster_name = context.Text("cluster");
  if (cluster_name.empty()) throw ConfigError(context.where + ".cluster is missing");
  const Entry cluster = FindEntry(documents, "clusters", "cluster", cluster_name, context.where);

  Config config;
  config.namespace_ = context.Text("namespace");
  if (config.namespace_.empty()) config.namespace_ = "default";

  cluster.Refuse("proxy-url", "the API server must be reachable without a proxy");
  config.server = CheckServer(cluster.Text("server"), cluster.where);
  config.tls_server_name = cluster.Text("tls-server-name");
  config.insecure_skip_tls_verify = cluster.Flag("insecure-skip-tls-verify");
  config.ca_pem = cluster.Pem("certificate-authority");
  if (config.insecure_skip_tls_verify && !config.ca_pem.empty()) {
    throw ConfigError(cluster.where +
                      ": certificate-authority and insecure-skip-tls-verify exclude each other");
  }

  const std::string user_name = context.Text("user");
  if (user_name.empty()) return config;
  const Entry user = FindEntry(documents, "users", "user", user_name, context.where);
  constexpr const char* kInstead = "use a client certificate, token or tokenFile";
  user.Refuse("exec", kInstead);
  user.Refuse("auth-provider", kInstead);
  user.Refuse("username", kInstead);
  user.Refuse("password", kInstead);
  for (const char* field : {"as", "as-uid", "as-groups", "as-user-extra"}) {
    user.Refuse(field, "impersonation is not sent");
  }
  config.client_certificate_pem = user.Pem("client-certificate");
  config.client_key_pem = user.Pem("client-key");
  if (config.client_certificate_pem.empty() != config.client_key_pem.empty()) {
    throw ConfigError(user.where + ": client-certificate and client-key need each other");
  }
  config.token = Trim(user.Text("token"));
  config.token_file = user.Path("tokenFile");
  if (!config.token_file.empty() && config.token.empty()) {
    // Said now, with the field's name, rather than with the first request.
    config.token = Trim(ReadFile(config.token_file, user.where + ".tokenFile"));
  }
  return config;
}

std::string Environment(const char* name) {
  // Nothing in these programs changes the environment after the start.
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
  return value == nullptr ? "" : value;
}

}  // namespace

Config LoadKubeconfig(const fs::path& file, const std::string& context) {
  return FromDocuments({LoadDocument(file)}, context);
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
  config.server = "https://" + (ipv6 ? "[" + host + "]" : host) + ":" + port;
  config.ca_pem = ReadFile(service_account / "ca.crt", "in-cluster config");
  config.token_file = service_account / "token";
  config.token = Trim(ReadFile(config.token_file, "in-cluster config"));
  if (config.token.empty()) {
    throw ConfigError("in-cluster config: " + config.token_file.string() + " is empty");
  }
  const fs::path namespace_file = service_account / "namespace";
  std::error_code missing;
  if (fs::exists(namespace_file, missing)) {
    config.namespace_ = Trim(ReadFile(namespace_file, "in-cluster config"));
  }
  if (config.namespace_.empty()) config.namespace_ = "default";
  return config;
}

Config LoadConfig(const fs::path& kubeconfig) {
  if (!kubeconfig.empty()) return LoadKubeconfig(kubeconfig);
  const std::string list = Environment("KUBECONFIG");
  if (list.empty()) return LoadInClusterConfig();
  // A list like PATH; files that do not exist are skipped unless none is left.
  std::vector<Document> documents;
  std::istringstream paths(list);
  for (std::string path; std::getline(paths, path, ':');) {
    std::error_code ignored;
    if (!path.empty() && fs::exists(path, ignored)) documents.push_back(LoadDocument(path));
  }
  if (documents.empty()) throw ConfigError("KUBECONFIG: none of these files exists: " + list);
  return FromDocuments(documents, "");
}

}  // namespace pointsman::kube
