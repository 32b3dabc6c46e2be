#include "kube/config/config.h"

#include <cstdlib>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kube/config/user_config.h"

namespace pointsman::kube {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class ConfigTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "pointsman-config-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override {
    fs::remove_all(dir_);
    for (const char* name : {"KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"}) {
      unsetenv(name);  // NOLINT(concurrency-mt-unsafe): one thread
    }
  }
  fs::path Write(const std::string& name, const std::string& text) {
    fs::create_directories((dir_ / name).parent_path());
    std::ofstream(dir_ / name) << text;
    return dir_ / name;
  }
  static void SetEnv(const char* name, const std::string& value) {
    setenv(name, value.c_str(), 1);  // NOLINT(concurrency-mt-unsafe): one thread
  }
  static std::string ErrorOf(const std::function<void()>& call) {
    try {
      call();
    } catch (const ConfigError& e) {
      return e.what();
    }
    return "no ConfigError";
  }
  // A kubeconfig with these fields in its cluster and user.
  static std::string Kubeconfig(const std::string& cluster, const std::string& user) {
    return "apiVersion: v1\nkind: Config\ncurrent-context: main\n"
           "contexts:\n- name: main\n  context: {cluster: c, user: u, namespace: web}\n"
           "clusters:\n- name: c\n  cluster: {" +
           cluster + "}\nusers:\n- name: u\n  user: {" + user + "}\n";
  }
  std::string LoadError(const std::string& cluster, const std::string& user) {
    return ErrorOf([&] { LoadKubeconfig(Write("config", Kubeconfig(cluster, user))); });
  }

  fs::path dir_;
};

TEST_F(ConfigTest, ReadsInlineDataAndToken) {
  const Config config = LoadKubeconfig(Write(
      "config",
      Kubeconfig("server: 'https://10.0.0.1:6443/', certificate-authority-data: Y2E=, "
                 "tls-server-name: kubernetes",
                 "client-certificate-data: Y2VydA==, client-key-data: a2V5, token: ' abc '")));
  EXPECT_EQ(config.server, "https://10.0.0.1:6443");
  EXPECT_EQ(config.ca_pem, "ca");
  EXPECT_EQ(config.tls_server_name, "kubernetes");
  EXPECT_EQ(config.client_certificate_pem, "cert");
  EXPECT_EQ(config.client_key_pem, "key");
  EXPECT_EQ(config.token, "abc");
  EXPECT_EQ(config.namespace_, "web");
  EXPECT_FALSE(config.insecure_skip_tls_verify);
}

TEST_F(ConfigTest, ResolvesFilesRelativeToTheKubeconfigAndPrefersData) {
  Write("sub/pki/ca.pem", "CA FILE");
  Write("sub/token", "from-file\n");
  Write("sub/cert", "CERT FILE");
  Write("sub/key", "KEY FILE");
  const Config config = LoadKubeconfig(
      Write("sub/config",
            Kubeconfig("server: https://a, certificate-authority: pki/ca.pem",
                       "tokenFile: token, client-certificate: cert, client-certificate-data: "
                       "Y2VydA==, client-key: " +
                           (dir_ / "sub/key").string())));
  EXPECT_EQ(config.ca_pem, "CA FILE");
  EXPECT_EQ(config.token_file, dir_ / "sub/token");
  EXPECT_EQ(config.token, "from-file");
  EXPECT_EQ(config.client_certificate_pem, "cert");
  EXPECT_EQ(config.client_key_pem, "KEY FILE");
}

TEST_F(ConfigTest, SkipsVerificationOnlyWhenAsked) {
  const Config config = LoadKubeconfig(
      Write("config", Kubeconfig("server: https://a, insecure-skip-tls-verify: true", "")));
  EXPECT_TRUE(config.insecure_skip_tls_verify);
  EXPECT_THAT(LoadError("server: https://a, insecure-skip-tls-verify: perhaps", ""),
              HasSubstr("clusters[c].cluster.insecure-skip-tls-verify"));
  EXPECT_THAT(LoadError("server: https://a, insecure-skip-tls-verify: true, "
                        "certificate-authority-data: Y2E=",
                        ""),
              HasSubstr("exclude each other"));
}

