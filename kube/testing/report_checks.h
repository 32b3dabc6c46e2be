// "Whatever decodes can be reported": for each kind of object that comes from the API server, what
// must hold for any text. fuzz/ calls them.
#pragma once

#include <string_view>

namespace pointsman::testing {

// Each decodes `input` and then checks: what was refused or not understood is told in UTF-8 of a
// bounded size, on its line; a status that tells it is within the CRD's schema; nothing that is
// written as JSON throws. Throws std::logic_error that says what does not hold.
void CheckService(std::string_view input);
void CheckEndpointSlice(std::string_view input);
void CheckNode(std::string_view input);
void CheckNodeProxy(std::string_view input);
void CheckProxyConfiguration(std::string_view input);

// Valid UTF-8 of at most `max_size` bytes without control characters.
void CheckText(std::string_view text, size_t max_size);

}  // namespace pointsman::testing
