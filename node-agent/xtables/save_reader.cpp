#include "node-agent/xtables/save_reader.h"

#include <algorithm>

#include <fmt/format.h>

#include "kube/text/text.h"
#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent::xtables {
namespace {

// A rule has some hundreds of bytes, with a comment of 256.
constexpr size_t kMaxLine = size_t{1} << 20;

// iptables-nft-save says no more of such a table than a comment, and ends with success
// (iptables/xtables-save.c, __do_output): "# Table `filter' is incompatible, use 'nft' tool."
void CheckComment(const std::string& command, std::string_view comment) {
  constexpr std::string_view kBegin = "# Table `";
  const size_t end = comment.find("' is incompatible");
  if (!comment.starts_with(kBegin) || end == std::string_view::npos) return;
  const std::string table = text::Message(comment.substr(kBegin.size(), end - kBegin.size()), 64);
  const std::string_view family = command.find("/ip6tables") == std::string::npos ? "ip" : "ip6";
  throw IncompatibleTable(fmt::format(
      "iptables cannot read its own table {0} {1}: it has rules that only nft "
      "knows (nft list table {0} {1}). Move them to a table of their own, or choose mode nftables, "
      "which does not use that table; if this node's rules are legacy iptables', set "
      "POINTSMAN_IPTABLES=legacy",
      family, table));
}

}  // namespace

SavedLine ParseSavedLine(std::string_view line) {
  using Kind = SavedLine::Kind;
  if (line.starts_with('*')) return {Kind::kTable, line.substr(1), {}};
  const bool chain_line = line.starts_with(':');
  if (!chain_line && !line.starts_with("-A ")) return {};
  line.remove_prefix(chain_line ? 1 : 3);
  const std::string_view chain = line.substr(0, line.find(' '));
  line.remove_prefix(std::min(chain.size() + 1, line.size()));
  while (line.ends_with(' '))
    line.remove_suffix(1);
  return {chain_line ? Kind::kChain : Kind::kRule, chain, line};
}

void SaveReader::Add(std::string_view piece) {
  for (size_t end = 0; (end = piece.find('\n')) != std::string_view::npos;) {
    const std::string_view line = piece.substr(0, end);
    if (partial_.empty()) {
      EndLine(line);
    } else {
      Grow(line);
      EndLine(partial_);
      partial_.clear();
    }
    piece.remove_prefix(end + 1);
  }
  Grow(piece);
}

void SaveReader::EndLine(std::string_view line) {
  CheckSize(line.size());
  if (line.starts_with('#')) {
    CheckComment(command_, line);
  } else if (!line.empty()) {
    on_line_(line);
  }
}

void SaveReader::Grow(std::string_view part) {
  CheckSize(partial_.size() + part.size());
  partial_.append(part);
}

void SaveReader::CheckSize(size_t size) const {
  if (size > kMaxLine)
    throw std::runtime_error(fmt::format("{}: a line of more than {} bytes", command_, kMaxLine));
}

}  // namespace pointsman::agent::xtables
