#include "kube/pointsman/object_reader.h"

#include "kube/pointsman/duration.h"
#include "kube/text/text.h"

namespace pointsman::kube {
namespace {

// Of an unknown field's name, in bytes.
constexpr size_t kMostOfName = 64;

}  // namespace

std::string Summarize(const std::vector<FieldError>& errors, size_t limit) {
  std::string text;
  for (size_t i = 0; i < errors.size() && i < limit; ++i) {
    if (!text.empty()) text += "; ";
    text += errors[i].path + ": " + errors[i].message;
  }
  if (errors.size() > limit) text += "; and " + std::to_string(errors.size() - limit) + " more";
  return text;
}

ObjectReader::ObjectReader(const nlohmann::json* object, std::string path,
                           std::vector<FieldError>& errors, std::set<std::string>* asked)
    : object_(object), path_(std::move(path)), errors_(errors), asked_(asked) {
  if (object_ == nullptr || object_->is_null()) {
    object_ = nullptr;
  } else if (!object_->is_object()) {
    ErrorAt(path_, std::string("must be an object, is a ") + object_->type_name());
    object_ = nullptr;
  }
}

const nlohmann::json* ObjectReader::Find(const char* name) const {
  if (object_ == nullptr) return nullptr;
  const auto member = object_->find(name);
  return member == object_->end() || member->is_null() ? nullptr : &*member;
}

bool ObjectReader::Has(const char* name) const {
  return Find(name) != nullptr;
}

std::string ObjectReader::PathOf(const char* name) const {
  return path_.empty() ? name : path_ + "." + name;
}

const nlohmann::json* ObjectReader::Raw(const char* name) {
  known_.insert(name);
  if (asked_ != nullptr) asked_->insert(PathOf(name));
  return Find(name);
}

void ObjectReader::Error(const char* name, const std::string& message) {
  ErrorAt(PathOf(name), message);
}

void ObjectReader::ErrorAt(const std::string& path, const std::string& message) {
  errors_.push_back({path, message});
}

void ObjectReader::Bool(const char* name, bool& out) {
  const nlohmann::json* value = Raw(name);
  if (value == nullptr) return;
  if (value->is_boolean()) {
    out = value->get<bool>();
  } else {
    Error(name, std::string("must be true or false, is a ") + value->type_name());
  }
}

std::optional<int64_t> ObjectReader::ReadInt(const char* name, int64_t min, int64_t max) {
  const nlohmann::json* value = Raw(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_integer()) {
    Error(name, std::string("must be an integer, is a ") + value->type_name());
    return std::nullopt;
  }
  // An unsigned number above INT64_MAX would turn negative.
  const bool too_big = value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX;
  const int64_t number = too_big ? INT64_MAX : value->get<int64_t>();
  if (too_big || number < min || number > max) {
    Error(name, "must be from " + std::to_string(min) + " to " + std::to_string(max) + ", is " +
                    value->dump());
    return std::nullopt;
  }
  return number;
}

bool ObjectReader::ReadString(const char* name, std::string& out) {
  const nlohmann::json* value = Raw(name);
  if (value == nullptr) return false;
  if (!value->is_string()) {
    Error(name, std::string("must be a string, is a ") + value->type_name());
    return false;
  }
  out = value->get<std::string>();
  return true;
}

void ObjectReader::String(const char* name, size_t max_length, std::string& out) {
  std::string text;
  if (!ReadString(name, text)) return;
  if (text.size() > max_length) {
    Error(name, "may have at most " + std::to_string(max_length) + " bytes");
  } else {
    out = std::move(text);
  }
}

void ObjectReader::Time(const char* name, Duration min, Duration max, Duration& out) {
  std::string text;
  if (!ReadString(name, text)) return;
  const auto value = ParseDuration(text);
  if (!value) {
    Error(name, Quote(text) + " is not a duration (expected something like 30s, 5m or 1h30m)");
  } else if (*value < Duration::zero()) {
    Error(name, "must not be negative, is " + Quote(text));
  } else if (*value < min) {
    Error(name, "must be at least " + FormatDuration(min) + ", is " + Quote(text));
  } else if (*value > max) {
    Error(name, "must be at most " + FormatDuration(max) + ", is " + Quote(text));
  } else {
    out = *value;
  }
}

bool ObjectReader::Strings(
    const char* name, size_t max_items,
    const std::function<void(const std::string& text, const std::string& path)>& item) {
  const nlohmann::json* value = Raw(name);
  if (value == nullptr) return false;
  if (!value->is_array()) {
    Error(name, std::string("must be a list, is a ") + value->type_name());
    return false;
  }
  if (value->size() > max_items) {
    Error(name, "may have at most " + std::to_string(max_items) + " items, has " +
                    std::to_string(value->size()));
    return false;
  }
  size_t index = 0;
  for (const nlohmann::json& element : *value) {
    const std::string path = PathOf(name) + "[" + std::to_string(index++) + "]";
    if (element.is_string()) {
      item(element.get_ref<const std::string&>(), path);
    } else {
      ErrorAt(path, std::string("must be a string, is a ") + element.type_name());
    }
  }
  return true;
}

ObjectReader ObjectReader::Object(const char* name) {
  return {Raw(name), PathOf(name), errors_, asked_};
}

std::vector<std::string> ObjectReader::UnknownMembers() const {
  std::vector<std::string> unknown;
  if (object_ == nullptr) return unknown;
  for (const auto& [name, value] : object_->items()) {
    if (!known_.contains(name)) unknown.push_back(name);
  }
  return unknown;
}

void ObjectReader::RejectUnknown() {
  for (const std::string& name : UnknownMembers()) {
    ErrorAt(PathOf(text::Escape(text::Cut(name, kMostOfName)).c_str()), "unknown field");
  }
}

}  // namespace pointsman::kube
