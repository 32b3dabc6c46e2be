// Reads a list's page without building a DOM of it.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace pointsman::kube {

struct ListMetadata {
  std::string resource_version;
  std::string continue_token;    // "" on the last page
  int64_t remaining_items = -1;  // -1: not said
};

// Both need kJsonPadding readable bytes behind `page`, and throw std::invalid_argument when it is
// no list.
ListMetadata ReadListMetadata(std::string_view page);

// Calls `on_item` with the raw JSON of each item, in order: slices of `page`, no copies.
void ForEachItem(std::string_view page, const std::function<void(std::string_view item)>& on_item);

}  // namespace pointsman::kube
