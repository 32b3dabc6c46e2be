// What is to be written into our table, in an order that loses no packet.
#pragma once

#include <span>
#include <vector>

#include "node-agent/dataplane/dataplane.h"
#include "node-agent/nf_tables/connection.h"
#include "node-agent/nf_tables/transaction.h"
#include "node-agent/nftables/desired_table.h"

namespace pointsman::agent::nft {

// Up to three transactions, as a packet under way may meet both the old and the new state:
// * sets, chains and their rules come before what leads to them. A packet keeps to the rules as
//   they were when it came (nft_do_chain reads the generation once), while its look-ups see the
//   newest elements: one that led to a chain of the same transaction would find the chain empty;
// * what nothing leads to any more goes after. Otherwise a packet that had just read the older
//   value of one map could miss what that leads to in the next map.
// Not thread-safe.
class TableChange {
 public:
  explicit TableChange(net::Family family);

  // The whole table with all that is in it. `replaces`: there is one, which goes.
  void WriteWhole(const DesiredTable& desired, bool replaces);

  void AddTable() { structure_.AddTable(); }
  void DeleteTable() { first_.DeleteTable(); }
  void AddSet(const SetDefinition& set) { structure_.AddSet(set); }
  void DeleteSet(std::string_view name) { second_.DeleteSet(name); }
  // With its rules.
  void AddChains(std::span<const Chain> chains);
  // Parts of the same: chains may name one another, so each is there, and empty, before any rule is
  // appended.
  void AddEmptyChain(const Chain& chain) { structure_.AddChain(chain); }
  void EmptyChain(std::string_view name) { structure_.FlushChain(name); }
  void AppendRules(const Chain& chain);
  // All that are to be deleted are emptied before, for the same reason.
  void EmptyUnusedChain(std::string_view name) { second_.FlushChain(name); }
  void DeleteChain(std::string_view name) { second_.DeleteChain(name); }

  void AddElement(const Element& element);
  // Its value in the kernel. `replaced`: another value follows, or MakesRoom.
  void DeleteElement(const Element& element, bool replaced);
  // The way to a traffic class's chain.
  void AddClass(const TrafficClass& traffic_class);
  // The way that is there leads to another chain.
  void ReplaceClass(const TrafficClass& traffic_class);
  // `key`: ClassKey. Nothing names it any more.
  void DeleteClass(SetId map, std::string_view key);

  // What leads from `before` to `after`, both sorted.
  void ReplaceElements(std::span<const Element> before, std::span<const Element> after);

  // Counts what was written in `result`; false: refused, with problems there.
  bool Commit(Connection& connection, SyncResult& result);

 private:
  const SetDefinition& Set(SetId id) const { return SetsOf(family_)[static_cast<size_t>(id)]; }
  void WriteChains(std::span<const Chain> chains, Transaction& transaction) const;
  void AddElement(const Element& element, Transaction& transaction) const;
  void AddClass(const TrafficClass& traffic_class, Transaction& transaction) const;

  const net::Family family_;
  Transaction structure_;
  Transaction first_;
  Transaction second_;
};

}  // namespace pointsman::agent::nft
