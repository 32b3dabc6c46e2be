// For tests that hold a file of the repository against something: its text, and parts of it.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <stdexcept>
#include <string>
#include <vector>

namespace pointsman {

// Throws std::runtime_error that names the file.
inline std::string ReadText(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

// That group of each match of the regular expression, in order.
inline std::vector<std::string> Matches(const std::string& text, const std::string& what,
                                        int group = 0) {
  const std::regex regex(what);
  std::vector<std::string> found;
  for (std::sregex_iterator match(text.begin(), text.end(), regex), end; match != end; ++match)
    found.push_back((*match)[group]);
  return found;
}

// What is between Markdown's fences of that kind: "" or, for example, "promql".
inline std::vector<std::string> FencedBlocks(const std::string& page, const std::string& kind) {
  static const std::regex kBlock("```([a-z]*)\n([^`]+)```");  // all kinds, to pair the fences
  std::vector<std::string> found;
  for (std::sregex_iterator match(page.begin(), page.end(), kBlock), end; match != end; ++match) {
    if ((*match)[1] == kind) found.push_back((*match)[2]);
  }
  return found;
}

}  // namespace pointsman
