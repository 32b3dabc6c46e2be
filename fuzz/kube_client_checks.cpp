#include <fmt/format.h>

#include "fuzz/checks.h"
#include "fuzz/pieces.h"
#include "kube/client/api_error.h"
#include "kube/client/event_splitter.h"
#include "kube/client/list_splitter.h"

namespace pointsman::fuzz {

void CheckEventSplitter(std::string_view input) {
  CheckPieces(input, [](const auto& for_each_piece) {
    std::string text;
    kube::EventSplitter splitter([&](kube::WatchEventType type, std::string_view object) {
      TouchBehind(object, kube::kJsonPadding);
      text += fmt::format("{} {}\n", static_cast<int>(type), object);
      return true;
    });
    try {
      for_each_piece([&](std::string_view piece) { splitter.Add(piece); });
      text += splitter.HasPartialEvent() ? "cut off" : "";
    } catch (const kube::ApiError& error) {
      text += error.what();
    } catch (const std::invalid_argument& error) {
      text += error.what();
    }
    return text;
  });
}

void CheckListSplitter(std::string_view input) {
  CheckPieces(input, [](const auto& for_each_piece) {
    std::string text;
    kube::ListSplitter splitter([&](std::string_view item) {
      TouchBehind(item, kube::kJsonPadding);
      text += fmt::format("{}\n", item);
    });
    try {
      for_each_piece([&](std::string_view piece) { splitter.Add(piece); });
      const kube::ListMetadata metadata = splitter.End();
      text += fmt::format("{} {} {}", metadata.resource_version, metadata.continue_token,
                          metadata.remaining_items);
    } catch (const std::invalid_argument& error) {
      text += error.what();
    }
    return text;
  });
}

}  // namespace pointsman::fuzz
