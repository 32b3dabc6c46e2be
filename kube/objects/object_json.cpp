#include "kube/objects/object_json.h"

#include <algorithm>
#include <stdexcept>

#include "kube/objects/json_reader.h"

namespace pointsman::kube {
namespace {

namespace ondemand = simdjson::ondemand;
using nlohmann::json;

class Builder {
 public:
  explicit Builder(std::initializer_list<std::string_view> skip) : skip_(skip) {}

  json Object(ondemand::object object) {
    json built = json::object();
    for (auto field : object) {
      const std::string key(std::string_view(field.unescaped_key()));
      const size_t above = path_.size();
      if (above > 0) path_ += '.';
      path_ += key;
      // What is skipped is stepped over, not built.
      if (std::find(skip_.begin(), skip_.end(), path_) == skip_.end()) {
        built[key] = Value(field.value());
      }
      path_.resize(above);
    }
    return built;
  }

 private:
  json Value(ondemand::value value) {
    switch (ondemand::json_type(value.type())) {
      case ondemand::json_type::object:
        return Object(value.get_object());
      case ondemand::json_type::array: {
        json built = json::array();
        for (auto element : ondemand::array(value.get_array()))
          built.push_back(Value(element.value()));
        return built;
      }
      case ondemand::json_type::number:
        return Number(value);
      case ondemand::json_type::string:
        return std::string(std::string_view(value.get_string()));
      case ondemand::json_type::boolean:
        return bool(value.get_bool());
      case ondemand::json_type::null:
        // is_null() also consumes it: a mistyped "nul" must not pass.
        if (!value.is_null()) throw simdjson::simdjson_error(simdjson::N_ATOM_ERROR);
        return nullptr;
    }
    throw simdjson::simdjson_error(simdjson::TAPE_ERROR);
  }

  static json Number(ondemand::value value) {
    const ondemand::number number = value.get_number();
    if (number.is_int64()) return number.get_int64();
    if (number.is_uint64()) return number.get_uint64();
    return number.get_double();
  }

  const std::initializer_list<std::string_view> skip_;
  std::string path_;
};

}  // namespace

json ParseObject(std::string_view text, std::initializer_list<std::string_view> skip) try {
  JsonDocument document(text);
  json built = Builder(skip).Object(document.Root());
  document.ExpectEnd();
  return built;
} catch (const simdjson::simdjson_error& error) {
  throw std::invalid_argument(std::string("not a JSON object: ") + error.what());
}

}  // namespace pointsman::kube
