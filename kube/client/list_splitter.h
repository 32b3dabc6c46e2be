// Cuts the bytes of a list into its items while they arrive: a list costs the memory of its largest
// item, however long it is. An API server answers resourceVersion "0" with all objects in one
// piece, whatever limit was asked for (kubernetes, cacher.go: shouldDelegateList).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "kube/client/client.h"

namespace pointsman::kube {

struct ListMetadata {
  std::string resource_version;
  std::string continue_token;    // "" on the last page
  int64_t remaining_items = -1;  // -1: not said
};

// One list. Not thread-safe.
class ListSplitter {
 public:
  using OnItem = std::function<void(std::string_view item)>;

  explicit ListSplitter(OnItem on_item, size_t max_item_bytes = kMaxEventBytes);

  // Calls OnItem with the raw JSON of each item that is whole now, in order; it is valid until that
  // returns and has kJsonPadding readable bytes behind it. Only the nesting is checked here: what
  // is inside an item is its decoder's. Throws std::invalid_argument for what is no list, and for
  // an item that is too long.
  void Add(std::string_view bytes);

  // After the last byte. Throws std::invalid_argument when the list was cut off.
  ListMetadata End() const;

 private:
  enum class Member : uint8_t { kOther, kMetadata, kItems };

  // Both take what they understand off the front of `bytes`.
  void SkipString(std::string_view& bytes);
  void Structure(std::string_view& bytes);
  void BeginString();
  void Open(char bracket);
  void Close();
  void Scalar(char first);
  // `bytes` belong to the item or the metadata being read, if there is one.
  void Keep(std::string_view bytes);

  const OnItem on_item_;
  const size_t max_item_bytes_;
  size_t depth_ = 0;  // open brackets
  bool in_string_ = false;
  bool escaped_ = false;   // the next character of the string is no delimiter
  bool in_key_ = false;    // the string is a member's name of the outermost object
  bool key_next_ = false;  // in the outermost object, no value is due
  bool ended_ = false;     // the outermost object is closed
  std::string key_;
  Member member_ = Member::kOther;
  bool keeping_ = false;
  size_t keep_depth_ = 0;  // where what is kept ends
  std::string kept_;
  std::string metadata_;
};

}  // namespace pointsman::kube
