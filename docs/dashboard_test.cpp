// The dashboard's layout: monitoring_test and kube_proxy_provider_test try its queries.
#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <utility>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "kube/testing/page_text.h"

namespace pointsman {
namespace {

using nlohmann::json;

json Panels() {
  const std::filesystem::path root = POINTSMAN_SOURCE_DIR;
  return json::parse(ReadText(root / "manifests/monitoring/dashboard.json")).at("panels");
}

// Grafana's grid has 24 columns; panels that overlap push each other about in it.
TEST(DashboardTest, ItsPanelsFillTheRowsSideBySide) {
  constexpr int kColumns = 24;
  std::map<std::pair<int, int>, std::string> taken;  // row, column
  int rows = 0;
  for (const json& panel : Panels()) {
    const json& grid = panel.at("gridPos");
    const std::string title = panel.at("title");
    const int x = grid.at("x");
    const int y = grid.at("y");
    rows = std::max(rows, y + grid.at("h").get<int>());
    for (int row = y; row < y + grid.at("h").get<int>(); ++row) {
      for (int column = x; column < x + grid.at("w").get<int>(); ++column) {
        EXPECT_LT(column, kColumns) << title;
        const auto [there, free] = taken.try_emplace({row, column}, title);
        ASSERT_TRUE(free) << title << " lies over " << there->second;
      }
    }
  }
  ASSERT_GT(rows, 0);
  EXPECT_EQ(taken.size(), static_cast<size_t>(kColumns * rows)) << "there is a gap";
}

TEST(DashboardTest, PanelsAndQueriesAreToldApart) {
  std::set<int> ids;
  std::set<std::string> titles;
  for (const json& panel : Panels()) {
    const std::string title = panel.at("title");
    EXPECT_TRUE(ids.insert(panel.at("id").get<int>()).second) << title;
    EXPECT_TRUE(titles.insert(title).second) << title;
    EXPECT_NE(panel.value("description", ""), "") << title;
    std::set<std::string> queries;
    for (const json& target : panel.at("targets"))
      EXPECT_TRUE(queries.insert(target.at("refId").get<std::string>()).second) << title;
    EXPECT_FALSE(queries.empty()) << title;
  }
}

}  // namespace
}  // namespace pointsman
