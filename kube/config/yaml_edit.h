// Changes single values in a YAML text and leaves every other byte as it is: comments, order,
// quoting, unknown keys.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace pointsman::kube {

// `text` with the values of `changes` in its first document, which is a mapping. `changes` is an
// object: {"mode": "ipvs", "ipvs": {"scheduler": "lc"}}. An object in it stands for a mapping of
// which only the members named change; anything else is a value. What is there is overwritten in
// its place, on its line; what is not is added to its mapping.
//
// Throws std::invalid_argument with line, path and remedy ("line 3: ipvs.excludeCIDRs: …") for what
// cannot be changed on its line (values over several lines, aliases, anchors, tags), for what
// ParseYaml refuses, and for text with a byte order mark or longer than kMaxEditedYaml.
//
// What is returned has been read again: it is what ParseYaml makes of `text` with `changes` and
// nothing else.
std::string EditYaml(std::string_view text, const nlohmann::json& changes);

inline constexpr size_t kMaxEditedYaml = 256UL * 1024;

}  // namespace pointsman::kube
