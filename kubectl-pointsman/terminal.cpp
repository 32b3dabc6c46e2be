#include "kubectl-pointsman/terminal.h"

#include <algorithm>
#include <cstdlib>
#include <sys/ioctl.h>

#include <unistd.h>

#include "kube/text/text.h"

namespace pointsman::plugin {
namespace {

// Characters; what is wider is seldom, and then only a column is off.
size_t Width(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
  }));
}

bool IsSet(const char* name) {
  const char* const value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody sets any
  return value != nullptr && *value != '\0';
}

bool IsDumb() {
  const char* const term = std::getenv("TERM");  // NOLINT(concurrency-mt-unsafe): as above
  return term == nullptr || std::string_view(term) == "dumb";
}

}  // namespace

Terminal Terminal::OfStandardOutput() {
  Terminal terminal;
  terminal.live = isatty(STDOUT_FILENO) == 1 && !IsDumb();
  terminal.color = terminal.live && !IsSet("NO_COLOR");
  winsize size{};
  if (terminal.live && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) {
    terminal.columns = size.ws_col;
    terminal.rows = size.ws_row;
  }
  return terminal;
}

std::string Terminal::Paint(Color wanted, std::string_view text) const {
  if (!color || wanted == Color::kNone) return std::string(text);
  const char* const code = wanted == Color::kGreen    ? "\x1b[32m"
                           : wanted == Color::kYellow ? "\x1b[33m"
                                                      : "\x1b[31m";
  return code + std::string(text) + "\x1b[0m";
}

std::string Line(std::string_view text) {
  return text::Escape(text);
}

std::string Bar(int64_t done, int64_t all, size_t width) {
  size_t filled = 0;
  if (all > 0 && done > 0) {
    const double share = static_cast<double>(std::min(done, all)) / static_cast<double>(all);
    filled = static_cast<size_t>(share * static_cast<double>(width));
  }
  return "[" + std::string(filled, '#') + std::string(width - filled, '-') + "]";
}

Table::Table(std::vector<std::string> header) : header_(std::move(header)) {}

void Table::Add(std::vector<std::string> cells) {
  for (std::string& cell : cells)
    cell = Line(cell);
  rows_.push_back(std::move(cells));
}

std::string Table::Text(std::string_view indent) const {
  std::vector<const std::vector<std::string>*> lines;
  if (!header_.empty()) lines.push_back(&header_);
  for (const auto& row : rows_)
    lines.push_back(&row);
  std::vector<size_t> widths;
  for (const auto* line : lines) {
    if (line->size() > widths.size()) widths.resize(line->size());
    for (size_t i = 0; i < line->size(); ++i)
      widths[i] = std::max(widths[i], Width((*line)[i]));
  }
  std::string text;
  for (const auto* line : lines) {
    std::string row(indent);
    for (size_t i = 0; i < line->size(); ++i) {
      row += (*line)[i];
      if (i + 1 < line->size()) row.append(widths[i] - Width((*line)[i]) + 3, ' ');
    }
    row.erase(row.find_last_not_of(' ') + 1);
    text += row + "\n";
  }
  return text;
}

}  // namespace pointsman::plugin
