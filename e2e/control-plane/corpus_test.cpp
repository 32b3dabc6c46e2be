// The answers of a real kube-apiserver, recorded in corpus/, are those of pointsman-control-plane.
// With KUBEBUILDER_ASSETS they are asked of a real one too, and with POINTSMAN_RECORD_CORPUS, the
// corpus' directory, its answers are recorded there instead (docs/developing.md).
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "e2e/control-plane/testing/api_server_process.h"
#include "e2e/control-plane/testing/environment_variable.h"
#include "e2e/control-plane/testing/recorded_corpus.h"

namespace pointsman::e2e {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

OrderedJson ReadJson(const std::filesystem::path& file) {
  std::ifstream in(file);
  if (!in) throw std::runtime_error("cannot be read: " + file.string());
  return OrderedJson::parse(in);
}

// In what our server may differ from a real one, each with its reason. `at`: the pointer of the
// difference or of what is around it; a * stands for any one part of it.
struct Allowed {
  std::string scenario;
  std::string step;  // "*": each
  std::string at;
};

std::vector<Allowed> AllowedDifferences(const std::string& scenario) {
  std::vector<Allowed> all;
  for (const auto& entry :
       ReadJson(std::filesystem::path(POINTSMAN_CORPUS) / "allowed-differences.json")) {
    if (entry.at("why").get<std::string>().empty())
      throw std::runtime_error("an allowed difference without a reason");
    if (entry.at("scenario") == scenario)
      all.push_back(
          {scenario, entry.at("step").get<std::string>(), entry.at("at").get<std::string>()});
  }
  return all;
}

bool Covers(const std::string& pattern, const std::string& at) {
  std::size_t i = 0;
  std::size_t j = 0;
  while (i < pattern.size() && j < at.size()) {
    if (pattern[i] == '*') {
      j = std::min(at.find('/', j), at.size());
      ++i;
    } else if (pattern[i++] != at[j++]) {
      return false;
    }
  }
  return i == pattern.size() && (j == at.size() || at[j] == '/');
}

using Parameter = std::tuple<bool, std::filesystem::path>;  // against a real server; the scenario

class CorpusTest : public testing::TestWithParam<Parameter> {
 protected:
  void SetUp() override {
    const std::string assets = EnvironmentVariable("KUBEBUILDER_ASSETS");
    if (IsReal() && assets.empty())
      GTEST_SKIP() << "no real API server: set KUBEBUILDER_ASSETS to the directory of etcd and "
                      "kube-apiserver";
    std::string pattern = testing::TempDir() + "pmcorpus-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    server_ = IsReal() ? MakeRealApiServer(dir_, assets)
                       : MakeOwnApiServer(dir_, "1.35", WithControllers::kNo);
    server_->Start();
  }
  void TearDown() override {
    server_.reset();
    if (!dir_.empty()) std::filesystem::remove_all(dir_);
  }

  static bool IsReal() { return std::get<0>(GetParam()); }
  static std::filesystem::path File() { return std::get<1>(GetParam()); }