TEST_F(ConfigTest, ErrorsNameFileAndField) {
  EXPECT_THAT(ErrorOf([&] { LoadKubeconfig(dir_ / "none"); }), HasSubstr((dir_ / "none").string()));
  EXPECT_THAT(ErrorOf([&] { LoadKubeconfig(Write("bad", "a: [")); }), HasSubstr("bad"));
  EXPECT_THAT(ErrorOf([&] { LoadKubeconfig(Write("empty", "{}")); }),
              HasSubstr("no current-context"));
  EXPECT_THAT(LoadError("server: ftp://10.0.0.1", ""), HasSubstr("clusters[c].cluster.server"));
  EXPECT_THAT(LoadError("server: ''", ""), HasSubstr("clusters[c].cluster.server: is missing"));
  EXPECT_THAT(LoadError("server: https://a, certificate-authority-data: '*'", ""),
              HasSubstr("certificate-authority-data is not base64"));
  EXPECT_THAT(LoadError("server: https://a, certificate-authority: gone.pem", ""),
              HasSubstr("gone.pem"));
  EXPECT_THAT(LoadError("server: https://a", "client-certificate-data: Y2E="),
              HasSubstr("users[u].user"));
  EXPECT_THAT(LoadError("server: https://a", "exec: {command: aws}"),
              HasSubstr("users[u].user.exec is not supported"));
  EXPECT_THAT(LoadError("server: https://a, proxy-url: http://p", ""), HasSubstr("proxy-url"));
  const fs::path file = Write("config", Kubeconfig("server: https://a", ""));
  EXPECT_THAT(ErrorOf([&] { LoadKubeconfig(file, "other"); }), HasSubstr("\"other\""));
}

TEST_F(ConfigTest, ACredentialPluginIsRefusedWithReasonAndRemedies) {
  const std::string error = LoadError(
      "server: https://a",
      "exec: {apiVersion: client.authentication.k8s.io/v1, command: aws-iam-\u202etoken}");
  EXPECT_THAT(error, HasSubstr("users[u].user.exec is not supported"));
  EXPECT_THAT(error, HasSubstr("(\"aws-iam-\\u202etoken\")"));
  EXPECT_THAT(error, HasSubstr("tokenFile"));
  EXPECT_THAT(error, HasSubstr("client-certificate"));
  EXPECT_THAT(error, HasSubstr("service account"));
}

// client-go: rest.DefaultServerURL with clientcmd's credentials.
TEST_F(ConfigTest, AnAddressWithoutASchemeIsHttpsWhenTlsIsConfigured) {
  const auto server = [this](const std::string& cluster, const std::string& user,
                             const std::string& master = "") {
    return LoadKubeconfig(Write("config", Kubeconfig(cluster, user)), "", master).server;
  };
  EXPECT_EQ(server("server: '10.0.0.10:6443', certificate-authority-data: Y2E=", ""),
            "https://10.0.0.10:6443");
  EXPECT_EQ(server("server: 10.0.0.10, insecure-skip-tls-verify: true", ""), "https://10.0.0.10");
  EXPECT_EQ(server("server: api.example", "client-certificate-data: Y2E=, client-key-data: Y2E="),
            "https://api.example");
  EXPECT_EQ(server("server: '10.0.0.10:8080'", "token: t"), "http://10.0.0.10:8080");
  EXPECT_EQ(server("server: 'https://a', certificate-authority-data: Y2E=", "", "10.0.0.1:6443"),
            "https://10.0.0.1:6443");
  EXPECT_EQ(LoadConfig("", "localhost:8080").server, "http://localhost:8080");
}

TEST_F(ConfigTest, AnotherServerHasNothingOfTheTlsServerName) {
  const fs::path file =
      Write("config", Kubeconfig("server: https://a, tls-server-name: kubernetes", ""));
  EXPECT_EQ(LoadKubeconfig(file).tls_server_name, "kubernetes");
  EXPECT_EQ(LoadKubeconfig(file, "", "https://b").tls_server_name, "");
}

