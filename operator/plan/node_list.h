// Node names in a sentence that stays readable with 5,000 nodes.
#pragma once

#include <string>
#include <vector>

namespace pointsman::op {

// "a, b and 12 more": at most ten are named.
std::string NodeList(const std::vector<std::string>& names);
// "1 node", "3 nodes".
std::string NodeCount(size_t count);
// At most `limit` bytes, cut at a character's border with an ellipsis.
std::string Shorten(const std::string& text, size_t limit = 300);

}  // namespace pointsman::op
