// Reads the members of a JSON object into typed variables and collects everything that is wrong,
// each with its path, instead of stopping at the first.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "kube/net/ip_address.h"
#include "kube/pointsman/field_error.h"
#include "kube/pointsman/proxy_settings.h"
#include "kube/text/text.h"

namespace pointsman::kube {

// Absent and null members leave their variable as it is (the API server fills defaults into both).
// A member that is wrong leaves its variable too and adds an error.
class ObjectReader {
 public:
  // `object` and `errors` outlive the reader. An `object` that is absent (nullptr) reads as empty.
  // `asked`, if given, collects the paths of the members that this reader and those made by Object
  // are asked for, be they there or not.
  ObjectReader(const nlohmann::json* object, std::string path, std::vector<FieldError>& errors,
               std::set<std::string>* asked = nullptr);

  bool Has(const char* name) const;
  const std::string& path() const { return path_; }
  std::string PathOf(const char* name) const;

  void Bool(const char* name, bool& out);
  template <typename T>
  void Int(const char* name, int64_t min, int64_t max, T& out) {
    if (const auto value = ReadInt(name, min, max)) out = static_cast<T>(*value);
  }
  void String(const char* name, size_t max_length, std::string& out);
  // A metav1.Duration of `min` to `max`.
  void Time(const char* name, Duration min, Duration max, Duration& out);
  // `parse` returns nullopt for a word it does not know; `words` is what to say then.
  template <typename T>
  void Word(const char* name, const std::function<std::optional<T>(std::string_view)>& parse,
            std::string_view words, T& out) {
    std::string text;
    if (!ReadString(name, text)) return;
    if (const auto value = parse(text)) {
      out = *value;
    } else {
      Error(name, Quote(text) + " is not one of " + std::string(words));
    }
  }
  // Calls `item` with each string of a list and its path ("spec.modules.extra[0]"); false when the
  // member is absent, is no list of strings or has more than `max_items`.
  bool Strings(const char* name, size_t max_items,
               const std::function<void(const std::string& text, const std::string& path)>& item);
  // The member as an object; its reader's Has() is false for everything when it is absent.
  ObjectReader Object(const char* name);
  // The member as it is, nullptr when absent or null.
  const nlohmann::json* Raw(const char* name);

  void Error(const char* name, const std::string& message);
  void ErrorAt(const std::string& path, const std::string& message);

  // After all reads: the members that were not asked for; and RejectUnknown makes each an error.
  std::vector<std::string> UnknownMembers() const;
  void RejectUnknown();

  // What a user wrote, in a message: it goes into conditions and the log.
  static std::string Quote(std::string_view text) { return text::Quote(text); }

 private:
  std::optional<int64_t> ReadInt(const char* name, int64_t min, int64_t max);
  bool ReadString(const char* name, std::string& out);
  const nlohmann::json* Find(const char* name) const;

  const nlohmann::json* object_;
  const std::string path_;
  std::vector<FieldError>& errors_;
  std::set<std::string>* const asked_;
  std::set<std::string, std::less<>> known_;
};

}  // namespace pointsman::kube
