// What a person can do about the reason of a condition (docs/status.md).
#pragma once

#include <string_view>

namespace pointsman::plugin {

// "" where there is nothing to do, or nothing known.
std::string_view RemedyFor(std::string_view reason);

}  // namespace pointsman::plugin
