// Steps that can fail: each is tried, said, counted and remembered in the same way, so that none
// ends the process and none fails in silence. Who takes a step also says when it is tried again.
#pragma once

#include <cstdint>
#include <exception>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace pointsman::agent {

// Not thread-safe: the sync thread owns it.
class Steps {
 public:
  Steps() = default;
  // Nothing fails; `failures` were counted before.
  explicit Steps(std::map<std::string, uint64_t> failures) : failures_(std::move(failures)) {}

  // Calls `call` and returns what it returns; nullopt if it throws, of which Failed is told.
  // `kind`: what is done, in a few words of a fixed list, for a metric's label: "remove";
  // `object`: to what, "" for nothing in particular: "iptables".
  template <typename Call>
  auto Try(std::string_view kind, std::string_view object, const Call& call)
      -> std::optional<decltype(call())> {
    try {
      auto returned = call();
      Succeeded(kind, object);
      return returned;
    } catch (const std::exception& error) {
      Failed(kind, object, error.what());
      return std::nullopt;
    }
  }

  // The same for what returns nothing: whether it went through.
  template <typename Call>
  bool TryTo(std::string_view kind, std::string_view object, const Call& call) {
    return Try(kind, object,
               [&] {
                 call();
                 return true;
               })
        .has_value();
  }

  void Failed(std::string_view kind, std::string_view object, const std::string& message);
  void Succeeded(std::string_view kind, std::string_view object);
  // The step is not going to be tried again.
  void Forget(std::string_view kind, std::string_view object) { Succeeded(kind, object); }

  // Those whose last try failed: "remove iptables" -> "conntrack: No buffer space available".
  const std::map<std::string, std::string>& failing() const { return failing_; }
  // Since the start, by kind.
  const std::map<std::string, uint64_t>& failures() const { return failures_; }

 private:
  std::map<std::string, std::string> failing_;
  std::map<std::string, uint64_t> failures_;
};

}  // namespace pointsman::agent
