// A string that many objects have in common (node names, zones, port names), stored once.
#pragma once

#include <atomic>
#include <compare>
#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace pointsman::kube {

// As large as a pointer; reads like a const std::string. The text goes when its last user goes.
// Thread-safe as a std::shared_ptr is.
class InternedString {
 public:
  InternedString() = default;  // ""
  // Implicit: it takes the place of a std::string member.
  InternedString(std::string_view text) : shared_(text.empty() ? nullptr : Acquire(text)) {}
  InternedString(const std::string& text) : InternedString(std::string_view(text)) {}
  InternedString(const char* text) : InternedString(std::string_view(text)) {}
  InternedString(const InternedString& other) noexcept : shared_(other.shared_) {
    if (shared_ != nullptr) shared_->users.fetch_add(1, std::memory_order_relaxed);
  }
  InternedString(InternedString&& other) noexcept
      : shared_(std::exchange(other.shared_, nullptr)) {}
  InternedString& operator=(InternedString other) noexcept {
    std::swap(shared_, other.shared_);
    return *this;
  }
  ~InternedString() {
    if (shared_ != nullptr) Release(shared_);
  }

  const std::string& str() const;
  operator const std::string&() const { return str(); }
  operator std::string_view() const { return str(); }
  bool empty() const { return shared_ == nullptr; }

  // Equal texts are the same object.
  friend bool operator==(const InternedString& a, const InternedString& b) {
    return a.shared_ == b.shared_;
  }
  // A template, so that other operands are not turned into interned strings to be compared.
  template <typename Text>
  requires std::convertible_to<const Text&, std::string_view> &&
      (!std::same_as<Text, InternedString>)friend bool
      operator==(const InternedString& a, const Text& b) {
    return a.str() == std::string_view(b);
  }
  friend std::strong_ordering operator<=>(const InternedString& a, const InternedString& b) {
    return a.str().compare(b.str()) <=> 0;
  }

  // How many different texts there are now.
  static size_t Count();

 private:
  struct Shared {
    explicit Shared(std::string_view content) : text(content) {}
    const std::string text;
    std::atomic<size_t> users = 1;
  };
  struct Table;
  static Table& TheTable();
  static Shared* Acquire(std::string_view text);
  static void Release(Shared* shared) noexcept;

  Shared* shared_ = nullptr;
};

}  // namespace pointsman::kube
