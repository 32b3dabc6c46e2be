// Cuts the bytes of a watch into its events: one JSON object a line.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "kube/client/client.h"

namespace pointsman::kube {

class EventSplitter {
 public:
  // False: no more events are wanted.
  using OnEvent = std::function<bool(WatchEventType type, std::string_view object)>;

  explicit EventSplitter(OnEvent on_event, size_t max_event_bytes = kMaxEventBytes);

  // Calls OnEvent for each event that is whole now; the object is valid until it returns and has
  // kJsonPadding readable bytes behind it. Returns what the last OnEvent did. Throws ApiError for
  // an ERROR event and std::invalid_argument for what is no event or too long.
  bool Add(std::string_view bytes);

  // True when an event was begun and its end did not come.
  bool HasPartialEvent() const;

 private:
  class Parser;
  bool Line(Parser& parser, std::string_view line);

  const OnEvent on_event_;
  const size_t max_event_bytes_;
  std::string buffer_;
  size_t scanned_ = 0;  // no line end before this
};

}  // namespace pointsman::kube