TEST_F(ConfigTest, FieldsThatGeneratorsLeaveEmptyAreNotSet) {
  const Config config = LoadKubeconfig(
      Write("config",
            Kubeconfig(
                "server: https://a, proxy-url: '', tls-server-name: '', certificate-authority: '', "
                "certificate-authority-data: null, insecure-skip-tls-verify: null, "
                "extensions: null, api-version: v1, disable-compression: false",
                "username: '', password: '', token: t, tokenFile: '', exec: null, auth-provider: "
                "{}, as: '', as-groups: [], as-user-extra: {}, client-certificate: '', "
                "client-key-data: ''")));
  EXPECT_EQ(config.server, "https://a");
  EXPECT_EQ(config.token, "t");
  EXPECT_EQ(config.ca_pem, "");
  EXPECT_EQ(config.client_key_pem, "");
}

TEST_F(ConfigTest, TellsWhichFilesItReadSoThatTheyCanBeReadAgain) {
  Write("ca", "CA");
  Write("cert", "CERT");
  Write("key", "KEY");
  const Config config =
      LoadKubeconfig(Write("config", Kubeconfig("server: https://a, certificate-authority: ca",
                                                "client-certificate: cert, client-key: key")));
  EXPECT_EQ(config.ca_file, dir_ / "ca");
  EXPECT_EQ(config.client_certificate_file, dir_ / "cert");
  EXPECT_EQ(config.client_key_file, dir_ / "key");
  // Data goes before the file, which then is of no interest.
  const Config data = LoadKubeconfig(Write(
      "config",
      Kubeconfig("server: https://a, certificate-authority: ca, certificate-authority-data: Y2E=",
                 "")));
  EXPECT_EQ(data.ca_file, "");
}

TEST_F(ConfigTest, RefusesWhatWouldBeCutShortLater) {
  EXPECT_THAT(LoadError("server: https://a, tls-server-name: \"kube\\0evil\"", ""),
              HasSubstr("tls-server-name has a control character"));
  EXPECT_THAT(LoadError("server: \"https://a\\0b\"", ""), HasSubstr("cluster.server"));
  EXPECT_THAT(LoadError("server: https://a", "token: \"a\\nb\""), HasSubstr("user.token"));
  Write("token", "one\ntwo\n");
  EXPECT_THAT(LoadError("server: https://a", "tokenFile: token"), HasSubstr("holds no token"));
  Write("empty.pem", "");
  EXPECT_THAT(LoadError("server: https://a, certificate-authority: empty.pem", ""),
              HasSubstr("empty.pem is empty"));
}

TEST_F(ConfigTest, IsBounded) {
  EXPECT_THAT(LoadError("certificate-authority: /dev/zero, server: https://a", ""),
              HasSubstr("/dev/zero has more than 1 MiB"));
  EXPECT_THAT(ErrorOf([&] { LoadKubeconfig("/dev/zero"); }), HasSubstr("more than 1 MiB"));
  EXPECT_THAT(ErrorOf([&] { LoadKubeconfig(dir_); }), HasSubstr("cannot read"));  // a folder
  EXPECT_THAT(ErrorOf([&] {
                LoadKubeconfig(Write("deep", std::string(5000, '[') + std::string(5000, ']')));
              }),
              HasSubstr("nested too deep"));
}

TEST_F(ConfigTest, NamesWhatIsMissing) {
  const std::string contexts = "contexts: [{name: main, context: {cluster: c, user: u}}]\n";
  const auto error = [this](const std::string& text) {
    return ErrorOf([&] { LoadKubeconfig(Write("config", text)); });
  };
  EXPECT_THAT(error("current-context: gone\n" + contexts),
              HasSubstr("contexts has no entry \"gone\", which current-context names"));
  EXPECT_THAT(error("current-context: main\n" + contexts),
              HasSubstr("clusters has no entry \"c\", which"));
  EXPECT_THAT(error("current-context: main\n" + contexts +
                    "clusters: [{name: c, cluster: {server: https://a}}]\nusers: null\n"),
              HasSubstr("users has no entry \"u\", which"));
  EXPECT_THAT(error("current-context: main\ncontexts: [{name: main, context: null}]\n"),
              HasSubstr("contexts[main].context.cluster is missing"));
  EXPECT_THAT(error("current-context: main\ncontexts: {main: {}}\n"), HasSubstr("must be a list"));
  EXPECT_THAT(error(""), HasSubstr("no YAML document"));
}

