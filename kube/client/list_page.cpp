#include "kube/client/list_page.h"

#include <simdjson.h>

#include "kube/client/client.h"

namespace pointsman::kube {
namespace {

namespace ondemand = simdjson::ondemand;

static_assert(kJsonPadding >= simdjson::SIMDJSON_PADDING);

simdjson::padded_string_view Padded(std::string_view json) {
  return simdjson::padded_string_view(json.data(), json.size(), json.size() + kJsonPadding);
}

// A field that is not there or null leaves `out` as it is.
template <typename T, typename Out>
void ReadOptional(ondemand::object& object, std::string_view name, Out& out) {
  ondemand::value value;
  const auto error = object.find_field_unordered(name).get(value);
  if (error == simdjson::NO_SUCH_FIELD) return;
  if (error != simdjson::SUCCESS) throw simdjson::simdjson_error(error);
  if (value.is_null()) return;
  T read = value;
  out = Out(read);
}

}  // namespace

ListMetadata ReadListMetadata(std::string_view page) try {
  ondemand::parser parser;
  ondemand::document document = parser.iterate(Padded(page));
  ondemand::object metadata = document.find_field_unordered("metadata").get_object();
  ListMetadata read;
  ReadOptional<std::string_view>(metadata, "resourceVersion", read.resource_version);
  ReadOptional<std::string_view>(metadata, "continue", read.continue_token);
  ReadOptional<int64_t>(metadata, "remainingItemCount", read.remaining_items);
  return read;
} catch (const simdjson::simdjson_error& e) {
  throw std::invalid_argument(std::string("list: metadata: ") + e.what());
}

void ForEachItem(std::string_view page,
                 const std::function<void(std::string_view item)>& on_item) try {
  ondemand::parser parser;
  ondemand::document document = parser.iterate(Padded(page));
  ondemand::value items;
  const auto error = document.find_field_unordered("items").get(items);
  if (error == simdjson::NO_SUCH_FIELD) return;  // Go leaves out what is empty
  if (error != simdjson::SUCCESS) throw simdjson::simdjson_error(error);
  if (items.is_null()) return;
  for (ondemand::object item : items.get_array())
    on_item(item.raw_json());
} catch (const simdjson::simdjson_error& e) {
  throw std::invalid_argument(std::string("list: items: ") + e.what());
}

}  // namespace pointsman::kube
