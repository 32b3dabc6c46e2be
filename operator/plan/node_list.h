// Node names in a sentence that stays readable with 5,000 nodes.
#pragma once

#include <string>
#include <vector>

namespace pointsman::op {

// "a, b and 12 more": at most ten are named.
std::string NodeList(const std::vector<std::string>& names);
// "1 node", "3 nodes".
std::string NodeCount(size_t count);

}  // namespace pointsman::op
