// One nf_tables transaction for one table: all of it is done or nothing is.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kube/net/ip_address.h"
#include "node-agent/nf_tables/attributes.h"
#include "node-agent/nf_tables/objects.h"

namespace pointsman::agent::nft {

// The requests in the order in which they were added. Not thread-safe.
class Transaction : private AttributeWriter {
 public:
  Transaction(net::Family family, std::string_view table);

  bool empty() const { return labels_.empty(); }
  // Objects added, changed or removed.
  uint64_t objects() const { return objects_; }

  // Or sets the flags (NFT_TABLE_F_…) of one that is there.
  void AddTable(uint32_t flags = 0);
  // With all that is in it. An error if it is not there.
  void DeleteTable();
  void AddSet(const SetDefinition& set);
  void DeleteSet(std::string_view name);
  // Without its rules.
  void AddChain(const Chain& chain);
  void DeleteChain(std::string_view name);
  // Takes all rules out of it.
  void FlushChain(std::string_view name);
  void AppendRule(std::string_view chain, const Rule& rule);
  // `comment`: as nft(8) shows it; "": none.
  void AddElement(const SetDefinition& set, const RawElement& element,
                  std::string_view comment = {});
  // Of a map with time-outs. An error if the key is there, whatever its value and its time; the
  // time left is at most the time-out, and neither is 0.
  void AddExpiring(const SetDefinition& map, const RawElement& element,
                   std::chrono::milliseconds timeout, std::chrono::milliseconds left);
  void DeleteElement(const SetDefinition& set, const RawElement& element);
  // Of a map to verdicts: go to that chain.
  void AddGoto(const SetDefinition& map, std::string_view key, std::string_view chain);
  void FlushSet(std::string_view name);

  // The bytes for sendmsg(2), sequence numbers counted from `sequence` (that of the first message).
  // Without `commit` the kernel checks all and does nothing.
  std::string Finish(uint32_t sequence, bool commit);
  // What the request at `index` (sequence number minus the first one) was about: "chain services".
  const std::string& LabelOf(size_t index) const;
  size_t size() const { return labels_.size(); }

 private:
  void Begin(uint8_t message, uint16_t flags, std::string label);
  void CloseMessage();
  void OpenElements(uint8_t message, uint16_t flags, const SetDefinition& set);
  void PutValue(uint16_t type, std::string_view value);

  const net::Family family_;
  const std::string table_;
  uint64_t objects_ = 0;
  uint32_t next_set_id_ = 0;
  std::vector<size_t> offsets_;
  std::vector<std::string> labels_;
  // A message that still takes elements.
  size_t elements_ = 0;  // its nest; 0: none
  uint8_t elements_message_ = 0;
  std::string_view elements_set_;
};

}  // namespace pointsman::agent::nft
