// What iptables-save prints, cut into lines.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace pointsman::agent::xtables {

// What a line says. Points into it.
struct SavedLine {
  enum class Kind : uint8_t { kTable, kChain, kRule, kOther } kind = Kind::kOther;
  std::string_view name;  // of the table, the chain, or the rule's chain
  std::string_view rule;  // what follows "-A CHAIN " or ":CHAIN ", without spaces at its end
};
SavedLine ParseSavedLine(std::string_view line);

// Holds no more than one line.
class SaveReader {
 public:
  // `command`: for messages; it says of which family the rules are. `on_line` gets each line
  // without its newline, valid during the call, but no empty ones and no comments ("# …").
  SaveReader(std::string command, const std::function<void(std::string_view)>& on_line)
      : command_(std::move(command)), on_line_(on_line) {}

  // The next piece of the output, cut anywhere. Throws IncompatibleTable (iptables_tool.h) when
  // the output says that there is a table which it leaves out, std::runtime_error when a line is
  // longer than any rule is.
  void Add(std::string_view piece);

 private:
  void EndLine(std::string_view line);
  void Grow(std::string_view part);
  void CheckSize(size_t size) const;

  const std::string command_;
  const std::function<void(std::string_view)>& on_line_;
  std::string partial_;
};

}  // namespace pointsman::agent::xtables
