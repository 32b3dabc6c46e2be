#include "operator/plan/node_list.h"

namespace pointsman::op {

std::string NodeList(const std::vector<std::string>& names) {
  constexpr size_t kMostNamed = 10;
  std::string text;
  for (size_t i = 0; i < names.size() && i < kMostNamed; ++i) {
    if (i > 0) text += ", ";
    text += names[i];
  }
  if (names.size() > kMostNamed) {
    text += " and " + std::to_string(names.size() - kMostNamed) + " more";
  }
  return text;
}

std::string NodeCount(size_t count) {
  return std::to_string(count) + (count == 1 ? " node" : " nodes");
}

}  // namespace pointsman::op
