// "Whatever a configuration file has, it is read or refused": for a test over mutations and for
// fuzzing.
#pragma once

#include <string_view>

namespace pointsman::testing {

// Reads `input` as a KubeProxyConfiguration file. Throws std::logic_error that says what does not
// hold: that it is refused by std::invalid_argument only, that errors and notes are UTF-8 of
// bounded size and number and begin with the file's name, and that the settings that come out can
// be written.
void CheckKubeProxyConfiguration(std::string_view input);

}  // namespace pointsman::testing
