#include "kube/client/event_splitter.h"

#include <stdexcept>
#include <utility>

#include <simdjson.h>

namespace pointsman::kube {

namespace ondemand = simdjson::ondemand;

class EventSplitter::Parser : public ondemand::parser {};

EventSplitter::EventSplitter(OnEvent on_event, size_t max_event_bytes)
    : on_event_(std::move(on_event)), max_event_bytes_(max_event_bytes) {}

bool EventSplitter::Add(std::string_view bytes) {
  buffer_.reserve(buffer_.size() + bytes.size() + kJsonPadding);
  buffer_.append(bytes);
  Parser parser;
  size_t begin = 0;
  bool wanted = true;
  while (wanted) {
    const size_t end = buffer_.find('\n', std::max(scanned_, begin));
    const size_t length = (end == std::string::npos ? buffer_.size() : end) - begin;
    if (length > max_event_bytes_) {
      throw std::invalid_argument("watch event longer than " + std::to_string(max_event_bytes_) +
                                  " bytes");
    }
    if (end == std::string::npos) break;
    wanted = Line(parser, std::string_view(buffer_).substr(begin, length));
    begin = end + 1;
  }
  buffer_.erase(0, begin);
  scanned_ = buffer_.size();
  // One large event must not hold its memory for the minutes that a watch lasts.
  constexpr size_t kKept = 256UL * 1024;
  if (buffer_.empty() && buffer_.capacity() > kKept) std::string().swap(buffer_);
  return wanted;
}

bool EventSplitter::HasPartialEvent() const {
  return buffer_.find_first_not_of(" \t\r\n") != std::string::npos;
}

bool EventSplitter::Line(Parser& parser, std::string_view line) {
  if (line.find_first_not_of(" \t\r") == std::string_view::npos) return true;
  std::string_view type;
  std::string_view object;
  try {
    ondemand::document event = parser.iterate(line.data(), line.size(), line.size() + kJsonPadding);
    type = event.find_field_unordered("type").get_string();
    ondemand::object found = event.find_field_unordered("object").get_object();
    object = found.raw_json();
  } catch (const simdjson::simdjson_error& e) {
    throw std::invalid_argument(std::string("not a watch event: ") + e.what());
  }
  if (type == "ADDED") return on_event_(WatchEventType::kAdded, object);
  if (type == "MODIFIED") return on_event_(WatchEventType::kModified, object);
  if (type == "DELETED") return on_event_(WatchEventType::kDeleted, object);
  if (type == "BOOKMARK") return on_event_(WatchEventType::kBookmark, object);
  if (type == "ERROR") throw ApiError::FromBody(500, object);
  throw std::invalid_argument("watch event of unknown type " + std::string(type));
}

}  // namespace pointsman::kube
