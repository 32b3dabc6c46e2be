// What a table of nf_tables is made of, as plain values.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "node-agent/nf_tables/rule.h"

namespace pointsman::agent::nft {

struct SetDefinition {
  std::string_view name;
  uint32_t flags = 0;            // NFT_SET_…
  uint32_t key_type = 0;         // for nft(8) to print: its data types, 6 bits each
  uint32_t key_size = 0;         // bytes
  uint32_t data_type = 0;        // as key_type; kVerdictType for verdicts
  uint32_t data_size = 0;        // 0: a set, or a map to verdicts
  uint32_t max_elements = 0;     // 0: no limit
  std::vector<uint32_t> fields;  // sizes of the key's parts, only where they are intervals
};

inline constexpr uint32_t kVerdictType = 0xffffff00;  // NFT_DATA_VERDICT

struct Hook {
  std::string_view type;  // "nat", "filter"
  uint32_t number = 0;    // NF_INET_…
  int32_t priority = 0;
  bool operator==(const Hook&) const = default;
};

struct Chain {
  std::string name;
  std::optional<Hook> hook;  // base chains
  std::vector<Rule> rules;
};

// The raw key of an element and the value it leads to (or, where keys are intervals, the end of
// the interval).
struct RawElement {
  std::string_view key;
  std::string_view data;
};

}  // namespace pointsman::agent::nft
