// What standard output is, and what is written to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pointsman::plugin {

enum class Color : uint8_t { kNone, kGreen, kYellow, kRed };

// Not a terminal: no escape codes, ever.
struct Terminal {
  bool live = false;   // what was written can be written over
  bool color = false;  // never without `live`
  size_t columns = 0;  // 0: not known
  size_t rows = 0;

  // Of standard output, as it is now. $NO_COLOR and TERM=dumb are obeyed.
  static Terminal OfStandardOutput();
  std::string Paint(Color color, std::string_view text) const;
};

// Text of the API, which may be anything, for one line of a terminal.
std::string Line(std::string_view text);

// "[######----]": `done` of `all`. All of it only when all are done.
std::string Bar(int64_t done, int64_t all, size_t width = 20);

// Cells are made safe (Line). Columns are as wide as their widest cell; the last is not padded.
class Table {
 public:
  explicit Table(std::vector<std::string> header = {});
  void Add(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }
  std::string Text(std::string_view indent = "") const;

 private:
  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace pointsman::plugin
