// "Whatever decodes can be reported": for each kind of object that comes from the API server, what
// must hold for any text. Called with a corpus and its mutations by report_checks_test.cpp, and by
// fuzzing.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pointsman::testing {

// Each decodes `input` and then checks: what was refused or not understood is told in UTF-8 of a
// bounded size, on its line; a status that tells it is within the CRD's schema; nothing that is
// written as JSON throws. Throws std::logic_error that says what does not hold.
void CheckService(std::string_view input);
void CheckEndpointSlice(std::string_view input);
void CheckNode(std::string_view input);
void CheckNodeProxy(std::string_view input);
void CheckProxyConfiguration(std::string_view input);

// Inputs to begin with.
std::vector<std::string> ServiceCorpus();
std::vector<std::string> EndpointSliceCorpus();
std::vector<std::string> NodeCorpus();
std::vector<std::string> NodeProxyCorpus();
std::vector<std::string> ProxyConfigurationCorpus();

// Valid UTF-8 of at most `max_size` bytes without control characters.
void CheckText(std::string_view text, size_t max_size);

}  // namespace pointsman::testing
