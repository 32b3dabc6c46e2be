// Holds exported metrics against the conventions of Prometheus and against the page that describes
// them.
#pragma once

#include <fstream>
#include <iterator>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/format.h>

namespace pointsman::testing {

// What is wrong with the metrics of a text exposition: a counter whose name does not end in _total,
// a gauge whose name does (but for kube-proxy's own names, which dashboards know), and those that
// `page`, a Markdown file, does not name.
inline std::vector<std::string> MetricsAtFault(const std::string& exposition,
                                               const std::string& page) {
  std::ifstream file(page);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::vector<std::string> faults;
  if (text.empty()) faults.push_back(page + " cannot be read");
  std::istringstream lines(exposition);
  const std::regex type_line("# TYPE (\\S+) (\\S+)");
  std::smatch match;
  for (std::string line; std::getline(lines, line);) {
    if (!std::regex_match(line, match, type_line)) continue;
    const std::string name = match[1];
    const bool total = name.ends_with("_total");
    if (match[2] == "counter" && !total) faults.push_back(name + " is a counter without _total");
    if (match[2] == "gauge" && total && !name.starts_with("kubeproxy_"))
      faults.push_back(name + " is a gauge with _total");
    if (!std::regex_search(text, std::regex(fmt::format("`{}[`{{]", name))))
      faults.push_back(fmt::format("{} is not in {}", name, page));
  }
  return faults;
}

}  // namespace pointsman::testing
