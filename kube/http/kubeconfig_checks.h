// "Whatever a kubeconfig has, it is read or refused": for a test over mutations and for fuzzing.
#pragma once

#include <string_view>

namespace pointsman::testing {

// Loads `input` as a kubeconfig's text. Throws std::logic_error that says what does not hold: that
// it is refused by ConfigError only, with a bounded message that is UTF-8 on its line; that what is
// accepted has a server that is a URL, a token that a header can carry, and names without control
// characters; and that TLS can be set up with it or is refused likewise.
void CheckKubeconfig(std::string_view input);

}  // namespace pointsman::testing
