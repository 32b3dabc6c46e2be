// The planning's promises under nodes that write whatever they like, for deterministic tests and
// for a fuzzer.
#pragma once

#include <string_view>

namespace pointsman::op {

// Plays a history that `bytes` decide: honest nodes and hostile ones (their statuses, their Nodes'
// conditions), operators that are killed, change and have their clocks set, edits. Throws
// std::logic_error that says which promise was broken:
// - no more honest nodes than maxUnavailable are changing at a time;
// - what is to be written fits the CRDs' schemas, whatever nodes wrote;
// - a revision's number is never given twice, and a plan never wakes up in the past or centuries
//   later;
// - honest nodes arrive at what is specified while hostile ones go on, or the status says which
//   hostile node is in the way, and arrive when those are gone.
void CheckPlan(std::string_view bytes);

}  // namespace pointsman::op
