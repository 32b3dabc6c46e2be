// The layers that ARCHITECTURE.md draws are those of the #include lines: nothing includes upward,
// no mode includes another mode, and no folders include each other in a circle.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <regex>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pointsman {
namespace {

namespace fs = std::filesystem;

struct Layer {
  std::string_view folder;
  std::vector<std::string_view> may_include;  // beside itself
};

// What a file lies in is the last of these that fits.
const std::vector<Layer>& Layers() {
  static const std::vector<std::string_view> mode{"base",
                                                  "kube",
                                                  "node-agent/dataplane",
                                                  "node-agent/model",
                                                  "node-agent/netlink",
                                                  "node-agent/nf_tables",
                                                  "node-agent/sysctl",
                                                  "node-agent/xtables"};
  static const std::vector<Layer> layers{
      {"base", {}},
      {"kube", {"base"}},
      {"operator", {"base", "kube"}},
      // Of the operator its planning alone, which has no IO: what a change would do.
      {"kubectl-pointsman", {"base", "kube", "operator/plan"}},
      {"node-agent", {"base", "kube"}},
      {"node-agent/model", {"base", "kube"}},
      {"node-agent/netlink", {"base", "kube"}},
      {"node-agent/nf_tables", {"base", "kube", "node-agent/netlink"}},
      {"node-agent/sysctl", {"base", "kube"}},
      {"node-agent/modules", {"base", "kube"}},
      {"node-agent/dataplane",
       {"base", "kube", "node-agent/model", "node-agent/netlink", "node-agent/sysctl"}},
      {"node-agent/neighbours",
       {"base", "kube", "node-agent/dataplane", "node-agent/netlink", "node-agent/sysctl",
        "node-agent/xtables"}},
      {"node-agent/kube_proxy",
       {"base", "kube", "node-agent/model", "node-agent/neighbours", "node-agent/netlink",
        "node-agent/nf_tables", "node-agent/xtables"}},
      {"node-agent/xtables",
       {"base", "kube", "node-agent/dataplane", "node-agent/model", "node-agent/netlink"}},
      {"node-agent/iptables", mode},
      {"node-agent/ipvs", mode},
      {"node-agent/nftables", mode},
      {"node-agent/userspace", mode},
      // The tests' API server; what makes it one program is beside these folders.
      {"e2e/control-plane/base", {"base", "kube"}},
      {"e2e/control-plane/http", {"base", "kube", "e2e/control-plane/base"}},
      {"e2e/control-plane/pki", {"base", "kube", "e2e/control-plane/base"}},
      {"e2e/control-plane/store", {"base", "kube", "e2e/control-plane/base"}},
      {"e2e/control-plane/registry",
       {"base", "kube", "e2e/control-plane/base", "e2e/control-plane/store"}},
      {"e2e/control-plane/schema", {"base", "kube", "e2e/control-plane/registry"}},
      {"e2e/control-plane/auth",
       {"base", "kube", "e2e/control-plane/base", "e2e/control-plane/http",
        "e2e/control-plane/store"}},
      {"e2e/control-plane/controllers",
       {"base", "kube", "e2e/control-plane/base", "e2e/control-plane/registry"}},
      {"e2e/control-plane/api",
       {"base", "kube", "e2e/control-plane/auth", "e2e/control-plane/base",
        "e2e/control-plane/http", "e2e/control-plane/registry", "e2e/control-plane/schema",
        "e2e/control-plane/store"}},
  };
  return layers;
}

bool IsIn(std::string_view file, std::string_view folder) {
  return file.size() > folder.size() && file.starts_with(folder) && file[folder.size()] == '/';
}

// Null: a file that has no layer.
const Layer* LayerOf(std::string_view file) {
  const Layer* found = nullptr;
  for (const Layer& layer : Layers()) {
    if (IsIn(file, layer.folder)) found = &layer;
  }
  return found;
}

// Tests, and what only they and the fuzzing link with, bring together what they like.
bool IsProduct(const std::string& file) {
  static const std::regex others(
      "(^|/)(testing|contract)/|_(test|checks|fixture)\\.(h|cpp)$|(^|/)test_[^/]*$");
  return (file.ends_with(".h") || file.ends_with(".cpp")) && !std::regex_search(file, others);
}

struct Include {
  std::string from;
  std::string to;
};

std::vector<Include> IncludesIn(const std::vector<std::string_view>& folders) {
  const fs::path root(POINTSMAN_SOURCE_DIR);
  const std::regex line("^#include \"([^\"]+)\"");
  std::vector<Include> includes;
  for (const std::string_view folder : folders) {
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      const std::string file = fs::relative(entry, root).string();
      if (!entry.is_regular_file() || !IsProduct(file)) continue;
      std::ifstream text(entry.path());
      if (!text) throw std::runtime_error("cannot read " + file);
      std::smatch match;
      for (std::string read; std::getline(text, read);) {
        if (std::regex_search(read, match, line)) includes.push_back({file, match[1]});
      }
    }
  }
  return includes;
}