  std::filesystem::path dir_;
  std::unique_ptr<ApiServerProcess> server_;
};

// A step's parts are lines of their own: so the files stay small, and what has changed can be read.
void WriteScenario(const OrderedJson& scenario, const std::filesystem::path& file) {
  std::ofstream out(file);
  out << "{\"about\":" << scenario.at("about").dump()
      << ",\n\"managedFields\":" << OrderedJson(scenario.value("managedFields", false)).dump()
      << ",\n\"steps\":[";
  const char* between = "\n";
  for (const OrderedJson& step : scenario.at("steps")) {
    out << std::exchange(between, ",\n");
    const char* opening = "{";
    for (const auto& [key, value] : step.items())
      out << std::exchange(opening, ",\n ") << OrderedJson(key).dump() << ":" << value.dump();
    out << "}";
  }
  out << "\n]}\n";
  if (!out.flush()) throw std::runtime_error("cannot be written: " + file.string());
}

void Record(OrderedJson& scenario, CorpusPlayer& player, const std::filesystem::path& file) {
  for (OrderedJson& step : scenario["steps"]) {
    if (!player.IsFor(step)) continue;
    step["answer"] = OrderedJson::parse(player.Play(step).dump());
  }
  WriteScenario(scenario, file);
}

TEST_P(CorpusTest, AnswersAsRecorded) {
  const std::string into = EnvironmentVariable("POINTSMAN_RECORD_CORPUS");
  OrderedJson scenario = ReadJson(File());
  CorpusPlayer player(*server_, IsReal(), scenario.value("managedFields", false));
  if (!into.empty() && IsReal())
    return Record(scenario, player, std::filesystem::path(into) / File().filename());
  const std::vector<Allowed> allowed =
      IsReal() ? std::vector<Allowed>() : AllowedDifferences(File().stem());
  std::set<std::size_t> used;
  for (const OrderedJson& step : scenario["steps"]) {
    if (!player.IsFor(step)) continue;
    const std::string name = step.at("name");
    const Json now = player.Play(step);
    if (!step.contains("answer")) continue;  // it prepares our server
    const Json recorded = Json::parse(step["answer"].dump());
    for (const Difference& difference : Differences(recorded, now, step.value("subset", false))) {
      bool excused = false;
      for (std::size_t i = 0; i < allowed.size(); ++i) {
        if ((allowed[i].step == "*" || allowed[i].step == name) &&
            Covers(allowed[i].at, difference.at)) {
          used.insert(i);
          excused = true;
        }
      }
      EXPECT_TRUE(excused) << File().stem().string() << ": " << name << ": " << difference.at
                           << ": " << difference.what;
    }
  }
  for (std::size_t i = 0; i < allowed.size(); ++i)
    EXPECT_TRUE(IsReal() || used.contains(i))
        << "no difference is left: " << allowed[i].step << " " << allowed[i].at;
}

std::string NameOfScenario(const testing::TestParamInfo<Parameter>& info) {
  std::string name = std::get<1>(info.param).stem();
  std::erase(name, '-');
  return (std::get<0>(info.param) ? "Real_" : "Own_") + name;
}

INSTANTIATE_TEST_SUITE_P(Servers, CorpusTest,
                         testing::Combine(testing::Bool(),
                                          testing::ValuesIn(CorpusFiles(POINTSMAN_CORPUS))),
                         NameOfScenario);

TEST(DifferencesTest, FindsWhatIsOtherMissingOrMore) {
  const Json recorded = {{"a", 1}, {"b", {{{"name", "x"}, {"v", 1}}, {{"name", "y"}}}}};
  EXPECT_TRUE(Differences(recorded, recorded, false).empty());
  Json now = recorded;
  now["a"] = 2;
  ASSERT_EQ(Differences(recorded, now, false).size(), 1u);
  EXPECT_EQ(Differences(recorded, now, false)[0].at, "/a");
  now = recorded;
  now["c"] = true;
  EXPECT_EQ(Differences(recorded, now, true)[0].at, "/c");
  now = recorded;
  now["b"].erase(1);
  now.erase("a");
  EXPECT_TRUE(Differences(recorded, now, true).empty());
  EXPECT_EQ(Differences(recorded, now, false).size(), 2u);
  now["b"][0]["v"] = 3;
  EXPECT_EQ(Differences(recorded, now, true)[0].at, "/b/x/v");
  EXPECT_TRUE(Differences(Json{{"a", "<any>"}}, Json{{"a", 7}}, false).empty());
}

TEST(NormalisedTest, LeavesWhatEachRunHas) {
  const Json one = Normalised(
      {{"metadata",
        {{"name", "a-x7k2p"},
         {"generateName", "a-"},
         {"uid", "0c5e4a4e-7a55-4d6a-9f43-4b5f3a0a3b11"},
         {"resourceVersion", "215"},
         {"creationTimestamp", "2026-03-04T05:06:07Z"}}},
       {"spec", {{"renewTime", "2001-02-03T04:05:06.000007Z"}, {"clusterIP", "10.96.4.77"}}}});
  EXPECT_EQ(one.dump(),
            R"({"metadata":{"creationTimestamp":"<time>","generateName":"a-",)"
            R"("name":"a-<random>","resourceVersion":"<resourceVersion>","uid":"<uid>"},)"
            R"("spec":{"clusterIP":"<clusterIP>","renewTime":"2001-02-03T04:05:06.000007Z"}})");
}

}  // namespace
}  // namespace pointsman::e2e