TEST_F(ConfigTest, MergesTheFilesOfKUBECONFIG) {
  const fs::path first =
      Write("a/config",
            "current-context: main\ncontexts:\n- {name: main, context: {cluster: c, user: u}}\n");
  Write("b/ca.pem", "CA");
  const fs::path second =
      Write("b/config",
            "current-context: ignored\nclusters:\n- {name: c, cluster: {server: 'https://a', "
            "certificate-authority: ca.pem}}\nusers:\n- {name: u, user: {token: t}}\n");
  SetEnv("KUBECONFIG", first.string() + ":/does/not/exist:" + second.string());
  const Config config = LoadConfig("");
  EXPECT_EQ(config.server, "https://a");
  EXPECT_EQ(config.ca_pem, "CA");
  EXPECT_EQ(config.token, "t");
  EXPECT_EQ(config.namespace_, "default");
}

// As kubectl: the flag, the variable, the home directory, the cluster.
TEST_F(ConfigTest, APersonsKubeconfigIsLookedForAsKubectlDoes) {
  const auto server = [](const std::string& host) {
    return Kubeconfig("server: 'https://" + host + "'", "token: t");
  };
  SetEnv("HOME", dir_);
  EXPECT_THAT(ErrorOf([] { LoadUserConfig("", "", {}); }), HasSubstr("neither --kubeconfig nor"));
  EXPECT_THAT(ErrorOf([] { LoadUserConfig("", "main", {}); }), HasSubstr("context \"main\""));
  Write(".kube/config", server("home"));
  EXPECT_EQ(LoadUserConfig("", "", {}).server, "https://home");
  EXPECT_THAT(ErrorOf([] { LoadUserConfig("", "other", {}); }), HasSubstr("other"));
  SetEnv("KUBECONFIG", Write("env", server("variable")));
  EXPECT_EQ(LoadUserConfig("", "main", {}).server, "https://variable");
  EXPECT_EQ(LoadUserConfig(Write("flag", server("flag")), "", {}).server, "https://flag");

  // A person's credential plugin is run, a daemon's is refused.
  Write("exec", Kubeconfig("server: 'https://a'", "exec: {command: plugin}"));
  EXPECT_THAT(ErrorOf([&] { LoadConfig(dir_ / "exec"); }), HasSubstr("exec is not supported"));
  const Config config =
      LoadUserConfig(dir_ / "exec", "",
                     [&](const nlohmann::json& exec, const std::string& where, const fs::path& at) {
                       EXPECT_EQ(exec.at("command"), "plugin");
                       EXPECT_THAT(where, HasSubstr("users[u].user.exec"));
                       EXPECT_EQ(at, dir_);
                       return ExecCredential{"token", "", ""};
                     });
  EXPECT_EQ(config.token, "token");
}

TEST_F(ConfigTest, ReadsTheServiceAccountInACluster) {
  EXPECT_THAT(ErrorOf([] { LoadConfig(""); }), HasSubstr("KUBERNETES_SERVICE_HOST"));
  SetEnv("KUBERNETES_SERVICE_HOST", "fd00::1");
  SetEnv("KUBERNETES_SERVICE_PORT", "443");
  EXPECT_THAT(ErrorOf([&] { LoadInClusterConfig(dir_ / "sa"); }), HasSubstr("ca.crt"));
  Write("sa/ca.crt", "CA");
  Write("sa/token", "tok\n");
  Write("sa/namespace", "kube-system");
  const Config config = LoadInClusterConfig(dir_ / "sa");
  EXPECT_EQ(config.server, "https://[fd00::1]:443");
  EXPECT_EQ(config.ca_pem, "CA");
  EXPECT_EQ(config.token, "tok");
  EXPECT_EQ(config.token_file, dir_ / "sa/token");
  EXPECT_EQ(config.namespace_, "kube-system");
  EXPECT_EQ(config.ca_file, dir_ / "sa/ca.crt");
}

}  // namespace
}  // namespace pointsman::kube