// What `includes` have that they may not.
std::vector<std::string> Violations(const std::vector<Include>& includes) {
  std::vector<std::string> violations;
  for (const auto& [from, to] : includes) {
    const Layer* const layer = LayerOf(from);
    if (layer == nullptr || IsIn(to, layer->folder)) continue;
    bool may = false;
    for (const std::string_view folder : layer->may_include)
      may = may || IsIn(to, folder);
    if (!may) violations.push_back(std::string(from).append(" includes ").append(to));
  }
  return violations;
}

// Folders that include each other, directly or through others.
std::vector<std::string> Circles(const std::vector<Include>& includes) {
  std::map<std::string, std::set<std::string>> of;
  for (const auto& [from, to] : includes) {
    const std::string a = fs::path(from).parent_path();
    const std::string b = fs::path(to).parent_path();
    if (a != b) of[a].insert(b);
  }
  std::vector<std::string> circles;
  std::vector<std::string> path;
  std::set<std::string> done;
  const std::function<void(const std::string&)> visit = [&](const std::string& folder) {
    const auto on_path = std::find(path.begin(), path.end(), folder);
    if (on_path != path.end()) {
      std::string circle;
      for (auto step = on_path; step != path.end(); ++step)
        circle += *step + " -> ";
      circles.push_back(circle + folder);
      return;
    }
    if (done.contains(folder)) return;
    path.push_back(folder);
    for (const std::string& next : of[folder])
      visit(next);
    path.pop_back();
    done.insert(folder);
  };
  std::vector<std::string> folders;
  folders.reserve(of.size());
  for (const auto& [folder, ignored] : of)
    folders.push_back(folder);
  for (const std::string& folder : folders)
    visit(folder);
  return circles;
}

TEST(LayersTest, NothingIncludesWhatLiesAboveItOrBesideIt) {
  const std::vector<Include> includes = IncludesIn(
      {"base", "kube", "kubectl-pointsman", "node-agent", "operator", "e2e/control-plane"});
  ASSERT_GT(includes.size(), 500U) << "the tree was not found";
  for (const Layer& layer : Layers())
    EXPECT_TRUE(fs::is_directory(fs::path(POINTSMAN_SOURCE_DIR) / layer.folder)) << layer.folder;
  EXPECT_THAT(Violations(includes), testing::IsEmpty());
}

TEST(LayersTest, NoFoldersIncludeEachOther) {
  EXPECT_THAT(Circles(IncludesIn({"base", "kube", "kubectl-pointsman", "node-agent", "operator"})),
              testing::IsEmpty());
}

// What the two above would say.
TEST(LayersTest, WhatMayNotBeIsFound) {
  EXPECT_THAT(Violations({{"node-agent/ipvs/a.cpp", "node-agent/iptables/b.h"},
                          {"node-agent/model/a.h", "node-agent/dataplane/b.h"},
                          {"operator/plan/a.h", "node-agent/model/b.h"},
                          {"node-agent/agent/a.h", "operator/plan/b.h"},
                          {"kube/net/a.h", "operator/plan/b.h"},
                          {"kubectl-pointsman/a.h", "operator/runtime/b.h"},
                          {"base/a.h", "kube/net/b.h"}}),
              testing::SizeIs(7));
  EXPECT_THAT(Violations({{"node-agent/userspace/forwarder/a.cpp", "node-agent/userspace/b.h"},
                          {"node-agent/ipvs/a.h", "node-agent/xtables/b.h"},
                          {"kubectl-pointsman/a.h", "operator/plan/b.h"},
                          {"node-agent/agent/a.h", "node-agent/ipvs/b.h"}}),
              testing::IsEmpty());
  EXPECT_THAT(Circles({{"kube/a/x.h", "kube/b/x.h"},
                       {"kube/b/x.h", "kube/c/x.h"},
                       {"kube/c/x.h", "kube/a/x.h"}}),
              testing::ElementsAre("kube/a -> kube/b -> kube/c -> kube/a"));
}

}  // namespace
}  // namespace pointsman
