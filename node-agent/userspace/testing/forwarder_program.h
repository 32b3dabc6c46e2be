// For tests: where the built program pointsman-forwarder is.
#pragma once

namespace pointsman::agent::testing {

// Of this build; absolute.
const char* ForwarderProgram();

}  // namespace pointsman::agent::testing
