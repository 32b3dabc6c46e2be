#include "node-agent/userspace/testing/forwarder_program.h"

namespace pointsman::agent::testing {

const char* ForwarderProgram() {
  return POINTSMAN_FORWARDER;
}

}  // namespace pointsman::agent::testing
