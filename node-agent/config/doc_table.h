// For tests: a table of a documentation page, so that what it says can be held against the code.
#pragma once

#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace pointsman::agent {

// A row's cells, without the blanks around them and without backquotes.
using DocRow = std::vector<std::string>;

// The rows of the Markdown table with this header line. Throws std::runtime_error when the page has
// none.
inline std::vector<DocRow> ReadDocTable(const std::string& page, const std::string& header) {
  std::ifstream file(page);
  std::string line;
  while (std::getline(file, line) && line != header) {
  }
  std::getline(file, line);  // the rule under it
  std::vector<DocRow> rows;
  while (std::getline(file, line) && line.starts_with('|')) {
    DocRow& row = rows.emplace_back();
    std::istringstream cells(line.substr(1));
    for (std::string cell; std::getline(cells, cell, '|');) {
      std::erase(cell, '`');
      const size_t begin = cell.find_first_not_of(' ');
      const size_t end = cell.find_last_not_of(' ');
      row.push_back(begin == std::string::npos ? "" : cell.substr(begin, end - begin + 1));
    }
  }
  if (rows.empty()) throw std::runtime_error(page + " has no table \"" + header + "\"");
  return rows;
}

}  // namespace pointsman::agent
